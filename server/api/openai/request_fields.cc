// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/request_fields.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/json_body.h"

namespace idefics {

std::optional<OpenAiError> WhyNotReady(const JobService& service) {
  if (service.setup().phase() != SetupState::Phase::kReady) {
    return ErrorOf(Rejection{Rejection::Kind::kNotReady, "", {}});
  }
  if (service.predictor().tokenizer() != nullptr) return std::nullopt;
  OpenAiError error = InvalidField("", "this server has no model, only a stand-in for one");
  error.status = 501;
  return error;
}

std::variant<nlohmann::json, OpenAiError> ReadFields(const JobService& service,
                                                     HttpRequest& request) {
  if (auto unready = WhyNotReady(service)) return *unready;
  auto body = ReadJsonBody(request);
  if (const auto* refused = std::get_if<Rejection>(&body)) return ErrorOf(*refused);
  auto& fields = std::get<nlohmann::json>(body);
  if (!fields.is_object()) return InvalidField("", "the body must be a JSON object");
  return std::move(fields);
}

}  // namespace idefics
