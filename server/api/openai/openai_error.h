// SPDX-License-Identifier: Apache-2.0
// Refusals and failures in OpenAI's words: one object with four keys, under a status that its
// clients map to exceptions and retries (docs/openai-api.md#errors). Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>
#include <string>

#include "common/status.h"
#include "server/api/field_reader.h"
#include "server/http/message.h"
#include "server/jobs/rejection.h"

namespace idefics {

struct OpenAiError {
  int status = 400;
  const char* type = "invalid_request_error";
  std::string message;    // one sentence; at most 600 bytes of it are sent
  std::string param;      // path of the field, "messages[1].content"; "" is sent as null
  const char* code = "";  // "" is sent as null
  int retry_after_s = 0;  // 0: no Retry-After
  bool may_retry = true;  // false: the clients are told not to
  Rejection::Kind refusal = Rejection::Kind::kInvalid;  // where no job was made
};

OpenAiError InvalidField(std::string param, std::string message, const char* code = "");
OpenAiError InvalidField(FieldProblem problem);
OpenAiError UnknownModel(const std::string& asked, const std::string& served);

// Why a request did not become a job.
OpenAiError ErrorOf(const Rejection& rejection);

// Why a job failed; its status's item() is an image.
OpenAiError ErrorOf(const Status& failure);

// {"error": {"message", "type", "param", "code"}}
nlohmann::json ErrorObject(const OpenAiError& error);
HttpResponse ErrorResponse(const OpenAiError& error);

}  // namespace idefics
