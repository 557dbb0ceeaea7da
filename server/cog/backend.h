// SPDX-License-Identifier: Apache-2.0
// What runs a prediction, as the Cog layer sees it: the model (model_backend.h) or the fake engine.
#pragma once

#include <nlohmann/json.hpp>
#include <optional>
#include <stop_token>
#include <string>
#include <string_view>

#include "common/status.h"

namespace idefics {

// Where a running prediction puts what it makes. Called on the thread that runs Backend::Run.
class PredictionSink {
 public:
  virtual ~PredictionSink() = default;
  // A piece of the output: whole UTF-8 characters.
  virtual void Output(std::string_view piece) = 0;
  // `text`: whole lines, "\n" included. `source`: "stdout" or "stderr".
  virtual void Log(std::string_view source, std::string_view text) = 0;
  virtual void Metric(const std::string& name, nlohmann::json value) = 0;
};

class Backend {
 public:
  virtual ~Backend() = default;

  // Loads what is slow to load; called once, before Run. A requested stop ends it early where it
  // can.
  virtual Status Setup(std::stop_token stop) = 0;

  // How many predictions Run can usefully run at once. REQUIRES: Setup was ok.
  virtual int max_concurrency() const = 0;

  // Runs one prediction to its end. `input`: validated values of the input table. Any number of
  // threads. kCanceled: `stop` was obeyed. Never throws for what an input holds.
  virtual Status Run(const nlohmann::json& input, PredictionSink& sink, std::stop_token stop) = 0;

  // Set: what the health check shows as UNHEALTHY. Called often; must not wait for the engine.
  virtual std::optional<std::string> HealthError() { return std::nullopt; }
};

}  // namespace idefics
