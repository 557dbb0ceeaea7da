// SPDX-License-Identifier: Apache-2.0
#include "server/api/probes/probe_routes.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <nlohmann/json.hpp>
#include <string_view>
#include <utility>

#include "common/version.h"
#include "server/api/json_body.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr std::array<std::string_view, 7> kProbes = {
    "/livez", "/readyz",         "/health",         "/health-check",
    "/ping",  "/v2/health/live", "/v2/health/ready"};

// Long enough for a load balancer not to ask in a loop.
constexpr const char* kRetryAfterS = "1";

HttpResponse Plain(bool good, const std::string& line) {
  HttpResponse response = HttpResponse::Text(good ? 200 : 503, line + "\n");
  if (!good) response.headers.emplace_back("Retry-After", kRetryAfterS);
  return response;
}

HttpResponse Object(int status, const json& body) {
  return HttpResponse::Json(status, JsonBytes(body));
}

HttpResponse NoSuchModel(const std::string& name) {
  return Object(404, {{"error", "there is no model '" + name + "'"}});
}

}  // namespace

bool ProbeRoutes::IsProbe(const std::string& path) {
  return std::find(kProbes.begin(), kProbes.end(), path) != kProbes.end();
}

void ProbeRoutes::AddTo(Router& router) {
  router.Add("GET", "/livez", [this](HttpRequest&) { return Live(); });
  router.Add("GET", "/readyz", [this](HttpRequest&) { return ReadinessAnswer(service_.state()); });
  router.Add("GET", "/ping", [this](HttpRequest&) { return Ping(); });
  router.Add("GET", "/v2", [](HttpRequest&) {
    return Object(
        200, {{"name", "cog-idefics"}, {"version", kServerVersion}, {"extensions", json::array()}});
  });
  router.Add("GET", "/v2/health/live", [this](HttpRequest&) {
    const bool live = service_.state().is_alive();
    return Object(live ? 200 : 503, {{"live", live}});
  });
  router.Add("GET", "/v2/health/ready", [this](HttpRequest&) {
    const bool ready = service_.state().is_ready();
    return Object(ready ? 200 : 503, {{"ready", ready}});
  });
  router.Add("GET", "/v2/models/{name}",
             [this](HttpRequest& request) { return Model(request.path_parameters[0]); });
  router.Add("GET", "/v2/models/{name}/ready",
             [this](HttpRequest& request) { return ModelReady(request.path_parameters[0]); });
}

HttpResponse ProbeRoutes::Live() const {
  const ServiceState state = service_.state();
  return Plain(state.is_alive(), state.is_alive() ? "ok" : state.sentence);
}

HttpResponse ReadinessAnswer(const ServiceState& state) {
  return Plain(state.is_ready(), state.is_ready() ? "ok" : state.sentence);
}

// RunPod, which sets PORT_HEALTH, takes 204 for "not yet"; SageMaker takes anything but 200.
HttpResponse ProbeRoutes::Ping() const {
  const bool loads = service_.state().stage == ServiceState::Stage::kLoading;
  if (loads && std::getenv("PORT_HEALTH") != nullptr) return HttpResponse::Empty(204);
  return ReadinessAnswer(service_.state());
}

// Its inference calls are made of tensors and have no part here: pictures and text come by the
// other routes.
HttpResponse ProbeRoutes::Model(const std::string& name) const {
  if (name != model_) return NoSuchModel(name);
  return Object(200, {{"name", model_},
                      {"versions", json::array()},
                      {"platform", "cog-idefics"},
                      {"inputs", json::array()},
                      {"outputs", json::array()}});
}

HttpResponse ProbeRoutes::ModelReady(const std::string& name) const {
  if (name != model_) return NoSuchModel(name);
  const bool ready = service_.state().is_ready();
  return Object(ready ? 200 : 503, {{"name", model_}, {"ready", ready}});
}

}  // namespace idefics
