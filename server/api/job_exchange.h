// SPDX-License-Identifier: Apache-2.0
// A request that waits for its job: run to its end, or streamed. For APIs in which a client that
// leaves has given up, and whose streams say nothing before the first token.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "server/http/message.h"
#include "server/jobs/job_service.h"

namespace idefics {

// How a job that has ended ended.
Status EndOf(const JobView& view);

// What a reader is told who was too slow.
Status LostPieces();

// How many jobs of an API with a limit of its own may wait for a slot; `wanted` -1: four for each
// that may run.
int QueueLimit(const JobService& service, int wanted);

// Roughly what an answer costs while it is made and sent: log probabilities are hundreds of times
// their tokens.
uint64_t AnswerBytes(const JobView& view);

// What a job keeps of the request that it is made of: its API, who asks, its place in a trace, its
// memory.
void AdoptRequest(RequestApi api, HttpRequest& request, JobSpec* spec);

// Has the job run, on this thread where it has a slot, and returns its end.
JobView WaitForEnd(JobService& service, const JobService::Submitted& submitted, HttpPeer& peer);

// What a streamed answer is made of. Called by one thread at a time.
class StreamWriter {
 public:
  virtual ~StreamWriter() = default;
  // The first bytes; called once there is something to send.
  virtual std::string Begin(const Job& job) = 0;
  // Appends what events become. `skipped`: so many were lost, and none follow.
  virtual void Append(const Job& job, const std::vector<JobEvent>& events, size_t skipped,
                      std::string* out) = 0;
  // The answer where the job failed before there was anything to send.
  virtual HttpResponse Fail(const Status& failure) const = 0;
};

// Has the job run, waits for its first text, and answers 200 with an event stream.
HttpResponse StreamJob(JobService& service, const JobService::Submitted& submitted, HttpPeer& peer,
                       std::shared_ptr<StreamWriter> writer);

}  // namespace idefics
