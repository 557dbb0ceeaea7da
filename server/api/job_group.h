// SPDX-License-Identifier: Apache-2.0
// Several jobs of one request: all or none get a place, and the first failure ends them all.
#pragma once

#include <memory>
#include <optional>
#include <vector>

#include "server/http/message.h"
#include "server/jobs/job_service.h"

namespace idefics {

class JobGroup {
 public:
  // `service` must outlive this.
  explicit JobGroup(JobService& service) : service_(service) {}

  // `max_queued`: jobs that may wait before the first of these. REQUIRES: called once.
  std::optional<Rejection> Submit(std::vector<JobSpec> specs, int max_queued);

  // Has them run, the first one on this thread where it has a slot, and returns how they ended, in
  // order; after one that did not succeed there is none. They are canceled where the peer leaves.
  std::vector<JobView> Wait(HttpPeer& peer);

  const JobService::Submitted& front() const { return jobs_.front(); }

 private:
  using Jobs = std::vector<JobService::Submitted>;

  static void Cancel(JobQueue& queue, const Jobs& jobs);
  void Run();

  JobService& service_;
  Jobs jobs_;
};

}  // namespace idefics
