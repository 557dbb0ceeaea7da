// SPDX-License-Identifier: Apache-2.0
#include "scripts/fake_server/fake_predictor.h"

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <utility>

#include "common/defaults.h"
#include "predictor/text/sentencepiece_model.h"
#include "scripts/fake_server/fake_run.h"

namespace idefics {
namespace {

// Hands the text on as that of every choice, and keeps it.
class KeepingObserver final : public GenerateObserver {
 public:
  KeepingObserver(GenerateObserver& observer, std::vector<Choice>* choices)
      : observer_(observer), choices_(*choices) {}
  void OnText(const TextPiece& piece) override {
    for (size_t i = 0; i < choices_.size(); ++i) {
      choices_[i].text += piece.text;
      TextPiece shown = piece;
      shown.choice = static_cast<int>(i);
      observer_.OnText(shown);
    }
  }
  void OnLog(LogSource source, std::string_view text) override { observer_.OnLog(source, text); }
  void OnMetric(Metric metric) override { observer_.OnMetric(std::move(metric)); }

 private:
  GenerateObserver& observer_;
  std::vector<Choice>& choices_;
};

// With the tokens that instruct checkpoints add to such a vocabulary.
Result<std::unique_ptr<Tokenizer>> LoadTokenizer(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  std::ostringstream content;
  content << in.rdbuf();
  if (!in) return Status::InvalidInput("FAKE_TOKENIZER: " + path + " cannot be read");
  const std::string bytes = std::move(content).str();
  ASSIGN_OR_RETURN(const auto vocabulary, SentencePieceModel::Load(bytes));
  return Tokenizer::Create(bytes,
                           SpecialTokens::Released(vocabulary->num_pieces(), /*instruct=*/true));
}

}  // namespace

FakeOptions FakeOptionsFromEnvironment() {
  const auto read = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  FakeOptions options;
  options.setup_delay_s = FakeSeconds(read("FAKE_SETUP_DELAY"));
  options.setup_hold = read("FAKE_SETUP_HOLD");
  options.setup_fail = read("FAKE_SETUP_FAIL");
  options.health = read("FAKE_HEALTH");
  options.tokenizer = read("FAKE_TOKENIZER");
  return options;
}

Result<std::unique_ptr<Predictor>> LoadFake(const FakeOptions& options,
                                            const std::stop_token& stop) {
  if ((options.setup_delay_s > 0 && !FakeSleep(options.setup_delay_s, stop)) ||
      (!options.setup_hold.empty() && !FakeHold(options.setup_hold, stop))) {
    return Status(ErrorCode::kCanceled, "canceled");
  }
  if (!options.setup_fail.empty()) return Status::InvalidInput(options.setup_fail);
  std::unique_ptr<Tokenizer> tokenizer;
  if (!options.tokenizer.empty()) {
    ASSIGN_OR_RETURN(tokenizer, LoadTokenizer(options.tokenizer));
  }
  return std::unique_ptr<Predictor>(std::make_unique<FakePredictor>(options, std::move(tokenizer)));
}

FakePredictor::FakePredictor(FakeOptions options, std::unique_ptr<Tokenizer> tokenizer)
    : options_(std::move(options)), tokenizer_(std::move(tokenizer)) {
  info_.max_concurrency = 1;
  info_.max_sequence_tokens = defaults::kMaxSequenceTokens;
  info_.is_model = false;
}

GenerateResult FakePredictor::Generate(const GenerateRequest& request, std::stop_token stop,
                                       GenerateObserver& observer) {
  GenerateResult result;
  result.choices.resize(std::max(1, request.sampling.num_choices));
  KeepingObserver keeping(observer, &result.choices);
  result.status = RunDirectives(request, stop, keeping);
  for (size_t i = 0; i < result.choices.size(); ++i) {
    Choice& choice = result.choices[i];
    if (result.status.ok()) choice.finish_reason = FinishReason::kEos;
    observer.OnChoiceEnd(static_cast<int>(i), choice.finish_reason);
  }
  if (result.status.code() == ErrorCode::kNotReady) crashed_ = true;
  return result;
}

PredictorHealth FakePredictor::health() const {
  PredictorHealth health;
  const std::string prefix = "Healthcheck failed: ";
  if (crashed_) {
    health.broken = true;
    health.complaint = "The engine crashed and cannot go on: restart the server.";
  } else if (options_.health == "false") {
    health.complaint = prefix + "user-defined healthcheck returned False";
  } else if (options_.health == "raise") {
    health.complaint = prefix + "RuntimeError: gpu is on fire";
  } else if (options_.health == "hang") {
    // The hook itself would hang; what is shown is its outcome (docs/cog-api.md#health-check).
    health.complaint = prefix + "user-defined healthcheck timed out after 5.0 seconds";
  }
  return health;
}

}  // namespace idefics
