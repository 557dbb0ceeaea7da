// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/event_log.h"

#include <algorithm>
#include <utility>

namespace idefics {
namespace {

using std::chrono::steady_clock;
using std::chrono::system_clock;

constexpr size_t kMaxLogBytes = 4 << 20;
constexpr size_t kMaxMetricBytes = 4 << 20;

// A reader may be behind by so many events, and by more while they are short: a burst must not cut
// off a client that reads as fast as it can.
constexpr size_t kMinKeptEvents = 1024;
constexpr size_t kShortEventBytes = 1 << 20;
constexpr size_t kFixedEventBytes = 64;

size_t NumBytes(const Metric& metric) {
  const auto* text = std::get_if<std::string>(&metric.value);
  return sizeof(Metric) + metric.name.size() + (text == nullptr ? 0 : text->size());
}

size_t NumBytes(const JobText& text) {
  size_t num_bytes = text.piece.size();
  if (text.tokens == nullptr) return num_bytes;
  for (const TokenLogprobs& token : text.tokens->logprobs) {
    num_bytes += sizeof(int32_t) + sizeof(TokenLogprobs) + token.top.size() * sizeof(token.top[0]);
  }
  return num_bytes;
}

}  // namespace

const char* JobStateName(JobState state) {
  switch (state) {
    case JobState::kStarting:
      return "starting";
    case JobState::kProcessing:
      return "processing";
    case JobState::kSucceeded:
      return "succeeded";
    case JobState::kFailed:
      return "failed";
    case JobState::kCanceled:
      return "canceled";
  }
  return "failed";
}

std::string JobView::Text() const {
  std::string text;
  for (const JobText& piece : pieces) text += piece.piece;
  return text;
}

EventLog::Extent EventLog::Now() const {
  return {pieces_.size(), choice_ends_.size(), lines_.size(), metrics_.size()};
}

void EventLog::Append(Kind kind, size_t num_bytes) {
  records_.push_back({kind, Now(), num_bytes + kFixedEventBytes});
  record_bytes_ += records_.back().num_bytes;
  DropOld();
  changed_.NotifyAll();
  for (const auto& [number, listener] : listeners_) listener();
}

void EventLog::DropOld() {
  const size_t kept = std::max(replay_capacity_, kMinKeptEvents);
  while (records_.size() > kept && record_bytes_ > kShortEventBytes) {
    record_bytes_ -= records_.front().num_bytes;
    records_.pop_front();
    ++num_dropped_;
  }
}

void EventLog::Start() {
  const MutexLock lock(mutex_);
  state_ = JobState::kProcessing;
  started_at_ = system_clock::now();
  started_ = steady_clock::now();
  Append(Kind::kStarted, 0);
}

void EventLog::AddText(JobText text) {
  const MutexLock lock(mutex_);
  const size_t num_bytes = NumBytes(text);
  Append(Kind::kText, num_bytes);
  text.index = pieces_.size();
  pieces_.push_back(std::move(text));
  piece_bytes_ += num_bytes + sizeof(JobText);
}

void EventLog::EndChoice(JobChoiceEnded end) {
  const MutexLock lock(mutex_);
  Append(Kind::kChoiceEnded, 0);
  choice_ends_.push_back(end);
}

void EventLog::SetUsage(const JobUsage& usage) {
  const MutexLock lock(mutex_);
  usage_ = usage;
}

void EventLog::AddLog(LogSource source, std::string_view text) {
  const MutexLock lock(mutex_);
  if (line_bytes_ + text.size() > kMaxLogBytes) return;
  line_bytes_ += text.size();
  Append(Kind::kLogLine, text.size());
  lines_.push_back({source, std::string(text)});
}

void EventLog::AddMetric(Metric metric) {
  const MutexLock lock(mutex_);
  const size_t num_bytes = NumBytes(metric);
  if (metric_bytes_ + num_bytes > kMaxMetricBytes) return;
  metric_bytes_ += num_bytes;
  Append(Kind::kMetric, num_bytes);
  metrics_.push_back(std::move(metric));
}

void EventLog::Finish(const Status& status) {
  const MutexLock lock(mutex_);
  if (IsTerminal(state_)) return;
  completed_at_ = system_clock::now();
  if (started_at_) {
    run_s_ = std::chrono::duration<double>(steady_clock::now() - started_).count();
  } else {
    started_at_ = completed_at_;
  }
  if (status.ok()) {
    state_ = JobState::kSucceeded;
  } else if (status.code() == ErrorCode::kCanceled) {
    state_ = JobState::kCanceled;
  } else {
    state_ = JobState::kFailed;
    failure_ = status;
  }
  Append(Kind::kFinished, 0);
}

JobState EventLog::state() const {
  const MutexLock lock(mutex_);
  return state_;
}

// Nothing of how it ended.
JobView EventLog::Prefix(const Extent& extent) const {
  const auto up_to = [](const auto& all, size_t count) {
    return std::pair(all.begin(), all.begin() + static_cast<ptrdiff_t>(count));
  };
  JobView view;
  const auto [first_piece, last_piece] = up_to(pieces_, extent.pieces);
  view.pieces.assign(first_piece, last_piece);
  const auto [first_end, last_end] = up_to(choice_ends_, extent.choice_ends);
  view.choice_ends.assign(first_end, last_end);
  const auto [first_line, last_line] = up_to(lines_, extent.lines);
  std::for_each(first_line, last_line, [&](const JobLogLine& line) { view.logs += line.text; });
  const auto [first_metric, last_metric] = up_to(metrics_, extent.metrics);
  view.metrics.assign(first_metric, last_metric);
  view.usage = usage_;
  view.started_at = started_at_;
  return view;
}

JobView EventLog::Outcome(const Extent& extent) const {
  JobView view = Prefix(extent);
  view.state = state_;
  view.completed_at = completed_at_;
  view.run_s = run_s_;
  view.failure = failure_;
  return view;
}

JobView EventLog::View() const {
  const MutexLock lock(mutex_);
  return Outcome(Now());
}

JobView EventLog::End() const {
  const MutexLock lock(mutex_);
  return Outcome({0, 0, 0, metrics_.size()});
}

JobView EventLog::ViewAt(size_t cursor) const {
  const MutexLock lock(mutex_);
  if (cursor == 0) return {};
  Extent extent;  // before the second event there is nothing
  if (cursor >= end()) {
    extent = Now();
  } else if (cursor > 1) {
    extent = records_[std::max(cursor, num_dropped_) - num_dropped_].before;
  }
  JobView view = Prefix(extent);
  view.state = JobState::kProcessing;
  return view;
}

JobEvent EventLog::EventOf(const Record& record) const {
  switch (record.kind) {
    case Kind::kStarted:
      return JobStarted();
    case Kind::kText:
      return pieces_[record.before.pieces];
    case Kind::kChoiceEnded:
      return choice_ends_[record.before.choice_ends];
    case Kind::kLogLine:
      return lines_[record.before.lines];
    case Kind::kMetric:
      return metrics_[record.before.metrics];
    case Kind::kFinished:
      break;
  }
  return JobFinished();
}

EventLog::Batch EventLog::Take(size_t* cursor) const {
  Batch batch;
  if (*cursor < num_dropped_) {
    batch.skipped = num_dropped_ - *cursor;
    return batch;
  }
  for (; *cursor < end(); ++*cursor) {
    batch.events.push_back(EventOf(records_[*cursor - num_dropped_]));
  }
  return batch;
}

EventLog::Batch EventLog::Read(size_t* cursor) const {
  const MutexLock lock(mutex_);
  return Take(cursor);
}

EventLog::Batch EventLog::Wait(size_t* cursor, std::chrono::milliseconds time) const {
  MutexLock lock(mutex_);
  const size_t wakes = num_wakes_;
  changed_.WaitFor(lock, time, [&]() IDEFICS_REQUIRES(mutex_) {
    return end() > *cursor || num_wakes_ != wakes;
  });
  return Take(cursor);
}

size_t EventLog::ReplayStart(size_t* skipped) const {
  const MutexLock lock(mutex_);
  const size_t first = end() - std::min(end(), replay_capacity_);
  *skipped = replay_capacity_ == 0 ? 0 : first;
  return first;
}

bool EventLog::WaitFinished(std::chrono::milliseconds time) const {
  MutexLock lock(mutex_);
  return changed_.WaitFor(lock, time,
                          [this]() IDEFICS_REQUIRES(mutex_) { return IsTerminal(state_); });
}

void EventLog::WakeReaders() {
  const MutexLock lock(mutex_);
  ++num_wakes_;
  changed_.NotifyAll();
}

size_t EventLog::AddListener(Listener listener) {
  const MutexLock lock(mutex_);
  listeners_[num_listeners_ever_] = std::move(listener);
  return num_listeners_ever_++;
}

void EventLog::RemoveListener(size_t number) {
  const MutexLock lock(mutex_);
  listeners_.erase(number);
}

size_t EventLog::num_bytes() const {
  const MutexLock lock(mutex_);
  return piece_bytes_ + line_bytes_ + lines_.size() * sizeof(JobLogLine) + metric_bytes_ +
         records_.size() * sizeof(Record);
}

}  // namespace idefics
