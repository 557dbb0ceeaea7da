// SPDX-License-Identifier: Apache-2.0
// Runs jobs that have a slot: on the thread of the request that waits for one, else on a thread of
// its own, which goes on with the next of the queue. Thread safe.
#pragma once

#include <memory>

#include "common/worker_pool.h"
#include "server/jobs/job_metrics.h"
#include "server/jobs/job_queue.h"

namespace idefics {

class Executor {
 public:
  // All must outlive this.
  Executor(JobQueue& queue, ImageSource& images, TaskLimits limits, JobMetrics& metrics);

  // REQUIRES: called before any job has a slot; `predictor` outlives this.
  void SetPredictor(Predictor& predictor) { predictor_ = &predictor; }

  // REQUIRES (both): the job has a slot, and is run once. The queue is told of its end.
  // Returns at once.
  void Start(std::shared_ptr<Job> job);
  // Returns at its end. Costs no change of threads, which is most of a short job's time.
  void RunHere(const std::shared_ptr<Job>& job);

 private:
  std::shared_ptr<Job> Run(const std::shared_ptr<Job>& job);
  Status RunTaskOf(Job& job);

  JobQueue& queue_;
  ImageSource& images_;
  const TaskLimits limits_;
  JobMetrics& metrics_;
  Predictor* predictor_ = nullptr;
  WorkerPool threads_;  // last: its threads use the others
};

}  // namespace idefics
