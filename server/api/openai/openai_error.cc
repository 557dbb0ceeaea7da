// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/openai_error.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "common/utf8.h"
#include "server/api/json_body.h"

namespace idefics {
namespace {

using nlohmann::json;
using Kind = Rejection::Kind;

constexpr size_t kMaxMessageBytes = 600;
constexpr const char* kServerError = "server_error";

json TextOrNull(const std::string& text) { return text.empty() ? json() : json(text); }

// {"input", "0", "url"} -> "input[0].url"
std::string ParamOf(const std::vector<std::string>& path) {
  std::string param;
  for (const std::string& key : path) param += (param.empty() ? "" : ".") + key;
  return param;
}

OpenAiError Unavailable(std::string message, const char* code, int retry_after_s) {
  OpenAiError error;
  error.status = 503;
  error.type = kServerError;
  error.message = std::move(message);
  error.code = code;
  error.retry_after_s = retry_after_s;
  return error;
}

OpenAiError WithStatus(int status, std::string message) {
  OpenAiError error;
  error.status = status;
  error.message = std::move(message);
  return error;
}

OpenAiError Busy(const Rejection& rejection) {
  OpenAiError error = WithStatus(
      429, !rejection.message.empty()
               ? rejection.message
               : "the server already has as many requests (" + std::to_string(rejection.limit) +
                     ") as it runs and lets wait; try again (" + rejection.flag + ")");
  error.type = "rate_limit_error";
  error.code = "rate_limit_exceeded";
  error.retry_after_s = rejection.retry_after_s;
  return error;
}

OpenAiError Worded(const Rejection& rejection) {
  switch (rejection.kind) {
    case Kind::kUnreadable:
      return WithStatus(400, rejection.message);
    case Kind::kUnsupportedMedia:
      return WithStatus(415, rejection.message);
    case Kind::kBodyTimeout:
      return WithStatus(408, rejection.message);
    case Kind::kBodyTooLarge: {
      OpenAiError error = WithStatus(413, rejection.message);
      error.code = "body_too_large";
      return error;
    }
    case Kind::kInvalid: {
      const FieldError& first = rejection.errors.front();
      return InvalidField(ParamOf(first.path), first.message);
    }
    case Kind::kNoMemory:
      return Unavailable(rejection.message, "overloaded", 1);
    case Kind::kNotReady:
      return Unavailable("the model is not loaded yet; GET /health says when it is", "loading", 5);
    case Kind::kStopping:
      return Unavailable("the server is shutting down", "draining", 5);
    case Kind::kBroken: {
      OpenAiError error = Unavailable(rejection.message, "engine_dead", 0);
      error.may_retry = false;
      return error;
    }
    case Kind::kTooManyStreams:
    case Kind::kBusy:
    case Kind::kIdInFlight:
    case Kind::kClientLimit:
      break;
  }
  return Busy(rejection);
}

}  // namespace

OpenAiError InvalidField(std::string param, std::string message, const char* code) {
  OpenAiError error;
  error.message = std::move(message);
  error.param = std::move(param);
  error.code = code;
  return error;
}

OpenAiError InvalidField(FieldProblem problem) {
  return InvalidField(std::move(problem.param), std::move(problem.message), problem.code);
}

OpenAiError UnknownModel(const std::string& asked, const std::string& served) {
  constexpr size_t kShownBytes = 200;
  OpenAiError error = InvalidField("model",
                                   "the model '" + Abbreviate(asked, kShownBytes) +
                                       "' does not exist here; this server has '" + served + "'",
                                   "model_not_found");
  error.status = 404;
  return error;
}

OpenAiError ErrorOf(const Rejection& rejection) {
  OpenAiError error = Worded(rejection);
  error.refusal = rejection.kind;
  return error;
}

OpenAiError ErrorOf(const Status& failure) {
  OpenAiError error = WithStatus(400, failure.message());
  switch (failure.code()) {
    case ErrorCode::kFetchFailed:
    case ErrorCode::kForbiddenUrl:
      error.code = "invalid_image_url";
      break;
    case ErrorCode::kOverloaded:
      return Unavailable(failure.message(), "overloaded", 1);
    case ErrorCode::kDeadline:
      if (failure.item()) {  // an image that takes too long
        error.code = "invalid_image";
        break;
      }
      error = WithStatus(504, failure.message());
      error.type = kServerError;
      error.code = "timeout";
      break;
    case ErrorCode::kNotReady:
      return Unavailable(failure.message(), "draining", 5);
    case ErrorCode::kOutOfMemory:
      error.status = 500;
      error.type = kServerError;
      break;
    case ErrorCode::kCanceled:
      return Unavailable("the request was canceled: the server is shutting down", "draining", 5);
    case ErrorCode::kInternal:
      error = WithStatus(500, "the request failed inside the server; its log says why");
      error.type = kServerError;
      break;
    case ErrorCode::kPromptTooLong:
      error.code = "context_length_exceeded";
      // In words that LiteLLM and others look for.
      error.message =
          "the requested token count exceeds the model's maximum context length: " + error.message;
      break;
    default:
      if (failure.item()) error.code = "invalid_image";
      break;
  }
  return error;
}

json ErrorObject(const OpenAiError& error) {
  return {{"error",
           {{"message", Abbreviate(error.message, kMaxMessageBytes)},
            {"type", error.type},
            {"param", TextOrNull(error.param)},
            {"code", TextOrNull(error.code)}}}};
}

HttpResponse ErrorResponse(const OpenAiError& error) {
  HttpResponse response = HttpResponse::Json(error.status, JsonBytes(ErrorObject(error)));
  if (error.retry_after_s > 0) {
    response.headers.emplace_back("Retry-After", std::to_string(error.retry_after_s));
  }
  if (!error.may_retry) response.headers.emplace_back("x-should-retry", "false");
  if (error.status == 401) response.headers.emplace_back("WWW-Authenticate", "Bearer");
  return response;
}

}  // namespace idefics
