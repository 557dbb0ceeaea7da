// SPDX-License-Identifier: Apache-2.0
// What an Engine is told, and what it tells of itself. Plain values.
#pragma once

#include <cstdint>
#include <optional>

#include "common/defaults.h"

namespace idefics {

struct EngineOptions {
  int max_num_seqs = 0;  // that run at once; each choice and each beam is one; 0: the runner's
  int max_num_batched_tokens = 512;  // prompt tokens in a step without decode rows
  int max_prefill_chunk = 0;  // prompt tokens beside decode rows, which they delay; 0: the runner's
  int max_sequence_tokens = defaults::kMaxSequenceTokens;  // prompt + new tokens of one request
  int kv_growth = 64;  // new tokens that a request has slots for at first, and at least gets more
  bool speculation = true;  // guesses are verified, where the host samples and steps are exact
  // What was computed stays in the arena, for requests that begin alike, until the room is needed.
  std::optional<bool> prefix_cache;  // nothing: where the runner's steps are exact
  // Requests that run together read a common beginning of as many tokens from one copy; a shorter
  // one is copied.
  int64_t share_from = 256;
};

struct EngineStats {
  int running = 0;
  int waiting = 0;
  int64_t kv_tokens_used = 0;    // by running requests
  int64_t kv_tokens_cached = 0;  // by none, for those that may begin alike
  int64_t prefix_tokens = 0;     // that admitted requests found in the arena
  int64_t image_hits = 0;        // images of admitted requests that were in the image cache
  int64_t image_misses = 0;      // images of admitted requests that were not
  int64_t steps = 0;
  int64_t guesses_right = 0;  // tokens that took no step of their own
  int64_t preemptions = 0;    // of running requests, which ran their tokens again later
  bool broken = false;        // the runner will never run again
  double turn_s = 0;  // since the engine thread began its current round of work; 0: it is idle
};

}  // namespace idefics
