// SPDX-License-Identifier: Apache-2.0
// ModelRunner: the device as the engine sees it. TorchRunner runs a bundle by libtorch; ToyRunner
// is deterministic and needs no library. This header and everything that includes it stay free of
// torch. REQUIRES (all methods but limits): the engine thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "common/check.h"
#include "common/status.h"
#include "predictor/sampling/device_sampling.h"

namespace idefics {

struct RunnerLimits {
  int32_t vocab_size = 0;           // base and additional tokens
  int64_t kv_tokens = 0;            // slots of the flat KV arena
  int32_t image_cache_slots = 0;    // images whose cross-attention K/V the runner holds
  int32_t image_size = 0;           // S: side of the square input image, pixels
  int32_t max_image_batch = 1;      // images that are encoded together
  int32_t max_num_seqs = 8;         // sequences of a step beyond which it gains nothing
  int32_t max_prefill_chunk = 512;  // prompt tokens that may run beside decode rows in one step
  // A token's keys, values and logits are the same bit for bit in whatever steps it and the tokens
  // before it ran.
  bool exact_steps = true;
  bool samples_on_device = false;  // rows may carry DeviceSamplingParams
  std::string device = "none";     // "cpu", "cuda:0"; several: "cuda:0,cuda:1", each once

  // Adds one of the runner's devices, which may be there already.
  void AddDevice(const std::string& name) {
    if (device == "none") device = name;
    if (("," + device + ",").find("," + name + ",") == std::string::npos) device += "," + name;
  }
};

// An image to encode.
struct ImageInput {
  std::span<const float> pixels;  // [3, S, S] normalised
  int32_t slot = -1;              // of the image cache
};

// Stands for the token that the runner sampled for the same row in the step before, which may still
// be running.
constexpr int32_t kPlaceholderToken = -1;

// One sequence's part of a step: a whole prompt, a chunk of one, or the single last token.
struct StepRow {
  std::span<const int32_t> tokens;
  std::span<const int32_t> image_slots;  // per token: the image cache slot that it sees, -1 = none
  int32_t position = 0;                  // of tokens.front() in its sequence
  int64_t kv_start = 0;                  // first arena slot of the sequence's own extent
  // The sequence's first tokens, where they are stored in an extent that several rows read: the
  // prompt of a beam search or of several choices. REQUIRES: shared_tokens <= position.
  int64_t shared_start = 0;
  int32_t shared_tokens = 0;
  bool wants_logits = true;  // false: a prompt chunk that is not the last
  // After how many of its last tokens, where it wants logits.
  int32_t num_logits = 1;
  // How the runner samples the sequence's next token, which it stores in the KV slot that follows
  // the row's last one; null: the row's logits come to the host. REQUIRES: the runner samples on
  // the device and the row wants one token's logits.
  const DeviceSamplingParams* sampling = nullptr;

  // Arena slot of the sequence's token at `at`.
  int64_t SlotOf(int64_t at) const {
    return at < shared_tokens ? shared_start + at : kv_start + at - shared_tokens;
  }
};

// Whether each token of the step is followed by logits, as those of decode rows are.
inline bool IsDecodeStep(std::span<const StepRow> rows) {
  return std::all_of(rows.begin(), rows.end(), [](const StepRow& row) {
    return row.wants_logits && static_cast<size_t>(row.num_logits) == row.tokens.size();
  });
}

// Copies the first `tokens` slots of an extent to another one, with the tokens that the runner
// sampled or was given for them.
struct KvCopy {
  int64_t from = 0;
  int64_t to = 0;
  int64_t tokens = 0;
};

// The result of a step.
struct StepOutput {
  // For each token whose logits are wanted: the one sampled after it, kNotFinite, or kNoToken
  // without `sampling`.
  std::vector<int32_t> sampled;
  // [tokens whose logits are wanted and not sampled on the device, vocab_size], in row order.
  std::vector<float> logits;
};

constexpr size_t kMaxStepsInFlight = 2;

class ModelRunner {
 public:
  virtual ~ModelRunner() = default;

  virtual const RunnerLimits& limits() const = 0;

  // Begins to encode images, which finish together, and abandons those that are not finished. The
  // pixels are used during the call only. REQUIRES: 1 to max_image_batch images, each in a slot of
  // its own.
  virtual Status BeginImages(std::span<const ImageInput> images) = 0;

  // True once the slots hold the images' cross-attention K/V for all steps started from now on. On
  // a CPU each call runs a part of the encoding that takes about as long as a decode step
  // (image_pace.h), so that decode rows are not held up. On a GPU the encoding runs beside the
  // steps; a call asks whether it has finished, and with `wait`, for when there is nothing else to
  // do, waits for it. REQUIRES: images were begun and are not finished.
  virtual Result<bool> ContinueImages(bool wait) = 0;

  // Encodes a whole image, for callers that have nothing else to run.
  Status EncodeImage(std::span<const float> pixels, int32_t slot) {
    const ImageInput image{pixels, slot};
    RETURN_IF_ERROR(BeginImages(std::span(&image, 1)));
    for (bool done = false; !done;) {
      ASSIGN_OR_RETURN(done, ContinueImages(/*wait=*/true));
    }
    return Status::Ok();
  }

  // Starts a step of all rows, which may still be running when the call returns. Steps run one
  // after another. A failure leaves earlier steps and the arena's other extents unharmed; after
  // kOutOfMemory the engine may try again with fewer rows. REQUIRES: fewer than kMaxStepsInFlight
  // steps are in flight.
  virtual Status StartStep(std::span<const StepRow> rows) = 0;

  // Waits for the oldest step in flight. REQUIRES: there is one.
  virtual Status FinishStep(StepOutput* output) = 0;

  // Runs one step without sampling on the device. logits: [rows that want them, vocab_size], in row
  // order.
  Status Step(std::span<const StepRow> rows, std::span<float> logits) {
    RETURN_IF_ERROR(StartStep(rows));
    StepOutput output;
    RETURN_IF_ERROR(FinishStep(&output));
    IDEFICS_CHECK_EQ(output.logits.size(), logits.size());
    std::copy(output.logits.begin(), output.logits.end(), logits.begin());
    return Status::Ok();
  }

  // Runs behind the steps that were started and before those that will be. REQUIRES: no destination
  // overlaps a source of the same call.
  virtual Status CopyKv(std::span<const KvCopy> copies) = 0;

  // True after a failure that no later call can survive, such as a sticky CUDA error.
  virtual bool broken() const { return false; }
};

}  // namespace idefics
