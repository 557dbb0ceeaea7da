// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/event_stream.h"

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "server/api/cog/prediction_object.h"
#include "server/api/json_body.h"
#include "server/api/metrics_object.h"
#include "server/http/sse.h"

namespace idefics {
namespace {

using nlohmann::json;
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

  Job& job() const { return *job_; }

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

class EventStream final : public BodySource {
 public:
  EventStream(JobQueue& queue, std::shared_ptr<Job> job, size_t cursor, EventStreams::Place place)
      : watcher_(queue, std::move(job)), place_(std::move(place)), cursor_(cursor) {}
  ~EventStream() override {
    if (listener_) log().RemoveListener(*listener_);
  }

  Piece Next() override {
    Piece piece;
    piece.is_last = AppendEvents(watcher_.job(), log().Read(&cursor_), &piece.bytes);
    const auto now = steady_clock::now();
    if (piece.bytes.empty() && now >= last_piece_ + kKeepAliveTime) piece.bytes = kSseKeepAlive;
    if (!piece.bytes.empty()) last_piece_ = now;
    if (piece.is_last) watcher_.client_left = false;
    return piece;
  }

  void WhenMore(std::function<void()> stir) override {
    listener_ = log().AddListener(std::move(stir));
  }

  milliseconds patience() const override { return kKeepAliveTime; }

 private:
  EventLog& log() { return watcher_.job().log(); }

  Watcher watcher_;
  const EventStreams::Place place_;
  std::optional<size_t> listener_;
  size_t cursor_;
  steady_clock::time_point last_piece_ = steady_clock::now();
};

// A stream of one piece.
class LostStream final : public BodySource {
 public:
  explicit LostStream(size_t skipped) : skipped_(skipped) {}
  Piece Next() override {
    return {LostEvents("SSE stream replay truncated; events were dropped", skipped_), true};
  }
  void WhenMore(std::function<void()>) override {}

 private:
  const size_t skipped_;
};

}  // namespace

std::variant<EventStreams::Place, Rejection> EventStreams::TakePlace() {
  if (num_open_->fetch_add(1) >= kMaxStreams) {
    --*num_open_;
    return Rejection{Rejection::Kind::kTooManyStreams, "", {}, kMaxStreams};
  }
  return Place(num_open_.get(), [num_open = num_open_](void*) { --*num_open; });
}

HttpResponse EventStreams::Open(const std::shared_ptr<Job>& job, bool from_start, Place place) {
  HttpResponse response;
  response.headers = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}};
  size_t skipped = 0;
  const size_t first = from_start ? 0 : job->log().ReplayStart(&skipped);
  if (skipped > 0) {
    response.stream = std::make_unique<LostStream>(skipped);
  } else {
    response.stream = std::make_unique<EventStream>(queue_, job, first, std::move(place));
  }
  return response;
}

}  // namespace idefics
