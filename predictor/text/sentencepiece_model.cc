// SPDX-License-Identifier: Apache-2.0
#include "predictor/text/sentencepiece_model.h"

#include <sentencepiece_processor.h>

#include <cstdlib>
#include <exception>

#include "common/check.h"

namespace idefics {

struct SentencePieceModel::Library {
  sentencepiece::SentencePieceProcessor processor;
};

SentencePieceModel::SentencePieceModel(std::unique_ptr<Library> library)
    : library_(std::move(library)) {}

SentencePieceModel::~SentencePieceModel() = default;

Result<std::unique_ptr<SentencePieceModel>> SentencePieceModel::Load(std::string_view model_bytes) {
  auto library = std::make_unique<Library>();
  std::string reason;
  try {
    const auto status = library->processor.LoadFromSerializedProto(model_bytes);
    if (!status.ok()) reason = status.ToString();
  } catch (const std::exception& error) {
    reason = error.what();
  }
  if (reason.empty() && library->processor.GetPieceSize() == 0) reason = "it has no pieces";
  if (!reason.empty()) {
    return Status::InvalidInput("the tokenizer model of " + std::to_string(model_bytes.size()) +
                                " bytes is not a sentencepiece model (" + reason +
                                "); give the checkpoint's own tokenizer.model");
  }
  return std::unique_ptr<SentencePieceModel>(new SentencePieceModel(std::move(library)));
}

void SentencePieceModel::AppendIds(std::string_view text, std::vector<int32_t>* ids) const {
  std::vector<int> encoded;
  const auto status = library_->processor.Encode(text, &encoded);
  // Encode fails only without a model, and Load returns none of those.
  IDEFICS_CHECK(status.ok());
  ids->insert(ids->end(), encoded.begin(), encoded.end());
}

int32_t SentencePieceModel::num_pieces() const { return library_->processor.GetPieceSize(); }

const std::string& SentencePieceModel::piece(int32_t id) const {
  IDEFICS_CHECK(id >= 0 && id < num_pieces());
  return library_->processor.IdToPiece(id);
}

bool SentencePieceModel::IsControl(int32_t id) const {
  IDEFICS_CHECK(id >= 0 && id < num_pieces());
  return library_->processor.IsControl(id) || library_->processor.IsUnknown(id);
}

int SentencePieceModel::ByteValue(int32_t id) const {
  IDEFICS_CHECK(id >= 0 && id < num_pieces());
  if (!library_->processor.IsByte(id)) return -1;
  const std::string& text = piece(id);  // "<0x0A>"; the library checked the form when it loaded
  IDEFICS_CHECK_EQ(text.size(), 6U);
  return static_cast<int>(std::strtol(text.c_str() + 3, nullptr, 16));
}

}  // namespace idefics
