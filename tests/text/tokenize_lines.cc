// SPDX-License-Identifier: Apache-2.0
// tokenize_lines TOKENIZER_MODEL SPECIAL_JSON: answers one JSON request a line, for
// test_tokenizer_oracle.py. SPECIAL_JSON: {"<s>": 1, ...}.
//   {"encode": "text", "policy": "none" | "turns" | "all"}           -> [1, 2]
//   {"decode": [1, 2], "skip": true}                                 -> "text"
//   {"url": "text"}                                                  -> true, false or "error"
//   {"prompt": ["text", null, ...], "add_end_of_utterance": false}   -> [tokens, image index]
//                                       (null: an image; texts with policy "all")
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>

#include "predictor/text/image_reference.h"
#include "predictor/text/prompt.h"

namespace idefics {
namespace {

using nlohmann::json;

json Answer(const Tokenizer& tokenizer, const json& request) {
  if (request.contains("encode")) {
    const std::string policy = request["policy"];
    return tokenizer.Encode(request["encode"].get<std::string>(),
                            policy == "all"     ? SpecialText::kAll
                            : policy == "turns" ? SpecialText::kTurns
                                                : SpecialText::kNone);
  }
  if (request.contains("decode")) {
    return tokenizer.Decode(request["decode"].get<std::vector<int32_t>>(), request["skip"]);
  }
  if (request.contains("url")) {
    const auto looks = LooksLikeUrl(request["url"].get<std::string>());
    return looks.ok() ? json(*looks) : json("error");
  }
  std::vector<PromptPiece> pieces;
  for (const json& item : request.at("prompt")) {
    if (item.is_null()) {
      pieces.emplace_back(PromptImage{});
    } else {
      pieces.emplace_back(PromptText{item, SpecialText::kAll});
    }
  }
  const auto prompt = BuildPrompt(tokenizer, pieces, request.at("add_end_of_utterance"));
  return json::array({prompt.tokens, prompt.image_index});
}

int Main(const std::string& model_path, const std::string& special_json) {
  std::ifstream file(model_path, std::ios::binary);
  const std::string model(std::istreambuf_iterator<char>(file), {});
  std::vector<std::pair<std::string, int32_t>> special;
  const json literals = json::parse(special_json);
  for (const auto& [literal, id] : literals.items()) {
    special.emplace_back(literal, id.get<int32_t>());
  }
  const auto tokenizer = Tokenizer::Create(model, SpecialTokens::FromLiterals(special));
  if (!tokenizer.ok()) {
    std::cerr << model_path << ": " << tokenizer.status().message() << "\n";
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << Answer(**tokenizer, json::parse(line)).dump() << "\n";
  }
  return 0;
}

}  // namespace
}  // namespace idefics

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: tokenize_lines TOKENIZER_MODEL SPECIAL_JSON\n";
    return 2;
  }
  return idefics::Main(argv[1], argv[2]);
}
