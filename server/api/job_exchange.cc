// SPDX-License-Identifier: Apache-2.0
#include "server/api/job_exchange.h"

#include <algorithm>
#include <charconv>
#include <chrono>
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

// A cursor on the job's log, and what is listening to it. The job is canceled where its client does
// not stay to the end.
class JobStream final : public BodySource {
 public:
  JobStream(JobQueue& queue, std::shared_ptr<Job> job, std::shared_ptr<StreamWriter> writer)
      : queue_(queue), job_(std::move(job)), writer_(std::move(writer)) {}
  ~JobStream() override {
    if (listener_) job_->log().RemoveListener(*listener_);
    if (!ended_) queue_.Cancel(job_);
  }

  std::optional<Status> WaitForText();

  Piece Next() override;
  void WhenMore(std::function<void()> stir) override {
    listener_ = job_->log().AddListener(std::move(stir));
  }

 private:
  JobQueue& queue_;
  const std::shared_ptr<Job> job_;
  const std::shared_ptr<StreamWriter> writer_;
  std::optional<size_t> listener_;
  size_t cursor_ = 0;
  std::optional<EventLog::Batch> first_;  // read while waiting for text; until it is written
  bool ended_ = false;
};

// A failure before there is something to send.
std::optional<Status> JobStream::WaitForText() {
  first_.emplace();
  for (;;) {
    EventLog::Batch batch = job_->log().Wait(&cursor_, kLongWait);
    first_->skipped += batch.skipped;
    bool shown = batch.skipped > 0;
    bool ended = false;
    for (JobEvent& event : batch.events) {
      shown = shown || IsShown(event);
      ended = ended || IsEnd(event);
      first_->events.push_back(std::move(event));
    }
    if (shown) return std::nullopt;
    if (!ended) continue;
    const JobView end = job_->log().End();
    if (end.state == JobState::kSucceeded) return std::nullopt;
    return EndOf(end);
  }
}

BodySource::Piece JobStream::Next() {
  Piece piece;
  EventLog::Batch batch;
  if (first_) {
    piece.bytes = writer_->Begin(*job_);
    batch = *std::exchange(first_, std::nullopt);
  } else {
    batch = job_->log().Read(&cursor_);
  }
  writer_->Append(*job_, batch.events, batch.skipped, &piece.bytes);
  ended_ = batch.skipped > 0 || (!batch.events.empty() && IsEnd(batch.events.back()));
  piece.is_last = ended_;
  return piece;
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

// What Envoy says of how long it will wait for the answer.
static std::optional<std::chrono::milliseconds> PatienceOf(const HttpRequest& request) {
  const std::string* header = request.Header("X-Envoy-Expected-Rq-Timeout-Ms");
  if (header == nullptr) return std::nullopt;
  uint32_t ms = 0;
  const char* const end = header->data() + header->size();
  const auto [read, error] = std::from_chars(header->data(), end, ms);
  if (error != std::errc() || read != end || ms == 0) return std::nullopt;
  return std::chrono::milliseconds(ms);
}

void AdoptRequest(RequestApi api, HttpRequest& request, JobSpec* spec) {
  spec->api = api;
  spec->task.request.client = request.client;
  spec->origin = request.origin;
  spec->patience = PatienceOf(request);
  spec->memory = std::move(request.memory);
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
  auto stream = std::make_unique<JobStream>(service.queue(), job, writer);
  if (const auto failure = stream->WaitForText()) return writer->Fail(*failure);
  HttpResponse response;
  response.headers = {{"Content-Type", "text/event-stream; charset=utf-8"},
                      {"Cache-Control", "no-cache"},
                      {"X-Accel-Buffering", "no"}};
  response.stream = std::move(stream);
  return response;
}

}  // namespace idefics
