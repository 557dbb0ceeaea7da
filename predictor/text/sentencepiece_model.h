// SPDX-License-Identifier: Apache-2.0
// SentencePieceModel: the wall around the sentencepiece library; no other file includes it.
// Immutable after Load; every method may be called from any thread at once.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace idefics {

class SentencePieceModel {
 public:
  // `model_bytes`: the content of a tokenizer.model. Fails with kInvalidInput where it is none.
  static Result<std::unique_ptr<SentencePieceModel>> Load(std::string_view model_bytes);
  ~SentencePieceModel();

  SentencePieceModel(const SentencePieceModel&) = delete;
  SentencePieceModel& operator=(const SentencePieceModel&) = delete;

  // Appends the ids of `text`, which gets the model's dummy prefix ("▁"); nothing for "".
  // Bytes that are no UTF-8 are encoded as U+FFFD, one for each.
  void AppendIds(std::string_view text, std::vector<int32_t>* ids) const;

  int32_t num_pieces() const;

  // REQUIRES (below): 0 <= id < num_pieces().
  const std::string& piece(int32_t id) const;  // "▁the", "<0x0A>", "<s>"
  bool IsControl(int32_t id) const;            // <s>, </s> and <unk>: never produced from text
  int ByteValue(int32_t id) const;             // 0..255 for the piece of a byte, else -1

 private:
  struct Library;
  explicit SentencePieceModel(std::unique_ptr<Library> library);

  std::unique_ptr<Library> library_;
};

}  // namespace idefics
