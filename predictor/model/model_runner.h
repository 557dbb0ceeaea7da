// SPDX-License-Identifier: Apache-2.0
// ModelRunner: the device as the engine sees it. TorchRunner holds libtorch; ToyRunner is
// deterministic and needs nothing. No header of torch above this line of the design. REQUIRES (all
// methods but limits): the engine thread.
#pragma once

#include <cstdint>
#include <span>

#include "common/status.h"

namespace idefics {

struct RunnerLimits {
  int32_t vocab_size = 0;         // with the additional tokens
  int64_t kv_tokens = 0;          // slots of the flat KV arena
  int32_t image_entries = 0;      // rows of the image table
  int32_t image_size = 0;         // S: side of the square input picture, pixels
  int32_t max_rows_per_step = 0;  // sequences in one Step
  int32_t image_parts = 1;        // calls of EncodeImagePart for one picture
  int32_t joining_tokens = 512;   // prompt tokens that may run beside decode rows in one Step
};

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

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual const RunnerLimits& limits() const = 0;

  // Runs one part of a picture's encoding, so that a long one does not hold up the rows that are
  // being decoded. pixels: [3, S, S] normalised. Parts 0 … image_parts-1 in order; the last one
  // writes the picture's cross-attention K/V to row `entry` of the table. Part 0 of another picture
  // drops the one begun before.
  virtual Status EncodeImagePart(std::span<const float> pixels, int32_t entry, int32_t part) = 0;

  // All parts, for callers that have nothing else to run.
  Status EncodeImage(std::span<const float> pixels, int32_t entry) {
    for (int32_t part = 0; part < limits().image_parts; ++part) {
      RETURN_IF_ERROR(EncodeImagePart(pixels, entry, part));
    }
    return Status::Ok();
  }

  // Runs all rows at once. logits: [rows that want them, vocab_size] in row order, f32.
  // kOutOfMemory leaves the arena's other extents unharmed; the engine may retry with fewer rows.
  virtual Status Step(std::span<const StepRow> rows, std::span<float> logits) = 0;

  // REQUIRES: no destination is the source of another copy of the same call.
  virtual Status CopyKv(std::span<const KvCopy> copies) = 0;

  // After a failure that no later call can survive, such as a sticky CUDA error.
  virtual bool broken() const { return false; }
};

}  // namespace idefics
