// SPDX-License-Identifier: Apache-2.0
// How far the start is: the `setup` object and the status of /health-check. Thread safe.
#pragma once

#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>

#include "server/cog/backend.h"
#include "server/cog/registry.h"

namespace idefics {

class SetupState {
 public:
  enum class Phase { kStarting, kReady, kFailed };

  SetupState();

  // The first one counts: a setup that ends after its time-out changes nothing.
  void Succeed(const std::string& logs);
  void Fail(const std::string& logs);

  Phase phase() const;
  nlohmann::json Object() const;  // {"started_at":…, "status":…, …}

 private:
  bool End(Phase phase, const std::string& status, const std::string& logs);

  mutable std::mutex mutex_;
  Phase phase_ = Phase::kStarting;
  nlohmann::json object_;
};

// The body of /health-check.
nlohmann::json HealthBody(const SetupState& setup, const Registry& registry,
                          const Backend& backend);

// Replicate's readiness file, where KUBERNETES_SERVICE_HOST is set.
void WriteReadinessFile();

}  // namespace idefics
