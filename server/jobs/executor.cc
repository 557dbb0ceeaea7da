// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/executor.h"

#include <exception>
#include <utility>

#include "common/caught.h"
#include "common/check.h"
#include "common/log.h"
#include "common/log_hold.h"
#include "server/jobs/job_spans.h"
#include "server/jobs/log_observer.h"

namespace idefics {
namespace {

constexpr int kKeptThreads = 4;
constexpr int kMaxThreads = 4096;  // slots are the real limit

// One line a job, with nothing of its content.
void LogEnd(const Job& job, const Status& status) {
  const JobView view = job.log().End();
  std::vector<LogField> fields;
  for (const Metric& metric : view.metrics) fields.push_back({metric.name, metric.value});
  fields.push_back({"predict_time", view.run_s});
  fields.push_back({"prediction_id", job.id()});
  fields.push_back({"status", std::string(JobStateName(view.state))});
  if (!status.ok()) fields.push_back({"code", std::string(ErrorCodeName(status.code()))});
  const bool is_bug = status.code() == ErrorCode::kInternal;
  const LogHold hold;  // a request that waited for it may have a line of its own
  LogWithFields(is_bug ? LogLevel::kError : LogLevel::kInfo,
                is_bug ? "Prediction failed: " + status.message() : "Prediction ended", fields);
}

}  // namespace

Executor::Executor(JobQueue& queue, ImageSource& images, TaskLimits limits, JobMetrics& metrics)
    : queue_(queue),
      images_(images),
      limits_(limits),
      metrics_(metrics),
      threads_(kKeptThreads, kMaxThreads) {}

void Executor::Start(std::shared_ptr<Job> job) {
  const bool started = threads_.Run([this, job] {
    for (auto next = job; next != nullptr;) next = Run(next);
  });
  if (started) return;
  const Status no_thread(ErrorCode::kOverloaded, "the system gives no more threads; try again");
  for (auto next = std::move(job); next != nullptr;) {
    metrics_.CountUnrun(*next, no_thread);
    next = queue_.Complete(next, no_thread);
  }
}

void Executor::RunHere(const std::shared_ptr<Job>& job) {
  if (auto next = Run(job)) Start(std::move(next));
}

Status Executor::RunTaskOf(Job& job) {
  LogObserver observer(job.log());
  const TaskRunner runner(*predictor_, images_, limits_);
  Task task = job.TakeTask();
  const AskedSampling sampling = AskedSampling::Of(task.request.sampling);
  TaskOutcome outcome = runner.Run(std::move(task), job.received(), job.stop_token(), observer);
  job.log().SetUsage(UsageOf(outcome.result));
  if (predictor_->info().is_model) {
    for (Metric& metric : MetricsOf(outcome)) job.log().AddMetric(std::move(metric));
  }
  Status status = outcome.status;
  if (status.code() == ErrorCode::kCanceled) status = job.EndOfCanceled(status);
  metrics_.CountEnd(job, outcome, status, sampling.max_new_tokens);
  AddJobSpans(job, sampling, outcome, status);
  return status;
}

// Returns the one to run next, or nullptr.
std::shared_ptr<Job> Executor::Run(const std::shared_ptr<Job>& job) {
  IDEFICS_CHECK(predictor_ != nullptr);
  const LogScope scope([&job](LogMembers& members) { AddLogMembers(job->origin(), members); });
  Status status;
  if (job->stop_token().stop_requested()) {
    status = job->EndOfCanceled({ErrorCode::kCanceled, "canceled before it began"});
    metrics_.CountUnrun(*job, status);
  } else {
    try {
      job->log().Start();
      status = RunTaskOf(*job);
    } catch (const std::exception& e) {
      status = Status::Internal(e.what());
      metrics_.CountUnrun(*job, status);
    }
  }
  auto next = queue_.Complete(job, status);
  try {
    LogEnd(*job, status);
  } catch (...) {
    LogCaught("A prediction's log line");
  }
  return next;
}

}  // namespace idefics
