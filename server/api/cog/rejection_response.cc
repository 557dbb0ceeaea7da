// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/rejection_response.h"

#include <nlohmann/json.hpp>

#include "server/api/json_body.h"

namespace idefics {
namespace {

using nlohmann::json;
using Kind = Rejection::Kind;

json Detail(const std::vector<FieldError>& errors) {
  json detail = json::array();
  for (const FieldError& error : errors) {
    json loc = json::array({"body"});
    for (const std::string& key : error.path) loc.push_back(key);
    detail.push_back({{"loc", std::move(loc)}, {"msg", error.message}, {"type", error.type}});
  }
  return {{"detail", std::move(detail)}};
}

}  // namespace

int CogStatus(Kind kind) {
  switch (kind) {
    case Kind::kUnreadable:
      return 400;
    case Kind::kUnsupportedMedia:
      return 415;
    case Kind::kBodyTooLarge:
      return 413;
    case Kind::kBodyTimeout:
      return 408;
    case Kind::kInvalid:
      return 422;
    case Kind::kTooManyStreams:
    case Kind::kClientLimit:
      return 429;
    case Kind::kNoMemory:
    case Kind::kNotReady:
    case Kind::kBroken:
    case Kind::kStopping:
      return 503;
    case Kind::kBusy:
    case Kind::kIdInFlight:
      return 409;
  }
  return 500;
}

std::string CogSentence(const Rejection& rejection) {
  switch (rejection.kind) {
    case Kind::kNotReady:
      return "Setup has not finished yet. Wait until it has finished, or GET /health-check for "
             "status.";
    case Kind::kBusy:
      return "At capacity - all prediction slots busy";
    case Kind::kIdInFlight:
      return "At capacity - a prediction with this id is running";
    case Kind::kStopping:
      return "The server is shutting down";
    case Kind::kTooManyStreams:
      return "Too many stream subscribers";
    default:
      return rejection.message;
  }
}

void AddRetryAfter(const Rejection& rejection, HttpResponse* response) {
  const int status = response->status;
  const bool passes = status == 503 || status == 429 || rejection.kind == Kind::kBusy;
  if (!passes || rejection.kind == Kind::kBroken) return;
  response->headers.emplace_back("Retry-After", std::to_string(rejection.retry_after_s));
}

static HttpResponse PlainResponse(const Rejection& rejection) {
  const int status = CogStatus(rejection.kind);
  switch (rejection.kind) {
    case Kind::kUnreadable:
    case Kind::kUnsupportedMedia:
    case Kind::kBodyTooLarge:
    case Kind::kBodyTimeout:
      return HttpResponse::Text(status, rejection.message);
    case Kind::kInvalid:
      return HttpResponse::Json(status, JsonBytes(Detail(rejection.errors)));
    case Kind::kTooManyStreams:
      return HttpResponse::Json(status, JsonBytes({{"error", CogSentence(rejection)}}));
    default:
      return HttpResponse::Json(
          status, JsonBytes({{"error", CogSentence(rejection)}, {"status", "failed"}}));
  }
}

HttpResponse CogOverloaded(const std::string& sentence) {
  return CogResponse({Kind::kNoMemory, sentence, {}});
}

HttpResponse CogResponse(const Rejection& rejection) {
  HttpResponse response = PlainResponse(rejection);
  AddRetryAfter(rejection, &response);
  return response;
}

}  // namespace idefics
