// SPDX-License-Identifier: Apache-2.0
#include "server/api/openai/offline_answer.h"

#include <utility>
#include <vector>

#include "server/api/openai/completion_answer.h"
#include "server/jobs/log_observer.h"

namespace idefics {
namespace {

using Form = CompletionRequest::Form;

OfflineAnswer Failed(const OpenAiError& error) { return {error.status, ErrorObject(error), false}; }

JobView RunToEnd(GenerateRequest request, const OfflineSetting& setting,
                 const std::stop_token& stop) {
  EventLog log(/*replay_capacity=*/0);
  LogObserver observer(log);
  log.Start();
  const TaskRunner runner(setting.predictor, setting.images, setting.limits);
  Task task;
  task.request = std::move(request);
  const TaskOutcome outcome = runner.Run(std::move(task), TaskClocks::Clock::now(), stop, observer);
  log.SetUsage(UsageOf(outcome.result));
  log.Finish(outcome.status);
  return log.View();
}

}  // namespace

OfflineAnswer AnswerOffline(Form form, const nlohmann::json& body, const OfflineSetting& setting,
                            const std::stop_token& stop) {
  const Tokenizer* tokenizer = setting.predictor.tokenizer();
  IDEFICS_CHECK(tokenizer != nullptr);
  if (!body.is_object()) return Failed(InvalidField("body", "body must be a JSON object"));
  const ModelFacts model{setting.predictor.info(), *tokenizer, setting.options};
  auto read = form == Form::kChat ? ReadChatRequest(body, model) : ReadTextRequest(body, model);
  if (const auto* error = std::get_if<OpenAiError>(&read)) return Failed(*error);
  auto& wanted = std::get<CompletionRequest>(read);
  if (wanted.stream) return Failed(InvalidField("stream", "a batch file has no streams"));
  std::vector<JobView> views;
  for (GenerateRequest& prompt : wanted.prompts) {
    views.push_back(RunToEnd(std::move(prompt), setting, stop));
    if (views.back().state == JobState::kCanceled) return {0, {}, true};
    if (views.back().state == JobState::kFailed) {
      return Failed(FailureOf(views.back().failure, wanted));
    }
  }
  const AnswerHead head = MakeAnswerHead(wanted, setting.options);
  return {200, AnswerWriter(head, *tokenizer).Whole(views, wanted.echoes), false};
}

}  // namespace idefics
