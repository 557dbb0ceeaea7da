// SPDX-License-Identifier: Apache-2.0
// From a request to a job that holds an id and a place (docs/cog-api.md#predictions,
// docs/cog-api.md#idempotent-requests). Cog's own routes and Replicate's both begin here. Thread
// safe.
#pragma once

#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "server/api/cog/openapi.h"
#include "server/api/cog/request_body.h"
#include "server/fetch/webhook_sender.h"
#include "server/http/message.h"
#include "server/jobs/job_service.h"

namespace idefics {

struct CogOptions {
  OutputKind output = OutputKind::kString;
  std::chrono::milliseconds webhook_interval{
      500};  // between posts of one job; the last is not held
};

class Admission {
 public:
  // `service` and `webhooks` must outlive this.
  Admission(JobService& service, WebhookSender& webhooks, CogOptions options)
      : service_(service), webhooks_(webhooks), options_(options) {}

  // What a request's path and headers say.
  struct Call {
    RequestApi api = RequestApi::kCog;
    const std::string* path_id = nullptr;  // of a PUT
    std::string model;                     // of Replicate's routes, else ""
    bool from_stream = false;              // an event stream is wanted
    // Called once the body was read; what it refuses is refused. nullptr: nothing.
    std::function<std::optional<Rejection>()> after_body;
  };

  // Body, id, in flight, input, readiness, capacity: in the order of the contract. A refusal is
  // counted.
  std::variant<JobService::Submitted, Rejection> Admit(HttpRequest& request, const Call& call);

  JobService& service() const { return service_; }
  OutputKind output() const { return options_.output; }

 private:
  std::variant<JobService::Submitted, Rejection> TryToAdmit(HttpRequest& request, const Call& call);
  std::variant<JobSpec, Rejection> MakeSpec(CogRequest wanted, HttpRequest& request,
                                            const Call& call) const;
  void WatchForWebhook(const std::shared_ptr<Job>& job);

  JobService& service_;
  WebhookSender& webhooks_;
  const CogOptions options_;
};

}  // namespace idefics
