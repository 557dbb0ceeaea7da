// SPDX-License-Identifier: Apache-2.0
// What happens to a job, in order. Plain values: an API renders them, webhooks coalesce them.
#pragma once

#include <cstddef>
#include <string>
#include <variant>

#include "predictor/predictor.h"

namespace idefics {

struct JobStarted {};  // it has a slot and runs

struct JobText {
  std::string piece;  // whole UTF-8 characters
  size_t index = 0;   // of the piece, from 0
};

struct JobLogLine {
  LogSource source = LogSource::kStdout;
  std::string text;  // whole lines, "\n" included
};

struct JobFinished {};  // the last one; JobView says how

using JobEvent = std::variant<JobStarted, JobText, JobLogLine, Metric, JobFinished>;

}  // namespace idefics
