// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/cog_routes.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/ascii.h"
#include "common/version.h"
#include "server/api/cog/health.h"
#include "server/api/cog/prediction_object.h"
#include "server/api/cog/rejection_response.h"
#include "server/api/job_exchange.h"
#include "server/api/json_body.h"
#include "server/http/header_list.h"
#include "server/http/sse.h"

namespace idefics {
namespace {

using nlohmann::json;

// "respond-async" anywhere in Prefer, as RFC 7240 has it; `wait` is the gateway's business.
bool WantsAsync(const HttpRequest& request) {
  const std::string* prefer = request.Header("Prefer");
  if (prefer == nullptr) return false;
  const auto preferences = SplitHeaderList(*prefer, ",;");
  return std::any_of(preferences.begin(), preferences.end(), [](std::string_view preference) {
    return ToLower(preference) == "respond-async";
  });
}

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

HttpResponse Shown(int status, const Job& job, const JobView& view) {
  return HttpResponse::Json(status, JsonBytes(PredictionObject(job, view)));
}

HttpResponse NotFound() { return HttpResponse::Json(404, "{}"); }

}  // namespace

CogRoutes::CogRoutes(Admission& admission, std::function<void()> request_shutdown)
    : admission_(admission),
      service_(admission.service()),
      request_shutdown_(std::move(request_shutdown)),
      streams_(service_.queue()),
      openapi_(OpenApiDocument(admission.output()).dump()) {}

void CogRoutes::AddTo(Router& router) {
  router.Add("GET", "/", [](HttpRequest&) { return HttpResponse::Json(200, RootBody()); });
  router.Add("GET", "/health-check", [this](HttpRequest&) { return Health(); });
  router.Add("GET", "/openapi.json",
             [this](HttpRequest&) { return HttpResponse::Json(200, openapi_); });
  router.Add(
      "POST", "/predictions", [this](HttpRequest& r) { return Predict(r, nullptr); },
      Router::Lane::kBody);
  router.Add(
      "PUT", "/predictions/{id}",
      [this](HttpRequest& r) { return Predict(r, &r.path_parameters[0]); }, Router::Lane::kBody);
  router.Add("GET", "/predictions/{id}",
             [this](HttpRequest& r) { return Get(r.path_parameters[0]); });
  router.Add(
      "POST", "/predictions/{id}/cancel",
      [this](HttpRequest& r) { return Cancel(r.path_parameters[0]); }, Router::Lane::kQuick);
  router.Add("POST", "/predictions//cancel", [](HttpRequest&) { return NotFound(); });
  router.Add(
      "POST", "/shutdown",
      [this](HttpRequest&) {
        request_shutdown_();
        return HttpResponse::Json(200, "{}");
      },
      Router::Lane::kQuick);
}

HttpResponse CogRoutes::Health() const {
  return HttpResponse::Json(200, JsonBytes(HealthBody(service_)));
}

HttpResponse CogRoutes::Get(const std::string& id) {
  const auto job = service_.queue().Find(id);
  if (job == nullptr || CogContextOf(*job) == nullptr) return NotFound();
  return Shown(200, *job, job->log().View());
}

HttpResponse CogRoutes::Cancel(const std::string& id) {
  const auto job = service_.queue().FindInFlight(id);
  if (job == nullptr || CogContextOf(*job) == nullptr) return NotFound();
  service_.queue().Cancel(job);
  return HttpResponse::Json(200, "{}");
}

HttpResponse CogRoutes::Predict(HttpRequest& request, const std::string* path_id) {
  const bool wants_stream = WantsEventStream(request.Header("Accept"));
  EventStreams::Place place;
  // Once the body is there: a client that holds it back holds no place.
  const auto take_place = [&]() -> std::optional<Rejection> {
    if (!wants_stream) return std::nullopt;
    auto taken = streams_.TakePlace();
    if (auto* refused = std::get_if<Rejection>(&taken)) return std::move(*refused);
    place = std::get<EventStreams::Place>(std::move(taken));
    return std::nullopt;
  };
  auto result =
      admission_.Admit(request, {RequestApi::kCog, path_id, "", wants_stream, take_place});
  if (const auto* refused = std::get_if<Rejection>(&result)) return CogResponse(*refused);
  const auto& submitted = std::get<JobService::Submitted>(result);
  const bool waits = submitted.is_new && !wants_stream && !WantsAsync(request);
  if (waits) {
    const JobView end = WaitForEnd(service_, submitted, *request.peer);
    if (end.failure.code() == ErrorCode::kOverloaded) return CogOverloaded(end.failure.message());
    return Shown(200, *submitted.job, end);
  }
  if (submitted.has_slot) service_.executor().Start(submitted.job);
  if (wants_stream) {
    return streams_.Open(submitted.job, /*from_start=*/submitted.is_new, std::move(place));
  }
  // Of a new one: as it was when it was received.
  return Shown(202, *submitted.job, submitted.is_new ? JobView() : submitted.job->log().View());
}

}  // namespace idefics
