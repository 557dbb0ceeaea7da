// SPDX-License-Identifier: Apache-2.0
#include "server/cog/prediction.h"

#include <algorithm>
#include <cstdio>
#include <ctime>
#include <utility>

#include "server/fetch/data_uri.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr size_t kMaxLogBytes = 4 << 20;  // of one prediction; what comes later is dropped

// A stream may be behind by so many events, and by more while they are short: a burst must not cut
// off a client that reads as fast as it can.
constexpr size_t kMinKeptEvents = 1024;
constexpr size_t kShortEventBytes = 1 << 20;

// "time.load" = 1 -> {"time": {"load": 1}}; only events keep the dots.
void SetNested(std::string_view name, const json& value, json* object) {
  if (!object->is_object()) *object = json::object();
  const size_t dot = name.find('.');
  json& member = (*object)[std::string(name.substr(0, dot))];
  if (dot == std::string_view::npos) {
    member = value;
  } else {
    SetNested(name.substr(dot + 1), value, &member);
  }
}

// What a client reads of a failure. Internal ones may name files or devices: those go to the log.
std::string ClientMessage(const Status& status) {
  if (status.code() == ErrorCode::kInternal) {
    return "The prediction failed inside the server; its log says why.";
  }
  return status.message();
}

}  // namespace

const char* PredictionStatusName(PredictionStatus status) {
  switch (status) {
    case PredictionStatus::kStarting:
      return "starting";
    case PredictionStatus::kProcessing:
      return "processing";
    case PredictionStatus::kSucceeded:
      return "succeeded";
    case PredictionStatus::kFailed:
      return "failed";
    case PredictionStatus::kCanceled:
      return "canceled";
  }
  return "failed";
}

std::string Rfc3339(std::chrono::system_clock::time_point time) {
  const auto micros =
      std::chrono::duration_cast<std::chrono::microseconds>(time.time_since_epoch()).count();
  const std::time_t seconds = micros / 1'000'000;
  std::tm parts{};
  gmtime_r(&seconds, &parts);
  char text[64];
  const size_t size = std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  std::snprintf(text + size, sizeof text - size, ".%06d+00:00",
                static_cast<int>(micros % 1'000'000));
  return text;
}

json ShortenDataUris(const json& input) {
  constexpr size_t kLongBytes = 1024;
  constexpr size_t kShownBytes = 64;
  if (input.is_string()) {
    const auto& text = input.get_ref<const std::string&>();
    if (text.size() <= kLongBytes || !IsDataUri(text)) return input;
    size_t end = kShownBytes;
    while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xc0) == 0x80) --end;
    return text.substr(0, end) + "… (" + std::to_string(text.size()) + " bytes)";
  }
  if (!input.is_structured()) return input;
  json shortened = input.is_array() ? json::array() : json::object();
  for (const auto& [key, value] : input.items()) {
    if (input.is_array()) {
      shortened.push_back(ShortenDataUris(value));
    } else {
      shortened[key] = ShortenDataUris(value);
    }
  }
  return shortened;
}

Prediction::Prediction(PredictionRequest request, OutputKind output_kind, size_t history)
    : request_(std::move(request)),
      input_(std::move(request_.input)),
      echo_(ShortenDataUris(input_)),
      output_kind_(output_kind),
      history_(history) {}

void Prediction::SetOnEvent(std::function<void()> on_event) {
  const std::lock_guard lock(mutex_);
  on_event_ = std::move(on_event);
}

void Prediction::Begin() {
  const std::lock_guard lock(mutex_);
  status_ = PredictionStatus::kProcessing;
  begun_ = true;
  begun_at_ = Rfc3339(std::chrono::system_clock::now());
  AddEvent("start", {{"id", id()}, {"status", "processing"}});
}

void Prediction::AddEvent(const char* name, json data, size_t num_bytes) {
  constexpr size_t kFixedBytes = 64;
  events_.push_back({name, std::move(data), num_bytes + kFixedBytes});
  event_bytes_ += events_.back().num_bytes;
  DropOldEvents();
  changed_.notify_all();
  if (on_event_) on_event_();
}

void Prediction::DropOldEvents() {
  const size_t kept = std::max(history_, kMinKeptEvents);
  while (events_.size() > kept && event_bytes_ > kShortEventBytes) {
    event_bytes_ -= events_.front().num_bytes;
    events_.pop_front();
    ++dropped_events_;
  }
}

void Prediction::Output(std::string_view piece) {
  const std::lock_guard lock(mutex_);
  pieces_.emplace_back(piece);
  AddEvent("output", pieces_.size() - 1, piece.size());
}

void Prediction::Log(std::string_view source, std::string_view text) {
  const std::lock_guard lock(mutex_);
  if (logs_.size() + text.size() > kMaxLogBytes) return;
  logs_ += text;
  ++num_logs_;
  AddEvent("log", {{"source", source}, {"data", text}}, text.size());
}

void Prediction::Metric(const std::string& name, json value) {
  const std::lock_guard lock(mutex_);
  SetNested(name, value, &metrics_);
  AddEvent("metric", {{"name", name}, {"value", std::move(value)}, {"mode", "replace"}});
}

void Prediction::SetTerminal(const Status& status) {
  const std::lock_guard lock(mutex_);
  if (IsTerminal(status_)) return;
  const auto now = std::chrono::system_clock::now();
  metrics_["predict_time"] =
      std::chrono::duration<double>(std::chrono::steady_clock::now() - started_).count();
  if (begun_at_.empty()) begun_at_ = Rfc3339(now);
  completed_at_ = Rfc3339(now);
  if (status.ok()) {
    status_ = PredictionStatus::kSucceeded;
  } else if (status.code() == ErrorCode::kCanceled) {
    status_ = PredictionStatus::kCanceled;
  } else {
    status_ = PredictionStatus::kFailed;
    error_ = ClientMessage(status);
  }
}

void Prediction::AnnounceTerminal() {
  const std::lock_guard lock(mutex_);
  announced_ = true;
  AddEvent("completed", nullptr);
}

PredictionStatus Prediction::status() const {
  const std::lock_guard lock(mutex_);
  return status_;
}

size_t Prediction::num_bytes() const {
  const std::lock_guard lock(mutex_);
  constexpr size_t kFixedBytes = 4096;
  size_t bytes = kFixedBytes + 2 * logs_.size() + events_.size() * sizeof(PredictionEvent);
  for (const std::string& piece : pieces_) bytes += piece.size() + sizeof(std::string);
  return bytes;
}

json Prediction::metrics() const {
  const std::lock_guard lock(mutex_);
  return metrics_;
}

json Prediction::Snapshot() const {
  const std::lock_guard lock(mutex_);
  return SnapshotLocked();
}

json Prediction::SnapshotLocked() const {
  json object = {
      {"id", id()},          {"status", PredictionStatusName(status_)},
      {"input", echo_},      {"logs", logs_},
      {"metrics", metrics_}, {"created_at", request_.created_at.value_or(Rfc3339(received_))}};
  if (!begun_at_.empty()) object["started_at"] = begun_at_;
  if (!completed_at_.empty()) object["completed_at"] = completed_at_;
  if (!error_.empty() || status_ == PredictionStatus::kFailed) object["error"] = error_;
  if (request_.version) object["version"] = *request_.version;
  // While it runs the output is the list of pieces in both kinds, as coglet shows it.
  const bool succeeded = status_ == PredictionStatus::kSucceeded;
  if (IsTerminal(status_) && output_kind_ == OutputKind::kString) {
    std::string text;
    for (const std::string& piece : pieces_) text += piece;
    if (succeeded || !text.empty()) object["output"] = std::move(text);
  } else if (succeeded || !pieces_.empty()) {
    object["output"] = pieces_;
  }
  return object;
}

json Prediction::ProgressSnapshot(bool at_start) const {
  const std::lock_guard lock(mutex_);
  json object = SnapshotLocked();
  object["status"] = "processing";
  for (const char* later : {"output", "error", "completed_at"}) object.erase(later);
  object["metrics"].erase("predict_time");
  if (at_start) {
    object["logs"] = "";
    object["metrics"] = json::object();
  } else if (output_kind_ == OutputKind::kStream && !pieces_.empty()) {
    object["output"] = pieces_;
  } else if (output_kind_ == OutputKind::kString && IsTerminal(status_) && !pieces_.empty()) {
    std::string text;
    for (const std::string& piece : pieces_) text += piece;
    object["output"] = json::array({std::move(text)});
  }
  return object;
}

bool Prediction::WaitAnnounced(std::chrono::milliseconds time) const {
  std::unique_lock lock(mutex_);
  return changed_.wait_for(lock, time, [this] { return announced_; });
}

PredictionProgress Prediction::progress() const {
  const std::lock_guard lock(mutex_);
  return {begun_, pieces_.size(), num_logs_, announced_};
}

size_t Prediction::FirstReplayed(size_t* skipped) const {
  const std::lock_guard lock(mutex_);
  const size_t total = dropped_events_ + events_.size();
  const size_t first = total - std::min(total, history_);
  *skipped = history_ == 0 ? 0 : first;
  return first;
}

void Prediction::WakeWatchers() {
  const std::lock_guard lock(mutex_);
  ++num_wakes_;
  changed_.notify_all();
}

EventBatch Prediction::WaitEvents(size_t* next, std::chrono::milliseconds time) const {
  std::unique_lock lock(mutex_);
  const auto end = [this] { return dropped_events_ + events_.size(); };
  changed_.wait_for(lock, time,
                    [&, wakes = num_wakes_] { return end() > *next || num_wakes_ != wakes; });
  EventBatch batch;
  if (*next < dropped_events_) {
    batch.skipped = dropped_events_ - *next;
    return batch;
  }
  for (; *next < end(); ++*next) {
    const PredictionEvent& event = events_[*next - dropped_events_];
    batch.events.push_back({event.name, ShownData(event), event.num_bytes});
  }
  return batch;
}

// What may be long is not kept twice: the event of an output is its number, that of the end
// nothing.
json Prediction::ShownData(const PredictionEvent& event) const {
  if (event.data.is_null()) return SnapshotLocked();
  if (!event.data.is_number()) return event.data;
  const size_t index = event.data.get<size_t>();
  return {{"chunk", pieces_[index]}, {"index", index}};
}

}  // namespace idefics
