// SPDX-License-Identifier: Apache-2.0
// Jobs as Cog's API shows them (docs/cog-api.md#the-prediction-object).
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "server/api/cog/openapi.h"
#include "server/api/cog/request_body.h"
#include "server/jobs/job.h"

namespace idefics {

// What Cog's API keeps of a request beside its task.
class CogContext final : public ApiContext {
 public:
  size_t num_bytes() const override;

  nlohmann::json echo;  // the validated input as answers show it: long data URIs shortened
  OutputKind output = OutputKind::kString;
  std::optional<std::string> created_at;
  std::optional<std::string> version;
  std::optional<std::string> model;  // "owner/name", of Replicate's routes
  std::optional<std::string> webhook;
  WebhookEvents webhook_events;
  std::vector<std::string> trace_headers;  // "traceparent: …", "tracestate: …"
  bool from_stream = false;  // created by an event stream, and canceled with the last one
};

// nullptr: another API made the job.
const CogContext* CogContextOf(const Job& job);

// Data URIs over 1 KiB keep their header and first bytes: an answer need not send an image back.
nlohmann::json ShortenDataUris(nlohmann::json input);

// The prediction object, without null values. REQUIRES: Cog's API made the job.
nlohmann::json PredictionObject(const Job& job, const JobView& view);

}  // namespace idefics
