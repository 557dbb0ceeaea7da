// SPDX-License-Identifier: Apache-2.0
// The vocabulary between the server and the predictor: what is asked for and what comes back. Plain
// values; nothing here knows JSON, HTTP, torch or a thread.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "common/status.h"
#include "predictor/images/decode.h"
#include "predictor/sampling/sampling_params.h"
#include "predictor/text/tokenizer.h"

namespace idefics {

struct PromptImage {
  std::string reference;  // how the request names it: a URL, a data URI
  ImagePolicy policy = ImagePolicy::kUprightAlphaDropped;  // how the file becomes pixels
  std::shared_ptr<const std::vector<uint8_t>> file;  // its bytes; nullptr until they were fetched
};

// Ids of the vocabulary, images excepted. A prompt of ids is one such piece and nothing else.
struct PromptTokens {
  std::vector<int32_t> ids;
};

// One element of a prompt, from the API that reads a request to the tokenizer.
using PromptPiece = std::variant<PromptText, PromptImage, PromptTokens>;

// Which of the model's own end tokens and banned tokens count beside the request's
// (docs/model.md#end-tokens).
enum class TokenDefaults {
  kNone,      // the request's lists are all there is
  kPrompt,    // of a prompt as transformers takes it
  kQuestion,  // of one image and one text, as the original predictor took them
};

struct GenerateRequest {
  std::vector<PromptPiece> prompt;
  bool add_end_of_utterance = false;  // between two adjacent texts: docs/model.md#prompt-expansion
  SamplingParams sampling;
  // Not kNone: the model's end tokens where the request names none; the image tokens are banned on
  // top of bad_words_ids.
  TokenDefaults token_defaults = TokenDefaults::kNone;
  // max_new_tokens is cut to what the prompt leaves of the context, and of the KV cache.
  bool cut_to_context = false;
  std::string client;  // who asks: clients have equal shares of what there is
};

enum class FinishReason { kEos, kLength, kStopString, kCanceled, kError };

// Of one new token; natural log, of the distribution that SamplingParams::logprobs_mode names.
// -infinity: it could not come. NaN: it is a prompt's first token.
struct TokenLogprobs {
  float logprob = 0;                           // the token's own
  std::vector<std::pair<int32_t, float>> top;  // (token id, log probability), largest first
};

// One of the answers of a prompt.
struct Choice {
  FinishReason finish_reason = FinishReason::kError;
  std::string text;       // the new tokens decoded, special tokens dropped, cut at a stop string
  std::string full_text;  // prompt and new tokens decoded as one sequence, special tokens dropped
  std::vector<int32_t> token_ids;       // new tokens, the end token included
  std::vector<TokenLogprobs> logprobs;  // one per token_ids entry where asked for
};

struct GenerateTimings {
  using Clock = std::chrono::steady_clock;

  double preprocess_s = 0;              // decode, resize, tokenise
  double queue_s = 0;                   // waiting for a place in the engine
  Clock::time_point encode_began_at{};  // of images that were not cached; the epoch: all were
  Clock::time_point encode_ended_at{};
  Clock::time_point first_token_at{};  // the epoch: there was none
};

struct GenerateResult {
  Status status;                // not ok: the reason; the other fields hold what was reached
  std::vector<Choice> choices;  // SamplingParams::num_choices; none before the engine has taken it
  std::vector<int32_t> prompt_token_ids;
  int num_images = 0;
  int num_image_tokens = 0;  // of prompt_token_ids: those of images, and those around images
  int64_t num_cached_tokens =
      0;  // of prompt_token_ids: the first ones, which were not computed again
  GenerateTimings timings;
};

}  // namespace idefics
