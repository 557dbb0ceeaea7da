// SPDX-License-Identifier: Apache-2.0
// libFuzzer target of predictor/text over a tiny vocabulary. The first byte of the input picks what
// the rest is: a prompt, ids, a URL, a stream with stop strings, or a tokenizer model.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/check.h"
#include "common/utf8.h"
#include "predictor/text/detokenizer.h"
#include "predictor/text/image_reference.h"
#include "predictor/text/prompt.h"
#include "predictor/text/stop_matcher.h"
#include "tests/text/vocabulary.h"

namespace idefics {
namespace {

// Items are separated by the byte 0xFE, which no UTF-8 holds; an empty item is an image.
void FuzzPrompt(const Tokenizer& tokenizer, std::string_view input) {
  std::vector<PromptPiece> items;
  int64_t num_images = 0;
  bool forgeable = false;
  while (!input.empty()) {
    const std::string_view item = input.substr(0, input.find('\xFE'));
    input.remove_prefix(std::min(item.size() + 1, input.size()));
    if (item.empty()) {
      items.emplace_back(PromptImage{});
      ++num_images;
      continue;
    }
    const auto policy = static_cast<SpecialText>(static_cast<uint8_t>(item[0]) % 3);
    forgeable = forgeable || policy == SpecialText::kAll;
    items.emplace_back(PromptText{std::string(item.substr(1)), policy});
  }
  const TokenizedPrompt prompt = BuildPrompt(tokenizer, items, items.size() % 2 == 0);
  IDEFICS_CHECK_EQ(prompt.tokens.size(), prompt.image_index.size());
  IDEFICS_CHECK_EQ(prompt.tokens[0], tokenizer.special().bos);
  const auto found =
      std::count(prompt.tokens.begin(), prompt.tokens.end(), tokenizer.special().image);
  if (forgeable) {
    IDEFICS_CHECK_GE(found, num_images);
  } else {
    IDEFICS_CHECK_EQ(found, num_images);
  }
  for (const int32_t image : prompt.image_index) IDEFICS_CHECK(image >= -1 && image < num_images);
  IDEFICS_CHECK(IsValidUtf8(tokenizer.Decode(prompt.tokens, false)));
}

void FuzzIds(const Tokenizer& tokenizer, std::string_view input) {
  std::vector<int32_t> ids;
  for (size_t i = 0; i + 1 < input.size(); i += 2) {
    const int value = static_cast<uint8_t>(input[i]) << 8 | static_cast<uint8_t>(input[i + 1]);
    ids.push_back(value % 400 - 20);
  }
  Detokenizer detokenizer(tokenizer);
  std::string text;
  for (const int32_t id : ids) {
    const std::string piece = detokenizer.Push(id);
    IDEFICS_CHECK(IsValidUtf8(piece));
    text += piece;
  }
  IDEFICS_CHECK(text + detokenizer.Finish() == tokenizer.Decode(ids, true));
}

// "STOP\xFESTOP\xFE…\xFF" then the text, which must come out alike whole and byte by byte.
void FuzzStops(std::string_view input) {
  const size_t end = std::min(input.find('\xFF'), input.size());
  std::string_view list = input.substr(0, end);
  const std::string_view text = input.substr(std::min(end + 1, input.size()));
  std::vector<std::string> stops;
  while (!list.empty()) {
    stops.emplace_back(list.substr(0, list.find('\xFE')));
    list.remove_prefix(std::min(stops.back().size() + 1, list.size()));
  }
  StopMatcher whole(stops);
  StopMatcher bytes(stops);
  std::string shown = whole.Push(text);
  shown += whole.Finish();
  std::string streamed;
  for (const char byte : text) streamed += bytes.Push({&byte, 1});
  streamed += bytes.Finish();
  IDEFICS_CHECK(shown == streamed);
  IDEFICS_CHECK_EQ(whole.matched(), bytes.matched());
}

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace idefics;
  static const std::unique_ptr<Tokenizer> tokenizer = TinyTokenizer();
  if (size == 0) return 0;
  const std::string_view input(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 5) {
    case 0:
      FuzzPrompt(*tokenizer, input);
      break;
    case 1:
      FuzzIds(*tokenizer, input);
      break;
    case 2:
      static_cast<void>(LooksLikeUrl(input));
      static_cast<void>(LooksLikeDataUri(input));
      break;
    case 3:
      FuzzStops(input);
      break;
    default:
      static_cast<void>(Tokenizer::Create(input, SpecialTokens::Released(kTinyPieces, true)));
  }
  return 0;
}
