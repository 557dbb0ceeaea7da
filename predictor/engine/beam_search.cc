// SPDX-License-Identifier: Apache-2.0
#include "predictor/engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "predictor/sampling/logits_processors.h"

namespace idefics {
namespace {

constexpr float kWorst = -1e9f;  // transformers' "very negative"

}  // namespace

BeamSearch::BeamSearch(const SamplingParams& sampling, std::vector<int32_t> prompt)
    : sampling_(sampling),
      prompt_(std::move(prompt)),
      running_(sampling.num_beams),
      done_(sampling.num_beams) {
  // At first all hypotheses are copies of the prompt: only one of them may be extended.
  running_.front().score = 0;
}

std::vector<float> BeamSearch::AccumulatedScores(std::span<const float> logits, int64_t vocab) {
  std::vector<float> scores(running_.size() * vocab);
  step_logprobs_.resize(sampling_.num_logprobs ? running_.size() * vocab : 0);
  for (size_t beam = 0; beam < running_.size(); ++beam) {
    const std::span<float> row(scores.data() + beam * vocab, vocab);
    const auto source = length_ == 0 ? logits.first(vocab) : logits.subspan(beam * vocab, vocab);
    std::copy(source.begin(), source.end(), row.begin());
    LogSoftmax(row);
    const auto keep_logprobs = [&] {
      const auto begin = step_logprobs_.begin() + static_cast<ptrdiff_t>(beam * vocab);
      std::copy(row.begin(), row.end(), begin);
    };
    const bool raw = sampling_.logprobs_mode == LogprobsMode::kRaw;
    if (sampling_.num_logprobs && raw) keep_logprobs();
    std::vector<int32_t> tokens = prompt_;
    tokens.insert(tokens.end(), running_[beam].tokens.begin(), running_[beam].tokens.end());
    ApplyProcessors(sampling_, tokens, static_cast<int64_t>(prompt_.size()), row);
    if (sampling_.num_logprobs && !raw) keep_logprobs();
    for (float& s : row) s += running_[beam].score;
  }
  return scores;
}

std::vector<BeamSearch::Candidate> BeamSearch::BestCandidates(std::span<const float> scores,
                                                              int64_t vocab) const {
  const size_t wanted = std::max<size_t>(2, 1 + sampling_.eos_token_ids.size()) * running_.size();
  std::vector<int64_t> order(scores.size());
  std::iota(order.begin(), order.end(), 0);
  const size_t kept = std::min(wanted, order.size());
  std::partial_sort(
      order.begin(), order.begin() + static_cast<ptrdiff_t>(kept), order.end(),
      [&](int64_t a, int64_t b) { return scores[a] != scores[b] ? scores[a] > scores[b] : a < b; });
  std::vector<Candidate> candidates(kept);
  for (size_t i = 0; i < kept; ++i) {
    Candidate& c = candidates[i];
    c.score = scores[order[i]];
    c.parent = static_cast<int32_t>(order[i] / vocab);
    c.token = static_cast<int32_t>(order[i] % vocab);
    c.stops = length_ + 1 >= sampling_.max_new_tokens || sampling_.IsEos(c.token);
  }
  return candidates;
}

BeamSearch::Hypothesis BeamSearch::Extend(const Candidate& candidate) const {
  Hypothesis next = running_[candidate.parent];
  next.tokens.push_back(candidate.token);
  if (sampling_.num_logprobs) {
    const size_t vocab = step_logprobs_.size() / running_.size();
    const auto row = std::span(step_logprobs_).subspan(candidate.parent * vocab, vocab);
    next.logprobs.push_back(LogprobsOf(candidate.token, row, *sampling_.num_logprobs));
  }
  next.score = candidate.score;
  return next;
}

void BeamSearch::UpdateDone(const std::vector<Candidate>& candidates) {
  const bool full =
      std::all_of(done_.begin(), done_.end(), [](const auto& h) { return h.finished; });
  if (!may_improve_ || (full && sampling_.early_stopping == EarlyStopping::kFirstFinished)) return;
  const auto divisor =
      static_cast<float>(std::pow(static_cast<double>(length_ + 1), sampling_.length_penalty));
  const size_t first = std::min<size_t>(sampling_.num_beams, candidates.size());
  for (size_t i = 0; i < first; ++i) {
    if (!candidates[i].stops) continue;
    Hypothesis hypothesis = Extend(candidates[i]);
    hypothesis.score = candidates[i].score / divisor;
    hypothesis.finished = true;
    done_.push_back(std::move(hypothesis));
  }
  std::stable_sort(done_.begin(), done_.end(),
                   [](const auto& a, const auto& b) { return a.score > b.score; });
  done_.resize(sampling_.num_beams);
}

SearchStep BeamSearch::ContinueRunning(const std::vector<Candidate>& candidates) {
  std::vector<Candidate> open = candidates;
  for (Candidate& c : open) c.score += c.stops ? kWorst : 0.0f;
  std::stable_sort(open.begin(), open.end(),
                   [](const Candidate& a, const Candidate& b) { return a.score > b.score; });
  open.resize(std::min<size_t>(open.size(), sampling_.num_beams));
  std::vector<Hypothesis> next;
  SearchStep step;
  for (const Candidate& c : open) {
    next.push_back(Extend(c));
    step.parents.push_back(length_ == 0 ? 0 : c.parent);  // the prompt is one sequence
    step.tokens.push_back(c.token);
  }
  running_ = std::move(next);
  return step;
}

// Whether a running hypothesis can still beat the worst finished one. A heuristic for
// length_penalty
// != 0 unless early_stopping is "never" (transformers `_check_early_stop_heuristic`).
bool BeamSearch::MayImprove() const {
  if (!may_improve_) return false;
  const bool to_the_end =
      sampling_.early_stopping == EarlyStopping::kNever && sampling_.length_penalty > 0;
  const int length = to_the_end ? sampling_.max_new_tokens : length_;
  const auto best_possible =
      running_.front().score /
      static_cast<float>(std::pow(static_cast<double>(length), sampling_.length_penalty));
  const float worst = done_.back().score;
  return std::any_of(done_.begin(), done_.end(), [&](const Hypothesis& h) {
    return best_possible > (h.finished ? worst : kWorst);
  });
}

SearchStep BeamSearch::Advance(std::span<const float> logits, int64_t vocab) {
  const auto scores = AccumulatedScores(logits, vocab);
  const auto candidates = BestCandidates(scores, vocab);
  UpdateDone(candidates);
  SearchStep step = ContinueRunning(candidates);
  ++length_;
  may_improve_ = MayImprove();
  const bool all_done =
      std::all_of(done_.begin(), done_.end(), [](const auto& h) { return h.finished; }) &&
      sampling_.early_stopping == EarlyStopping::kFirstFinished;
  const bool none_open =
      std::all_of(candidates.begin(), candidates.end(), [](const auto& c) { return c.stops; });
  if (may_improve_ && !all_done && !none_open) return step;
  finished_ = true;
  const auto& best = done_.front().tokens;
  if (!best.empty() && sampling_.IsEos(best.back())) {
    finish_reason_ = FinishReason::kEos;
  }
  return {};
}

}  // namespace idefics
