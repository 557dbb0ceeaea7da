// SPDX-License-Identifier: Apache-2.0
// The fake engine: obeys directives at the start of the text, so that the whole contract can be
// tested in milliseconds without a model. Its language is in README.md of this folder.
#pragma once

#include <atomic>
#include <memory>
#include <string>

#include "server/cog/backend.h"
#include "server/fetch/image_source.h"

namespace idefics {

struct FakeOptions {
  double setup_delay_s = 0;
  std::string setup_fail;  // not empty: set-up fails with this
  std::string health;      // "", "false", "raise", "hang"
  int max_concurrency = 1;
};

// FAKE_SETUP_DELAY, FAKE_SETUP_FAIL, FAKE_HEALTH.
FakeOptions FakeOptionsFromEnvironment();

class FakeBackend final : public Backend {
 public:
  FakeBackend(FakeOptions options, std::unique_ptr<ImageSource> images);

  Status Setup(std::stop_token stop) override;
  int max_concurrency() const override { return options_.max_concurrency; }
  Status Run(const nlohmann::json& input, PredictionSink& sink, std::stop_token stop) override;
  BackendHealth Health() const override;

 private:
  const FakeOptions options_;
  const std::unique_ptr<ImageSource> images_;
  std::atomic<bool> crashed_{false};
};

}  // namespace idefics
