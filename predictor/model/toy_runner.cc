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

ToyRunner::ToyRunner(RunnerLimits limits, const ToyTimes& times)
    : limits_(limits),
      kv_(limits.kv_tokens, 0),
      images_(limits.image_cache_slots, 0),
      tokens_(limits.kv_tokens, 0),
      pace_(times.image_units),
      times_(times) {}

Status ToyRunner::BeginImages(std::span<const ImageInput> images) {
  IDEFICS_CHECK(!images.empty() && images.size() <= static_cast<size_t>(limits_.max_image_batch));
  encodings_.clear();
  for (const ImageInput& image : images) {
    encodings_.push_back({image.slot, {image.pixels.begin(), image.pixels.end()}, 1});
  }
  next_unit_ = 0;
  ++image_batches_;
  return Status::Ok();
}

// Each unit hashes its share of the pixels.
Result<bool> ToyRunner::ContinueImages(bool /*wait*/) {
  IDEFICS_CHECK(!encodings_.empty());
  if (observer_) observer_({});
  if (image_fault_) RETURN_IF_ERROR(image_fault_(static_cast<int32_t>(next_unit_)));
  const size_t units = pace_.units();
  for (const size_t end = pace_.PartEnd(next_unit_); next_unit_ < end; ++next_unit_) {
    for (Encoding& image : encodings_) {
      const size_t first = image.pixels.size() * next_unit_ / units;
      const size_t last = image.pixels.size() * (next_unit_ + 1) / units;
      for (size_t i = first; i < last; ++i) {
        image.hash = Mix(image.hash ^ std::bit_cast<uint32_t>(image.pixels[i]));
      }
    }
    elapsed_ += times_.image_unit;
    pace_.NoteUnit(next_unit_, times_.image_unit);
  }
  if (next_unit_ < units) return false;
  for (const Encoding& image : encodings_) images_.at(image.slot) = image.hash;
  images_encoded_ += static_cast<int64_t>(encodings_.size());
  encodings_.clear();
  return true;
}

// Returns the hash of what the row's sequence has seen up to each of its tokens.
std::vector<uint64_t> ToyRunner::RunRow(const StepRow& row, StartedStep* step) {
  std::vector<uint64_t> hashes;
  uint64_t seen = row.position == 0 ? 0 : kv_.at(row.SlotOf(row.position - 1));
  for (size_t t = 0; t < row.tokens.size(); ++t) {
    const int64_t slot = row.SlotOf(row.position + static_cast<int64_t>(t));
    if (row.tokens[t] != kPlaceholderToken) tokens_.at(slot) = row.tokens[t];
    const int32_t image_slot = row.image_slots[t];
    const uint64_t image = image_slot < 0 ? 0 : images_.at(image_slot);
    seen = Mix(seen ^ Mix(static_cast<uint64_t>(tokens_.at(slot)) + 1) ^ image);
    kv_.at(slot) = seen;
    step->written.emplace_back(slot, seen);
    hashes.push_back(seen);
  }
  return hashes;
}

void ToyRunner::AddScores(uint64_t seen, std::vector<float>* scores) const {
  for (int32_t v = 0; v < limits_.vocab_size; ++v) {
    const auto mixed = Mix(seen + static_cast<uint64_t>(v)) >> 40;
    scores->push_back(static_cast<float>(mixed) / static_cast<float>(1 << 22));  // [0, 4)
  }
}

// Work is done in the order of the calls, so all of it can be done at the start.
Status ToyRunner::StartStep(std::span<const StepRow> rows) {
  IDEFICS_CHECK(in_flight_.size() < kMaxStepsInFlight);
  ++steps_;
  max_rows_seen_ = std::max<int64_t>(max_rows_seen_, static_cast<int64_t>(rows.size()));
  if (observer_) observer_(rows);
  elapsed_ += times_.step;
  if (IsDecodeStep(rows)) pace_.NoteStep(times_.step);
  if (fault_) RETURN_IF_ERROR(fault_(steps_));
  StartedStep step;
  StepOutput& output = step.output;
  for (const StepRow& row : rows) {
    const std::vector<uint64_t> seen = RunRow(row, &step);
    if (!row.wants_logits) continue;
    if (row.sampling == nullptr) {
      for (auto last = seen.end() - row.num_logits; last != seen.end(); ++last) {
        AddScores(*last, &output.logits);
        output.sampled.push_back(kNoToken);
      }
      continue;
    }
    std::vector<float> scores;
    AddScores(seen.back(), &scores);
    const int64_t length = row.position + static_cast<int64_t>(row.tokens.size());
    std::vector<int32_t> history;
    for (int64_t at = 0; at < length; ++at) history.push_back(tokens_.at(row.SlotOf(at)));
    output.sampled.push_back(SampleToken(*row.sampling, history, scores));
    tokens_.at(row.SlotOf(length)) = output.sampled.back();
  }
  in_flight_.push_back(std::move(step));
  max_in_flight_ = std::max<int64_t>(max_in_flight_, static_cast<int64_t>(in_flight_.size()));
  return Status::Ok();
}

Status ToyRunner::FinishStep(StepOutput* output) {
  IDEFICS_CHECK(!in_flight_.empty());
  StartedStep step = std::move(in_flight_.front());
  in_flight_.pop_front();
  ++steps_finished_;
  const Status status = late_fault_ ? late_fault_(steps_finished_) : Status::Ok();
  if (status.ok()) {
    *output = std::move(step.output);
    return status;
  }
  for (const auto& [slot, hash] : step.written) {
    if (kv_[slot] == hash) kv_[slot] = ~hash;  // not where its next owner has written since
  }
  return status;
}

Status ToyRunner::CopyKv(std::span<const KvCopy> copies) {
  for (const KvCopy& copy : copies) {
    std::copy_n(kv_.begin() + copy.from, copy.tokens, kv_.begin() + copy.to);
    std::copy_n(tokens_.begin() + copy.from, copy.tokens, tokens_.begin() + copy.to);
    slots_copied_ += copy.tokens;
  }
  return Status::Ok();
}

}  // namespace idefics
