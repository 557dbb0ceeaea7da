// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/toy_runner.h"

#include <algorithm>
#include <bit>

#include "common/check.h"

namespace idefics {
namespace {

// splitmix64 (Steele et al. 2014), used as a mixing function.
uint64_t Mix(uint64_t x) {
  x += 0x9E3779B97F4A7C15;
  x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9;
  x = (x ^ (x >> 27)) * 0x94D049BB133111EB;
  return x ^ (x >> 31);
}

}  // namespace

ToyRunner::ToyRunner(RunnerLimits limits)
    : limits_(limits), kv_(limits.kv_tokens, 0), images_(limits.image_entries, 0) {}

// Each part hashes its share of the pixels.
Status ToyRunner::EncodeImagePart(std::span<const float> pixels, int32_t entry, int32_t part) {
  if (observer_) observer_({});
  if (image_fault_) RETURN_IF_ERROR(image_fault_(part));
  if (part == 0) encoding_ = 1;
  const size_t begin = pixels.size() * part / limits_.image_parts;
  const size_t end = pixels.size() * (part + 1) / limits_.image_parts;
  for (const float value : pixels.subspan(begin, end - begin)) {
    encoding_ = Mix(encoding_ ^ std::bit_cast<uint32_t>(value));
  }
  if (part + 1 < limits_.image_parts) return Status::Ok();
  images_.at(entry) = encoding_;
  ++images_encoded_;
  return Status::Ok();
}

Status ToyRunner::Step(std::span<const StepRow> rows, std::span<float> logits) {
  ++steps_;
  max_rows_seen_ = std::max<int64_t>(max_rows_seen_, static_cast<int64_t>(rows.size()));
  if (observer_) observer_(rows);
  if (fault_) RETURN_IF_ERROR(fault_(steps_));
  size_t wanted = 0;
  for (const StepRow& row : rows) {
    uint64_t seen = row.position == 0 ? 0 : kv_.at(row.SlotOf(row.position - 1));
    for (size_t t = 0; t < row.tokens.size(); ++t) {
      const int32_t entry = row.image_entries[t];
      const uint64_t image = entry < 0 ? 0 : images_.at(entry);
      seen = Mix(seen ^ Mix(static_cast<uint64_t>(row.tokens[t]) + 1) ^ image);
      kv_.at(row.SlotOf(row.position + static_cast<int64_t>(t))) = seen;
    }
    if (!row.wants_logits) continue;
    const auto out = logits.subspan(wanted++ * limits_.vocab_size, limits_.vocab_size);
    for (size_t v = 0; v < out.size(); ++v) {
      out[v] = static_cast<float>(Mix(seen + v) >> 40) / static_cast<float>(1 << 22);  // [0, 4)
    }
  }
  return Status::Ok();
}

Status ToyRunner::CopyKv(std::span<const KvCopy> copies) {
  for (const KvCopy& copy : copies) {
    std::copy_n(kv_.begin() + copy.from, copy.tokens, kv_.begin() + copy.to);
  }
  return Status::Ok();
}

}  // namespace idefics
