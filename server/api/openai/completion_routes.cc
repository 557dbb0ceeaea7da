// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/completion_routes.h"

#include <algorithm>
#include <chrono>
#include <optional>
#include <utility>

#include "server/api/job_exchange.h"
#include "server/api/json_body.h"
#include "server/api/openai/completion_stream.h"
#include "server/api/openai/request_fields.h"
#include "server/api/openai/response_answer.h"
#include "server/api/openai/response_request.h"

namespace idefics {
namespace {

using nlohmann::json;
using Form = CompletionRequest::Form;

// The answer is too much for what the server may hold now; a stream would have cost less.
Rejection NoMemoryFor(uint64_t bytes) {
  Rejection rejection;
  rejection.kind = Rejection::Kind::kNoMemory;
  rejection.message = "the answer takes about " + std::to_string(bytes) +
                      " bytes, more than the server may hold now (--memory-budget): stream it, or "
                      "ask for fewer log probabilities";
  return rejection;
}

}  // namespace

std::variant<CompletionRequest, OpenAiError> CompletionRoutes::Read(HttpRequest& request,
                                                                    Form form) const {
  auto body = ReadFields(service_, request);
  if (const auto* error = std::get_if<OpenAiError>(&body)) return *error;
  const json& fields = std::get<json>(body);
  const Predictor& predictor = service_.predictor();
  const ModelFacts model{predictor.info(), *predictor.tokenizer(), options_};
  switch (form) {
    case Form::kChat:
      return ReadChatRequest(fields, model);
    case Form::kText:
      return ReadTextRequest(fields, model);
    case Form::kResponse:
      break;
  }
  return ReadResponseRequest(fields, model);
}

HttpResponse CompletionRoutes::Refuse(const OpenAiError& error) {
  service_.CountRefusal(RequestApi::kOpenAi, error.refusal);
  return ErrorResponse(error);
}

HttpResponse CompletionRoutes::Complete(HttpRequest& request, Form form) {
  auto read = Read(request, form);
  if (const auto* error = std::get_if<OpenAiError>(&read)) return Refuse(*error);
  auto& wanted = std::get<CompletionRequest>(read);
  if (form == Form::kResponse) return Respond(std::move(wanted), request);
  AnswerHead head = MakeAnswerHead(wanted, options_);
  auto submitted = SubmitAll(std::move(wanted.prompts), head.id, request);
  if (const auto* error = std::get_if<OpenAiError>(&submitted)) return Refuse(*error);
  auto& jobs = std::get<JobGroup>(submitted);
  if (wanted.stream) {
    return Stream(jobs.front(), std::move(wanted), std::move(head), *request.peer);
  }
  return WaitForAll(jobs, wanted, std::move(head), request);
}

HttpResponse CompletionRoutes::Respond(CompletionRequest wanted, HttpRequest& request) {
  std::vector<GenerateRequest> prompts = std::move(wanted.prompts);
  const auto writer =
      std::make_shared<ResponseWriter>(std::move(wanted), options_.served_models.front());
  auto result = SubmitAll(std::move(prompts), writer->id(), request);
  if (const auto* error = std::get_if<OpenAiError>(&result)) return Refuse(*error);
  const JobService::Submitted& submitted = std::get<JobGroup>(result).front();
  if (!writer->wanted().stream) {
    const JobView view = WaitForEnd(service_, submitted, *request.peer);
    if (view.state == JobState::kSucceeded) {
      return HttpResponse::Json(200, JsonBytes(writer->Whole(view)));
    }
    return ErrorResponse(FailureOf(EndOf(view), writer->wanted()));
  }
  return StreamJob(service_, submitted, *request.peer, writer);
}

std::variant<JobGroup, OpenAiError> CompletionRoutes::SubmitAll(
    std::vector<GenerateRequest> prompts, const std::string& id, HttpRequest& request) {
  std::vector<JobSpec> specs(prompts.size());
  for (size_t i = 0; i < prompts.size(); ++i) {
    specs[i].id = i == 0 ? id : id + "-" + std::to_string(i);
    specs[i].task.request = std::move(prompts[i]);
    AdoptRequest(RequestApi::kOpenAi, request, &specs[i]);  // its memory goes with the first
  }
  JobGroup group(service_);
  auto refused = group.Submit(std::move(specs), QueueLimit(service_, options_.max_queued));
  if (refused) return ErrorOf(*refused);
  return group;
}

HttpResponse CompletionRoutes::WaitForAll(JobGroup& jobs, const CompletionRequest& wanted,
                                          AnswerHead head, HttpRequest& request) {
  const std::vector<JobView> views = jobs.Wait(*request.peer);
  if (views.back().state != JobState::kSucceeded) {
    return ErrorResponse(FailureOf(EndOf(views.back()), wanted));
  }
  uint64_t bytes = 0;
  for (const JobView& view : views) bytes += AnswerBytes(view);
  if (!request.memory.Grow(bytes)) return ErrorResponse(ErrorOf(NoMemoryFor(bytes)));
  AnswerWriter writer(head, *service_.predictor().tokenizer());
  return HttpResponse::Json(200, JsonBytes(writer.Whole(views, wanted.echoes)));
}

HttpResponse CompletionRoutes::Stream(const JobService::Submitted& submitted,
                                      CompletionRequest wanted, AnswerHead head, HttpPeer& peer) {
  return StreamJob(service_, submitted, peer,
                   std::make_shared<CompletionStream>(std::move(wanted), std::move(head),
                                                      *service_.predictor().tokenizer()));
}

}  // namespace idefics
