// SPDX-License-Identifier: Apache-2.0
#include "server/cog/replicate_routes.h"

#include <algorithm>
#include <cctype>
#include <optional>
#include <utility>

namespace idefics {
namespace {

using nlohmann::json;
using std::chrono::seconds;

constexpr const char* kModel = "cog-idefics/idefics";  // where the client names none
constexpr const char* kVersion = "hidden";  // what Replicate shows of a model without versions

// "Prefer: wait" is a minute, "wait=N" N seconds; none: the answer comes at once.
std::optional<seconds> WantedWait(const HttpRequest& request) {
  constexpr seconds kLongest{60};
  const std::string* prefer = request.Header("Prefer");
  if (prefer == nullptr) return std::nullopt;
  std::string token;
  for (const char c : *prefer + ",") {
    if (c != ',' && c != ';') {
      if (c != ' ' && c != '\t')
        token += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
      continue;
    }
    if (token == "wait") return kLongest;
    if (token.rfind("wait=", 0) == 0) {
      return std::clamp(seconds(std::atoi(token.c_str() + 5)), seconds(0), kLongest);
    }
    token.clear();
  }
  return std::nullopt;
}

// The prediction as Replicate's API shows it.
json Shown(json snapshot, const Prediction& prediction, const HttpRequest& request) {
  const std::string* host = request.Header("Host");
  const std::string url =
      (host == nullptr ? "" : "http://" + *host) + "/v1/predictions/" + prediction.id();
  snapshot["model"] = prediction.request().model.value_or(kModel);
  snapshot["version"] = prediction.request().version.value_or(kVersion);
  snapshot["urls"] = {{"get", url}, {"cancel", url + "/cancel"}};
  return snapshot;
}

// {"loc": ["body", "input", "text"], "msg": "Field required"} -> "- input.text: Field required"
std::string Sentence(const json& entry) {
  std::string where;
  for (size_t i = 1; i < entry["loc"].size(); ++i) {
    where += (i > 1 ? "." : "") + entry["loc"][i].get<std::string>();
  }
  return "- " + where + ": " + entry["msg"].get<std::string>() + "\n";
}

// Cog's error bodies as RFC 7807 problems, which Replicate's clients read.
HttpResponse Problem(const HttpResponse& error) {
  const json body = json::parse(error.body, nullptr, /*allow_exceptions=*/false);
  std::string detail = body.is_discarded() ? error.body : "";
  if (body.is_object() && body.contains("error")) detail = body["error"];
  if (body.is_object() && body.contains("detail")) {
    for (const json& entry : body["detail"]) detail += Sentence(entry);
  }
  const char* title = error.status == 422 ? "Input validation failed" : "Request failed";
  HttpResponse response = HttpResponse::Json(
      error.status, JsonBytes({{"title", title}, {"detail", detail}, {"status", error.status}}));
  response.close_connection = error.close_connection;
  return response;
}

HttpResponse NotFound() {
  return HttpResponse::Json(404, R"({"title":"Not found","detail":"Prediction not found",)"
                                 R"("status":404})");
}

}  // namespace

ReplicateRoutes::ReplicateRoutes(Admission& admission)
    : admission_(admission), started_at_(Rfc3339(std::chrono::system_clock::now())) {}

void ReplicateRoutes::AddTo(Router& router) {
  router.Add("POST", "/v1/predictions", [this](HttpRequest& r) { return Create(r, ""); });
  router.Add("POST", "/v1/models/{owner}/{name}/predictions", [this](HttpRequest& r) {
    return Create(r, r.path_parameters[0] + "/" + r.path_parameters[1]);
  });
  router.Add("GET", "/v1/predictions/{id}",
             [this](HttpRequest& r) { return Get(r, r.path_parameters[0]); });
  router.Add("POST", "/v1/predictions/{id}/cancel",
             [this](HttpRequest& r) { return Cancel(r, r.path_parameters[0]); });
  router.Add("GET", "/v1/models/{owner}/{name}/versions/{id}",
             [this](HttpRequest& r) { return Version(r.path_parameters[2]); });
}

HttpResponse ReplicateRoutes::Create(HttpRequest& request, const std::string& model) {
  auto result = admission_.Admit(request, {nullptr, model, /*stream=*/false, /*receipt=*/true});
  if (const auto* error = std::get_if<HttpResponse>(&result)) return Problem(*error);
  auto& [prediction, is_new, has_slot, at_receipt] = std::get<Admission::Admitted>(result);
  if (has_slot) admission_.parts().runner.Start(prediction);
  json shown = std::move(at_receipt);
  if (const auto wait = WantedWait(request)) {
    const bool ended = prediction->WaitAnnounced(*wait);
    shown = prediction->Snapshot();
    // The client takes any other status for the end.
    if (!ended) shown["status"] = PredictionStatusName(PredictionStatus::kStarting);
  }
  return HttpResponse::Json(201, JsonBytes(Shown(std::move(shown), *prediction, request)));
}

HttpResponse ReplicateRoutes::Get(const HttpRequest& request, const std::string& id) {
  const auto prediction = admission_.parts().registry.Find(id);
  if (prediction == nullptr) return NotFound();
  return HttpResponse::Json(200, JsonBytes(Shown(prediction->Snapshot(), *prediction, request)));
}

HttpResponse ReplicateRoutes::Cancel(const HttpRequest& request, const std::string& id) {
  Registry& registry = admission_.parts().registry;
  const auto prediction = registry.Find(id);
  if (prediction == nullptr) return NotFound();
  registry.Cancel(prediction);
  return HttpResponse::Json(200, JsonBytes(Shown(prediction->Snapshot(), *prediction, request)));
}

HttpResponse ReplicateRoutes::Version(const std::string& id) const {
  return HttpResponse::Json(200,
                            JsonBytes({{"id", id},
                                       {"created_at", started_at_},
                                       {"cog_version", kCogVersion},
                                       {"openapi_schema", OpenApiDocument(admission_.output())}}));
}

}  // namespace idefics
