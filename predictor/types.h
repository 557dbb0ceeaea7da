// SPDX-License-Identifier: Apache-2.0
// The vocabulary between the server and the predictor: what is asked for and what comes back. Plain
// values; nothing here knows JSON, HTTP, torch or a thread.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "common/status.h"
#include "predictor/images/decode.h"
#include "predictor/sampling/sampling_params.h"
#include "predictor/text/tokenizer.h"

namespace idefics {

// One element of a prompt: a text or the bytes of an image file.
struct PromptPart {
  static PromptPart Text(std::string text, SpecialText special) {
    PromptPart part;
    part.text = std::move(text);
    part.special = special;
    return part;
  }
  static PromptPart Image(std::shared_ptr<const std::vector<uint8_t>> file, OpenMode mode) {
    PromptPart part;
    part.image_file = std::move(file);
    part.open_mode = mode;
    return part;
  }
  bool is_image() const { return image_file != nullptr; }

  std::string text;
  SpecialText special = SpecialText::kNone;  // which literals in `text` become special tokens
  std::shared_ptr<const std::vector<uint8_t>> image_file;
  OpenMode open_mode = OpenMode::kUrl;
};

struct GenerateRequest {
  std::string id;  // for logs only
  std::vector<PromptPart> prompt;
  bool add_end_of_utterance = false;  // between two adjacent texts: docs/model.md#prompt-expansion
  SamplingParams sampling;
};

enum class FinishReason { kEos, kLength, kStopString, kCanceled, kError };

// After all processors, natural log, largest first.
struct TokenLogprobs {
  std::vector<std::pair<int32_t, float>> top;  // (token id, log probability)
};

struct GenerateTimings {
  double preprocess_s = 0;   // decode, resize, tokenise
  double queue_s = 0;        // waiting for a place in the engine
  double first_token_s = 0;  // from the call to the first new token
  double total_s = 0;
};

struct GenerateResult {
  Status status;  // not ok: the reason; the other fields hold what was reached
  FinishReason finish_reason = FinishReason::kError;
  std::string text;       // the new tokens decoded, special tokens dropped, cut at a stop string
  std::string full_text;  // prompt and new tokens decoded as one sequence, special tokens dropped
  std::vector<int32_t> prompt_token_ids;
  std::vector<int32_t> token_ids;       // new tokens, the eos token included
  std::vector<TokenLogprobs> logprobs;  // one per token_ids entry when num_logprobs > 0
  int num_images = 0;
  GenerateTimings timings;
};

}  // namespace idefics
