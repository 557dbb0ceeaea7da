// SPDX-License-Identifier: Apache-2.0
#include "server/trace/tracer.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "common/caught.h"
#include "common/log.h"

namespace idefics {
namespace {

using std::chrono::nanoseconds;
using std::chrono::seconds;

constexpr int kMaxAttempts = 5;
constexpr seconds kMaxPause{30};

nanoseconds WallOffset() {
  return std::chrono::system_clock::now().time_since_epoch() -
         std::chrono::duration_cast<nanoseconds>(Span::Clock::now().time_since_epoch());
}

// Before attempt 2, 3, …: 1, 2, 4 … s, or what the collector wishes.
seconds PauseBefore(int attempt, const SpanPost::Answer& answer) {
  return std::min(answer.retry_after.value_or(seconds(1 << (attempt - 2))), kMaxPause);
}

}  // namespace

Tracer::Tracer(TraceOptions options, std::unique_ptr<SpanPost> post)
    : options_(std::move(options)),
      post_(std::move(post)),
      wall_offset_(WallOffset()),
      head_bytes_(OtlpHeadBytes(options_.resource)) {
  if (on()) thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
}

Tracer::~Tracer() = default;

// By the trace's id alone, so that all who see a trace decide alike.
bool Tracer::Wants(const std::optional<TraceContext>& caller, const TraceId& trace_id) const {
  if (caller && options_.sampler.by_parent) return caller->sampled;
  if (options_.sampler.ratio >= 1) return true;
  uint64_t low = 0;
  for (size_t i = 8; i < trace_id.size(); ++i) low = low << 8 | trace_id[i];
  return static_cast<double>(low) < std::ldexp(options_.sampler.ratio, 64);
}

SpanParent Tracer::Enter(const std::optional<TraceContext>& caller, bool may_begin) {
  if (!on() || (!caller && !may_begin)) return {nullptr, caller.value_or(TraceContext())};
  TraceContext own = caller ? caller->Child() : NewTrace(false);
  own.sampled = Wants(caller, own.trace_id);
  return own.sampled ? SpanParent{this, own} : SpanParent{nullptr, caller.value_or(own)};
}

// It is written here and now: to keep it as it is, and to write it on the thread that sends, would
// cost a request more.
void Tracer::Add(const Span& span) {
  thread_local OtlpBytes t_memory;
  const std::span<const char> written = WriteOtlpSpan(span, wall_offset_, &t_memory);
  const MutexLock lock(mutex_);
  if (num_waiting_ >= options_.max_queue) return dropped_.Add();
  if (batches_.empty() || batches_.back().count >= options_.max_batch) {
    batches_.push_back({std::exchange(spare_, {}), 0});
    batches_.back().request.resize(head_bytes_);
  }
  Batch& batch = batches_.back();
  batch.request.insert(batch.request.end(), written.begin(), written.end());
  ++num_waiting_;
  if (++batch.count == options_.max_batch) stirred_.NotifyOne();
}

bool Tracer::Drain(std::chrono::milliseconds time) {
  MutexLock lock(mutex_);
  draining_ = true;
  stirred_.NotifyOne();
  return idle_.WaitFor(lock, time,
                       [this]() IDEFICS_REQUIRES(mutex_) { return batches_.empty() && !sending_; });
}

void Tracer::Run(const std::stop_token& stop) {
  while (!stop.stop_requested()) {
    Batch batch = TakeBatch(stop);
    try {
      if (batch.count > 0) Deliver(&batch, stop);
    } catch (...) {
      LogCaught("The export of spans");
      dropped_.Add(batch.count);
    }
    batch.request.clear();
    const MutexLock lock(mutex_);
    if (batch.request.capacity() > spare_.capacity()) spare_.swap(batch.request);
    sending_ = false;
    if (batches_.empty()) idle_.NotifyAll();
  }
}

// Empty: there is none.
Tracer::Batch Tracer::TakeBatch(const std::stop_token& stop) {
  MutexLock lock(mutex_);
  stirred_.WaitFor(lock, stop, options_.delay, [this]() IDEFICS_REQUIRES(mutex_) {
    return num_waiting_ >= options_.max_batch || (draining_ && num_waiting_ > 0);
  });
  if (batches_.empty()) return {};
  Batch batch = std::move(batches_.front());
  batches_.pop_front();
  num_waiting_ -= batch.count;
  sending_ = true;
  return batch;
}

void Tracer::Deliver(Batch* batch, const std::stop_token& stop) {
  const std::span<const char> body = WriteOtlpHead(options_.resource, head_bytes_, &batch->request);
  for (int attempt = 1;; ++attempt) {
    const SpanPost::Answer answer = post_->Send(body, stop);
    NoteProblem(answer.problem);
    if (answer.outcome == SpanPost::Outcome::kTaken) return exported_.Add(batch->count);
    const bool again = answer.outcome == SpanPost::Outcome::kTryAgain && attempt < kMaxAttempts;
    if (!again || stop.stop_requested()) return dropped_.Add(batch->count);
    MutexLock lock(mutex_);
    stirred_.WaitFor(lock, stop, PauseBefore(attempt + 1, answer), [] { return false; });
  }
}

// Once for each time of trouble: a collector that is gone must not fill the log.
void Tracer::NoteProblem(const std::string& problem) {
  const bool told = std::exchange(told_of_problem_, !problem.empty());
  if (!problem.empty() && !told) LogWarning("Spans are not taken: " + problem);
}

}  // namespace idefics
