// SPDX-License-Identifier: Apache-2.0
// The fake engine: a Predictor that obeys directives at the start of the text
// (docs/cog-api.md#fake-server), so that everything around a model can be tested in milliseconds
// without one. Thread safe.
#pragma once

#include <atomic>
#include <memory>
#include <stop_token>
#include <string>

#include "predictor/predictor.h"
#include "predictor/text/tokenizer.h"

namespace idefics {

struct FakeOptions {
  double setup_delay_s = 0;
  std::string setup_hold;  // not empty: set-up goes on once this file exists
  std::string setup_fail;  // not empty: set-up fails with this
  std::string health;      // "", "false", "raise", "hang"
  std::string tokenizer;   // file of a tokenizer.model: OpenAI's API answers too
};

// FAKE_SETUP_DELAY, FAKE_SETUP_HOLD, FAKE_SETUP_FAIL, FAKE_HEALTH, FAKE_TOKENIZER.
FakeOptions FakeOptionsFromEnvironment();

// What loading a model is to a real one.
Result<std::unique_ptr<Predictor>> LoadFake(const FakeOptions& options,
                                            const std::stop_token& stop);

class FakePredictor final : public Predictor {
 public:
  // `tokenizer`: nullptr is none.
  FakePredictor(FakeOptions options, std::unique_ptr<Tokenizer> tokenizer);

  const ModelInfo& info() const override { return info_; }
  GenerateResult Generate(const GenerateRequest& request, std::stop_token stop,
                          GenerateObserver& observer) override;
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  PredictorHealth health() const override;

 private:
  const FakeOptions options_;
  const std::unique_ptr<Tokenizer> tokenizer_;
  ModelInfo info_;
  std::atomic<bool> crashed_{false};
};

}  // namespace idefics
