// SPDX-License-Identifier: Apache-2.0
// Life of a request: Submit, place, end. The step itself (plan, run, commit) is in engine_step.cc.
#include "predictor/engine/engine.h"

#include <algorithm>

#include "common/check.h"
#include "common/log.h"

namespace idefics {
namespace {

Status ShuttingDown() { return {ErrorCode::kCanceled, "the server is shutting down"}; }

// The last event of a request that never had a place.
void EndUnstarted(Generation* generation, const Status& canceled) {
  TokenEvent event;
  event.finished = true;
  event.finish_reason = FinishReason::kCanceled;
  event.status = canceled;
  generation->Push(std::move(event));
}

}  // namespace

Engine::Engine(std::unique_ptr<ModelRunner> runner, const EngineOptions& options)
    : runner_(std::move(runner)),
      limits_(runner_->limits()),
      options_(options),
      extents_(limits_.kv_tokens),
      images_(limits_.image_entries),
      thread_([this] { Run(); }) {}

Engine::~Engine() {
  {
    std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  work_.notify_all();
  thread_.join();
}

Status Engine::CheckRequest(const EngineRequest& request) const {
  const SamplingParams& sampling = request.sampling;
  RETURN_IF_ERROR(CheckSampling(sampling, limits_.vocab_size));
  IDEFICS_CHECK(!request.tokens.empty());
  IDEFICS_CHECK_EQ(request.tokens.size(), request.image_index.size());
  const auto prompt = static_cast<int64_t>(request.tokens.size());
  const int64_t total = prompt + sampling.max_new_tokens;
  if (total > options_.max_sequence_tokens) {
    return Status::TooLarge("the prompt has " + std::to_string(prompt) +
                            " tokens and max_new_tokens is " +
                            std::to_string(sampling.max_new_tokens) + ", together the limit is " +
                            std::to_string(options_.max_sequence_tokens) +
                            " (--max-sequence-tokens): shorten the prompt or ask for fewer tokens");
  }
  const int64_t slots = prompt + int64_t{sampling.max_new_tokens} * sampling.num_beams;
  if (slots > limits_.kv_tokens) {
    return Status::TooLarge("the request needs " + std::to_string(slots) +
                            " tokens of KV cache, there are " + std::to_string(limits_.kv_tokens) +
                            " (--kv-tokens): shorten it or use fewer beams");
  }
  if (sampling.num_beams > options_.max_rows) {
    return Status::TooLarge("num_beams is " + std::to_string(sampling.num_beams) +
                            ", the limit is " + std::to_string(options_.max_rows) +
                            " (--max-batch)");
  }
  if (request.images.size() > static_cast<size_t>(limits_.image_entries)) {
    return Status::TooLarge("the prompt has " + std::to_string(request.images.size()) +
                            " images, the limit is " + std::to_string(limits_.image_entries) +
                            " (--image-entries)");
  }
  return Status::Ok();
}

Result<std::shared_ptr<Generation>> Engine::Submit(EngineRequest request) {
  RETURN_IF_ERROR(CheckRequest(request));
  auto generation = std::make_shared<Generation>();
  {
    std::lock_guard lock(mutex_);
    if (stopping_) return Status(ErrorCode::kNotReady, "the server is shutting down");
    waiting_.push_back({std::move(request), generation});
    stat_waiting_ = static_cast<int>(waiting_.size());
  }
  work_.notify_one();
  return generation;
}

EngineStats Engine::stats() const {
  const Generation::Clock::duration began = stat_turn_began_;
  const std::chrono::duration<double> turn = Generation::Clock::now().time_since_epoch() - began;
  return {
      stat_running_,      stat_waiting_, stat_kv_tokens_, stat_image_hits_,
      stat_image_misses_, stat_steps_,   stat_broken_,    began.count() == 0 ? 0 : turn.count()};
}

void Engine::PublishStats() {
  stat_running_ =
      static_cast<int>(std::count_if(running_.begin(), running_.end(),
                                     [](const Running& running) { return !running.finished(); }));
  stat_kv_tokens_ = extents_.used();
  stat_image_hits_ = images_.hits();
  stat_image_misses_ = images_.misses();
  stat_steps_ = steps_;
  stat_broken_ = runner_->broken();
}

void Engine::Run() {
  while (WaitForWork()) {
    DropCanceled();
    AdmitWaiting();
    ContinueImages();
    TakeStep();
    RemoveFinished();
    PublishStats();
  }
  for (Running& running : running_) {
    Finish(running, ShuttingDown());
  }
  CollectAll();
  RemoveFinished();
}

// False once the engine stops; the requests still waiting have then had their last event.
bool Engine::WaitForWork() {
  std::unique_lock lock(mutex_);
  stat_turn_began_ = Generation::Clock::duration(0);
  work_.wait(lock, [&] { return stopping_ || !waiting_.empty() || !running_.empty(); });
  stat_turn_began_ = Generation::Clock::now().time_since_epoch();
  if (!stopping_) return true;
  for (Waiting& waiting : waiting_) {
    EndUnstarted(waiting.generation.get(), ShuttingDown());
  }
  waiting_.clear();
  return false;
}

void Engine::DropCanceled() {
  const Status canceled(ErrorCode::kCanceled, "canceled");
  for (Running& running : running_) {
    if (running.generation->canceled()) Finish(running, canceled);
  }
  RemoveFinished();
  std::lock_guard lock(mutex_);
  std::erase_if(waiting_, [&](Waiting& waiting) {
    if (!waiting.generation->canceled()) return false;
    EndUnstarted(waiting.generation.get(), canceled);
    return true;
  });
}

// In order of arrival: a large request at the front is not overtaken, so it cannot starve.
void Engine::AdmitWaiting() {
  while (true) {
    Waiting next;
    {
      std::lock_guard lock(mutex_);
      stat_waiting_ = static_cast<int>(waiting_.size());
      if (waiting_.empty()) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    if (!TryAdmit(next)) {
      std::lock_guard lock(mutex_);
      waiting_.push_front(std::move(next));
      stat_waiting_ = static_cast<int>(waiting_.size());
      return;
    }
  }
}

// All or nothing: rows, KV extents and image pins.
bool Engine::TryAdmit(Waiting& waiting) {
  int rows = waiting.request.sampling.num_beams;
  for (const Running& running : running_) {
    if (!running.finished()) rows += running.request.sampling.num_beams;
  }
  if (rows > options_.max_rows) return false;
  Running running;
  running.request = std::move(waiting.request);
  if (!AllocateExtents(running) || !PinImages(running)) {
    FreeExtents(running);
    waiting.request = std::move(running.request);
    return false;
  }
  running.generation = waiting.generation;
  running.search = MakeTokenSearch(running.request.sampling, running.request.tokens);
  running.runner_chooses = limits_.chooses_tokens && running.search->has_choices();
  running.generation->set_admitted_at(Generation::Clock::now());
  for (const int32_t image : running.request.image_index) {
    running.token_entries.push_back(image < 0 ? -1 : running.pinned_entries.at(image));
  }
  running_.push_back(std::move(running));
  return true;
}

// All that the request will ever need, or false; the caller frees what was had then.
bool Engine::AllocateExtents(Running& running) {
  const SamplingParams& sampling = running.request.sampling;
  const auto prompt = static_cast<int64_t>(running.request.tokens.size());
  std::vector<int64_t> sizes{prompt + sampling.max_new_tokens};
  if (sampling.num_beams > 1) {
    sizes.assign(sampling.num_beams + 1, sampling.max_new_tokens);
    sizes.front() = prompt;
  }
  for (const int64_t size : sizes) {
    const auto start = extents_.Allocate(size);
    if (!start) return false;
    running.extents.push_back(*start);
  }
  return true;
}

void Engine::FreeExtents(Running& running) {
  for (const int64_t extent : running.extents) extents_.Free(extent);
  running.extents.clear();
}

bool Engine::PinImages(Running& running) {
  for (const EngineImage& image : running.request.images) {
    const auto entry = images_.Pin(image.sha256);
    if (!entry) {
      for (const int32_t pinned : running.pinned_entries) images_.Unpin(pinned);
      running.pinned_entries.clear();
      return false;
    }
    running.pinned_entries.push_back(*entry);
  }
  return true;
}

bool Engine::HasAllImages(const Running& running) const {
  return std::all_of(running.pinned_entries.begin(), running.pinned_entries.end(),
                     [&](int32_t entry) { return images_.encoded(entry); });
}

// Of the first picture that somebody waits for, in order of arrival.
void Engine::ContinueImages() {
  const bool wait = in_flight_.empty() &&
                    std::none_of(running_.begin(), running_.end(), [&](const Running& running) {
                      return !running.finished() && HasAllImages(running);
                    });
  for (Running& running : running_) {
    if (running.finished()) continue;
    for (size_t i = 0; i < running.request.images.size(); ++i) {
      const int32_t entry = running.pinned_entries[i];
      if (images_.encoded(entry)) continue;
      const EngineImage& image = running.request.images[i];
      Status status;
      if (encoding_.entry != entry || encoding_.sha256 != image.sha256) {
        encoding_ = {image.sha256, entry};
        status = runner_->BeginImage(image.pixels, entry);
      }
      const Result<bool> done = status.ok() ? runner_->ContinueImage(wait) : status;
      if (done.ok() && !*done) return;
      encoding_ = {};
      images_.SetEncoded(entry, done.ok());
      if (!done.ok()) Finish(running, done.status());
      return;
    }
    running.request.images.clear();  // the pixels are of no more use
  }
}

void Engine::Finish(Running& running, const Status& status) {
  if (running.finished()) return;  // before, and not removed yet
  FreeExtents(running);
  for (const int32_t entry : running.pinned_entries) images_.Unpin(entry);
  running.pinned_entries.clear();
  running.rows.clear();
  PublishStats();  // the place is free before anybody hears of the end
  Report(running, /*finished=*/true, status);
}

// A step that was started ahead may still run with it: into slots that the next owner writes later.
void Engine::RemoveFinished() {
  running_.remove_if(
      [](const Running& running) { return running.finished() && running.steps_in_flight == 0; });
}

void Engine::Report(Running& running, bool finished, const Status& status) {
  TokenEvent event;
  const auto& tokens = running.search->new_tokens();
  const auto& logprobs = running.search->logprobs();
  if (finished || running.search->streams()) {
    const auto from = static_cast<ptrdiff_t>(running.reported);
    event.tokens.assign(tokens.begin() + from, tokens.end());
    if (!logprobs.empty()) event.logprobs.assign(logprobs.begin() + from, logprobs.end());
    running.reported = tokens.size();
  }
  event.finished = finished;
  event.status = status;
  if (status.ok()) {
    event.finish_reason = running.search->finish_reason();
  } else if (status.code() == ErrorCode::kCanceled) {
    event.finish_reason = FinishReason::kCanceled;
  }
  if (finished || !event.tokens.empty()) running.generation->Push(std::move(event));
}

}  // namespace idefics
