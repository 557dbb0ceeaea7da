// SPDX-License-Identifier: Apache-2.0
// What passes between a caller's thread and the engine thread: a request, handed over at Submit,
// and a RequestHandle, through which its tokens come back. One caller thread and the engine thread
// may use a RequestHandle at the same time.
#pragma once

#include <atomic>
#include <chrono>
#include <deque>
#include <memory>
#include <string>
#include <vector>

#include "common/mutex.h"
#include "predictor/types.h"

namespace idefics {

struct EngineImage {
  std::string sha256;         // of the preprocessed RGB bytes: the key of the image cache
  std::vector<float> pixels;  // [3, S, S] normalised
};

struct EngineRequest {
  std::vector<int32_t> tokens;
  std::vector<int32_t> image_index;  // per token: index into images, -1 = sees none
  std::vector<EngineImage> images;
  SamplingParams sampling;
  std::string client;  // clients have equal shares (README.md#shares)
};

struct TokenEvent {
  int choice = 0;
  std::vector<int32_t> tokens;          // of the choice, new since its last event
  std::vector<TokenLogprobs> logprobs;  // one per token when asked for
  bool prompt_scored = false;           // when asked for, in one event before those of tokens:
  std::vector<TokenLogprobs> prompt_logprobs;  // one per prompt token but the first
  bool choice_finished = false;                // the choice's last event; finish_reason says why
  bool finished = false;  // the request's last event, and that of all its choices
  FinishReason finish_reason = FinishReason::kError;
  Status status;  // of the request's last event
};

class RequestHandle {
 public:
  using Clock = std::chrono::steady_clock;

  // Caller thread. Waits for the next event until `deadline` at most; false: none came.
  bool Next(TokenEvent* event, Clock::time_point deadline) IDEFICS_EXCLUDES(mutex_);
  // Any thread. The engine drops the request at its next step; a last event still comes.
  void Cancel() { canceled_ = true; }
  bool canceled() const { return canceled_; }
  // Any thread. The choice's further tokens are not wanted: the engine drops it at its next step,
  // and pushes no event of it but the request's last.
  void DropChoice(int choice) IDEFICS_EXCLUDES(mutex_);
  // When the engine admitted the request; the clock's epoch before that.
  Clock::time_point admitted_at() const { return admitted_at_.load(); }

  // From when to when images were encoded for it; the epoch: none was.
  Clock::time_point encode_began_at() const { return encode_began_at_.load(); }
  Clock::time_point encode_ended_at() const { return encode_ended_at_.load(); }

  // Prompt tokens whose keys and values were in the arena when the engine admitted the request.
  int64_t cached_tokens() const { return cached_tokens_; }

  // Engine thread.
  void Push(TokenEvent event) IDEFICS_EXCLUDES(mutex_);
  std::vector<int> TakeDroppedChoices() IDEFICS_EXCLUDES(mutex_);  // since the last call
  void set_cached_tokens(int64_t count) { cached_tokens_ = count; }
  void set_admitted_at(Clock::time_point time) { admitted_at_ = time; }
  void NoteEncodeBegin();
  void NoteEncodeEnd() { encode_ended_at_ = Clock::now(); }

 private:
  Mutex mutex_;
  CondVar arrived_;
  std::deque<TokenEvent> events_ IDEFICS_GUARDED_BY(mutex_);
  std::vector<int> dropped_ IDEFICS_GUARDED_BY(mutex_);
  std::atomic<bool> any_dropped_ = false;
  std::atomic<bool> canceled_ = false;
  std::atomic<int64_t> cached_tokens_ = 0;
  std::atomic<Clock::time_point> admitted_at_ = Clock::time_point{};
  std::atomic<Clock::time_point> encode_began_at_ = Clock::time_point{};
  std::atomic<Clock::time_point> encode_ended_at_ = Clock::time_point{};
};

}  // namespace idefics
