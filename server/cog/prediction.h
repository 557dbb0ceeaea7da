// SPDX-License-Identifier: Apache-2.0
// One prediction from its acceptance to its end: state, output, logs, metrics, and the events that
// streams and webhooks are made of. Shared by the thread that runs it and those that look; thread
// safe.
#pragma once

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <utility>
#include <vector>

#include "server/cog/backend.h"
#include "server/cog/openapi.h"

namespace idefics {

enum class PredictionStatus { kStarting, kProcessing, kSucceeded, kFailed, kCanceled };

const char* PredictionStatusName(PredictionStatus status);
inline bool IsTerminal(PredictionStatus status) { return status > PredictionStatus::kProcessing; }

// "2026-08-21T10:00:00.123456+00:00"
std::string Rfc3339(std::chrono::system_clock::time_point time);

// What happened, in order. `data` is the body of the server-sent event of that name.
struct PredictionEvent {
  const char* name;  // "start", "output", "log", "metric", "completed" (data: the snapshot)
  nlohmann::json data;
  size_t num_bytes = 0;
};

// Events to show. `skipped` > 0: so many were dropped before they were looked at; none follow.
struct EventBatch {
  std::vector<PredictionEvent> events;
  size_t skipped = 0;
};

// How far it is, for webhooks.
struct PredictionProgress {
  bool begun = false;
  size_t outputs = 0;
  size_t logs = 0;
  bool announced = false;
};

struct PredictionRequest {
  std::string id;
  nlohmann::json input = nlohmann::json::object();
  std::optional<std::string> webhook;
  std::vector<std::string> webhook_events{"start", "output", "logs", "completed"};
  std::optional<std::string> created_at;
  std::optional<std::string> version;
  std::optional<std::string> model;                        // "owner/name", of Replicate's routes
  std::vector<std::pair<std::string, std::string>> trace;  // traceparent, tracestate
  bool from_stream = false;  // created by an event stream, and canceled with the last one
};

// Data URIs over 1 KiB keep their header and first bytes: an answer need not send an image back.
nlohmann::json ShortenDataUris(const nlohmann::json& input);

class Prediction final : public PredictionSink {
 public:
  // `history`: events that a late event stream gets to see (COG_STREAM_HISTORY_CAPACITY).
  Prediction(PredictionRequest request, OutputKind output_kind, size_t history = 1024);

  const std::string& id() const { return request_.id; }
  const PredictionRequest& request() const { return request_; }  // without its input

  // The validated input; it may be long and is not kept once it was taken. REQUIRES: called once.
  nlohmann::json TakeInput() { return std::move(input_); }

  // Called after every event from now on, on its thread, with the prediction locked: must return at
  // once and not call back.
  void SetOnEvent(std::function<void()> on_event);

  // The running side: one thread, in this order.
  void Begin();  // starting -> processing
  void Output(std::string_view piece) override;
  void Log(std::string_view source, std::string_view text) override;
  void Metric(const std::string& name, nlohmann::json value) override;
  void SetTerminal(const Status& status);  // state only: nobody is told before the slot is free
  void AnnounceTerminal();                 // wakes waiters, appends "completed"

  // The looking side: any thread. Cancel only asks; the registry's also ends one that waits.
  void Cancel() { stop_.request_stop(); }
  std::stop_token stop_token() const { return stop_.get_token(); }
  PredictionStatus status() const;
  nlohmann::json metrics() const;
  nlohmann::json Snapshot() const;  // the prediction object, no null values (cog-contract.md 2.2)

  // What a webhook gets before the end: status "processing", output as a list. `at_start`: nothing
  // was made yet. A string output is one piece, complete at the end.
  nlohmann::json ProgressSnapshot(bool at_start) const;

  OutputKind output_kind() const { return output_kind_; }

  // True once announced; waits at most `time`.
  bool WaitAnnounced(std::chrono::milliseconds time) const;

  PredictionProgress progress() const;

  // The number of the event at which a stream that attaches now begins. `*skipped` > 0: the history
  // does not reach back to the start.
  size_t FirstReplayed(size_t* skipped) const;

  // Events from number `*next` on, which is advanced; waits for the first at most `time`, or until
  // somebody calls WakeWatchers.
  EventBatch WaitEvents(size_t* next, std::chrono::milliseconds time) const;
  void WakeWatchers();

  // Streams that show it now. Remove: true when it was the last one.
  void AddWatcher() { ++watchers_; }
  bool RemoveWatcher() { return --watchers_ == 0; }

  // Roughly what keeping this costs.
  size_t num_bytes() const;

 private:
  // Both with mutex_ held.
  void AddEvent(const char* name, nlohmann::json data, size_t num_bytes = 0);
  void DropOldEvents();
  nlohmann::json SnapshotLocked() const;
  nlohmann::json ShownData(const PredictionEvent& event) const;

  PredictionRequest request_;
  nlohmann::json input_;       // until TakeInput
  const nlohmann::json echo_;  // the input as answers show it: long data URIs shortened
  const OutputKind output_kind_;
  const size_t history_;
  const std::chrono::system_clock::time_point received_ = std::chrono::system_clock::now();
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::stop_source stop_;
  std::atomic<int> watchers_{0};

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  std::function<void()> on_event_;
  PredictionStatus status_ = PredictionStatus::kStarting;
  bool begun_ = false;
  bool announced_ = false;
  std::string begun_at_;
  std::string completed_at_;
  std::vector<std::string> pieces_;
  std::string logs_;
  std::string error_;
  nlohmann::json metrics_ = nlohmann::json::object();
  size_t num_logs_ = 0;
  size_t num_wakes_ = 0;
  std::deque<PredictionEvent> events_;
  size_t dropped_events_ = 0;  // the number of events_.front()
  size_t event_bytes_ = 0;
};

}  // namespace idefics
