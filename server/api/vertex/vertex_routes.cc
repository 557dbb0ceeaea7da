// SPDX-License-Identifier: Apache-2.0
#include "server/api/vertex/vertex_routes.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "common/random_id.h"
#include "server/api/cog/input_parser.h"
#include "server/api/cog/input_validation.h"
#include "server/api/cog/rejection_response.h"
#include "server/api/job_exchange.h"
#include "server/api/job_group.h"
#include "server/api/json_body.h"
#include "server/api/openai/openai_error.h"
#include "server/api/probes/probe_routes.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr size_t kMaxInstances = 128;

HttpResponse Failure(int status, const std::string& sentence) {
  return HttpResponse::Json(status, JsonBytes({{"error", sentence}}));
}

Rejection Invalid(std::string sentence) { return Rejection::Invalid({{}, std::move(sentence)}); }

HttpResponse Refused(const Rejection& rejection) {
  const bool invalid = rejection.kind == Rejection::Kind::kInvalid;
  return invalid ? Failure(422, rejection.errors.front().message) : CogResponse(rejection);
}

// nullptr where there is none.
const json* Member(const json& object, const char* name) {
  if (!object.is_object()) return nullptr;
  const auto found = object.find(name);
  return found == object.end() ? nullptr : &*found;
}

// The instance's fields over the parameters that count for all.
std::variant<Task, Rejection> TaskOf(const json& instance, const json& parameters, size_t i) {
  const std::string name = "instances[" + std::to_string(i) + "]";
  if (!instance.is_object()) return Invalid(name + " must be an object of inputs");
  json input = parameters;
  input.update(instance);
  const ValidatedInput valid = ValidateInput(input, InputOrigin::kHttp);
  if (!valid.errors.empty()) return Invalid(name + ": " + ErrorSentence(valid.errors));
  return ParseInput(valid.values, InputOrigin::kHttp);
}

}  // namespace

VertexPaths VertexPaths::From(const std::function<const char*(const char*)>& get) {
  const auto path = [&get](const char* name) {
    const char* value = get(name);
    return value != nullptr && *value == '/' ? std::string(value) : "";
  };
  return {path("AIP_HEALTH_ROUTE"), path("AIP_PREDICT_ROUTE")};
}

void VertexRoutes::AddTo(Router& router) {
  if (!paths_.health.empty()) {
    router.Add("GET", paths_.health,
               [this](HttpRequest&) { return ReadinessAnswer(service_.state()); });
  }
  if (!paths_.predict.empty()) {
    router.Add(
        "POST", paths_.predict, [this](HttpRequest& request) { return Predict(request); },
        Router::Lane::kBody);
  }
}

std::variant<std::vector<JobSpec>, Rejection> VertexRoutes::Read(HttpRequest& request) const {
  auto body = ReadJsonBody(request);
  if (auto* refused = std::get_if<Rejection>(&body)) return std::move(*refused);
  const json& fields = std::get<json>(body);
  const json* instances = Member(fields, "instances");
  if (instances == nullptr || !instances->is_array() || instances->empty() ||
      instances->size() > kMaxInstances) {
    return Invalid("instances must be an array of 1 to " + std::to_string(kMaxInstances) +
                   " objects of inputs");
  }
  const json none = json::object();
  const json* given = Member(fields, "parameters");
  const json& parameters = given == nullptr || given->is_null() ? none : *given;
  if (!parameters.is_object()) return Invalid("parameters must be an object of inputs");
  std::vector<JobSpec> specs;
  const std::string id = "vertex-" + RandomHex();
  for (size_t i = 0; i < instances->size(); ++i) {
    auto task = TaskOf((*instances)[i], parameters, i);
    if (auto* refused = std::get_if<Rejection>(&task)) return std::move(*refused);
    JobSpec& spec = specs.emplace_back();
    spec.id = id + "-" + std::to_string(i);
    spec.task = std::get<Task>(std::move(task));
    AdoptRequest(RequestApi::kVertex, request, &spec);  // its memory goes all with the first
  }
  return specs;
}

HttpResponse VertexRoutes::Predict(HttpRequest& request) {
  const auto refuse = [this](const Rejection& rejection) {
    service_.CountRefusal(RequestApi::kVertex, rejection.kind);
    return Refused(rejection);
  };
  auto read = Read(request);
  if (const auto* refused = std::get_if<Rejection>(&read)) return refuse(*refused);
  JobGroup group(service_);
  constexpr int kFourASlot = -1;
  const int max_queued = QueueLimit(service_, kFourASlot);
  auto refused = group.Submit(std::get<std::vector<JobSpec>>(std::move(read)), max_queued);
  if (refused) return refuse(*refused);
  json predictions = json::array();
  for (const JobView& view : group.Wait(*request.peer)) {
    if (view.state != JobState::kSucceeded) {
      const OpenAiError error = ErrorOf(EndOf(view));  // a status for each kind of failure
      return Failure(error.status,
                     "instances[" + std::to_string(predictions.size()) + "]: " + error.message);
    }
    predictions.push_back(view.Text());
  }
  return HttpResponse::Json(200, JsonBytes({{"predictions", std::move(predictions)}}));
}

}  // namespace idefics
