// SPDX-License-Identifier: Apache-2.0
// What happens to a job, in order. Plain values: an API renders them, webhooks coalesce them.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "predictor/predictor.h"

namespace idefics {

struct JobStarted {};  // it has a slot and runs

// New tokens, of a job that asked for their log probabilities.
struct TokenDetails {
  std::vector<int32_t> ids;
  std::vector<TokenLogprobs> logprobs;  // one for each
};

struct JobText {
  std::string piece;   // whole UTF-8 characters; empty where tokens came without text
  size_t index = 0;    // of the piece, from 0
  int choice = 0;      // which of the answers it belongs to
  int num_tokens = 0;  // whose text it is
  std::shared_ptr<const TokenDetails> tokens{};  // nullptr: not asked for
};

// One of the answers is complete.
struct JobChoiceEnded {
  int choice = 0;
  FinishReason reason = FinishReason::kError;
};

struct JobLogLine {
  LogSource source = LogSource::kStdout;
  std::string text;  // whole lines, "\n" included
};

struct JobFinished {};  // the last one; JobView says how

using JobEvent = std::variant<JobStarted, JobText, JobChoiceEnded, JobLogLine, Metric, JobFinished>;

}  // namespace idefics
