// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/job_service.h"

#include <algorithm>
#include <utility>

#include "common/log.h"

namespace idefics {

using std::chrono::milliseconds;

JobService::JobService(JobServiceOptions options, Loader loader,
                       std::unique_ptr<ImageSource> images)
    : options_(options),
      loader_(std::move(loader)),
      images_(std::move(images)),
      queue_(options.max_queued, options.max_finished_bytes, &metrics_, options.max_of_client),
      executor_(queue_, *images_, options.limits, metrics_),
      rates_(options.client_rate) {}

void JobService::SetUp(const std::stop_token& stop) {
  Result<std::unique_ptr<Predictor>> loaded = loader_(stop);
  if (!loaded.ok()) {
    const std::string& message = loaded.status().message();
    if (!stop.stop_requested() && setup_.Fail(message)) LogError("Setup failed: " + message);
    return;
  }
  predictor_ = std::move(loaded).value();
  executor_.SetPredictor(*predictor_);
  const int useful = std::max(1, predictor_->info().max_concurrency);
  queue_.SetMaxSlots(options_.max_concurrency > 0 ? options_.max_concurrency : useful);
  if (setup_.Succeed("Server ready\n")) LogInfo("Server ready");
}

ServiceHealth JobService::health() const {
  using State = ServiceHealth::State;
  if (setup_.phase() != SetupState::Phase::kReady) return {};
  const PredictorHealth health = predictor_->health();
  if (health.broken) {
    return {State::kBroken,
            health.complaint.empty()
                ? "The engine has failed for good, its log says why: restart the server."
                : health.complaint};
  }
  if (!health.complaint.empty()) return {State::kUnhealthy, health.complaint};
  if (options_.stall_s > 0 && health.stalled_s > options_.stall_s) {
    return {State::kUnhealthy, "The engine has made no progress for " +
                                   std::to_string(static_cast<int>(health.stalled_s)) +
                                   " s (--stall-timeout)."};
  }
  return {};
}

ServiceState JobService::state() const {
  using Stage = ServiceState::Stage;
  switch (setup_.phase()) {
    case SetupState::Phase::kFailed:
      return {Stage::kFailed, "the model could not be loaded: GET /health-check says why"};
    case SetupState::Phase::kStarting:
      if (leaving_) break;
      return {Stage::kLoading, "the model is loading"};
    case SetupState::Phase::kReady:
      break;
  }
  const ServiceHealth now = health();
  if (now.state == ServiceHealth::State::kBroken) return {Stage::kFailed, now.message};
  if (leaving_) return {Stage::kLeaving, "the server is about to stop"};
  if (now.state == ServiceHealth::State::kUnhealthy) return {Stage::kStalled, now.message};
  return {Stage::kServing, ""};
}

void JobService::EndOverdue() {
  const auto now = TaskClocks::Clock::now();
  const auto end = [&](milliseconds time, const char* what, const char* flag, ErrorCode code,
                       JobQueue::Which which) {
    if (time.count() == 0) return;
    const Status why(code, what + std::to_string(time.count()) + " ms (" + flag + ")");
    queue_.EndOverdue([&](const Job& job) { return job.received() < now - time; }, why, which);
  };
  end(options_.queue_time, "no slot was free for it within ", "--queue-timeout",
      ErrorCode::kOverloaded, JobQueue::Which::kWaiting);
  end(options_.request_time, "it did not end within ", "--request-timeout", ErrorCode::kDeadline,
      JobQueue::Which::kAll);
  queue_.EndOverdue(
      [&](const Job& job) { return job.patience() && job.received() < now - *job.patience(); },
      Status(ErrorCode::kDeadline,
             "it did not end within its caller's patience "
             "(X-Envoy-Expected-Rq-Timeout-Ms)"),
      JobQueue::Which::kAll);
}

std::optional<Rejection> JobService::TooOften(const std::string& client) {
  using std::chrono::seconds;
  if (options_.client_rate == 0) return std::nullopt;  // nobody waits for the lock
  const MutexLock lock(rates_mutex_);
  const auto wait = rates_.Wait(client, ClientRates::Clock::now());
  if (wait == ClientRates::Clock::duration::zero()) return std::nullopt;
  return Rejection::ClientLimit(
      "this client asks more often than it may (--client-rate); try again",
      static_cast<int>(std::chrono::ceil<seconds>(wait).count()));
}

std::variant<JobService::Submitted, Rejection> JobService::Submit(JobSpec spec) {
  using Kind = Rejection::Kind;
  if (setup_.phase() != SetupState::Phase::kReady) return Rejection{Kind::kNotReady, "", {}};
  if (const ServiceHealth now = health(); now.state == ServiceHealth::State::kBroken) {
    return Rejection{Kind::kBroken, now.message, {}};
  }
  if (auto too_often = TooOften(spec.task.request.client)) return *std::move(too_often);
  JobQueue::Claim claim =
      queue_.Enter(std::make_shared<Job>(std::move(spec), options_.replay_capacity));
  switch (claim.place) {
    case JobQueue::Place::kFull:
      return Rejection{Kind::kBusy,
                       "",
                       {},
                       queue_.max_slots() + queue_.max_queued(),
                       "--max-concurrency, --queue",
                       queue_.SecondsToPlace()};
    case JobQueue::Place::kClientFull:
      return Rejection::ClientLimit(
          "this client has as many predictions under way as it may (--client-concurrency); try "
          "again when one has ended",
          queue_.SecondsToPlace());
    case JobQueue::Place::kClosed:
      return Rejection{Kind::kStopping, "", {}};
    case JobQueue::Place::kInFlight:
      return Submitted{std::move(claim.job), false, false};
    case JobQueue::Place::kSlot:
      return Submitted{std::move(claim.job), true, true};
    case JobQueue::Place::kQueued:
      break;
  }
  return Submitted{std::move(claim.job), true, false};
}

}  // namespace idefics
