// SPDX-License-Identifier: Apache-2.0
#include "server/cog/admission.h"

#include <utility>

#include "common/log.h"
#include "server/cog/input_validation.h"
#include "server/cog/request_body.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr const char* kNotReady =
    R"({"error":"Setup has not finished yet. Wait until it has finished, or GET /health-check for )"
    R"(status.","status":"failed"})";
constexpr const char* kBusy =
    R"({"error":"At capacity - all prediction slots busy","status":"failed"})";
constexpr const char* kIdInFlight =
    R"({"error":"At capacity - a prediction with this id is running","status":"failed"})";
constexpr const char* kStopping = R"({"error":"The server is shutting down","status":"failed"})";

HttpResponse IdMismatch() {
  const json detail = {{{"loc", {"body", "id"}},
                        {"msg", "prediction ID must match the ID supplied in the URL"},
                        {"type", "value_error"}}};
  return HttpResponse::Json(422, json{{"detail", detail}}.dump());
}

}  // namespace

std::string JsonBytes(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

std::variant<Admission::Admitted, HttpResponse> Admission::Admit(HttpRequest& request,
                                                                 const Wish& wish) {
  auto read = ReadPredictionRequest(request);
  if (auto* error = std::get_if<HttpResponse>(&read)) return std::move(*error);
  PredictionRequest& wanted = std::get<PredictionRequest>(read);
  if (wish.path_id != nullptr) {
    if (!wanted.id.empty() && wanted.id != *wish.path_id) return IdMismatch();
    wanted.id = *wish.path_id;
    if (auto running = parts_.registry.FindInFlight(wanted.id)) {
      return Admitted{std::move(running), false, false, nullptr};
    }
  }
  if (wanted.id.empty()) wanted.id = NewPredictionId();
  ValidatedInput input = ValidateInput(wanted.input, InputOrigin::kHttp);
  if (!input.errors.empty()) return HttpResponse::Json(422, JsonBytes(ErrorBody(input.errors)));
  if (!input.dropped.empty()) {
    LogWarning("A request has " + std::to_string(input.dropped.size()) +
               " unknown inputs; they are ignored.");
  }
  wanted.input = std::move(input.values);
  if (!wish.model.empty()) wanted.model = wish.model;
  wanted.from_stream = wish.stream;
  for (const char* name : {"traceparent", "tracestate"}) {
    if (const std::string* value = request.Header(name)) wanted.trace.emplace_back(name, *value);
  }
  if (parts_.setup.phase() != SetupState::Phase::kReady) return HttpResponse::Json(503, kNotReady);
  if (const BackendHealth health = parts_.backend.Health();
      health.state == BackendHealth::State::kDefunct) {
    return HttpResponse::Json(503, JsonBytes({{"error", health.message}, {"status", "failed"}}));
  }
  return Claim(std::move(wanted), wish);
}

std::variant<Admission::Admitted, HttpResponse> Admission::Claim(PredictionRequest wanted,
                                                                 const Wish& wish) {
  auto made =
      std::make_shared<Prediction>(std::move(wanted), options_.output, options_.stream_history);
  json at_receipt = wish.receipt ? made->Snapshot() : json();
  auto claimed = parts_.registry.TryClaim(std::move(made));
  switch (claimed.claim) {
    case Registry::Claim::kNoSlot:
      return HttpResponse::Json(409, kBusy);
    case Registry::Claim::kClosed:
      return HttpResponse::Json(503, kStopping);
    case Registry::Claim::kInFlight:
      if (wish.path_id == nullptr) return HttpResponse::Json(409, kIdInFlight);
      return Admitted{std::move(claimed.prediction), false, false, nullptr};
    case Registry::Claim::kNew:
    case Registry::Claim::kQueued:
      break;
  }
  parts_.webhooks.Watch(claimed.prediction);
  const bool has_slot = claimed.claim == Registry::Claim::kNew;
  return Admitted{std::move(claimed.prediction), true, has_slot, std::move(at_receipt)};
}

}  // namespace idefics
