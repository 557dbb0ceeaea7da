// SPDX-License-Identifier: Apache-2.0
// The body of POST and PUT /predictions, field by field, its input excepted
// (docs/cog-api.md#request-body).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <variant>

#include "server/http/message.h"
#include "server/jobs/rejection.h"

namespace idefics {

// Which posts a webhook wants (docs/cog-api.md#webhooks).
struct WebhookEvents {
  bool start = true;
  bool output = true;
  bool logs = true;
  bool completed = true;
};

struct CogRequest {
  std::string id;  // "": none was given
  nlohmann::json input = nlohmann::json::object();
  std::optional<std::string> webhook;
  WebhookEvents webhook_events;
  std::optional<std::string> created_at;
  std::optional<std::string> version;
};

// Reads and parses the body. `input` is not validated here.
std::variant<CogRequest, Rejection> ReadCogRequest(HttpRequest& request);

// Refused beyond 1 KiB: an id is a key, a part of a path and of log lines.
std::optional<Rejection> CheckId(const std::string& id);

// "pred_" and 128 random bits in hexadecimal.
std::string NewPredictionId();

}  // namespace idefics
