// SPDX-License-Identifier: Apache-2.0
// All that an API stands on: the predictor's set-up, its health, the queue and the executor of
// jobs. Knows no JSON, no HTTP and no API. Thread safe.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "common/mutex.h"
#include "server/jobs/client_rates.h"
#include "server/jobs/executor.h"
#include "server/jobs/job_queue.h"
#include "server/jobs/rejection.h"
#include "server/jobs/setup_state.h"

namespace idefics {

struct JobServiceOptions {
  int max_concurrency = 0;  // jobs that run at once; 0: what the predictor can use
  int max_queued = 0;       // jobs that may wait for others to end
  int max_of_client = 0;    // jobs of one client in flight; 0: no limit
  double client_rate = 0;   // jobs a second of one client; 0: no limit
  size_t max_finished_bytes = JobQueue::kMaxFinishedBytes;  // of jobs kept to be looked up
  double stall_s = 0;  // without progress of the predictor: unhealthy; 0: never
  std::chrono::milliseconds queue_time{0};    // that a job may wait for a slot; 0: no limit
  std::chrono::milliseconds request_time{0};  // from its arrival to its end; 0: no limit
  size_t replay_capacity = 1024;              // events that a stream which joins late gets to see
  TaskLimits limits;
};

struct ServiceHealth {
  enum class State {
    kGood,
    kUnhealthy,  // jobs are still tried
    kBroken,     // none will run again
  };
  State state = State::kGood;
  std::string message;  // one sentence, where it is not kGood
};

// Where the service is in its life.
struct ServiceState {
  enum class Stage { kLoading, kServing, kStalled, kLeaving, kFailed };

  Stage stage = Stage::kLoading;
  std::string sentence;  // why it does not serve

  // Whether it should get requests; a busy one should.
  bool is_ready() const { return stage == Stage::kServing; }
  // Whether it may get ready without a restart.
  bool is_alive() const { return stage != Stage::kFailed && stage != Stage::kStalled; }
};

class JobService {
 public:
  // Loads the predictor; runs on the thread of SetUp. A requested stop may end it early.
  using Loader = std::function<Result<std::unique_ptr<Predictor>>(std::stop_token)>;

  struct Submitted {
    std::shared_ptr<Job> job;
    bool is_new = false;    // false: a job with its id is in flight, and this is that one
    bool has_slot = false;  // the caller must have the executor run it; else it waits in the queue
  };

  JobService(JobServiceOptions options, Loader loader, std::unique_ptr<ImageSource> images);

  // Blocks until the predictor is loaded or could not be. REQUIRES: called once.
  void SetUp(const std::stop_token& stop);

  // Readiness, capacity and id, in this order. Of a refusal the API tells CountRefusal.
  std::variant<Submitted, Rejection> Submit(JobSpec spec);

  // Never waits for the engine.
  ServiceHealth health() const;
  ServiceState state() const;

  // From now on it is not ready, though it serves as before.
  void Leave() { leaving_ = true; }

  // Ends what has waited or run for longer than it may. To be called a few times a second.
  void EndOverdue();

  // REQUIRES: the phase is kReady.
  const Predictor& predictor() const { return *predictor_; }

  const TaskLimits& limits() const { return options_.limits; }

  SetupState& setup() { return setup_; }
  const SetupState& setup() const { return setup_; }
  JobQueue& queue() { return queue_; }
  const JobQueue& queue() const { return queue_; }
  Executor& executor() { return executor_; }
  const JobMetrics& metrics() const { return metrics_; }

  // A request that did not become a job, once it is known that it does not.
  void CountRefusal(RequestApi api, RefusalReason reason) { metrics_.CountRefusal(api, reason); }
  void CountRefusal(RequestApi api, Rejection::Kind kind) { CountRefusal(api, ReasonOf(kind)); }

 private:
  std::optional<Rejection> TooOften(const std::string& client) IDEFICS_EXCLUDES(rates_mutex_);

  const JobServiceOptions options_;
  const Loader loader_;
  const std::unique_ptr<ImageSource> images_;
  std::unique_ptr<Predictor> predictor_;  // set by SetUp, before the phase is kReady
  SetupState setup_;
  JobMetrics metrics_;
  JobQueue queue_;
  Executor executor_;
  Mutex rates_mutex_;
  ClientRates rates_ IDEFICS_GUARDED_BY(rates_mutex_);
  std::atomic<bool> leaving_{false};
};

}  // namespace idefics
