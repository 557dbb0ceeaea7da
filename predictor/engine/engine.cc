// SPDX-License-Identifier: Apache-2.0
// The life of a request: Submit, admission, end. What it holds meanwhile is in engine_memory.cc,
// steps in engine_step.cc and engine_commit.cc.
#include "predictor/engine/engine.h"

#include <algorithm>
#include <numeric>

#include "common/caught.h"
#include "common/check.h"
#include "common/log.h"

namespace idefics {
namespace {

Status Failed() { return Status::Internal("the engine ended in an exception; restart the server"); }

EngineOptions Resolve(EngineOptions options, const RunnerLimits& limits) {
  if (options.max_num_seqs == 0) options.max_num_seqs = limits.max_num_seqs;
  if (!options.prefix_cache) options.prefix_cache = limits.exact_steps;
  if (options.max_prefill_chunk == 0) options.max_prefill_chunk = limits.max_prefill_chunk;
  return options;
}

Status ShuttingDown() { return {ErrorCode::kCanceled, "the server is shutting down"}; }

// Pushes the last event of a request that was never admitted.
void EndUnstarted(RequestHandle* handle, const Status& canceled) {
  TokenEvent event;
  event.finished = true;
  event.finish_reason = FinishReason::kCanceled;
  event.status = canceled;
  handle->Push(std::move(event));
}

void NoteToken(ActiveRequest& active, EngineMeters& meters) {
  const auto now = RequestHandle::Clock::now();
  const auto before = std::exchange(active.last_token_at, now);
  if (before == RequestHandle::Clock::time_point{}) {
    return meters.prompt_tokens.Add(active.request.tokens.size());
  }
  const std::chrono::duration<double> between = now - before;
  meters.inter_token_s.Observe(between.count());
}

}  // namespace

Engine::Engine(std::unique_ptr<ModelRunner> runner, const EngineOptions& options)
    : runner_(std::move(runner)),
      limits_(runner_->limits()),
      options_(Resolve(options, limits_)),
      extents_(limits_.kv_tokens),
      images_(limits_.image_cache_slots),
      thread_([this] { Run(); }) {}

Engine::~Engine() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  work_.NotifyAll();
  thread_.join();
}

Status Engine::CheckRequest(const EngineRequest& request) const {
  const SamplingParams& sampling = request.sampling;
  RETURN_IF_ERROR(CheckSampling(sampling, limits_.vocab_size));
  if (sampling.num_choices > 1 && sampling.num_beams > 1) {
    return Status::InvalidInput("num_beams is " + std::to_string(sampling.num_beams) +
                                ", beam search has one choice");
  }
  IDEFICS_CHECK(!request.tokens.empty());
  IDEFICS_CHECK_EQ(request.tokens.size(), request.image_index.size());
  const auto prompt = static_cast<int64_t>(request.tokens.size());
  const int64_t total = prompt + sampling.max_new_tokens;
  if (total > options_.max_sequence_tokens) {
    return Status::PromptTooLong(
        "the prompt has " + std::to_string(prompt) + " tokens and max_new_tokens is " +
        std::to_string(sampling.max_new_tokens) + ", together the limit is " +
        std::to_string(options_.max_sequence_tokens) +
        " (--max-sequence-tokens): shorten the prompt or ask for fewer tokens");
  }
  const std::vector<int64_t> sizes = ExtentSizes(request);
  const int64_t slots = std::accumulate(sizes.begin(), sizes.end(), int64_t{0});
  if (slots > limits_.kv_tokens) {
    return Status::PromptTooLong(
        "the request needs " + std::to_string(slots) + " tokens of KV cache, there are " +
        std::to_string(limits_.kv_tokens) + " (--kv-tokens): shorten it or use fewer " +
        (sampling.num_choices > 1 ? "choices" : "beams"));
  }
  if (const int places = NumPlaces(sampling); places > options_.max_num_seqs) {
    return Status::TooLarge((sampling.num_choices > 1 ? "num_choices is " : "num_beams is ") +
                            std::to_string(places) + ", the limit is " +
                            std::to_string(options_.max_num_seqs) + " (--max-num-seqs)");
  }
  return Status::Ok();
}

Result<std::shared_ptr<RequestHandle>> Engine::Submit(EngineRequest request) {
  // Each step looks at all of them, and plans for as many.
  std::vector<int32_t>& ends = request.sampling.eos_token_ids;
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  RETURN_IF_ERROR(CheckRequest(request));
  auto handle = std::make_shared<RequestHandle>();
  {
    MutexLock lock(mutex_);
    if (stopping_) return Status(ErrorCode::kNotReady, "the server is shutting down");
    if (failed_) return Failed();
    const std::string client = request.client;
    waiting_.Push(client, {std::move(request), handle});
    stat_waiting_ = static_cast<int>(waiting_.size());
  }
  work_.NotifyOne();
  return handle;
}

EngineStats Engine::stats() const {
  const RequestHandle::Clock::duration began = stat_turn_began_;
  const std::chrono::duration<double> turn = RequestHandle::Clock::now().time_since_epoch() - began;
  EngineStats stats;
  stats.running = stat_running_;
  stats.waiting = stat_waiting_;
  stats.kv_tokens_used = stat_kv_tokens_;
  stats.kv_tokens_cached = stat_kv_cached_;
  stats.prefix_tokens = stat_prefix_tokens_;
  stats.image_hits = stat_image_hits_;
  stats.image_misses = stat_image_misses_;
  stats.steps = stat_steps_;
  stats.guesses_right = stat_guesses_right_;
  stats.preemptions = stat_preemptions_;
  stats.broken = stat_broken_;
  stats.turn_s = began.count() == 0 ? 0 : turn.count();
  return stats;
}

void Engine::PublishStats() {
  stat_running_ = static_cast<int>(
      std::count_if(active_.begin(), active_.end(),
                    [](const ActiveRequest& active) { return !active.finished(); }));
  stat_kv_tokens_ = extents_.used() - cached_.tokens();
  stat_kv_cached_ = cached_.tokens();
  stat_image_hits_ = images_.hits();
  stat_image_misses_ = images_.misses();
  meters_.images_pinned = images_.num_pinned();
  meters_.images_cached = images_.num_cached();
  stat_steps_ = steps_;
  stat_guesses_right_ = guesses_right_;
  stat_preemptions_ = preemptions_;
  stat_prefix_tokens_ = prefix_tokens_;
  stat_broken_ = runner_->broken();
}

void Engine::Run() {
  try {
    Work();
  } catch (...) {
    LogCaught("The engine");
    Abandon();
  }
}

// Nothing is known of what was going on: every request ends, and none is run any more.
void Engine::Abandon() {
  stat_broken_ = true;  // this and the rest before anybody hears of the end
  stat_running_ = 0;
  stat_turn_began_ = RequestHandle::Clock::duration(0);
  {
    MutexLock lock(mutex_);
    failed_ = true;
    stat_waiting_ = 0;
  }
  for (const ActiveRequest& active : active_) {
    if (!active.finished()) EndUnstarted(active.handle.get(), Failed());
  }
  EndAllWaiting(Failed());
}

void Engine::EndAllWaiting(const Status& why) {
  const MutexLock lock(mutex_);
  stat_waiting_ = 0;
  for (const WaitingRequest& waiting : waiting_.TakeIf([](const auto&) { return true; })) {
    EndUnstarted(waiting.handle.get(), why);
  }
}

void Engine::Work() {
  while (WaitForWork()) {
    DropCanceled();
    AdmitWaiting();
    ContinueImages();
    TakeStep();
    RemoveFinished();
    PublishStats();
  }
  for (ActiveRequest& active : active_) {
    Finish(active, ShuttingDown());
  }
  CollectAll();
  RemoveFinished();
}

// False once the engine stops; requests that were still waiting have then had their last event.
bool Engine::WaitForWork() {
  {
    MutexLock lock(mutex_);
    stat_turn_began_ = RequestHandle::Clock::duration(0);
    work_.Wait(lock, [this]() IDEFICS_REQUIRES(mutex_) {
      return stopping_ || !waiting_.empty() || !active_.empty();
    });
    stat_turn_began_ = RequestHandle::Clock::now().time_since_epoch();
    if (!stopping_) return true;
  }
  EndAllWaiting(ShuttingDown());
  return false;
}

void Engine::DropCanceled() {
  const Status canceled(ErrorCode::kCanceled, "canceled");
  for (ActiveRequest& active : active_) {
    if (active.handle->canceled()) Finish(active, canceled);
    for (const int choice : active.handle->TakeDroppedChoices()) {
      if (!active.finished() && EndChoice(active, choice)) Finish(active, Status::Ok());
    }
  }
  RemoveFinished();
  const MutexLock lock(mutex_);
  const auto dropped =
      waiting_.TakeIf([](const WaitingRequest& waiting) { return waiting.handle->canceled(); });
  stat_waiting_ = static_cast<int>(waiting_.size());  // before anybody hears of the end
  for (const WaitingRequest& waiting : dropped) EndUnstarted(waiting.handle.get(), canceled);
}

// The clients have turns (FairQueue). Who is next and too large for what is free is not overtaken,
// so it cannot starve. Those that were preempted came before all that wait.
void Engine::AdmitWaiting() {
  for (ActiveRequest& active : active_) {
    if (active.preempted() && !Reserve(active)) return;
  }
  while (true) {
    FairQueue<WaitingRequest>::Taken next;
    {
      const MutexLock lock(mutex_);
      stat_waiting_ = static_cast<int>(waiting_.size());
      if (waiting_.empty()) return;
      std::map<std::string, int> places = PlacesOfClients();
      next = waiting_.Take([&](const std::string& client) { return places[client]; });
    }
    bool admitted = false;
    try {
      admitted = TryAdmit(next.item);
    } catch (...) {  // it is in neither list
      EndUnstarted(next.item.handle.get(), Failed());
      throw;
    }
    if (!admitted) {
      const MutexLock lock(mutex_);
      waiting_.PutBack(std::move(next));
      stat_waiting_ = static_cast<int>(waiting_.size());
      return;
    }
  }
}

std::map<std::string, int> Engine::PlacesOfClients() const {
  std::map<std::string, int> places;
  for (const ActiveRequest& active : active_) places[active.request.client] += active.num_places();
  return places;
}

bool Engine::TryAdmit(WaitingRequest& waiting) {
  int places = NumPlaces(waiting.request.sampling);
  for (const ActiveRequest& active : active_) places += active.num_places();
  if (places > options_.max_num_seqs) return false;
  const auto prompt = static_cast<int64_t>(waiting.request.tokens.size());
  const int64_t max_tokens = prompt + waiting.request.sampling.max_new_tokens;
  if (!HasRoom(LeastSizes(waiting.request, max_tokens))) return false;  // before it costs anything
  ActiveRequest active;
  active.request = std::move(waiting.request);
  active.Begin(limits_.samples_on_device);
  if (!Reserve(active)) {
    waiting.request = std::move(active.request);
    return false;
  }
  active.handle = waiting.handle;
  active.handle->set_cached_tokens(active.prompt_done);
  active.handle->set_admitted_at(RequestHandle::Clock::now());
  active_.push_back(std::move(active));
  return true;
}

// Frees the place of a choice. True: it was the last one.
bool Engine::EndChoice(ActiveRequest& active, int choice) {
  if (!active.has_choices()) return true;
  Sequence& sequence = active.sequences.at(choice);
  if (!sequence.ended) {
    sequence.ended = true;
    extents_.Free(sequence.kv_start);
    active.extents[choice + 1] = kFreedExtent;
  }
  return std::all_of(active.sequences.begin(), active.sequences.end(),
                     [](const Sequence& other) { return other.ended; });
}

void Engine::Finish(ActiveRequest& active, const Status& status) {
  if (active.finished()) return;  // earlier; not removed yet
  if (status.ok() || status.code() == ErrorCode::kCanceled) KeepPrefix(active);
  Release(active);
  active.ended = true;
  active.sequences.clear();
  if (status.ok()) NoteToken(active, meters_);
  PublishStats();  // everything is free before anybody hears of the end
  // At most one choice has tokens that were not reported: the one that ends the request.
  int index = 0;
  for (size_t i = 0; i < active.choices.size(); ++i) {
    const ActiveChoice& choice = active.choices[i];
    if (choice.search->new_tokens().size() > choice.reported) index = static_cast<int>(i);
  }
  TokenEvent event = active.choices[index].TakeNewTokens(index);
  meters_.generation_tokens.Add(event.tokens.size());
  event.finished = true;
  event.status = status;
  if (status.ok()) {
    event.choice_finished = true;
    event.finish_reason = active.choices[index].search->finish_reason();
  } else if (status.code() == ErrorCode::kCanceled) {
    event.finish_reason = FinishReason::kCanceled;
  }
  active.handle->Push(std::move(event));
}

// A request with steps in flight stays: they still write to its slots, before the next owner does.
void Engine::RemoveFinished() {
  FollowLeaders();
  active_.remove_if(
      [](const ActiveRequest& active) { return active.finished() && active.steps_in_flight == 0; });
}

// Shows the new tokens of a choice while the request goes on.
void Engine::Report(ActiveRequest& active, int choice) {
  NoteToken(active, meters_);
  const TokenSearch& search = *active.choices[choice].search;
  if (!search.streams()) return;
  TokenEvent event = active.choices[choice].TakeNewTokens(choice);
  meters_.generation_tokens.Add(event.tokens.size());
  event.choice_finished = search.finished();
  if (search.finished()) event.finish_reason = search.finish_reason();
  active.handle->Push(std::move(event));
}

}  // namespace idefics
