// SPDX-License-Identifier: Apache-2.0
// What a job has written, as the objects and events of /v1/responses. Used by one thread at a time.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "server/api/job_exchange.h"
#include "server/api/openai/completion_request.h"

namespace idefics {

class ResponseWriter final : public StreamWriter {
 public:
  ResponseWriter(CompletionRequest wanted, std::string model);

  const std::string& id() const { return id_; }
  const CompletionRequest& wanted() const { return wanted_; }

  // `view`: of a job that succeeded.
  nlohmann::json Whole(const JobView& view) const;

  std::string Begin(const Job& job) override;
  void Append(const Job& job, const std::vector<JobEvent>& events, size_t skipped,
              std::string* out) override;
  HttpResponse Fail(const Status& failure) const override {
    return ErrorResponse(FailureOf(failure, wanted_));
  }

 private:
  nlohmann::json Object(const char* status) const;
  nlohmann::json Message(const char* status, nlohmann::json content) const;
  void AppendEvent(const char* type, nlohmann::json fields, std::string* out);
  void AppendEnd(const JobView& view, std::string* out);
  void AppendFailure(const Status& failure, std::string* out);

  const CompletionRequest wanted_;  // its prompts are the job's now
  const std::string model_;
  const std::string id_;
  const std::string message_id_;
  const int64_t created_at_;  // seconds since 1970
  int sequence_ = 0;          // of the next event
};

}  // namespace idefics
