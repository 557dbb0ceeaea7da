// SPDX-License-Identifier: Apache-2.0
// ActiveRequest: a request that was admitted, its choices and their sequences in the KV arena.
// Engine thread.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <vector>

#include "predictor/engine/ngram_drafts.h"
#include "predictor/engine/prefix_cache.h"
#include "predictor/engine/request.h"
#include "predictor/engine/token_search.h"

namespace idefics {

// Sequences that run for a request at once.
int NumPlaces(const SamplingParams& sampling);

// KV slots that all extents of a request have at most: of its one sequence, or of the prompt and of
// the own tokens of each sequence.
std::vector<int64_t> ExtentSizes(const EngineRequest& request);

constexpr int64_t kFreedExtent = -1;  // in the place of one of a choice that has ended

// One for each choice, num_beams for beam search.
struct Sequence {
  int64_t kv_start = 0;
  int32_t last_token = 0;
  bool ended = false;  // its choice has; it has no place and no extent any more
};

// One of the answers of a request.
struct ActiveChoice {
  std::unique_ptr<TokenSearch> search;
  size_t reported = 0;                   // new tokens that were pushed as events
  DeviceSamplingParams sampling_params;  // for the token that is being planned

  // The tokens that were not reported yet.
  TokenEvent TakeNewTokens(int index);
};

// The prompt tokens that see an image of the request, and its slot while it is pinned.
struct ImageUse {
  int64_t begin = 0;
  int64_t end = 0;    // one behind the last; 0: no token sees it
  int32_t slot = -1;  // of the image cache; -1: not pinned
};

// Its extents and pins are freed in Engine::Release, those of a choice also in Engine::EndChoice;
// pins also when no further token sees the image.
struct ActiveRequest {
  // Of a request that was preempted, the prompt holds the new tokens of that time too.
  EngineRequest request;
  std::shared_ptr<RequestHandle> handle;
  std::vector<ActiveChoice> choices;
  std::vector<int64_t> extents;  // first slots; as ExtentSizes; none while it is preempted
  // What it reads its first prefix_tokens from, as others do; its extent begins with the next
  // token. Null: the extent has them. REQUIRES: grows().
  const PrefixCache::Entry* prefix = nullptr;
  int64_t prefix_tokens = 0;
  std::vector<ImageUse> images;            // as request.images
  std::vector<int32_t> token_image_slots;  // per prompt token that was planned: the slot that it
                                           // sees, -1 = none
  SeenTokens seen;  // the prompt, and new tokens of one sequence (LearnTokens)
  // The last token and the guesses behind it, in the step that is planned; and what they see.
  std::vector<int32_t> guess_tokens, guess_image_slots;
  // Of the prompt's tokens but the first, as far as they have been computed.
  std::vector<TokenLogprobs> prompt_logprobs;
  bool prompt_scored = false;  // they were pushed
  NgramDrafts drafts;          // of one sequence whose tokens the host samples
  // Empty until there is a token to decode. Of several choices one for each, in order.
  std::vector<Sequence> sequences;
  int64_t max_tokens = 0;   // prompt and new ones of one sequence
  int64_t prompt_done = 0;  // prompt tokens in the arena, those of started steps included
  int64_t length = 0;       // all tokens of each sequence, counted likewise
  int64_t computed = 0;     // first slots of its first extent whose keys and values are final
  // An older request whose first leader_tokens are this one's too, and which it waits for; null
  // once there is nothing to wait for.
  const ActiveRequest* leader = nullptr;
  int64_t leader_tokens = 0;
  bool samples_on_device = false;                    // false: the searches sample, from the logits
  bool ended = false;                                // its last event was pushed
  RequestHandle::Clock::time_point last_token_at{};  // of any choice; the epoch: there was none
  int steps_in_flight = 0;                           // the request is removed at 0 only
  int tokens_in_flight = 0;                          // of each choice, sampled in these steps

  // REQUIRES: called once, at admission.
  void Begin(bool runner_samples);
  // The prompt but for its last token is in the arena, or will be when the next step runs.
  void StartChoices();
  // What is in the arena is lost: all tokens so far run again as a prompt. REQUIRES: grows(), no
  // step in flight.
  void StartAgain();

  // Brings `seen` up to date.
  void LearnTokens();
  // Sets guess_tokens, with at most `most` guesses.
  void Guess(int64_t most);

  // Its prompt's log probabilities are wanted and not all there: logits after each token are.
  bool scores_prompt() const { return request.sampling.score_prompt && !prompt_scored; }
  bool has_choices() const { return choices.size() > 1; }
  bool shares_prompt() const { return extents.size() > 1; }
  // Arena slot of its prompt's token at `at`, or of any of its one sequence. REQUIRES: it has an
  // extent.
  int64_t SlotOf(int64_t at) const {
    return at < prefix_tokens ? prefix->start + at : extents.front() + at - prefix_tokens;
  }
  // It has one sequence, whose extent follows its length.
  bool grows() const { return NumPlaces(request.sampling) == 1; }
  bool finished() const { return ended; }
  bool preempted() const { return !ended && extents.empty(); }
  // Tokens of its prompt may be the next ones that run.
  bool runs_prompt() const {
    return !ended && !extents.empty() && sequences.empty() && leader == nullptr;
  }
  bool has_ended(int choice) const {
    return finished() || (has_choices() && sequences.at(choice).ended);
  }
  // Tokens that all sequences read from the prompt's extent. Choices do not share the prompt's last
  // token: each runs it again, and samples its own first token from it.
  int64_t shared_tokens() const { return shares_prompt() ? prefill_tokens() : 0; }
  // Prompt tokens that run before there are sequences.
  int64_t prefill_tokens() const {
    return static_cast<int64_t>(request.tokens.size()) - (has_choices() ? 1 : 0);
  }
  bool prompt_is_done() const { return prompt_done == prefill_tokens(); }
  // Whether a token that is still to run sees the image.
  bool Needs(size_t image) const;
  const std::string& ImageOf(int64_t token) const;
  int num_places() const;         // of sequences that run or will run
  size_t num_new_tokens() const;  // of each sequence that goes on. REQUIRES: there is one
};

// Where the first tokens of a request are in the arena already.
struct Reuse {
  int64_t tokens = 0;
  const PrefixCache::Entry* entry = nullptr;  // that has them, or
  ActiveRequest* other = nullptr;             // the request that runs and has them
  bool adopted = false;                       // the extent itself goes on

  // Those that are read where they are, where they are shared.
  int64_t shared_tokens() const {
    const bool is_lent = other != nullptr && other->prefix != nullptr;
    return is_lent ? std::min(tokens, other->prefix_tokens) : tokens;
  }
};

}  // namespace idefics
