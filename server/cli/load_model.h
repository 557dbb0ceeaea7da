// SPDX-License-Identifier: Apache-2.0
// Flags -> the model, for `serve` and `predict`.
#pragma once

#include <cstdint>
#include <memory>

#include "common/flags.h"
#include "predictor/images/decode_memory.h"
#include "predictor/predictor.h"

namespace idefics {

inline constexpr const char* kNoModel =
    "no model is named: give a bundle with --model (scripts/export.sh makes one)";

// Loads --model. Slow. Fails with one sentence; always in a build without libtorch. Images that are
// being decoded at one time hold `decode_memory_bytes`.
Result<std::unique_ptr<Predictor>> LoadModel(
    const FlagValues& flags, int64_t decode_memory_bytes = DecodeMemory::kAmpleBytes);

}  // namespace idefics
