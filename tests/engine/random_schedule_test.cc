// SPDX-License-Identifier: Apache-2.0
// Random requests of several clients at random times in engines that have too little of everything,
// on a clock that makes parts of images long and short: whatever is moved, preempted, guessed,
// taken from a cache or encoded again, each request's tokens are those that it gets alone.
#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <catch2/generators/catch_generators.hpp>
#include <cstdlib>
#include <thread>

#include "tests/engine/engine_fixture.h"

namespace idefics {
namespace {

using Random = std::mt19937;

int Between(Random& random, int low, int high) {
  return low + static_cast<int>(random() % static_cast<unsigned>(high - low + 1));
}

// Schedules of each kind; IDEFICS_SCHEDULES asks for another number.
int Schedules() {
  const char* asked = std::getenv("IDEFICS_SCHEDULES");
  return asked == nullptr ? 400 : std::atoi(asked);
}

// The beginning of `of`, with the images that it sees, then other tokens, some of which see another
// image.
EngineRequest Continue(Random& random, const EngineRequest& of, int length) {
  EngineRequest request;
  request.tokens.assign(of.tokens.begin(), of.tokens.begin() + length);
  request.image_index.assign(of.image_index.begin(), of.image_index.begin() + length);
  request.images = of.images;
  request.client = std::string(1, static_cast<char>('a' + random() % 3));
  int32_t image = request.image_index.empty() ? -1 : request.image_index.back();
  for (int rest = Between(random, 1, 12); rest > 0; --rest) {
    if (random() % 8 == 0) {
      request.images.push_back(ToyImage(Between(random, 0, 9)));
      image = static_cast<int32_t>(request.images.size()) - 1;
    }
    request.tokens.push_back(Between(random, 0, kToyVocab - 1));
    request.image_index.push_back(image);
  }
  return request;
}

void ChooseSampling(Random& random, int max_new_tokens, SamplingParams* sampling) {
  *sampling = {};
  sampling->max_new_tokens = max_new_tokens;
  if (random() % 2 == 0) sampling->eos_token_ids = {7};
  if (random() % 3 == 0) {  // few tokens: it repeats itself, and the next ones are guessed
    for (int32_t token = 0; token < kToyVocab; ++token) {
      if (token % 16 != 7) sampling->logit_bias.emplace_back(token, -100.0F);
    }
  }
  switch (random() % 8) {
    case 0:
      sampling->num_beams = Between(random, 2, 3);
      break;
    case 1:
      sampling->num_choices = Between(random, 1, 3);
      [[fallthrough]];
    case 2:
    case 3:
      sampling->do_sample = true;
      sampling->temperature = 0.7;
      sampling->seed = random();
      break;
    case 4:
      sampling->repetition_penalty = 1.3;
      sampling->presence_penalty = 0.5;
      break;
    case 5:
      sampling->num_logprobs = 2;  // it cannot be sampled on the device
      sampling->score_prompt = random() % 2 == 0;
      break;
    default:
      break;
  }
}

struct Sent {
  EngineRequest request;
  std::shared_ptr<RequestHandle> handle;
  bool canceled = false;
};

// Requests of which many begin as earlier ones, or as these and their answers.
class Session {
 public:
  Session(Random& random, bool samples_on_device)
      : random_(random), toy_(Options(random), Limits(random, samples_on_device), Times(random)) {
    if (random() % 3 == 0) {
      const int every = Between(random, 5, 40);
      toy_.runner->set_late_fault([this, every](int64_t step) {
        if (step % every != 0) return Status::Ok();
        failed_ = true;
        return Status::Internal("a fault");
      });
    }
    toy_.runner->set_observer([this](std::span<const StepRow> rows) {
      // Those of beams and of choices have one token.
      shared_rows_ += std::count_if(rows.begin(), rows.end(), [](const StepRow& row) {
        return row.shared_tokens > 0 && row.tokens.size() > 1;
      });
    });
    for (int i = 0; i < 3; ++i) {
      openings_.push_back(ToyRequest(static_cast<int>(random()), Between(random, 1, 40), 1,
                                     Between(random, -1, 4)));
    }
  }

  void Run() {
    for (int i = Between(random_, 1, 8); i > 0; --i) {
      Send();
      if (random_() % 4 == 0) Send();  // together
      if (random_() % 3 == 0) {
        std::this_thread::sleep_for(std::chrono::microseconds(random_() % 200));
      }
      if (random_() % 8 == 0) CancelOne();
      if (random_() % 3 == 0) CheckOldest();
    }
    while (!sent_.empty()) CheckOldest();
    while (toy_.engine->stats().running > 0) std::this_thread::yield();
    CHECK(toy_.engine->stats().kv_tokens_used == 0);
  }

  EngineStats stats() const { return toy_.engine->stats(); }
  int64_t shared_rows() const { return shared_rows_; }

 private:
  static EngineOptions Options(Random& random) {
    EngineOptions options;
    options.max_num_seqs = Between(random, 3, 8);
    options.max_num_batched_tokens = Between(random, 1, 50);
    options.max_prefill_chunk = Between(random, 1, 20);
    options.kv_growth = Between(random, 1, 12);
    options.prefix_cache = random() % 4 != 0;
    options.speculation = random() % 4 != 0;
    options.share_from = Between(random, 8, 30);
    return options;
  }

  static RunnerLimits Limits(Random& random, bool samples_on_device) {
    RunnerLimits limits = ToyLimits(samples_on_device);
    limits.kv_tokens = Between(random, 100, 300);
    limits.image_cache_slots = Between(random, 1, 5);
    limits.max_image_batch = Between(random, 1, 3);
    return limits;
  }

  static ToyTimes Times(Random& random) {
    ToyTimes times;
    times.step = std::chrono::milliseconds(Between(random, 0, 9));
    times.image_unit = std::chrono::milliseconds(Between(random, 0, 4));
    times.image_units = static_cast<size_t>(Between(random, 1, 8));
    return times;
  }

  void Send() {
    const EngineRequest& opening = openings_[random_() % openings_.size()];
    const auto length = static_cast<int>(opening.tokens.size());
    const int kept = random_() % 2 == 0 ? length : Between(random_, 0, length);
    EngineRequest request = Continue(random_, opening, kept);
    ChooseSampling(random_, Between(random_, 1, 40), &request.sampling);
    auto handle = toy_.engine->Submit(request);
    if (!handle.ok()) return;  // too long for this arena
    sent_.push_back({std::move(request), *handle});
  }

  void CancelOne() {
    if (sent_.empty()) return;
    Sent& sent = sent_[random_() % sent_.size()];
    sent.handle->Cancel();
    sent.canceled = true;
  }

  void CheckOldest() {
    if (sent_.empty()) return;
    const Sent sent = std::move(sent_.front());
    sent_.erase(sent_.begin());
    const int count = sent.request.sampling.num_choices;
    const std::vector<Outcome> outcomes = CollectChoices(*sent.handle, count);
    for (int i = 0; i < count; ++i) {
      const EngineRequest single = count == 1 ? sent.request : ChoiceAlone(sent.request, i);
      const Outcome alone = RunFromScratch(single);
      if ((sent.canceled || failed_) && !outcomes[i].status.ok()) {
        if (single.sampling.num_beams > 1) continue;  // the best of its beams may change
        REQUIRE(outcomes[i].tokens.size() <= alone.tokens.size());
        REQUIRE(
            std::equal(outcomes[i].tokens.begin(), outcomes[i].tokens.end(), alone.tokens.begin()));
        continue;
      }
      REQUIRE(outcomes[i].status.ok());
      REQUIRE(outcomes[i].tokens == alone.tokens);
      REQUIRE(outcomes[i].reason == alone.reason);
    }
    KeepAsOpening(sent.request, outcomes.front().tokens);
  }

  // A dialogue goes on from the prompt and its answer.
  void KeepAsOpening(EngineRequest request, const std::vector<int32_t>& answer) {
    if (request.tokens.size() + answer.size() > 100) return;
    request.tokens.insert(request.tokens.end(), answer.begin(), answer.end());
    request.image_index.resize(request.tokens.size(), request.image_index.back());
    openings_[random_() % openings_.size()] = std::move(request);
  }

  Random& random_;
  std::vector<EngineRequest> openings_;
  std::vector<Sent> sent_;
  std::atomic<bool> failed_ = false;
  std::atomic<int64_t> shared_rows_ = 0;
  ToyEngine toy_;  // last: its thread uses the one before
};

TEST_CASE("the tokens of a request do not depend on what the engine is short of",
          "[engine][contract.alone][contract.preempt]") {
  const bool samples_on_device = GENERATE(false, true);
  CAPTURE(samples_on_device);
  Random random(11);
  int64_t preemptions = 0, prefix_tokens = 0, guesses_right = 0, shared_rows = 0;
  for (int i = 0; i < Schedules(); ++i) {
    CAPTURE(i);
    Session session(random, samples_on_device);
    session.Run();
    preemptions += session.stats().preemptions;
    prefix_tokens += session.stats().prefix_tokens;
    guesses_right += session.stats().guesses_right;
    shared_rows += session.shared_rows();
  }
  CHECK(preemptions > Schedules() / 100);
  CHECK(prefix_tokens > Schedules());
  CHECK(guesses_right > Schedules() / 10);
  CHECK(shared_rows > Schedules() / 10);
}

}  // namespace
}  // namespace idefics
