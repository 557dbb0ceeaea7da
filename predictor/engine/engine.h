// SPDX-License-Identifier: Apache-2.0
// Engine: continuous batching. One thread owns the runner, the KV arena and the image cache;
// requests join and leave between steps. README.md has the contract, rule by rule.
#pragma once

#include <atomic>
#include <deque>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <thread>
#include <vector>

#include "common/fair_queue.h"
#include "common/mutex.h"
#include "common/turns.h"
#include "predictor/engine/active_request.h"
#include "predictor/engine/engine_meters.h"
#include "predictor/engine/engine_options.h"
#include "predictor/engine/image_cache.h"
#include "predictor/engine/kv_extents.h"
#include "predictor/engine/prefix_cache.h"
#include "predictor/model/model_runner.h"

namespace idefics {

class Engine {
 public:
  Engine(std::unique_ptr<ModelRunner> runner, const EngineOptions& options);
  // Ends running requests with kCanceled and joins the thread.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Any thread. kInvalidInput or kTooLarge if the request could never run; otherwise it is admitted
  // when its client has its turn, and its last event always comes.
  Result<std::shared_ptr<RequestHandle>> Submit(EngineRequest request) IDEFICS_EXCLUDES(mutex_);

  // Any thread; takes no lock.
  EngineStats stats() const;
  const EngineMeters& meters() const { return meters_; }
  const RunnerLimits& limits() const { return limits_; }
  const EngineOptions& options() const { return options_; }

 private:
  // An image that is being encoded.
  struct Encoding {
    std::string sha256;
    int32_t slot = -1;
  };

  struct WaitingRequest {
    EngineRequest request;
    std::shared_ptr<RequestHandle> handle;
  };

  // An image of a request that has a slot and is not encoded.
  struct WantedImage {
    ActiveRequest* active;
    size_t index;

    const EngineImage& image() const { return active->request.images[index]; }
    int32_t slot() const { return active->images[index].slot; }
  };

  // One request's part of a step.
  struct StepPart {
    ActiveRequest* active;
    size_t rows;
    int64_t prompt_tokens;     // 0: decode rows
    size_t num_logits;         // tokens of its rows after which logits, or samples, are wanted
    std::vector<int> choices;  // of each decode row, where the request has several
  };

  struct StepPlan {
    std::vector<StepRow> rows;
    std::vector<StepPart> parts;  // of distinct requests, in row order
    RequestHandle::Clock::time_point began{};
  };

  Status CheckRequest(const EngineRequest& request) const;
  void Run();
  void Work();
  void Abandon() IDEFICS_EXCLUDES(mutex_);
  void EndAllWaiting(const Status& why) IDEFICS_EXCLUDES(mutex_);
  bool WaitForWork() IDEFICS_EXCLUDES(mutex_);
  void DropCanceled() IDEFICS_EXCLUDES(mutex_);
  void AdmitWaiting() IDEFICS_EXCLUDES(mutex_);
  std::map<std::string, int> PlacesOfClients() const;
  bool TryAdmit(WaitingRequest& waiting);
  std::vector<int64_t> FirstSizes(const EngineRequest& request, int64_t max_tokens) const;
  std::vector<int64_t> LeastSizes(const EngineRequest& request, int64_t max_tokens) const;
  bool HasRoom(const std::vector<int64_t>& sizes) const;
  bool Reserve(ActiveRequest& active);
  bool ReserveWith(ActiveRequest& active, Reuse reuse, bool shares);
  Reuse FindReuse(const ActiveRequest& active);
  bool AllocateExtents(ActiveRequest& active, Reuse* reuse);
  bool CanShare(const ActiveRequest& active, const Reuse& reuse) const;
  bool HasRoomToShare(const ActiveRequest& active, const Reuse& reuse) const;
  bool AllocateShared(ActiveRequest& active, const Reuse& reuse);
  void LendPrefix(ActiveRequest& active, int64_t tokens);
  void ReturnPrefix(ActiveRequest& active);
  std::optional<int64_t> GatherPrefix(const ActiveRequest& active);
  Status CopyReused(const Reuse& reuse, int64_t begin, const ActiveRequest& to);
  void KeepPrefix(ActiveRequest& active);
  void FindLeader(ActiveRequest& active);
  void FollowLeaders();
  void TakeFound(ActiveRequest& active);
  int64_t GrowthReserve() const;
  void Release(ActiveRequest& active);
  void MakeRoom();
  bool NeedsRoom(const ActiveRequest& active) const;
  bool Grow(ActiveRequest& active);
  void Move(ActiveRequest& active, int64_t to);
  void PreemptYoungest();
  bool PinImages(ActiveRequest& active);
  void UnpinImages(ActiveRequest& active);
  void ContinueImages();
  std::vector<WantedImage> BegunImages(const std::vector<WantedImage>& wanted) const;
  std::vector<WantedImage> NextImages(std::vector<WantedImage> wanted);
  WantedImage NextImage(const std::vector<WantedImage>& wanted);
  Status BeginImages(const std::vector<WantedImage>& batch);
  void EncodePart(const std::vector<WantedImage>& batch, bool begin, bool wait);
  int64_t ReadyTokens(const ActiveRequest& active) const;
  void TakeStep();
  bool CanScheduleAsync() const;
  StepPlan Plan();
  void StartChoices(ActiveRequest& active) const;
  void PlanPrompts(int64_t budget, StepPlan* plan);
  int64_t TokensToRun(const ActiveRequest& active) const;
  void PlanPrompt(ActiveRequest& active, int64_t count, StepPlan* plan);
  void PlanDecode(ActiveRequest& active, StepPlan* plan);
  bool MayGuess(const ActiveRequest& active) const;
  void PlanGuesses(ActiveRequest& active, StepRow* row) const;
  void PlanSampling(ActiveRequest& active, size_t choice, StepRow* row);
  void Start(StepPlan plan);
  void StartInHalves(const StepPlan& plan);
  void NoteStarted(const StepPart& part);
  void CollectOldest();
  static void NoteComputed(const StepPart& part);
  void CollectAll();
  void Commit(const std::vector<StepPart>& parts, const StepOutput& output);
  void CommitPrompt(ActiveRequest& active, std::span<const float> logits);
  void CommitLogits(ActiveRequest& active, std::span<const float> logits);
  void CommitGuesses(ActiveRequest& active, std::span<const float> logits);
  void CommitChoiceLogits(ActiveRequest& active, const std::vector<int>& choices,
                          std::span<const float> logits);
  void CommitToken(ActiveRequest& active, int choice, int32_t token);
  void CommitChoice(ActiveRequest& active, int choice);
  bool EndChoice(ActiveRequest& active, int choice);
  Status ReorderSequences(ActiveRequest& active, const SearchStep& step);
  void Report(ActiveRequest& active, int choice);
  void Finish(ActiveRequest& active, const Status& status);
  void RemoveFinished();
  void PublishStats();

  const std::unique_ptr<ModelRunner> runner_;
  const RunnerLimits limits_;
  const EngineOptions options_;

  // Engine thread only.
  KvExtents extents_;
  PrefixCache cached_{&extents_};
  ImageCache images_;
  std::list<ActiveRequest> active_;
  std::vector<Encoding> encoding_;  // together
  size_t images_alone_ = 0;         // the next ones are encoded one by one: a batch of them failed
  Turns image_turns_;               // of clients that want an image
  std::deque<StepPlan> in_flight_;  // started steps, the oldest first
  StepOutput output_;               // reused
  EngineMeters meters_;             // others only read it
  int64_t steps_ = 0;
  int64_t preemptions_ = 0;
  int64_t prefix_tokens_ = 0;
  int64_t guesses_right_ = 0;

  Mutex mutex_;
  CondVar work_;
  FairQueue<WaitingRequest> waiting_ IDEFICS_GUARDED_BY(mutex_);
  bool stopping_ IDEFICS_GUARDED_BY(mutex_) = false;
  bool failed_ IDEFICS_GUARDED_BY(mutex_) = false;

  std::atomic<int> stat_running_ = 0;
  std::atomic<int> stat_waiting_ = 0;
  std::atomic<int64_t> stat_kv_tokens_ = 0;
  std::atomic<int64_t> stat_prefix_tokens_ = 0;
  std::atomic<int64_t> stat_kv_cached_ = 0;
  std::atomic<int64_t> stat_image_hits_ = 0;
  std::atomic<int64_t> stat_image_misses_ = 0;
  std::atomic<int64_t> stat_steps_ = 0;
  std::atomic<int64_t> stat_preemptions_ = 0;
  std::atomic<int64_t> stat_guesses_right_ = 0;
  std::atomic<bool> stat_broken_ = false;
  std::atomic<RequestHandle::Clock::duration> stat_turn_began_{};  // since its epoch; 0: idle

  std::thread thread_;  // last: starts when everything above exists
};

}  // namespace idefics
