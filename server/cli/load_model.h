// SPDX-License-Identifier: Apache-2.0
// Flags -> the model, for `serve` and `predict`.
#pragma once

#include <memory>

#include "common/flags.h"
#include "predictor/predictor.h"

namespace idefics {

inline constexpr const char* kNoModel =
    "no model is named: give a bundle with --model (scripts/export.sh makes one)";

// Loads --model. Slow. Fails with one sentence; always in a build without libtorch.
Result<std::unique_ptr<Predictor>> LoadModel(const FlagValues& flags);

}  // namespace idefics
