// SPDX-License-Identifier: Apache-2.0
// Detokenizer: the text of one generated sequence, token by token, in whole UTF-8 characters. The
// pieces together are Tokenizer::Decode of the same ids. Not thread safe; one per sequence.
#pragma once

#include <cstdint>
#include <string>

#include "predictor/text/tokenizer.h"

namespace idefics {

class Detokenizer {
 public:
  // `tokenizer` must outlive this. `skip_special`: leave special tokens out, else write literals.
  explicit Detokenizer(const Tokenizer& tokenizer, bool skip_special = true)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // Returns the text that is final now; "" while a run of byte tokens is open. A run is held until
  // a token of text (or Finish) ends it, because one byte that does not fit turns the whole run
  // into U+FFFD (docs/model.md#decoding). Skipped and absent tokens do not end a run.
  std::string Push(int32_t id);

  // Returns what was held back. Call once, at the end.
  std::string Finish();

 private:
  std::string Emit(std::string text);
  std::string CloseRun();

  const Tokenizer& tokenizer_;
  const bool skip_special_;
  bool at_start_ = true;  // the leading space of the whole text is still to come
  std::string run_;       // open run of byte tokens
};

}  // namespace idefics
