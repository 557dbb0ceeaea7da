// SPDX-License-Identifier: Apache-2.0
// Server-sent events of jobs (docs/cog-api.md#event-streams): cursors on their event logs. Thread
// safe.
#pragma once

#include <atomic>
#include <memory>
#include <variant>

#include "server/http/message.h"
#include "server/jobs/job_queue.h"
#include "server/jobs/rejection.h"

namespace idefics {

class EventStreams {
 public:
  // `queue` must outlive the streams.
  explicit EventStreams(JobQueue& queue) : queue_(queue) {}

  // A place among the streams that may be open at once, held until it is destroyed.
  using Place = std::shared_ptr<void>;
  std::variant<Place, Rejection> TakePlace();

  // `from_start`: all events (the request that created the job); else the history as far as it is
  // kept, then what follows. The last stream to go cancels a job that a stream created.
  // REQUIRES: `place` is not null.
  HttpResponse Open(const std::shared_ptr<Job>& job, bool from_start, Place place);

 private:
  JobQueue& queue_;
  const std::shared_ptr<std::atomic<int>> num_open_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace idefics
