// SPDX-License-Identifier: Apache-2.0
#include "server/cog/cog_routes.h"

#include <utility>

namespace idefics {
namespace {

using nlohmann::json;

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

CogRoutes::CogRoutes(Admission& admission)
    : admission_(admission),
      streams_(admission.parts().registry),
      openapi_(OpenApiDocument(admission.output()).dump()) {}

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
  router.Add("POST", "/predictions//cancel",
             [](HttpRequest&) { return HttpResponse::Json(404, "{}"); });
  router.Add("POST", "/shutdown", [this](HttpRequest&) {
    admission_.parts().request_shutdown();
    return HttpResponse::Json(200, "{}");
  });
}

HttpResponse CogRoutes::Health() const {
  const CogParts& parts = admission_.parts();
  return HttpResponse::Json(200, JsonBytes(HealthBody(parts.setup, parts.registry, parts.backend)));
}

HttpResponse CogRoutes::Get(const std::string& id) {
  const auto prediction = admission_.parts().registry.Find(id);
  if (prediction == nullptr) return HttpResponse::Json(404, "{}");
  return HttpResponse::Json(200, JsonBytes(prediction->Snapshot()));
}

HttpResponse CogRoutes::Cancel(const std::string& id) {
  const auto prediction = admission_.parts().registry.FindInFlight(id);
  if (prediction == nullptr) return HttpResponse::Json(404, "{}");
  admission_.parts().registry.Cancel(prediction);
  return HttpResponse::Json(200, "{}");
}

HttpResponse CogRoutes::Predict(HttpRequest& request, const std::string* path_id) {
  EventStreams::Place place;
  const bool wants_stream = WantsEventStream(request);
  const bool wants_async = WantsAsync(request);
  if (wants_stream && (place = streams_.TakePlace()) == nullptr) return EventStreams::TooMany();
  auto result = admission_.Admit(request, {path_id, "", wants_stream, wants_async});
  if (auto* error = std::get_if<HttpResponse>(&result)) return std::move(*error);
  auto& [prediction, is_new, has_slot, at_receipt] = std::get<Admission::Admitted>(result);
  Runner& runner = admission_.parts().runner;
  const bool waits = is_new && !wants_stream && !wants_async;
  if (has_slot && !waits) runner.Start(prediction);
  if (wants_stream) {
    return streams_.Open(prediction, /*from_start=*/is_new, *request.peer, std::move(place));
  }
  if (!is_new) return HttpResponse::Json(202, JsonBytes(prediction->Snapshot()));
  if (!waits) return HttpResponse::Json(202, JsonBytes(at_receipt));
  request.peer->WhenGone([&registry = admission_.parts().registry, prediction = prediction] {
    registry.Cancel(prediction);
  });
  if (has_slot) runner.RunHere(prediction);
  while (!prediction->WaitAnnounced(std::chrono::hours(1))) {
  }
  return HttpResponse::Json(200, JsonBytes(prediction->Snapshot()));
}

}  // namespace idefics
