// SPDX-License-Identifier: Apache-2.0
#include "predictor/end_tokens.h"

#include <catch2/catch_test_macros.hpp>

namespace idefics {
namespace {

using Ids = std::vector<int32_t>;

BundleManifest Manifest(const Ids& configured, int32_t end_of_utterance) {
  BundleManifest manifest;
  manifest.tokenizer.eos = 2;
  manifest.tokenizer.end_of_utterance = end_of_utterance;
  manifest.generation.eos_token_ids = configured;
  return manifest;
}

TEST_CASE("a prompt ends by the checkpoint's list and by the end of an utterance", "[end-tokens]") {
  CHECK(PromptEosTokenIds(Manifest({2, 1002}, 1002)) == Ids{2, 1002});
  CHECK(PromptEosTokenIds(Manifest({2}, 1002)) == Ids{2, 1002});
  CHECK(PromptEosTokenIds(Manifest({7, 3, 7}, -1)) == Ids{3, 7});
}

TEST_CASE("a checkpoint without a list ends its prompts by </s>", "[end-tokens]") {
  CHECK(PromptEosTokenIds(Manifest({}, -1)) == Ids{2});
  CHECK(PromptEosTokenIds(Manifest({}, 1002)) == Ids{2, 1002});
}

TEST_CASE("a list without </s> is taken as it is", "[end-tokens]") {
  CHECK(PromptEosTokenIds(Manifest({5}, -1)) == Ids{5});
}

TEST_CASE("a question ends by </s> and by the end of an utterance, whatever the list",
          "[end-tokens]") {
  CHECK(QuestionEosTokenIds(Manifest({5}, -1)) == Ids{2});
  CHECK(QuestionEosTokenIds(Manifest({}, 1002)) == Ids{2, 1002});
}

}  // namespace
}  // namespace idefics
