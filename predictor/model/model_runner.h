// SPDX-License-Identifier: Apache-2.0
// ModelRunner: the device as the engine sees it. TorchRunner holds libtorch; ToyRunner is
// deterministic and needs nothing. No header of torch above this line of the design. REQUIRES (all
// methods but limits): the engine thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "predictor/sampling/row_choice.h"

namespace idefics {

struct RunnerLimits {
  int32_t vocab_size = 0;         // with the additional tokens
  int64_t kv_tokens = 0;          // slots of the flat KV arena
  int32_t image_entries = 0;      // rows of the image table
  int32_t image_size = 0;         // S: side of the square input picture, pixels
  int32_t max_rows_per_step = 0;  // sequences in one Step
  int32_t joining_tokens = 512;   // prompt tokens that may run beside decode rows in one step
  bool chooses_tokens = false;    // rows may carry a RowChoice
};

// A decode row's token that the runner chose itself in the step before, whether that has run or
// not.
constexpr int32_t kTokenOfRunner = -1;

// One sequence's part of a step: a whole prompt, a piece of one, or the single last token.
struct StepRow {
  std::span<const int32_t> tokens;
  std::span<const int32_t> image_entries;  // per token: row of the image table it sees, -1 = none
  int32_t position = 0;                    // of tokens.front() in its sequence
  int64_t kv_start = 0;                    // first arena slot of the sequence's own extent
  // The sequence's first tokens, where they lie in an extent that several rows read: a prompt's
  // beams. REQUIRES: shared_tokens <= position.
  int64_t shared_start = 0;
  int32_t shared_tokens = 0;
  bool wants_logits = true;  // false: a prompt piece that is not the last
  // The runner chooses the sequence's next token and keeps it beside the KV (its place is the slot
  // behind the row's last); null: the row's logits come to the host. REQUIRES: the runner chooses
  // tokens, the row wants logits and shares no keys.
  const RowChoice* choice = nullptr;

  // Arena slot of the sequence's token at `at`.
  int64_t SlotOf(int64_t at) const {
    return at < shared_tokens ? shared_start + at : kv_start + at - shared_tokens;
  }
};

// Copies the first `tokens` slots of an extent to another one (beams that share a parent).
struct KvCopy {
  int64_t from = 0;
  int64_t to = 0;
  int64_t tokens = 0;
};

// What comes back of a step.
struct StepOutput {
  std::vector<int32_t> chosen;  // a row that wants logits each: its token, kNotFinite, kNotChosen
  std::vector<float> logits;    // [rows that want them and have no choice, vocab_size] in row order
};

constexpr size_t kMaxStepsInFlight = 2;

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual const RunnerLimits& limits() const = 0;

  // Begins the encoding of a picture, and drops one that is not at its end. pixels: [3, S, S]
  // normalised, used during the call only. entry: row of the image table.
  virtual Status BeginImage(std::span<const float> pixels, int32_t entry) = 0;

  // True once the row holds the picture's cross-attention K/V for all steps started from now on. On
  // a CPU each call runs a part of the encoding, so that a long one does not hold up decode rows;
  // on a GPU it runs beside them, and a call only asks, or waits with `wait`: when there is nothing
  // else to do. REQUIRES: a picture was begun and is not at its end.
  virtual Result<bool> ContinueImage(bool wait) = 0;

  // From begin to end, for callers that have nothing else to run.
  Status EncodeImage(std::span<const float> pixels, int32_t entry) {
    RETURN_IF_ERROR(BeginImage(pixels, entry));
    for (bool done = false; !done;) {
      ASSIGN_OR_RETURN(done, ContinueImage(/*wait=*/true));
    }
    return Status::Ok();
  }

  // Starts a step of all rows; it may be running still when the call returns. Steps run one after
  // another. A failure leaves the steps before and the arena's other extents unharmed; after
  // kOutOfMemory the engine may try again with fewer rows. REQUIRES: less than kMaxStepsInFlight
  // steps are in flight.
  virtual Status StartStep(std::span<const StepRow> rows) = 0;

  // Waits for the oldest step in flight, which there must be.
  virtual Status FinishStep(StepOutput* output) = 0;

  // A step from start to end without choices. logits: [rows that want them, vocab_size] in row
  // order.
  Status Step(std::span<const StepRow> rows, std::span<float> logits) {
    RETURN_IF_ERROR(StartStep(rows));
    StepOutput output;
    RETURN_IF_ERROR(FinishStep(&output));
    IDEFICS_CHECK_EQ(output.logits.size(), logits.size());
    std::copy(output.logits.begin(), output.logits.end(), logits.begin());
    return Status::Ok();
  }

  // REQUIRES: no destination is the source of another copy of the same call.
  virtual Status CopyKv(std::span<const KvCopy> copies) = 0;

  // After a failure that no later call can survive, such as a sticky CUDA error.
  virtual bool broken() const { return false; }
};

}  // namespace idefics
