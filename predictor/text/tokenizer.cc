// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/tokenizer.h"

#include <algorithm>
#include <set>
#include <utility>

#include "common/utf8.h"
#include "predictor/text/detokenizer.h"
#include "predictor/text/sentencepiece_model.h"

namespace idefics {
namespace {

constexpr std::string_view kSpaceMark = "\xE2\x96\x81";  // "▁", U+2581
constexpr int32_t kMaxTokenId = 1 << 24;                 // far above any vocabulary; bounds memory

std::string WithSpaces(std::string_view piece) {
  std::string text;
  while (!piece.empty()) {
    const bool is_mark = piece.starts_with(kSpaceMark);
    text += is_mark ? ' ' : piece.front();
    piece.remove_prefix(is_mark ? kSpaceMark.size() : 1);
  }
  return text;
}

std::string Describe(const std::string& literal, int32_t id) {
  return "special token '" + literal + "' with id " + std::to_string(id);
}

}  // namespace

Tokenizer::Tokenizer(std::unique_ptr<SentencePieceModel> model, SpecialTokens special)
    : model_(std::move(model)), special_(std::move(special)) {}

Tokenizer::~Tokenizer() = default;

Result<std::unique_ptr<Tokenizer>> Tokenizer::Create(std::string_view model_bytes,
                                                     SpecialTokens special) {
  ASSIGN_OR_RETURN(auto model, SentencePieceModel::Load(model_bytes));
  std::unique_ptr<Tokenizer> tokenizer(new Tokenizer(std::move(model), std::move(special)));
  RETURN_IF_ERROR(tokenizer->ReadPieces());
  RETURN_IF_ERROR(tokenizer->ReadSpecialTokens());
  RETURN_IF_ERROR(tokenizer->CheckText());
  return tokenizer;
}

Status Tokenizer::ReadPieces() {
  constexpr int kNumBytes = 256;
  int num_byte_tokens = 0;
  size_t longest = 1;
  pieces_.resize(model_->num_pieces());
  for (int32_t id = 0; id < model_->num_pieces(); ++id) {
    StoredPiece& stored = pieces_[id];
    if (const int byte = model_->ByteValue(id); byte >= 0) {
      stored.kind = TokenPiece::Kind::kByte;
      stored.byte = static_cast<uint8_t>(byte);
      ++num_byte_tokens;
      continue;
    }
    stored.kind = TokenPiece::Kind::kText;
    stored.text = WithSpaces(model_->piece(id));
    if (!IsValidUtf8(stored.text)) {
      return Status::InvalidInput("piece " + std::to_string(id) +
                                  " of the tokenizer model is not UTF-8; the file is damaged");
    }
    longest = std::max(longest, stored.text.size());
  }
  for (const auto& [literal, id] : special_.all) longest = std::max(longest, literal.size());
  if (num_byte_tokens == kNumBytes) max_token_bytes_ = longest;
  return Status::Ok();
}

Status Tokenizer::ReadSpecialTokens() {
  const int32_t num_pieces = model_->num_pieces();
  std::set<std::string> literals;
  std::set<int32_t> ids;
  for (const auto& [literal, id] : special_.all) {
    if (literal.empty() || !IsValidUtf8(literal) || id < 0 || id > kMaxTokenId) {
      return Status::InvalidInput(Describe(literal, id) + " needs a text and an id in 0.." +
                                  std::to_string(kMaxTokenId));
    }
    if (!literals.insert(literal).second || !ids.insert(id).second) {
      return Status::InvalidInput(Describe(literal, id) + " is there twice; list each once");
    }
    if (id < num_pieces && model_->piece(id) != literal) {
      return Status::InvalidInput(Describe(literal, id) + " is '" + model_->piece(id) +
                                  "' in the tokenizer model; they come from different checkpoints");
    }
    pieces_.resize(std::max(pieces_.size(), static_cast<size_t>(id) + 1));
    pieces_[id] = {TokenPiece::Kind::kSpecial, 0, literal};
    if (first_bytes_.find(literal[0]) == std::string::npos) first_bytes_ += literal[0];
  }
  const std::pair<std::string_view, int32_t> needed[] = {{kBosLiteral, special_.bos},
                                                         {kEosLiteral, special_.eos},
                                                         {kFakeImageLiteral, special_.fake_image},
                                                         {kImageLiteral, special_.image}};
  for (const auto& [literal, id] : needed) {
    if (!ids.contains(id)) {
      return Status::InvalidInput("the tokenizer has no special token '" + std::string(literal) +
                                  "', which every IDEFICS model has; export the checkpoint again");
    }
  }
  return Status::Ok();
}

// A text with two spaces, a tab, a compatibility character and one that no piece holds must come
// back unchanged, and no special token may come out of text by itself.
Status Tokenizer::CheckText() const {
  std::string text = " \t\xEF\xAC\x81  x\xF4\x8F\xBF\xBD \n ";
  for (const auto& [literal, id] : special_.all) text += literal;
  const std::vector<int32_t> ids = Encode(text, SpecialText::kNone);
  for (const int32_t id : ids) {
    if (IsSpecial(id)) {
      return Status::InvalidInput(
          "the tokenizer model makes " + Describe(pieces_[id].text, id) +
          " out of plain text; it needs byte fallback, and special tokens may not be user-defined "
          "symbols of it");
    }
  }
  if (Decode(ids, false) != text) {
    return Status::InvalidInput(
        "the tokenizer model changes text (a normaliser, removed spaces or no dummy prefix); "
        "IDEFICS needs one trained like LLaMA's, with the identity normaliser");
  }
  return Status::Ok();
}

bool Tokenizer::MayBeSpecial(int32_t id, SpecialText policy) const {
  switch (policy) {
    case SpecialText::kNone:
      return false;
    case SpecialText::kTurns:
      return id != special_.image && id != special_.fake_image;
    case SpecialText::kAll:
      return true;
  }
  return false;
}

// All texts as one, and which of them each byte belongs to.
class Tokenizer::JoinedTexts {
 public:
  explicit JoinedTexts(std::span<const PromptText> texts) {
    for (const PromptText& part : texts) {
      if (part.text.empty()) continue;
      text_ += part.text;
      ends_.push_back(text_.size());
      policies_.push_back(part.special);
    }
  }

  std::string_view text() const { return text_; }

  // The policies of the texts that hold bytes [begin, begin + length). REQUIRES: length > 0.
  std::span<const SpecialText> Policies(size_t begin, size_t length) const {
    const auto first = std::ranges::upper_bound(ends_, begin);
    const auto last = std::ranges::upper_bound(first, ends_.end(), begin + length - 1);
    return std::span(policies_).subspan(first - ends_.begin(), last - first + 1);
  }

 private:
  std::string text_;
  std::vector<size_t> ends_;  // in `text_`, rising
  std::vector<SpecialText> policies_;
};

std::optional<Tokenizer::SpecialMatch> Tokenizer::FindSpecial(const JoinedTexts& joined,
                                                              size_t from) const {
  const std::string_view text = joined.text();
  for (size_t begin = text.find_first_of(first_bytes_, from); begin != std::string_view::npos;
       begin = text.find_first_of(first_bytes_, begin + 1)) {
    SpecialMatch longest;
    for (const auto& [literal, id] : special_.all) {
      if (literal.size() <= longest.length || !text.substr(begin).starts_with(literal)) continue;
      const auto policies = joined.Policies(begin, literal.size());
      if (std::ranges::all_of(policies, [this, token = id](SpecialText policy) {
            return MayBeSpecial(token, policy);
          })) {
        longest = {begin, literal.size(), id};
      }
    }
    if (longest.length > 0) return longest;
  }
  return std::nullopt;
}

std::vector<int32_t> Tokenizer::Encode(std::string_view text, SpecialText policy) const {
  const PromptText only{std::string(text), policy};
  return Encode(std::span(&only, 1));
}

std::vector<int32_t> Tokenizer::Encode(std::span<const PromptText> texts) const {
  const JoinedTexts joined(texts);
  const std::string_view text = joined.text();
  std::vector<int32_t> ids;
  size_t from = 0;
  while (from < text.size()) {
    const auto match = FindSpecial(joined, from);
    const size_t end = match ? match->begin : text.size();
    if (end > from) model_->AppendIds(text.substr(from, end - from), &ids);
    if (match) ids.push_back(match->id);
    from = match ? end + match->length : end;
  }
  return ids;
}

std::string Tokenizer::Decode(std::span<const int32_t> ids, bool skip_special) const {
  Detokenizer detokenizer(*this, skip_special);
  std::string text;
  for (const int32_t id : ids) text += detokenizer.Push(id);
  return text + detokenizer.Finish();
}

TokenPiece Tokenizer::piece(int32_t id) const {
  if (id < 0 || id >= vocab_size()) return {};
  const StoredPiece& stored = pieces_[id];
  return {stored.kind, stored.byte, stored.text};
}

std::string Tokenizer::Bytes(int32_t id) const {
  const TokenPiece token = piece(id);
  if (token.kind == TokenPiece::Kind::kByte) return {static_cast<char>(token.byte)};
  return std::string(token.text);
}

}  // namespace idefics
