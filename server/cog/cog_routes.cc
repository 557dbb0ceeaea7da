// SPDX-License-Identifier: Apache-2.0
#include "server/cog/cog_routes.h"

#include <utility>

#include "common/log.h"
#include "server/cog/event_stream.h"
#include "server/cog/input_validation.h"
#include "server/cog/request_body.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr auto kPeerCheckTime = std::chrono::milliseconds(50);

constexpr const char* kNotReady =
    R"({"error":"Setup has not finished yet. Wait until it has finished, or GET /health-check for )"
    R"(status.","status":"failed"})";
constexpr const char* kBusy =
    R"({"error":"At capacity - all prediction slots busy","status":"failed"})";
constexpr const char* kIdInFlight =
    R"({"error":"At capacity - a prediction with this id is running","status":"failed"})";
constexpr const char* kStopping = R"({"error":"The server is shutting down","status":"failed"})";

std::string Dump(const json& value) {
  return value.dump(-1, ' ', false, json::error_handler_t::replace);
}

// "respond-async" anywhere in Prefer, as RFC 7240 has it; `wait` is the gateway's business.
bool WantsAsync(const HttpRequest& request) {
  const std::string* prefer = request.Header("Prefer");
  if (prefer == nullptr) return false;
  std::string token;
  for (const char c : *prefer + ",") {
    if (c == ',' || c == ';') {
      if (token == "respond-async") return true;
      token.clear();
    } else if (c != ' ' && c != '\t') {
      token += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    }
  }
  return false;
}

HttpResponse IdMismatch() {
  const json detail = {{{"loc", {"body", "id"}},
                        {"msg", "prediction ID must match the ID supplied in the URL"},
                        {"type", "value_error"}}};
  return HttpResponse::Json(422, json{{"detail", detail}}.dump());
}

}  // namespace

std::string RootBody() {
  return json{{"cog_version", kCogVersion},
              {"docs_url", "/docs"},
              {"openapi_url", "/openapi.json"},
              {"shutdown_url", "/shutdown"},
              {"healthcheck_url", "/health-check"},
              {"predictions_url", "/predictions"},
              {"predictions_idempotent_url", "/predictions/{prediction_id}"},
              {"predictions_cancel_url", "/predictions/{prediction_id}/cancel"}}
      .dump();
}

CogRoutes::CogRoutes(Parts parts, OutputKind output)
    : parts_(std::move(parts)), output_(output), openapi_(OpenApiDocument(output).dump()) {}

void CogRoutes::AddTo(Router& router) {
  router.Add("GET", "/", [](HttpRequest&) { return HttpResponse::Json(200, RootBody()); });
  router.Add("GET", "/health-check", [this](HttpRequest&) { return Health(); });
  router.Add("GET", "/openapi.json",
             [this](HttpRequest&) { return HttpResponse::Json(200, openapi_); });
  router.Add("POST", "/predictions", [this](HttpRequest& r) { return Predict(r, nullptr); });
  router.Add("PUT", "/predictions/{id}",
             [this](HttpRequest& r) { return Predict(r, &r.path_parameters[0]); });
  router.Add("GET", "/predictions/{id}",
             [this](HttpRequest& r) { return Get(r.path_parameters[0]); });
  router.Add("POST", "/predictions/{id}/cancel",
             [this](HttpRequest& r) { return Cancel(r.path_parameters[0]); });
  router.Add("POST", "/shutdown", [this](HttpRequest&) {
    parts_.request_shutdown();
    return HttpResponse::Json(200, "{}");
  });
}

HttpResponse CogRoutes::Health() {
  return HttpResponse::Json(200, Dump(HealthBody(parts_.setup, parts_.registry, parts_.backend)));
}

HttpResponse CogRoutes::Get(const std::string& id) {
  const auto prediction = parts_.registry.Find(id);
  if (prediction == nullptr) return HttpResponse::Json(404, "{}");
  return HttpResponse::Json(200, Dump(prediction->Snapshot()));
}

HttpResponse CogRoutes::Cancel(const std::string& id) {
  const auto prediction = parts_.registry.FindInFlight(id);
  if (prediction == nullptr) return HttpResponse::Json(404, "{}");
  prediction->Cancel();
  return HttpResponse::Json(200, "{}");
}

// The order of decisions is the contract's (1.5): body, id, in flight, input, readiness, capacity.
HttpResponse CogRoutes::Predict(HttpRequest& request, const std::string* path_id) {
  auto read = ReadPredictionRequest(request);
  if (auto* error = std::get_if<HttpResponse>(&read)) return std::move(*error);
  PredictionRequest& wanted = std::get<PredictionRequest>(read);
  if (path_id != nullptr) {
    if (!wanted.id.empty() && wanted.id != *path_id) return IdMismatch();
    wanted.id = *path_id;
    if (const auto running = parts_.registry.FindInFlight(wanted.id)) {
      if (WantsEventStream(request)) return EventStream(running, /*cancel_when_left=*/false);
      return HttpResponse::Json(202, Dump(running->Snapshot()));
    }
  }
  if (wanted.id.empty()) wanted.id = NewPredictionId();
  ValidatedInput input = ValidateInput(wanted.input, InputOrigin::kHttp);
  if (!input.errors.empty()) return HttpResponse::Json(422, Dump(ErrorBody(input.errors)));
  if (!input.dropped.empty()) {
    LogWarning("A request has " + std::to_string(input.dropped.size()) +
               " unknown inputs; they are ignored.");
  }
  wanted.input = std::move(input.values);
  for (const char* name : {"traceparent", "tracestate"}) {
    if (const std::string* value = request.Header(name)) wanted.trace.emplace_back(name, *value);
  }
  if (parts_.setup.phase() != SetupState::Phase::kReady) return HttpResponse::Json(503, kNotReady);
  return Claim(std::move(wanted), request);
}

HttpResponse CogRoutes::Claim(PredictionRequest wanted, const HttpRequest& request) {
  const bool is_put = request.method == "PUT";
  const auto claimed =
      parts_.registry.TryClaim(std::make_shared<Prediction>(std::move(wanted), output_));
  const auto& prediction = claimed.prediction;
  switch (claimed.claim) {
    case Registry::Claim::kNoSlot:
      return HttpResponse::Json(409, kBusy);
    case Registry::Claim::kClosed:
      return HttpResponse::Json(503, kStopping);
    case Registry::Claim::kInFlight:
      if (!is_put) return HttpResponse::Json(409, kIdInFlight);
      if (WantsEventStream(request)) return EventStream(prediction, /*cancel_when_left=*/false);
      return HttpResponse::Json(202, Dump(prediction->Snapshot()));
    case Registry::Claim::kNew:
      break;
  }
  const std::string accepted = WantsAsync(request) ? Dump(prediction->Snapshot()) : "";
  parts_.webhooks.Watch(prediction);
  parts_.runner.Start(prediction);
  if (WantsEventStream(request)) return EventStream(prediction, /*cancel_when_left=*/true);
  if (!accepted.empty()) return HttpResponse::Json(202, accepted);
  return WaitForEnd(prediction, request);
}

HttpResponse CogRoutes::WaitForEnd(const std::shared_ptr<Prediction>& prediction,
                                   const HttpRequest& request) {
  while (!prediction->WaitAnnounced(kPeerCheckTime)) {
    if (request.peer->Gone()) prediction->Cancel();
  }
  return HttpResponse::Json(200, Dump(prediction->Snapshot()));
}

}  // namespace idefics
