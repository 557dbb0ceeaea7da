// SPDX-License-Identifier: Apache-2.0
// Status and Result<T>: how failures of the world travel. A bug is a CHECK (check.h), never a
// Status. Both types are values; distinct objects may be used on distinct threads.
#pragma once

#include <optional>
#include <string>
#include <utility>

#include "common/check.h"

namespace idefics {

enum class ErrorCode {
  kOk,
  kInvalidInput,   // the caller's fault; the message is shown to the caller
  kTooLarge,       // body, image bytes, pixels or image count over a limit
  kPromptTooLong,  // prompt and new tokens over what a sequence may hold
  kFetchFailed,    // the remote image server failed or answered nonsense
  kForbiddenUrl,   // scheme, host or address not allowed (SSRF guard)
  kOverloaded,     // no slot or queue place; the caller may retry
  kNotReady,       // starting, draining, or setup failed
  kCanceled,       // the client went away or asked for it
  kDeadline,       // the request's time ran out
  kOutOfMemory,    // device memory; the request fails, the process lives
  kInternal,       // a failed device or library; the message goes to the log only
};

// Lower-case name of the code, for logs ("invalid_input").
const char* ErrorCodeName(ErrorCode code);

// Message convention: one sentence with what, the value, the limit and what to do.
//   "image is 9000x9000 pixels, the limit is 40000000 (--max-image-pixels)"
class [[nodiscard]] Status {
 public:
  Status() = default;
  Status(ErrorCode code, std::string message) : code_(code), message_(std::move(message)) {}

  static Status Ok() { return {}; }
  static Status InvalidInput(std::string message) {
    return {ErrorCode::kInvalidInput, std::move(message)};
  }
  static Status TooLarge(std::string message) { return {ErrorCode::kTooLarge, std::move(message)}; }
  static Status PromptTooLong(std::string message) {
    return {ErrorCode::kPromptTooLong, std::move(message)};
  }
  static Status Internal(std::string message) { return {ErrorCode::kInternal, std::move(message)}; }

  bool ok() const { return code_ == ErrorCode::kOk; }
  ErrorCode code() const { return code_; }
  const std::string& message() const { return message_; }

  // Which of several equal things the failure is about, from 0: an image of a prompt.
  std::optional<int> item() const { return item_; }
  Status WithItem(int item) const {
    Status status = *this;
    if (!ok()) status.item_ = item;
    return status;
  }

  // The same failure seen from one level up: "PREFIX: message".
  Status WithPrefix(const std::string& prefix) const {
    Status status = *this;
    if (!ok()) status.message_ = prefix + ": " + message_;
    return status;
  }

 private:
  ErrorCode code_ = ErrorCode::kOk;
  std::string message_;
  std::optional<int> item_;
};

// A value or the Status that says why there is none.
template <typename T>
class [[nodiscard]] Result {
 public:
  Result(T value) : value_(std::move(value)) {}         // NOLINT(google-explicit-constructor)
  Result(Status status) : status_(std::move(status)) {  // NOLINT(google-explicit-constructor)
    IDEFICS_CHECK(!status_.ok());
  }

  bool ok() const { return value_.has_value(); }
  const Status& status() const { return status_; }

  // REQUIRES: ok().
  T& value() & {
    IDEFICS_CHECK(ok());
    return *value_;
  }
  const T& value() const& {
    IDEFICS_CHECK(ok());
    return *value_;
  }
  T&& value() && {
    IDEFICS_CHECK(ok());
    return std::move(*value_);
  }
  T* operator->() { return &value(); }
  const T* operator->() const { return &value(); }
  T& operator*() & { return value(); }
  const T& operator*() const& { return value(); }
  T&& operator*() && { return std::move(*this).value(); }

 private:
  std::optional<T> value_;
  Status status_;
};

}  // namespace idefics

#define IDEFICS_CONCAT_INNER(a, b) a##b
#define IDEFICS_CONCAT(a, b) IDEFICS_CONCAT_INNER(a, b)

#define RETURN_IF_ERROR(expression)                                                          \
  do {                                                                                       \
    if (::idefics::Status status_of_expression = (expression); !status_of_expression.ok()) { \
      return status_of_expression;                                                           \
    }                                                                                        \
  } while (false)

// ASSIGN_OR_RETURN(auto image, Decode(bytes));
#define ASSIGN_OR_RETURN(declaration, expression) \
  ASSIGN_OR_RETURN_INNER(IDEFICS_CONCAT(result_, __LINE__), declaration, expression)
#define ASSIGN_OR_RETURN_INNER(result, declaration, expression) \
  auto result = (expression);                                   \
  if (!result.ok()) return result.status();                     \
  declaration = std::move(result).value()
