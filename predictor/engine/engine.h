// SPDX-License-Identifier: Apache-2.0
// Engine: continuous batching. One thread owns the runner, the KV arena and the image table;
// requests join and leave between steps. The contract, rule by rule, is in README.md.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <list>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "predictor/engine/image_table.h"
#include "predictor/engine/kv_extents.h"
#include "predictor/engine/request.h"
#include "predictor/engine/token_search.h"
#include "predictor/model/model_runner.h"

namespace idefics {

struct EngineOptions {
  int max_rows = 8;            // sequences that run at once (beams count each)
  int max_step_tokens = 512;   // prompt tokens in a step without running rows
  int max_joining_tokens = 0;  // the same beside running rows, which they delay; 0: the runner's
  int max_sequence_tokens = 4096;  // prompt + new tokens of one request
};

struct EngineStats {
  int running = 0;
  int waiting = 0;
  int64_t kv_tokens_used = 0;
  int64_t image_hits = 0;
  int64_t image_misses = 0;
  int64_t steps = 0;
  bool broken = false;  // the runner will never run again
  double turn_s = 0;    // since the engine thread began what it does now; 0: it has no work
};

class Engine {
 public:
  Engine(std::unique_ptr<ModelRunner> runner, const EngineOptions& options);
  // Ends running requests with kCanceled and joins the thread.
  ~Engine();
  Engine(const Engine&) = delete;
  Engine& operator=(const Engine&) = delete;

  // Any thread. kInvalidInput or kTooLarge if the request could never run; otherwise it waits for
  // its place in order of arrival, and its last event always comes.
  Result<std::shared_ptr<Generation>> Submit(EngineRequest request);

  // Any thread; takes no lock of the engine thread's.
  EngineStats stats() const;
  const RunnerLimits& limits() const { return limits_; }

 private:
  // A sequence in the arena: one for greedy decoding and sampling, num_beams for beam search.
  struct Row {
    int64_t kv_start = 0;
    int32_t last_token = 0;
  };

  // A request with a place. Its extents and pins are freed in Finish and nowhere else.
  struct Running {
    EngineRequest request;
    std::shared_ptr<Generation> generation;
    std::unique_ptr<TokenSearch> search;
    // One for prompt and new tokens; of several beams: the prompt's, then one for each beam's new
    // tokens.
    std::vector<int64_t> extents;
    std::vector<int32_t> pinned_entries;  // one per image of the request
    std::vector<int32_t> token_entries;   // per prompt token: row of the image table, -1 = none
    std::vector<Row> rows;                // empty until there is a token to decode
    int64_t prompt_done = 0;              // prompt tokens in the arena, with those of started steps
    int64_t length = 0;                   // the same, of all tokens of each row
    size_t reported = 0;                  // new tokens that were pushed as events
    bool runner_chooses = false;          // its tokens; else `search` does, from the logits
    RowChoice choice;                     // of the token that is planned
    int steps_in_flight = 0;              // it is removed at 0 only
    int tokens_in_flight = 0;             // chosen in these steps

    bool shares_prompt() const { return extents.size() > 1; }
    bool finished() const { return extents.empty(); }
  };

  // The picture that is being encoded.
  struct Encoding {
    std::string sha256;
    int32_t entry = -1;
  };

  struct Waiting {
    EngineRequest request;
    std::shared_ptr<Generation> generation;
  };

  // One request's part of a step.
  struct StepPart {
    Running* running;
    size_t rows;
    int64_t prompt_tokens;  // 0: decode rows
    bool wants_tokens;
  };

  struct StepPlan {
    std::vector<StepRow> rows;
    std::vector<StepPart> parts;  // of distinct requests, in row order
  };

  Status CheckRequest(const EngineRequest& request) const;
  bool AllocateExtents(Running& running);
  void FreeExtents(Running& running);
  void Run();
  bool WaitForWork();
  void DropCanceled();
  void AdmitWaiting();
  bool TryAdmit(Waiting& waiting);
  bool PinImages(Running& running);
  void ContinueImages();
  bool HasAllImages(const Running& running) const;
  void TakeStep();
  bool MayStartAhead() const;
  StepPlan Plan();
  void PlanPrompt(Running& running, int64_t* budget, StepPlan* plan);
  void PlanDecode(Running& running, StepPlan* plan);
  void PlanChoice(Running& running, StepRow* row);
  void Start(StepPlan plan);
  void StartInHalves(const StepPlan& plan);
  void NoteStarted(const StepPart& part);
  void CollectOldest();
  void CollectAll();
  void Commit(const std::vector<StepPart>& parts, const StepOutput& output);
  void CommitLogits(Running& running, std::span<const float> logits);
  void CommitToken(Running& running, int32_t token);
  Status MoveRows(Running& running, const SearchStep& step);
  void Report(Running& running, bool finished, const Status& status);
  void Finish(Running& running, const Status& status);
  void RemoveFinished();
  void PublishStats();

  const std::unique_ptr<ModelRunner> runner_;
  const RunnerLimits limits_;
  const EngineOptions options_;

  // Engine thread only.
  KvExtents extents_;
  ImageTable images_;
  std::list<Running> running_;
  Encoding encoding_;
  std::deque<std::vector<StepPart>> in_flight_;  // started steps, the oldest first
  StepOutput output_;                            // reused
  int64_t steps_ = 0;

  std::mutex mutex_;
  std::condition_variable work_;
  std::deque<Waiting> waiting_;  // guarded by mutex_
  bool stopping_ = false;        // guarded by mutex_

  std::atomic<int> stat_running_ = 0;
  std::atomic<int> stat_waiting_ = 0;
  std::atomic<int64_t> stat_kv_tokens_ = 0;
  std::atomic<int64_t> stat_image_hits_ = 0;
  std::atomic<int64_t> stat_image_misses_ = 0;
  std::atomic<int64_t> stat_steps_ = 0;
  std::atomic<bool> stat_broken_ = false;
  std::atomic<Generation::Clock::duration> stat_turn_began_{};  // of the clock's epoch; 0: idle

  std::thread thread_;  // last: starts when everything above exists
};

}  // namespace idefics
