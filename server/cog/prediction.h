// SPDX-License-Identifier: Apache-2.0
// One prediction from its acceptance to its end: state, output, logs, metrics, and the events that
// streams and webhooks are made of. Shared by the thread that runs it and those that look; thread
// safe.
#pragma once

#include <chrono>
#include <condition_variable>
#include <cstdint>
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
};

struct PredictionRequest {
  std::string id;
  nlohmann::json input = nlohmann::json::object();
  std::optional<std::string> webhook;
  std::vector<std::string> webhook_events{"start", "output", "logs", "completed"};
  std::optional<std::string> created_at;
  std::optional<std::string> version;
  std::vector<std::pair<std::string, std::string>> trace;  // traceparent, tracestate
};

// Data URIs over 1 KiB keep their header and first bytes: an answer need not send an image back.
nlohmann::json ShortenDataUris(const nlohmann::json& input);

class Prediction final : public PredictionSink {
 public:
  Prediction(PredictionRequest request, OutputKind output_kind);

  const std::string& id() const { return request_.id; }
  const PredictionRequest& request() const { return request_; }  // without its input

  // The validated input; it may be long and is not kept once it was taken. REQUIRES: called once.
  nlohmann::json TakeInput() { return std::move(input_); }

  // Called after every event, on its thread, with the prediction locked: must return at once and
  // not call back. REQUIRES: set before the prediction runs.
  void SetOnEvent(std::function<void()> on_event) { on_event_ = std::move(on_event); }

  // The running side: one thread, in this order.
  void Begin();  // starting -> processing
  void Output(std::string_view piece) override;
  void Log(std::string_view source, std::string_view text) override;
  void Metric(const std::string& name, nlohmann::json value) override;
  void SetTerminal(const Status& status);  // state only: nobody is told before the slot is free
  void AnnounceTerminal();                 // wakes waiters, appends "completed"

  // The looking side: any thread.
  void Cancel() { stop_.request_stop(); }
  std::stop_token stop_token() const { return stop_.get_token(); }
  PredictionStatus status() const;
  nlohmann::json Snapshot() const;  // the prediction object, no null values (cog-contract.md 2.2)

  // What a webhook gets before the end: status "processing", output as a list. `at_start`: nothing
  // was made yet. A string output is one piece, complete at the end.
  nlohmann::json ProgressSnapshot(bool at_start) const;

  OutputKind output_kind() const { return output_kind_; }

  // True once announced; waits at most `time`.
  bool WaitAnnounced(std::chrono::milliseconds time) const;

  // Events from number `*next` on, which is advanced; waits at most `time` for the first.
  std::vector<PredictionEvent> WaitEvents(size_t* next, std::chrono::milliseconds time) const;

  // Roughly what keeping this costs.
  size_t num_bytes() const;

 private:
  void AddEvent(const char* name, nlohmann::json data);  // with mutex_ held
  nlohmann::json SnapshotLocked() const;

  PredictionRequest request_;
  nlohmann::json input_;       // until TakeInput
  const nlohmann::json echo_;  // the input as answers show it: long data URIs shortened
  const OutputKind output_kind_;
  const std::chrono::system_clock::time_point received_ = std::chrono::system_clock::now();
  const std::chrono::steady_clock::time_point started_ = std::chrono::steady_clock::now();
  std::stop_source stop_;
  std::function<void()> on_event_;

  mutable std::mutex mutex_;
  mutable std::condition_variable changed_;
  PredictionStatus status_ = PredictionStatus::kStarting;
  bool announced_ = false;
  std::string begun_at_;
  std::string completed_at_;
  std::vector<std::string> pieces_;
  std::string logs_;
  std::string error_;
  nlohmann::json metrics_ = nlohmann::json::object();
  std::vector<PredictionEvent> events_;
};

}  // namespace idefics
