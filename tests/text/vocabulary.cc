// SPDX-License-Identifier: Apache-2.0
#include "tests/text/vocabulary.h"

#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <utility>

namespace idefics {
namespace {

// The fields of sentencepiece_model.proto that are used here.
constexpr int kPieces = 1, kTrainerSpec = 2, kNormalizerSpec = 3;
constexpr int kPieceText = 1, kPieceScore = 2, kPieceType = 3;
constexpr int kModelType = 3, kVocabSize = 4, kByteFallback = 35;
constexpr int kNormalizerName = 1, kAddDummyPrefix = 3, kRemoveExtraSpaces = 4, kEscapeSpaces = 5;
enum PieceType { kNormal = 1, kUnknown = 2, kControl = 3, kUserDefined = 4, kByte = 6 };

std::string Varint(uint64_t value) {
  std::string bytes;
  for (; value >= 0x80; value >>= 7) bytes += static_cast<char>(value | 0x80);
  return bytes + static_cast<char>(value);
}

std::string Number(int field, uint64_t value) { return Varint(field << 3) + Varint(value); }

std::string Bytes(int field, const std::string& value) {
  return Varint(field << 3 | 2) + Varint(value.size()) + value;
}

std::string Float(int field, float value) {
  std::array<char, 4> bytes{};
  std::memcpy(bytes.data(), &value, bytes.size());
  return Varint(field << 3 | 5) + std::string(bytes.data(), bytes.size());
}

std::string Piece(const std::string& text, float score, PieceType type) {
  return Bytes(kPieces,
               Bytes(kPieceText, text) + Float(kPieceScore, score) + Number(kPieceType, type));
}

}  // namespace

std::string SerializeModel(const std::vector<std::string>& pieces, const ModelTraits& traits) {
  std::string model =
      Piece("<unk>", 0, kUnknown) + Piece("<s>", 0, kControl) + Piece("</s>", 0, kControl);
  size_t num_pieces = 3 + traits.user_defined.size() + pieces.size();
  for (int byte = 0; byte < 256 && traits.byte_fallback; ++byte, ++num_pieces) {
    std::array<char, 8> name{};
    std::snprintf(name.data(), name.size(), "<0x%02X>", byte);
    model += Piece(name.data(), 0, kByte);
  }
  for (const std::string& symbol : traits.user_defined) model += Piece(symbol, 0, kUserDefined);
  float score = 0;
  for (const std::string& piece : pieces) model += Piece(piece, score--, kNormal);
  model += Bytes(kTrainerSpec, Number(kModelType, 2) + Number(kVocabSize, num_pieces) +
                                   Number(kByteFallback, traits.byte_fallback ? 1 : 0));
  model +=
      Bytes(kNormalizerSpec, Bytes(kNormalizerName, "identity") +
                                 Number(kAddDummyPrefix, traits.dummy_prefix ? 1 : 0) +
                                 Number(kRemoveExtraSpaces, traits.remove_extra_spaces ? 1 : 0) +
                                 Number(kEscapeSpaces, 1));
  return model;
}

std::string TinyModel() {
  std::vector<std::string> pieces = {"th", "er", "in",  "▁th", "▁the", "he",   "▁a",  "at",    "▁c",
                                     "us", "an", "ll",  "o",   "▁▁",   "is",   "▁us", "▁user", "as",
                                     "si", "st", "ant", "▁x",  "ell",  "▁cat", "▁dog"};
  for (const char* single : {"▁", ":", "é", "?", "Ü", ".", "<", ">"}) pieces.emplace_back(single);
  for (char c = 'a'; c <= 'z'; ++c) {
    if (c != 'o') pieces.emplace_back(1, c);  // "o" is above
  }
  while (259 + pieces.size() < kTinyPieces) pieces.push_back("▁w" + std::to_string(pieces.size()));
  return SerializeModel(pieces);
}

std::unique_ptr<Tokenizer> TinyTokenizer(bool instruct) {
  return std::move(Tokenizer::Create(TinyModel(), SpecialTokens::Released(kTinyPieces, instruct)))
      .value();
}

std::optional<std::string> ReadFile(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) return std::nullopt;
  return std::string(std::istreambuf_iterator<char>(file), {});
}

std::unique_ptr<Tokenizer> LlamaTokenizer(bool instruct) {
  const char* named = std::getenv("IDEFICS_LLAMA_TOKENIZER");
  const auto model = ReadFile(
      named != nullptr ? named : IDEFICS_SOURCE_DIR "/../shared/data/llama/tokenizer.model");
  if (!model) return nullptr;
  return std::move(Tokenizer::Create(*model, SpecialTokens::Released(32000, instruct))).value();
}

}  // namespace idefics
