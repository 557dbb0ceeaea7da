// SPDX-License-Identifier: Apache-2.0
// Flags -> the parts that both `serve` and `predict` need.
#pragma once

#include <memory>

#include "common/flags.h"
#include "predictor/predictor.h"
#include "server/fetch/image_fetcher.h"

namespace idefics {

// Loads --model. Slow. Fails with one sentence; always in a build without libtorch.
Result<std::unique_ptr<Predictor>> LoadModel(const FlagValues& flags);

FetchOptions FetchOptionsFromFlags(const FlagValues& flags);

}  // namespace idefics
