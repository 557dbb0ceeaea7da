// SPDX-License-Identifier: Apache-2.0
// Everything that happened to a job, written by the thread that runs it and read through cursors:
// event streams, webhooks, answers and GET all look at this one log. A cursor is the number of the
// next event to read. Events are kept as far back as a reader may be behind; text, log lines and
// metrics are kept whole, so a view can be taken at any point. Thread safe.
#pragma once

#include <chrono>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/mutex.h"
#include "common/status.h"
#include "server/jobs/events.h"

namespace idefics {

enum class JobState { kStarting, kProcessing, kSucceeded, kFailed, kCanceled };
inline bool IsTerminal(JobState state) { return state > JobState::kProcessing; }
const char* JobStateName(JobState state);  // "starting", "processing", …

// What a job has cost.
struct JobUsage {
  int64_t prompt_tokens = 0;  // of text and images, once for all answers
  int64_t cached_tokens = 0;  // of these: what was not computed again
  int64_t image_tokens = 0;   // of prompt_tokens: what stands for images
  int64_t completion_tokens = 0;
};

// A job as it stood at some point of its log.
struct JobView {
  using WallTime = std::chrono::system_clock::time_point;

  JobState state = JobState::kStarting;
  std::optional<WallTime> started_at;
  std::optional<WallTime> completed_at;  // of a terminal state
  double run_s = 0;                      // of a terminal state: from its start to its end
  std::vector<JobText> pieces;           // of the output, in order
  std::vector<JobChoiceEnded> choice_ends;
  std::string logs;
  std::vector<Metric> metrics;  // in order; a later one of the same name replaces an earlier one
  JobUsage usage;               // as far as it is known
  Status failure;               // of kFailed

  std::string Text() const;  // the pieces, concatenated
};

class EventLog {
 public:
  struct Batch {
    std::vector<JobEvent> events;
    size_t skipped = 0;  // > 0: so many were dropped before the cursor read them; none follow
  };

  // `replay_capacity`: events that a reader who joins late gets to see.
  explicit EventLog(size_t replay_capacity) : replay_capacity_(replay_capacity) {}

  // The writer: one thread at a time, in this order. Log lines and metrics beyond 4 MiB are
  // dropped.
  void Start() IDEFICS_EXCLUDES(mutex_);
  // Its index is set here.
  void AddText(JobText text) IDEFICS_EXCLUDES(mutex_);
  void EndChoice(JobChoiceEnded end) IDEFICS_EXCLUDES(mutex_);
  void SetUsage(const JobUsage& usage) IDEFICS_EXCLUDES(mutex_);  // no event
  void AddLog(LogSource source, std::string_view text) IDEFICS_EXCLUDES(mutex_);
  void AddMetric(Metric metric) IDEFICS_EXCLUDES(mutex_);
  // Also without Start. kCanceled: the job was canceled; other failures: it failed.
  void Finish(const Status& status) IDEFICS_EXCLUDES(mutex_);

  // Readers, any thread.
  JobState state() const IDEFICS_EXCLUDES(mutex_);
  JobView View() const IDEFICS_EXCLUDES(mutex_);
  JobView End() const IDEFICS_EXCLUDES(mutex_);  // the same without its text and its logs
  // As it stood before event number `cursor`. REQUIRES: `cursor` was read up to.
  JobView ViewAt(size_t cursor) const IDEFICS_EXCLUDES(mutex_);
  // Events from `*cursor` on, which is advanced.
  Batch Read(size_t* cursor) const IDEFICS_EXCLUDES(mutex_);
  // The same; waits for the first one at most `time`, or until somebody calls WakeReaders.
  Batch Wait(size_t* cursor, std::chrono::milliseconds time) const IDEFICS_EXCLUDES(mutex_);
  // Where a reader who joins now begins. `*skipped` > 0: the log does not reach back to the start.
  size_t ReplayStart(size_t* skipped) const IDEFICS_EXCLUDES(mutex_);
  // True once it is finished; waits at most `time`.
  bool WaitFinished(std::chrono::milliseconds time) const IDEFICS_EXCLUDES(mutex_);
  void WakeReaders() IDEFICS_EXCLUDES(mutex_);

  // Called after every event from now on, on the writer's thread with the log locked: must return
  // at once and not call back. Returns its number.
  using Listener = std::function<void()>;
  size_t AddListener(Listener listener) IDEFICS_EXCLUDES(mutex_);
  // It is not being called any more when this returns.
  void RemoveListener(size_t number) IDEFICS_EXCLUDES(mutex_);

  // Roughly what keeping this costs.
  size_t num_bytes() const IDEFICS_EXCLUDES(mutex_);

 private:
  // How much of the text, the lines and the metrics there was.
  struct Extent {
    size_t pieces = 0;
    size_t choice_ends = 0;
    size_t lines = 0;
    size_t metrics = 0;
  };
  enum class Kind : uint8_t { kStarted, kText, kChoiceEnded, kLogLine, kMetric, kFinished };
  struct Record {
    Kind kind;
    Extent before;  // its own piece, line or metric is number before.pieces, …
    size_t num_bytes;
  };

  void Append(Kind kind, size_t num_bytes) IDEFICS_REQUIRES(mutex_);
  void DropOld() IDEFICS_REQUIRES(mutex_);
  size_t end() const IDEFICS_REQUIRES(mutex_) { return num_dropped_ + records_.size(); }
  Extent Now() const IDEFICS_REQUIRES(mutex_);
  JobEvent EventOf(const Record& record) const IDEFICS_REQUIRES(mutex_);
  JobView Prefix(const Extent& extent) const IDEFICS_REQUIRES(mutex_);
  JobView Outcome(const Extent& extent) const IDEFICS_REQUIRES(mutex_);
  Batch Take(size_t* cursor) const IDEFICS_REQUIRES(mutex_);

  const size_t replay_capacity_;

  mutable Mutex mutex_;
  mutable CondVar changed_;
  std::map<size_t, Listener> listeners_ IDEFICS_GUARDED_BY(mutex_);
  size_t num_listeners_ever_ IDEFICS_GUARDED_BY(mutex_) = 0;
  size_t num_wakes_ IDEFICS_GUARDED_BY(mutex_) = 0;

  JobState state_ IDEFICS_GUARDED_BY(mutex_) = JobState::kStarting;
  std::optional<JobView::WallTime> started_at_ IDEFICS_GUARDED_BY(mutex_);
  std::optional<JobView::WallTime> completed_at_ IDEFICS_GUARDED_BY(mutex_);
  std::chrono::steady_clock::time_point started_ IDEFICS_GUARDED_BY(mutex_);
  double run_s_ IDEFICS_GUARDED_BY(mutex_) = 0;
  Status failure_ IDEFICS_GUARDED_BY(mutex_);
  JobUsage usage_ IDEFICS_GUARDED_BY(mutex_);
  std::vector<JobText> pieces_ IDEFICS_GUARDED_BY(mutex_);
  std::vector<JobChoiceEnded> choice_ends_ IDEFICS_GUARDED_BY(mutex_);
  std::vector<JobLogLine> lines_ IDEFICS_GUARDED_BY(mutex_);
  std::vector<Metric> metrics_ IDEFICS_GUARDED_BY(mutex_);
  size_t line_bytes_ IDEFICS_GUARDED_BY(mutex_) = 0;
  size_t metric_bytes_ IDEFICS_GUARDED_BY(mutex_) = 0;
  size_t piece_bytes_ IDEFICS_GUARDED_BY(mutex_) = 0;

  std::deque<Record> records_ IDEFICS_GUARDED_BY(mutex_);
  size_t num_dropped_ IDEFICS_GUARDED_BY(mutex_) = 0;  // the number of records_.front()
  size_t record_bytes_ IDEFICS_GUARDED_BY(mutex_) = 0;
};

}  // namespace idefics
