// SPDX-License-Identifier: Apache-2.0
// The fake engine: a Predictor that obeys directives at the start of the text
// (docs/cog-api.md#fake-server), so that everything around a model can be tested in milliseconds
// without one. Thread safe.
#pragma once

#include <atomic>
#include <stop_token>
#include <string>

#include "predictor/predictor.h"

namespace idefics {

struct FakeOptions {
  double setup_delay_s = 0;
  std::string setup_fail;  // not empty: set-up fails with this
  std::string health;      // "", "false", "raise", "hang"
};

// FAKE_SETUP_DELAY, FAKE_SETUP_FAIL, FAKE_HEALTH.
FakeOptions FakeOptionsFromEnvironment();

// What loading a model is to a real one.
Status FakeSetup(const FakeOptions& options, const std::stop_token& stop);

class FakePredictor final : public Predictor {
 public:
  explicit FakePredictor(FakeOptions options);

  const ModelInfo& info() const override { return info_; }
  GenerateResult Generate(const GenerateRequest& request, std::stop_token stop,
                          GenerateObserver& observer) override;
  PredictorHealth health() const override;

 private:
  const FakeOptions options_;
  ModelInfo info_;
  std::atomic<bool> crashed_{false};
};

}  // namespace idefics
