// SPDX-License-Identifier: Apache-2.0
// POST /v1/chat/completions, /v1/completions and /v1/responses: a body becomes jobs, and their logs
// an answer or an event stream (docs/openai-api.md). Thread safe: routes run on HTTP workers.
#pragma once

#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "server/api/job_group.h"
#include "server/api/openai/completion_answer.h"
#include "server/api/openai/completion_request.h"
#include "server/http/router.h"
#include "server/jobs/job_service.h"

namespace idefics {

class CompletionRoutes {
 public:
  // Both must outlive this.
  CompletionRoutes(JobService& service, const OpenAiOptions& options)
      : service_(service), options_(options) {}

  HttpResponse Complete(HttpRequest& request, CompletionRequest::Form form);

 private:
  // The answer to a request that became no job.
  HttpResponse Refuse(const OpenAiError& error);
  std::variant<CompletionRequest, OpenAiError> Read(HttpRequest& request,
                                                    CompletionRequest::Form form) const;
  // One job for each prompt.
  std::variant<JobGroup, OpenAiError> SubmitAll(std::vector<GenerateRequest> prompts,
                                                const std::string& id, HttpRequest& request);
  HttpResponse Respond(CompletionRequest wanted, HttpRequest& request);
  HttpResponse WaitForAll(JobGroup& jobs, const CompletionRequest& wanted, AnswerHead head,
                          HttpRequest& request);
  HttpResponse Stream(const JobService::Submitted& submitted, CompletionRequest wanted,
                      AnswerHead head, HttpPeer& peer);

  JobService& service_;
  const OpenAiOptions& options_;
};

}  // namespace idefics
