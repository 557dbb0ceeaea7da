// SPDX-License-Identifier: Apache-2.0
// The engine on the toy runner with random requests, cancels and failures, all of them at steps
// that the input names, so that an input always does the same. Each accepted request has one last
// event; its tokens are those that it gets alone, or the first of them where it did not come to its
// end; no step writes a KV slot twice; nothing is held once all have ended.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <set>
#include <span>
#include <stdexcept>
#include <vector>

#include "common/check.h"
#include "common/log.h"
#include "tests/engine/engine_fixture.h"

namespace idefics {

// Instead of common/log.cc's: the lines about failures would be most of an execution.
void Log(LogLevel, std::string_view) {}

namespace {

constexpr size_t kMaxOperations = 24;

// Bytes of the input, zeros behind its end.
class Input {
 public:
  explicit Input(std::span<const uint8_t> bytes) : bytes_(bytes) {}
  bool empty() const { return bytes_.empty(); }
  // At least `low` and at most `high`.
  int Number(int low, int high) {
    if (bytes_.empty()) return low;
    const int byte = bytes_.front();
    bytes_ = bytes_.subspan(1);
    return low + byte % (high - low + 1);
  }

 private:
  std::span<const uint8_t> bytes_;
};

struct Operation {
  int steps = 0;  // after the operation before
  int kind = 0;   // 0: cancel `which`; others: submit `request`
  size_t which = 0;
  EngineRequest request;
};

EngineRequest ReadRequest(Input& input) {
  const int seed = input.Number(0, 15);
  const int length = input.Number(1, 24);
  EngineRequest request = ToyRequest(seed, length, input.Number(1, 30), input.Number(-1, 4));
  if (!request.images.empty() && input.Number(0, 3) == 0) {
    request.images.push_back(ToyImage(5));
    for (int32_t& index : request.image_index) index = std::max(index, 0);
    request.image_index.back() = 1;
  }
  SamplingParams& sampling = request.sampling;
  switch (input.Number(0, 5)) {
    case 0:
      sampling.num_beams = input.Number(2, 5);
      sampling.length_penalty = input.Number(-2, 2);
      sampling.early_stopping = static_cast<EarlyStopping>(input.Number(0, 2));
      break;
    case 1:
      sampling.do_sample = true;
      sampling.seed = input.Number(0, 9);
      sampling.num_choices = input.Number(1, 3);
      sampling.top_k = input.Number(0, 8);
      sampling.top_p = input.Number(1, 10) / 10.0;
      break;
    case 2:
      sampling.no_repeat_ngram_size = input.Number(0, 3);
      sampling.bad_words_ids = {{input.Number(0, kToyVocab - 1)}, {3, input.Number(0, 9)}};
      break;
    case 3:
      sampling.min_new_tokens = input.Number(0, 10);
      sampling.repetition_penalty = input.Number(1, 20) / 10.0;
      sampling.num_logprobs = input.Number(0, 3);
      break;
    case 4:  // few tokens: it repeats itself
      for (int32_t token = 0; token < kToyVocab; ++token) {
        if (token % 16 != 7) sampling.logit_bias.emplace_back(token, -100.0F);
      }
      break;
    default:
      break;
  }
  return request;
}

// One engine and what is done to it. Operations run on the engine's thread at the start of a step,
// or on the caller's while the engine has nothing to do.
class Session {
 public:
  explicit Session(Input& input) : options_(ReadOptions(input)), toy_(options_, ReadLimits(input)) {
    for (int count = input.Number(0, 3); count > 0; --count) {
      faults_[input.Number(1, 30)] = input.Number(0, 4);
    }
    while (!input.empty() && operations_.size() < kMaxOperations) {
      Operation& next = operations_.emplace_back();
      next.steps = input.Number(0, 6);
      next.kind = input.Number(0, 3);
      next.which = input.Number(0, 15);
      if (next.kind != 0) next.request = ReadRequest(input);
    }
    toy_.runner->set_observer([this](std::span<const StepRow> rows) { OnStep(rows); });
    toy_.runner->set_fault([this](int64_t step) { return Fault(static_cast<int>(step), false); });
    toy_.runner->set_late_fault(
        [this](int64_t step) { return Fault(static_cast<int>(step), true); });
    toy_.runner->set_image_fault([this](int32_t) {
      ++image_parts_;
      return FaultOf(-image_parts_);
    });
  }

  void Run() {
    for (size_t i = 0;; ++i) {
      const std::optional<Submitted> next = Nth(i);
      if (!next) return CheckIdle();
      CheckEnd(*next);
    }
  }

 private:
  struct Submitted {
    std::shared_ptr<RequestHandle> handle;
    EngineRequest request;
  };

  static EngineOptions ReadOptions(Input& input) {
    EngineOptions options;
    options.max_num_seqs = input.Number(1, 5);
    options.max_num_batched_tokens = input.Number(1, 16);
    options.max_prefill_chunk = input.Number(0, 8);
    options.max_sequence_tokens = input.Number(8, 60);
    options.kv_growth = input.Number(1, 16);
    options.prefix_cache = input.Number(0, 3) > 0;
    options.speculation = input.Number(0, 3) > 0;
    return options;
  }

  static RunnerLimits ReadLimits(Input& input) {
    RunnerLimits limits = ToyLimits(/*samples_on_device=*/input.Number(0, 1) == 1);
    limits.kv_tokens = input.Number(8, 100);
    limits.image_cache_slots = input.Number(1, 3);
    limits.max_image_batch = input.Number(1, 3);
    return limits;
  }

  // The i-th accepted request; does what is left to do where there is none yet.
  std::optional<Submitted> Nth(size_t i) {
    const std::lock_guard lock(mutex_);
    while (submitted_.size() <= i && next_ < operations_.size()) Do(operations_[next_++]);
    if (submitted_.size() <= i) return std::nullopt;
    return submitted_[i];
  }

  void Do(const Operation& operation) {
    steps_since_ = 0;
    if (operation.kind == 0) {
      if (operation.which < submitted_.size()) submitted_[operation.which].handle->Cancel();
      return;
    }
    auto handle = toy_.engine->Submit(operation.request);
    if (handle.ok()) return submitted_.push_back({*handle, operation.request});
    IDEFICS_CHECK(!handle.status().message().empty());
  }

  void OnStep(std::span<const StepRow> rows) {
    IDEFICS_CHECK(rows.size() <= static_cast<size_t>(options_.max_num_seqs));
    std::set<int64_t> written;
    for (const StepRow& row : rows) {
      for (size_t t = 0; t < row.tokens.size(); ++t) {
        const int64_t slot = row.SlotOf(row.position + static_cast<int64_t>(t));
        IDEFICS_CHECK(slot >= 0 && slot < toy_.engine->limits().kv_tokens);
        IDEFICS_CHECK(written.insert(slot).second);
      }
    }
    const std::lock_guard lock(mutex_);
    ++steps_since_;
    while (next_ < operations_.size() && operations_[next_].steps <= steps_since_) {
      Do(operations_[next_++]);
    }
  }

  Status Fault(int step, bool late) {
    const auto found = faults_.find(step);
    // The kinds of even number come when the step begins, the others at its end.
    if (found == faults_.end() || (found->second % 2 == 1) != late) return Status::Ok();
    return FaultOf(step);
  }

  Status FaultOf(int at) {
    const auto found = faults_.find(std::abs(at));
    if (found == faults_.end()) return Status::Ok();
    if (found->second == 0) return {ErrorCode::kOutOfMemory, "no memory"};
    if (found->second == 2) {
      thrown_ = true;
      throw std::runtime_error("thrown");
    }
    if (found->second == 4) toy_.runner->set_broken();
    return Status::Internal("a fault");
  }

  void CheckEnd(const Submitted& submitted) {
    const int count = submitted.request.sampling.num_choices;
    const std::vector<Outcome> outcomes = CollectChoices(*submitted.handle, count);
    TokenEvent more;
    IDEFICS_CHECK(!submitted.handle->Next(&more, {}));
    for (int i = 0; i < count; ++i) {
      CheckOutcome(submitted, outcomes[i],
                   count == 1 ? submitted.request : ChoiceAlone(submitted.request, i));
    }
  }

  void CheckOutcome(const Submitted& submitted, const Outcome& outcome,
                    const EngineRequest& single) const {
    const Outcome alone = RunFromScratch(single);
    if (outcome.status.ok()) {
      IDEFICS_CHECK(outcome.tokens == alone.tokens && outcome.reason == alone.reason);
      return;
    }
    IDEFICS_CHECK(outcome.status.code() != ErrorCode::kCanceled || submitted.handle->canceled());
    IDEFICS_CHECK(submitted.handle->canceled() || !faults_.empty());
    if (single.sampling.num_beams > 1) return;  // the best of its beams may change
    IDEFICS_CHECK(outcome.tokens.size() <= alone.tokens.size());
    IDEFICS_CHECK(std::equal(outcome.tokens.begin(), outcome.tokens.end(), alone.tokens.begin()));
  }

  void CheckIdle() const {
    const EngineStats stats = toy_.engine->stats();
    IDEFICS_CHECK_EQ(stats.waiting, 0);
    IDEFICS_CHECK_EQ(stats.running, 0);
    IDEFICS_CHECK(thrown_ ? stats.broken : stats.kv_tokens_used == 0);
  }

  const EngineOptions options_;
  std::map<int, int> faults_;  // step, or part of an image -> kind
  std::vector<Operation> operations_;
  std::mutex mutex_;  // of the four below
  size_t next_ = 0;   // of operations_
  int steps_since_ = 0;
  std::vector<Submitted> submitted_;
  int image_parts_ = 0;  // engine thread
  std::atomic<bool> thrown_ = false;
  ToyEngine toy_;  // last: its thread uses the others
};

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  idefics::Input input({data, size});
  idefics::Session(input).Run();
  return 0;
}
