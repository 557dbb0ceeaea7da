// SPDX-License-Identifier: Apache-2.0
// What an engine observes of its own steps, for the metrics page (docs/operations.md#metrics). The
// engine's thread observes, any thread reads.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>

#include "common/metrics.h"

namespace idefics {

// Bounds as vLLM's (vllm/v1/metrics/loggers.py), so that its dashboards fit.
struct EngineMeters {
  static constexpr std::array kStepTokens = {1.,   8.,    16.,   32.,   64.,   128.,  256.,
                                             512., 1024., 2048., 4096., 8192., 16384.};
  static constexpr std::array kStepSeconds = {.001, .0025, .005, .01, .025, .05,
                                              .1,   .25,   .5,   1.,  2.5,  5.};
  static constexpr std::array kTokenSeconds = {.01, .025, .05, .075, .1,  .15, .2,  .3,  .4, .5,
                                               .75, 1.,   2.5, 5.,   7.5, 10., 20., 40., 80.};

  Counter prompt_tokens;                   // of requests whose prompt has run, cached ones included
  Counter generation_tokens;               // that were given out
  std::atomic<int64_t> images_pinned{0};   // in the image cache, seen by a running request
  std::atomic<int64_t> images_cached{0};   // encoded in it, and seen by none
  Histogram step_tokens{kStepTokens};      // of prompts, new ones and guesses
  Histogram step_s{kStepSeconds};          // from its start to its results
  Histogram inter_token_s{kTokenSeconds};  // between new tokens of one request
};

}  // namespace idefics
