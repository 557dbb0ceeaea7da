// SPDX-License-Identifier: Apache-2.0
#include "predictor/end_tokens.h"

#include <set>

namespace idefics {
namespace {

std::vector<int32_t> WithEndOfUtterance(std::set<int32_t> ids, const TokenizerConfig& tokenizer) {
  if (tokenizer.end_of_utterance >= 0) ids.insert(tokenizer.end_of_utterance);
  return {ids.begin(), ids.end()};
}

}  // namespace

std::vector<int32_t> PromptEosTokenIds(const BundleManifest& manifest) {
  const std::vector<int32_t>& configured = manifest.generation.eos_token_ids;
  std::set<int32_t> ids(configured.begin(), configured.end());
  if (ids.empty()) ids.insert(manifest.tokenizer.eos);
  return WithEndOfUtterance(std::move(ids), manifest.tokenizer);
}

std::vector<int32_t> QuestionEosTokenIds(const BundleManifest& manifest) {
  return WithEndOfUtterance({manifest.tokenizer.eos}, manifest.tokenizer);
}

}  // namespace idefics
