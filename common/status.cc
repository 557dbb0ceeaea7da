// SPDX-License-Identifier: Apache-2.0
#include "common/status.h"

#include <cstdio>
#include <cstdlib>

namespace idefics {

const char* ErrorCodeName(ErrorCode code) {
  switch (code) {
    case ErrorCode::kOk:
      return "ok";
    case ErrorCode::kInvalidInput:
      return "invalid_input";
    case ErrorCode::kTooLarge:
      return "too_large";
    case ErrorCode::kPromptTooLong:
      return "prompt_too_long";
    case ErrorCode::kFetchFailed:
      return "fetch_failed";
    case ErrorCode::kForbiddenUrl:
      return "forbidden_url";
    case ErrorCode::kOverloaded:
      return "overloaded";
    case ErrorCode::kNotReady:
      return "not_ready";
    case ErrorCode::kCanceled:
      return "canceled";
    case ErrorCode::kDeadline:
      return "deadline";
    case ErrorCode::kOutOfMemory:
      return "out_of_memory";
    case ErrorCode::kInternal:
      return "internal";
  }
  return "unknown";
}

namespace internal {

void CheckFailed(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: check failed: %s\n", file, line, what.c_str());
  std::abort();
}

}  // namespace internal
}  // namespace idefics
