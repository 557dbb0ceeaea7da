// SPDX-License-Identifier: Apache-2.0
#include "server/api/job_group.h"

#include <chrono>
#include <utility>

namespace idefics {

std::optional<Rejection> JobGroup::Submit(std::vector<JobSpec> specs, int max_queued) {
  for (size_t i = 0; i < specs.size(); ++i) {
    // They wait for each other, not for others' places.
    specs[i].max_queued = max_queued + static_cast<int>(i);
    auto result = service_.Submit(std::move(specs[i]));
    if (auto* refused = std::get_if<Rejection>(&result)) {
      Cancel(service_.queue(), jobs_);
      Run();  // those with a slot must be run to be ended
      return std::move(*refused);
    }
    jobs_.push_back(std::get<JobService::Submitted>(std::move(result)));
  }
  return std::nullopt;
}

void JobGroup::Cancel(JobQueue& queue, const Jobs& jobs) {
  for (const JobService::Submitted& submitted : jobs) queue.Cancel(submitted.job);
}

// The first one on this thread: that costs no change of threads.
void JobGroup::Run() {
  for (size_t i = 1; i < jobs_.size(); ++i) {
    if (jobs_[i].has_slot) service_.executor().Start(jobs_[i].job);
  }
  if (!jobs_.empty() && jobs_.front().has_slot) service_.executor().RunHere(jobs_.front().job);
}

std::vector<JobView> JobGroup::Wait(HttpPeer& peer) {
  peer.WhenGone([&queue = service_.queue(), jobs = jobs_] { Cancel(queue, jobs); });
  Run();
  std::vector<JobView> views;
  for (const JobService::Submitted& submitted : jobs_) {
    const EventLog& log = submitted.job->log();
    while (!log.WaitFinished(std::chrono::hours(1))) {
    }
    views.push_back(log.View());
    if (views.back().state == JobState::kSucceeded) continue;
    Cancel(service_.queue(), jobs_);
    break;
  }
  return views;
}

}  // namespace idefics
