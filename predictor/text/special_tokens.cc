// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/special_tokens.h"

namespace idefics {

SpecialTokens SpecialTokens::FromLiterals(std::vector<std::pair<std::string, int32_t>> all) {
  SpecialTokens tokens;
  for (const auto& [literal, id] : all) {
    if (literal == kUnkLiteral) tokens.unk = tokens.pad = id;
    if (literal == kBosLiteral) tokens.bos = id;
    if (literal == kEosLiteral) tokens.eos = id;
    if (literal == kFakeImageLiteral) tokens.fake_image = id;
    if (literal == kImageLiteral) tokens.image = id;
    if (literal == kEndOfUtteranceLiteral) tokens.end_of_utterance = id;
  }
  tokens.all = std::move(all);
  return tokens;
}

SpecialTokens SpecialTokens::Released(int32_t vocab_size, bool instruct) {
  std::vector<std::pair<std::string, int32_t>> all = {{std::string(kUnkLiteral), 0},
                                                      {std::string(kBosLiteral), 1},
                                                      {std::string(kEosLiteral), 2},
                                                      {std::string(kFakeImageLiteral), vocab_size},
                                                      {std::string(kImageLiteral), vocab_size + 1}};
  if (instruct) all.emplace_back(kEndOfUtteranceLiteral, vocab_size + 2);
  return FromLiterals(std::move(all));
}

}  // namespace idefics
