// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/admission.h"

#include <utility>

#include "common/log.h"
#include "server/api/cog/input_parser.h"
#include "server/api/cog/input_validation.h"
#include "server/api/cog/prediction_object.h"
#include "server/api/cog/webhook.h"
#include "server/api/job_exchange.h"

namespace idefics {

std::variant<JobService::Submitted, Rejection> Admission::Admit(HttpRequest& request,
                                                                const Call& call) {
  auto result = TryToAdmit(request, call);
  if (const auto* refused = std::get_if<Rejection>(&result)) {
    service_.CountRefusal(call.api, refused->kind);
  }
  return result;
}

std::variant<JobService::Submitted, Rejection> Admission::TryToAdmit(HttpRequest& request,
                                                                     const Call& call) {
  auto read = ReadCogRequest(request);
  if (auto* refused = std::get_if<Rejection>(&read)) return std::move(*refused);
  auto& wanted = std::get<CogRequest>(read);
  if (call.after_body) {
    if (auto refused = call.after_body()) return std::move(*refused);
  }
  if (call.path_id != nullptr) {
    if (!wanted.id.empty() && wanted.id != *call.path_id) {
      return Rejection::Invalid({{"id"}, "prediction ID must match the ID supplied in the URL"});
    }
    wanted.id = *call.path_id;
  }
  if (auto refused = CheckId(wanted.id)) return std::move(*refused);
  if (call.path_id != nullptr) {
    if (auto running = service_.queue().FindInFlight(wanted.id)) {
      return JobService::Submitted{std::move(running), false, false};
    }
  }
  auto spec = MakeSpec(std::move(wanted), request, call);
  if (auto* refused = std::get_if<Rejection>(&spec)) return std::move(*refused);
  auto result = service_.Submit(std::move(std::get<JobSpec>(spec)));
  if (const auto* submitted = std::get_if<JobService::Submitted>(&result)) {
    if (!submitted->is_new && call.path_id == nullptr) {
      return Rejection{Rejection::Kind::kIdInFlight, "", {}};
    }
    if (submitted->is_new) WatchForWebhook(submitted->job);
  }
  return result;
}

std::variant<JobSpec, Rejection> Admission::MakeSpec(CogRequest wanted, HttpRequest& request,
                                                     const Call& call) const {
  ValidatedInput input = ValidateInput(wanted.input, InputOrigin::kHttp);
  if (!input.errors.empty()) {
    return Rejection{Rejection::Kind::kInvalid, "", std::move(input.errors)};
  }
  if (!input.dropped.empty()) {
    LogWarning("A request has " + std::to_string(input.dropped.size()) +
               " unknown inputs; they are ignored.");
  }
  auto context = std::make_shared<CogContext>();
  context->output = options_.output;
  context->created_at = std::move(wanted.created_at);
  context->version = std::move(wanted.version);
  if (!call.model.empty()) context->model = call.model;
  context->webhook = std::move(wanted.webhook);
  context->webhook_events = wanted.webhook_events;
  context->from_stream = call.from_stream;
  const bool traced = request.origin.span.sink != nullptr;  // then a post has a place of its own
  for (const std::string name : {"traceparent", "tracestate"}) {
    const std::string* value = traced ? nullptr : request.Header(name);
    if (value != nullptr) context->trace_headers.push_back(name + ": " + *value);
  }
  JobSpec spec;
  spec.id = wanted.id.empty() ? NewPredictionId() : std::move(wanted.id);
  spec.task = ParseInput(input.values, InputOrigin::kHttp);
  context->echo = ShortenDataUris(std::move(input.values));
  spec.context = std::move(context);
  AdoptRequest(call.api, request, &spec);
  return spec;
}

void Admission::WatchForWebhook(const std::shared_ptr<Job>& job) {
  auto source = MakeWebhook(job, options_.webhook_interval);
  if (source == nullptr) return;
  job->log().AddListener([&webhooks = webhooks_] { webhooks.Wake(); });
  webhooks_.Add(std::move(source));
}

}  // namespace idefics
