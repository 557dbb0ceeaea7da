// SPDX-License-Identifier: Apache-2.0
// What runs a prediction, as the Cog layer sees it: the model (model_backend.h) or the fake engine.
#pragma once

#include <nlohmann/json.hpp>
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

// What the health check shows beside its own states.
struct BackendHealth {
  enum class State {
    kGood,
    kUnhealthy,  // UNHEALTHY: predictions are still tried
    kDefunct,    // DEFUNCT: it will never run again; predictions get 503
  };
  State state = State::kGood;
  std::string message;  // one sentence, where it is not kGood
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

  // Called often, by any thread; must not wait for the engine. REQUIRES: Setup was ok.
  virtual BackendHealth Health() const { return {}; }
};

}  // namespace idefics
