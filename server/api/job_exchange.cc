// SPDX-License-Identifier: Apache-2.0
#include "server/api/job_exchange.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

namespace idefics {
namespace {

// Nothing ends a wait but an event of the job, or its client, who wakes its readers when leaving.
constexpr std::chrono::hours kLongWait{1};

bool IsEnd(const JobEvent& event) { return std::holds_alternative<JobFinished>(event); }

bool IsShown(const JobEvent& event) {
  return std::holds_alternative<JobText>(event) || std::holds_alternative<JobChoiceEnded>(event);
}

// A cursor on the job's log.
class JobStream {
 public:
  JobStream(std::shared_ptr<Job> job, std::shared_ptr<StreamWriter> writer)
      : job_(std::move(job)), writer_(std::move(writer)) {}

  std::optional<Status> WaitForText();
  bool WriteTo(BodyWriter& body);

 private:
  const std::shared_ptr<Job> job_;
  const std::shared_ptr<StreamWriter> writer_;
  size_t cursor_ = 0;
  EventLog::Batch first_;  // read while waiting for text
};

// A failure before there is something to send.
std::optional<Status> JobStream::WaitForText() {
  for (;;) {
    EventLog::Batch batch = job_->log().Wait(&cursor_, kLongWait);
    first_.skipped += batch.skipped;
    bool shown = batch.skipped > 0;
    bool ended = false;
    for (JobEvent& event : batch.events) {
      shown = shown || IsShown(event);
      ended = ended || IsEnd(event);
      first_.events.push_back(std::move(event));
    }
    if (shown) return std::nullopt;
    if (!ended) continue;
    const JobView end = job_->log().End();
    if (end.state == JobState::kSucceeded) return std::nullopt;
    return EndOf(end);
  }
}

// False: the client left.
bool JobStream::WriteTo(BodyWriter& body) {
  std::string bytes = writer_->Begin(*job_);
  EventLog::Batch batch = std::move(first_);
  for (;;) {
    writer_->Append(*job_, batch.events, batch.skipped, &bytes);
    if (!bytes.empty() && !body.Write(bytes)) return false;
    bytes.clear();
    if (batch.skipped > 0 || (!batch.events.empty() && IsEnd(batch.events.back()))) return true;
    if (body.PeerGone()) return false;
    batch = job_->log().Wait(&cursor_, kLongWait);
  }
}

}  // namespace

Status EndOf(const JobView& view) {
  if (view.state == JobState::kCanceled) return {ErrorCode::kCanceled, "canceled"};
  return view.failure;
}

Status LostPieces() {
  return {ErrorCode::kDeadline, "the stream was read too slowly, and pieces are lost"};
}

int QueueLimit(const JobService& service, int wanted) {
  constexpr int kPerSlot = 4;
  return wanted >= 0 ? wanted : kPerSlot * std::max(1, service.queue().max_slots());
}

uint64_t AnswerBytes(const JobView& view) {
  constexpr uint64_t kLogprobBytes = 800;  // an object of five values, and its text
  uint64_t bytes = 0;
  for (const JobText& piece : view.pieces) {
    bytes += 2 * piece.piece.size();
    if (piece.tokens == nullptr) continue;
    for (const TokenLogprobs& token : piece.tokens->logprobs) {
      bytes += kLogprobBytes * (1 + token.top.size());
    }
  }
  return bytes;
}

JobView WaitForEnd(JobService& service, const JobService::Submitted& submitted, HttpPeer& peer) {
  const std::shared_ptr<Job>& job = submitted.job;
  peer.WhenGone([&queue = service.queue(), job] { queue.Cancel(job); });
  if (submitted.has_slot) service.executor().RunHere(job);
  while (!job->log().WaitFinished(kLongWait)) {
  }
  return job->log().View();
}

HttpResponse StreamJob(JobService& service, const JobService::Submitted& submitted, HttpPeer& peer,
                       std::shared_ptr<StreamWriter> writer) {
  const std::shared_ptr<Job> job = submitted.job;
  peer.WhenGone([&queue = service.queue(), job] {
    queue.Cancel(job);
    job->log().WakeReaders();
  });
  if (submitted.has_slot) service.executor().Start(job);
  auto stream = std::make_shared<JobStream>(job, writer);
  if (const auto failure = stream->WaitForText()) return writer->Fail(*failure);
  HttpResponse response;
  response.headers = {{"Content-Type", "text/event-stream; charset=utf-8"},
                      {"Cache-Control", "no-cache"},
                      {"X-Accel-Buffering", "no"}};
  response.stream = [stream, &queue = service.queue(), job](BodyWriter& body) {
    if (!stream->WriteTo(body)) queue.Cancel(job);
  };
  return response;
}

}  // namespace idefics
