// SPDX-License-Identifier: Apache-2.0
// Predictor: all that the server knows of the model. One implementation loads a bundle and runs it
// (model_predictor.h), one obeys directives in the text (scripts/fake_server). Thread safe: any
// number of threads may call Generate at once.
#pragma once

#include <span>
#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "predictor/engine/engine_meters.h"
#include "predictor/types.h"

namespace idefics {

// What was loaded, in words of an enumeration each.
struct ModelForm {
  std::string weights = "none";  // how the decoder's linears are stored: "bf16", "int4", …
  std::string dtype = "none";    // that it computes in
  std::string device = "none";   // "cpu", "cuda:0", …
  int bundle_format = 0;
};

struct ModelInfo {
  std::vector<int32_t> prompt_eos_token_ids;           // TokenDefaults::kPrompt
  std::vector<int32_t> question_eos_token_ids;         // TokenDefaults::kQuestion
  std::vector<std::vector<int32_t>> banned_words_ids;  // <image>, <fake_token_around_image>
  int max_concurrency = 1;                             // sequences the engine runs at once
  int max_sequence_tokens = 0;                         // prompt and new tokens of one sequence
  bool is_demo = false;  // the model of weights/demo, which knows drawn scenes only
  // False: a stand-in for a model. Its text is the answer as it is, and it counts no tokens.
  bool is_model = true;
  ModelForm form;
};

// How it is, beside what it was asked.
struct PredictorHealth {
  bool broken = false;    // for good: nothing will run again in this process
  double stalled_s = 0;   // it has work and made no progress for so long
  std::string complaint;  // one sentence where something is wrong although it still runs
};

// What it is doing, in numbers.
struct PredictorStats {
  int running = 0;  // requests with a place in the engine
  int waiting = 0;  // for one
  int64_t kv_tokens = 0;
  int64_t kv_tokens_used = 0;    // by running requests
  int64_t kv_tokens_cached = 0;  // by none, for those that may begin alike
  int max_running = 0;           // sequences
  int64_t image_slots = 0;
  int64_t image_hits = 0;  // images of requests that were encoded already
  int64_t image_misses = 0;
  int64_t steps = 0;
  int64_t preemptions = 0;  // of running requests, which ran their tokens again later
};

enum class LogSource { kStdout, kStderr };

using MetricValue = std::variant<bool, int64_t, double, std::string>;
struct Metric {
  std::string name;  // dots nest: "time.load"
  MetricValue value;
};

// New text of one choice, and the tokens whose text is in it or was held back before it.
struct TextPiece {
  // Whole UTF-8 characters. Empty only where a choice ends and tokens are left that the text does
  // not show, those of a stop string, and with the prompt's tokens, which come before the others
  // where SamplingParams::score_prompt asks for them; NaN stands for the first one's probability.
  std::string_view text;
  int choice = 0;
  std::span<const int32_t> token_ids;       // never the end token; else each is in one piece
  std::span<const TokenLogprobs> logprobs;  // one for each of token_ids where asked for
};

// What a running request lets be seen. Called on the thread that called Generate, in order.
class GenerateObserver {
 public:
  virtual ~GenerateObserver() = default;
  // Once, before any text: the tokens of the prompt, and those of them that stand for images.
  virtual void OnPrompt(int /*num_tokens*/, int /*num_image_tokens*/) {}
  // The texts of a choice concatenate to Choice::text. What `piece` refers to ends with the call.
  virtual void OnText(const TextPiece& piece) = 0;
  // After the last piece of the choice; once for each choice, also where the request fails.
  virtual void OnChoiceEnd(int /*choice*/, FinishReason /*reason*/) {}
  // `text`: whole lines, "\n" included.
  virtual void OnLog(LogSource /*source*/, std::string_view /*text*/) {}
  virtual void OnMetric(Metric /*metric*/) {}
};

class Predictor {
 public:
  virtual ~Predictor() = default;

  virtual const ModelInfo& info() const = 0;

  // Decodes and resizes the images, builds and checks the prompt, runs it to its end and returns.
  // `stop` cancels within one engine step. Failures are the result's status; only running out of
  // memory may throw. REQUIRES: every image of the prompt has its file.
  virtual GenerateResult Generate(const GenerateRequest& request, std::stop_token stop,
                                  GenerateObserver& observer) = 0;

  // nullptr: it has none. Lives as long as this.
  virtual const Tokenizer* tokenizer() const { return nullptr; }

  // These take no lock and never wait.
  virtual PredictorHealth health() const { return {}; }
  virtual PredictorStats stats() const { return {}; }
  // nullptr: it has no engine. Lives as long as this.
  virtual const EngineMeters* meters() const { return nullptr; }
};

}  // namespace idefics
