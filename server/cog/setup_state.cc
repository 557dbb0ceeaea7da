// SPDX-License-Identifier: Apache-2.0
#include "server/cog/setup_state.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>

#include "common/log.h"
#include "server/cog/openapi.h"

namespace idefics {
namespace {

using nlohmann::json;

std::string Now() { return Rfc3339(std::chrono::system_clock::now()); }

// BUSY: a new prediction would get 409.
const char* StatusWhenReady(const BackendHealth& health, const Registry& registry) {
  switch (health.state) {
    case BackendHealth::State::kDefunct:
      return "DEFUNCT";
    case BackendHealth::State::kUnhealthy:
      return "UNHEALTHY";
    case BackendHealth::State::kGood:
      break;
  }
  return registry.full() ? "BUSY" : "READY";
}

}  // namespace

SetupState::SetupState() : object_{{"started_at", Now()}, {"status", "starting"}} {}

bool SetupState::End(Phase phase, const std::string& status, const std::string& logs) {
  const std::lock_guard lock(mutex_);
  if (phase_ != Phase::kStarting) return false;
  phase_ = phase;
  object_["status"] = status;
  object_["completed_at"] = Now();
  if (!logs.empty()) object_["logs"] = logs;
  return true;
}

void SetupState::Succeed(const std::string& logs) {
  if (End(Phase::kReady, "succeeded", logs)) WriteReadinessFile();
}

void SetupState::Fail(const std::string& logs) {
  if (End(Phase::kFailed, "failed", logs)) LogError("Setup failed: " + logs);
}

SetupState::Phase SetupState::phase() const {
  const std::lock_guard lock(mutex_);
  return phase_;
}

json SetupState::Object() const {
  const std::lock_guard lock(mutex_);
  return object_;
}

json HealthBody(const SetupState& setup, const Registry& registry, const Backend& backend) {
  json body = {{"setup", setup.Object()},
               {"version",
                {{"coglet", kCogVersion}, {"python_sdk", kCogVersion}, {"server", "cog-idefics"}}}};
  const std::string phase = body["setup"]["status"];
  if (phase == "starting") {
    body["status"] = "STARTING";
  } else if (phase == "failed") {
    body["status"] = "SETUP_FAILED";
  } else {
    const BackendHealth health = backend.Health();
    body["status"] = StatusWhenReady(health, registry);
    if (!health.message.empty()) body["user_healthcheck_error"] = health.message;
    body["concurrency"] = {{"max", registry.max_slots()}, {"current", registry.used_slots()}};
    if (registry.max_queued() > 0) {
      body["queue"] = {{"max", registry.max_queued()}, {"current", registry.queued()}};
    }
  }
  return body;
}

void WriteReadinessFile() {
  if (std::getenv("KUBERNETES_SERVICE_HOST") == nullptr) return;
  constexpr mode_t kFolderMode = 0755;
  constexpr mode_t kFileMode = 0644;
  mkdir("/var/run/cog", kFolderMode);
  const int fd = open("/var/run/cog/ready", O_CREAT | O_WRONLY | O_CLOEXEC, kFileMode);
  if (fd < 0) return LogWarning("The readiness file /var/run/cog/ready could not be written.");
  close(fd);
}

}  // namespace idefics
