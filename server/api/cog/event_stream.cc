// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/event_stream.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/api/cog/prediction_object.h"
#include "server/api/json_body.h"
#include "server/http/sse.h"

namespace idefics {
namespace {

using nlohmann::json;
using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kKeepAliveTime{15'000};
constexpr int kMaxStreams = 1024;

// One stream of a job. When its client leaves and it is the last one, it cancels what a stream
// created, also when it never began.
class Watcher {
 public:
  Watcher(JobQueue& queue, std::shared_ptr<Job> job) : queue_(queue), job_(std::move(job)) {
    job_->AddWatcher();
  }
  ~Watcher() {
    const bool last = job_->RemoveWatcher();
    if (last && client_left && CogContextOf(*job_)->from_stream) queue_.Cancel(job_);
  }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  const Job& job() const { return *job_; }

  bool client_left = true;  // false: the stream came to an end of its own, "completed" or "lagged"

 private:
  JobQueue& queue_;
  std::shared_ptr<Job> job_;
};

void Append(std::string_view name, const json& data, std::string* out) {
  AppendSseEvent(name, JsonBytes(data), out);
}

class EventRenderer {
 public:
  EventRenderer(const Job& job, std::string* out) : job_(job), out_(*out) {}

  void operator()(const JobStarted&) {
    Append("start", {{"id", job_.id()}, {"status", "processing"}}, &out_);
  }
  void operator()(const JobText& text) {
    Append("output", {{"chunk", text.piece}, {"index", text.index}}, &out_);
  }
  void operator()(const JobChoiceEnded&) {}  // a prediction is one answer
  void operator()(const JobLogLine& line) {
    const char* source = line.source == LogSource::kStdout ? "stdout" : "stderr";
    Append("log", {{"source", source}, {"data", line.text}}, &out_);
  }
  void operator()(const Metric& metric) {
    Append("metric",
           {{"name", metric.name}, {"value", MetricJson(metric.value)}, {"mode", "replace"}},
           &out_);
  }
  void operator()(const JobFinished&) {
    Append("completed", PredictionObject(job_, job_.log().View()), &out_);
  }

 private:
  const Job& job_;
  std::string& out_;
};

std::string LostEvents(const char* what, size_t skipped) {
  std::string out;
  Append("error", {{"error", what}, {"skipped", skipped}}, &out);
  return out;
}

// The events of a batch as one write: a burst of tokens is one packet. True: it was the last.
bool AppendEvents(const Job& job, const EventLog::Batch& batch, std::string* out) {
  for (const JobEvent& event : batch.events) std::visit(EventRenderer(job, out), event);
  if (batch.skipped > 0) {
    *out += LostEvents("SSE stream lagged; events were dropped", batch.skipped);
    return true;
  }
  return !batch.events.empty() && std::holds_alternative<JobFinished>(batch.events.back());
}

// True: to an end; false: the client left.
bool WriteEvents(const Job& job, size_t cursor, BodyWriter& writer) {
  auto last_write = steady_clock::now();
  while (!writer.PeerGone()) {
    const auto silence = duration_cast<milliseconds>(steady_clock::now() - last_write);
    const auto patience = std::max(kKeepAliveTime - silence, milliseconds(0));
    std::string bytes;
    const bool last = AppendEvents(job, job.log().Wait(&cursor, patience), &bytes);
    if (bytes.empty() && steady_clock::now() - last_write >= kKeepAliveTime) bytes = kSseKeepAlive;
    if (bytes.empty()) continue;
    if (!writer.Write(bytes)) return false;
    if (last) return true;
    last_write = steady_clock::now();
  }
  return false;
}

}  // namespace

std::variant<EventStreams::Place, Rejection> EventStreams::TakePlace() {
  if (num_open_->fetch_add(1) >= kMaxStreams) {
    --*num_open_;
    return Rejection{Rejection::Kind::kTooManyStreams, "", {}, kMaxStreams};
  }
  return Place(num_open_.get(), [num_open = num_open_](void*) { --*num_open; });
}

HttpResponse EventStreams::Open(const std::shared_ptr<Job>& job, bool from_start, HttpPeer& peer,
                                Place place) {
  HttpResponse response;
  response.headers = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}};
  size_t skipped = 0;
  const size_t first = from_start ? 0 : job->log().ReplayStart(&skipped);
  if (skipped > 0) {
    response.stream = [skipped](BodyWriter& writer) {
      writer.Write(LostEvents("SSE stream replay truncated; events were dropped", skipped));
    };
    return response;
  }
  peer.WhenGone([job] { job->log().WakeReaders(); });
  auto watcher = std::make_shared<Watcher>(queue_, job);
  response.stream = [watcher = std::move(watcher), first,
                     place = std::move(place)](BodyWriter& writer) {
    watcher->client_left = !WriteEvents(watcher->job(), first, writer);
  };
  return response;
}

}  // namespace idefics
