// SPDX-License-Identifier: Apache-2.0
// Decides which requests are traced, and sends their spans from a thread of its own. Nothing waits
// for it: where the collector is slow or gone, spans are dropped and counted. Thread safe.
#pragma once

#include <chrono>
#include <deque>
#include <memory>
#include <optional>
#include <span>
#include <stop_token>
#include <string>
#include <thread>

#include "common/metrics.h"
#include "common/mutex.h"
#include "server/trace/otlp.h"
#include "server/trace/span.h"
#include "server/trace/trace_options.h"

namespace idefics {

// Takes one OTLP request to the collector. Called by one thread.
class SpanPost {
 public:
  enum class Outcome { kTaken, kRefused, kTryAgain };
  struct Answer {
    Outcome outcome = Outcome::kTryAgain;
    std::optional<std::chrono::seconds> retry_after{};  // the collector's wish
    std::string problem{};                              // what to tell people; "" if taken
  };

  virtual ~SpanPost() = default;
  // Returns soon after a stop is requested.
  virtual Answer Send(std::span<const char> body, const std::stop_token& stop) = 0;
};

class Tracer final : public SpanSink {
 public:
  // `post` nullptr: nothing is traced.
  Tracer(TraceOptions options, std::unique_ptr<SpanPost> post);
  ~Tracer() override;  // what is not sent by then is dropped: Drain first
  Tracer(const Tracer&) = delete;
  Tracer& operator=(const Tracer&) = delete;

  bool on() const { return post_ != nullptr; }

  // A request's own place, below that of its caller if it has one; its sink is set where it is to
  // be recorded. `may_begin`: whether it is worth a trace of its own.
  SpanParent Enter(const std::optional<TraceContext>& caller, bool may_begin);

  void Add(const Span& span) override IDEFICS_EXCLUDES(mutex_);

  // Sends what there is; waits for that, at most `time`. True: nothing is left.
  bool Drain(std::chrono::milliseconds time) IDEFICS_EXCLUDES(mutex_);

  uint64_t exported() const { return exported_.value(); }
  uint64_t dropped() const { return dropped_.value(); }

 private:
  // Of one post.
  struct Batch {
    OtlpBytes request;  // room for its head, and its spans
    size_t count = 0;
  };

  void Run(const std::stop_token& stop);
  Batch TakeBatch(const std::stop_token& stop) IDEFICS_EXCLUDES(mutex_);
  void Deliver(Batch* batch, const std::stop_token& stop);
  void NoteProblem(const std::string& problem);
  bool Wants(const std::optional<TraceContext>& caller, const TraceId& trace_id) const;

  const TraceOptions options_;
  const std::unique_ptr<SpanPost> post_;
  const std::chrono::nanoseconds wall_offset_;
  const size_t head_bytes_;  // of a post
  Counter exported_;
  Counter dropped_;
  bool told_of_problem_ = false;  // its thread

  Mutex mutex_;
  StoppableCondVar stirred_;  // there is a batch, or somebody drains
  CondVar idle_;
  std::deque<Batch> batches_ IDEFICS_GUARDED_BY(mutex_);  // all but the last are full
  size_t num_waiting_ IDEFICS_GUARDED_BY(mutex_) = 0;     // spans in them
  OtlpBytes spare_ IDEFICS_GUARDED_BY(
      mutex_);  // of a batch that was sent: large memory is dear to take and give
  bool sending_ IDEFICS_GUARDED_BY(mutex_) = false;
  bool draining_ IDEFICS_GUARDED_BY(mutex_) = false;
  std::jthread thread_;  // last: it uses the others
};

}  // namespace idefics
