// SPDX-License-Identifier: Apache-2.0
// Why a request does not become a job, as a value: each API says it in its own words and statuses.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace idefics {

// One thing that is wrong with a request's fields.
struct FieldError {
  std::vector<std::string> path;  // from the body's root: {"input", "max_new_tokens"}
  std::string message;
  std::string type = "value_error";
};

struct Rejection {
  enum class Kind {
    kUnreadable,        // the body broke off, or is not the JSON it claims to be
    kUnsupportedMedia,  // a content type or encoding that is not understood
    kBodyTooLarge,
    kBodyTimeout,
    kNoMemory,  // the budget for what clients make us hold is spent; a moment later it may not be
    kInvalid,   // `errors` says what
    kTooManyStreams,  // open event streams
    kNotReady,        // set-up has not ended, or failed
    kBroken,          // the predictor will never run again
    kStopping,
    kBusy,         // every slot and every place in the queue is taken
    kIdInFlight,   // a job with this id runs already
    kClientLimit,  // this client has as much as it may
  };

  Kind kind = Kind::kUnreadable;
  std::string message;             // one sentence; empty where the kind says it all
  std::vector<FieldError> errors;  // of kInvalid
  int64_t limit = 0;               // of kBodyTooLarge, kTooManyStreams, kBusy: what was exceeded
  const char* flag = "";           // the flag that sets the limit, where one does
  int retry_after_s = 1;           // where a later try may be taken

  static Rejection Unreadable(std::string why) { return {Kind::kUnreadable, std::move(why), {}}; }
  static Rejection Invalid(FieldError error) { return {Kind::kInvalid, "", {std::move(error)}}; }
  static Rejection ClientLimit(std::string why, int retry_after_s) {
    return {Kind::kClientLimit, std::move(why), {}, 0, "", retry_after_s};
  }
};

}  // namespace idefics
