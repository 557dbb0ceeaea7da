// SPDX-License-Identifier: Apache-2.0
#include "server/api/replicate/replicate_routes.h"

#include <algorithm>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/ascii.h"
#include "common/rfc3339.h"
#include "common/version.h"
#include "server/api/cog/openapi.h"
#include "server/api/cog/prediction_object.h"
#include "server/api/cog/rejection_response.h"
#include "server/api/json_body.h"
#include "server/http/header_list.h"

namespace idefics {
namespace {

using nlohmann::json;
using std::chrono::seconds;

constexpr const char* kModel = "cog-idefics/idefics";  // where the client names none
constexpr const char* kVersion = "hidden";  // what Replicate shows of a model without versions

// "Prefer: wait" is a minute, "wait=N" N seconds; none: the answer comes at once.
std::optional<seconds> WantedWait(const HttpRequest& request) {
  constexpr seconds kLongest{60};
  constexpr std::string_view kWait = "wait=";
  const std::string* prefer = request.Header("Prefer");
  if (prefer == nullptr) return std::nullopt;
  for (const std::string_view item : SplitHeaderList(*prefer, ",;")) {
    const std::string preference = ToLower(item);
    if (preference == "wait") return kLongest;
    if (preference.starts_with(kWait)) {
      const int given = std::atoi(preference.c_str() + kWait.size());
      return std::clamp(seconds(given), seconds(0), kLongest);
    }
  }
  return std::nullopt;
}

// The job as Replicate's API shows it.
HttpResponse Shown(int status, const Job& job, const JobView& view, const HttpRequest& request) {
  const CogContext& context = *CogContextOf(job);
  const std::string* host = request.Header("Host");
  const std::string url =
      (host == nullptr ? "" : "http://" + *host) + "/v1/predictions/" + job.id();
  json object = PredictionObject(job, view);
  object["model"] = context.model.value_or(kModel);
  object["version"] = context.version.value_or(kVersion);
  object["urls"] = {{"get", url}, {"cancel", url + "/cancel"}};
  return HttpResponse::Json(status, JsonBytes(object));
}

// {"input", "text"}, "Field required" -> "- input.text: Field required"
std::string Sentence(const FieldError& error) {
  std::string where;
  for (const std::string& key : error.path) where += (where.empty() ? "" : ".") + key;
  return "- " + where + ": " + error.message + "\n";
}

// An RFC 7807 problem, which Replicate's clients read.
HttpResponse Problem(const Rejection& rejection) {
  const int status = CogStatus(rejection.kind);
  const bool invalid = rejection.kind == Rejection::Kind::kInvalid;
  std::string detail = CogSentence(rejection);
  for (const FieldError& error : rejection.errors) detail += Sentence(error);
  const char* title = invalid ? "Input validation failed" : "Request failed";
  HttpResponse response = HttpResponse::Json(
      status, JsonBytes({{"title", title}, {"detail", detail}, {"status", status}}));
  AddRetryAfter(rejection, &response);
  return response;
}

HttpResponse NotFound() {
  return HttpResponse::Json(404, R"({"title":"Not found","detail":"Prediction not found",)"
                                 R"("status":404})");
}

}  // namespace

ReplicateRoutes::ReplicateRoutes(Admission& admission)
    : admission_(admission),
      service_(admission.service()),
      started_at_(Rfc3339(std::chrono::system_clock::now())) {}

void ReplicateRoutes::AddTo(Router& router) {
  router.Add(
      "POST", "/v1/predictions", [this](HttpRequest& r) { return Create(r, ""); },
      Router::Lane::kBody);
  router.Add(
      "POST", "/v1/models/{owner}/{name}/predictions",
      [this](HttpRequest& r) {
        return Create(r, r.path_parameters[0] + "/" + r.path_parameters[1]);
      },
      Router::Lane::kBody);
  router.Add("GET", "/v1/predictions/{id}",
             [this](HttpRequest& r) { return Get(r, r.path_parameters[0]); });
  router.Add(
      "POST", "/v1/predictions/{id}/cancel",
      [this](HttpRequest& r) { return Cancel(r, r.path_parameters[0]); }, Router::Lane::kQuick);
  router.Add("GET", "/v1/models/{owner}/{name}/versions/{id}",
             [this](HttpRequest& r) { return Version(r.path_parameters[2]); });
}

HttpResponse ReplicateRoutes::Create(HttpRequest& request, const std::string& model) {
  auto result = admission_.Admit(
      request, {RequestApi::kReplicate, nullptr, model, /*from_stream=*/false, nullptr});
  if (const auto* refused = std::get_if<Rejection>(&result)) return Problem(*refused);
  const auto& submitted = std::get<JobService::Submitted>(result);
  const Job& job = *submitted.job;
  if (submitted.has_slot) service_.executor().Start(submitted.job);
  const auto wait = WantedWait(request);
  if (!wait) return Shown(201, job, JobView(), request);  // as it was when it was received
  const bool ended = job.log().WaitFinished(*wait);
  JobView view = job.log().View();
  if (!ended) view.state = JobState::kStarting;  // the client takes any other state for the end
  return Shown(201, job, view, request);
}

HttpResponse ReplicateRoutes::Get(const HttpRequest& request, const std::string& id) {
  const auto job = service_.queue().Find(id);
  if (job == nullptr || CogContextOf(*job) == nullptr) return NotFound();
  return Shown(200, *job, job->log().View(), request);
}

HttpResponse ReplicateRoutes::Cancel(const HttpRequest& request, const std::string& id) {
  const auto job = service_.queue().Find(id);
  if (job == nullptr || CogContextOf(*job) == nullptr) return NotFound();
  service_.queue().Cancel(job);
  return Shown(200, *job, job->log().View(), request);
}

HttpResponse ReplicateRoutes::Version(const std::string& id) const {
  return HttpResponse::Json(200,
                            JsonBytes({{"id", id},
                                       {"created_at", started_at_},
                                       {"cog_version", kCogVersion},
                                       {"openapi_schema", OpenApiDocument(admission_.output())}}));
}

}  // namespace idefics
