// SPDX-License-Identifier: Apache-2.0
// Predictor: all that the server knows of the model. One implementation loads a bundle and runs it
// (model_predictor.h), one obeys directives in the text (scripts/fake_server). Thread safe: any
// number of threads may call Generate at once.
#pragma once

#include <stop_token>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "predictor/types.h"

namespace idefics {

struct ModelInfo {
  std::vector<int32_t> prompt_eos_token_ids;           // TokenDefaults::kPrompt
  std::vector<int32_t> question_eos_token_ids;         // TokenDefaults::kQuestion
  std::vector<std::vector<int32_t>> banned_words_ids;  // <image>, <fake_token_around_image>
  int max_images = 0;                                  // of one request
  int max_concurrency = 1;                             // sequences the engine runs at once
  // False: a stand-in for a model. Its text is the answer as it is, and it counts no tokens.
  bool is_model = true;
};

// How it is, beside what it was asked.
struct PredictorHealth {
  bool broken = false;    // for good: nothing will run again in this process
  double stalled_s = 0;   // it has work and made no progress for so long
  std::string complaint;  // one sentence where something is wrong although it still runs
};

enum class LogSource { kStdout, kStderr };

using MetricValue = std::variant<bool, int64_t, double, std::string>;
struct Metric {
  std::string name;  // dots nest: "time.load"
  MetricValue value;
};

// What a running request lets be seen. Called on the thread that called Generate, in order.
class GenerateObserver {
 public:
  virtual ~GenerateObserver() = default;
  // New text, whole UTF-8 characters; the pieces concatenate to GenerateResult::text.
  virtual void OnText(std::string_view piece) = 0;
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

  // Takes no lock and never waits.
  virtual PredictorHealth health() const { return {}; }
};

}  // namespace idefics
