// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/health.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <nlohmann/json.hpp>

#include "common/log.h"
#include "common/rfc3339.h"
#include "common/version.h"
#include "server/api/cog/openapi.h"

namespace idefics {
namespace {

using nlohmann::json;
using Phase = SetupState::Phase;

const char* SetupStatus(Phase phase) {
  switch (phase) {
    case Phase::kStarting:
      return "starting";
    case Phase::kReady:
      return "succeeded";
    case Phase::kFailed:
      break;
  }
  return "failed";
}

json SetupObject(const SetupState::View& setup) {
  json object = {{"started_at", Rfc3339(setup.started_at)}, {"status", SetupStatus(setup.phase)}};
  if (setup.completed_at) object["completed_at"] = Rfc3339(*setup.completed_at);
  if (!setup.logs.empty()) object["logs"] = setup.logs;
  return object;
}

// BUSY: a new prediction would get 409.
const char* StatusOf(Phase phase, const ServiceHealth& health, const JobQueue& queue) {
  if (phase == Phase::kStarting) return "STARTING";
  if (phase == Phase::kFailed) return "SETUP_FAILED";
  switch (health.state) {
    case ServiceHealth::State::kBroken:
      return "DEFUNCT";
    case ServiceHealth::State::kUnhealthy:
      return "UNHEALTHY";
    case ServiceHealth::State::kGood:
      break;
  }
  return queue.full() ? "BUSY" : "READY";
}

}  // namespace

json HealthBody(const JobService& service) {
  const JobQueue& queue = service.queue();
  const SetupState::View setup = service.setup().view();
  const ServiceHealth health = service.health();
  json body = {{"setup", SetupObject(setup)},
               {"status", StatusOf(setup.phase, health, queue)},
               {"version",
                {{"coglet", kCogVersion}, {"python_sdk", kCogVersion}, {"server", "cog-idefics"}}}};
  if (setup.phase != Phase::kReady) return body;
  if (!health.message.empty()) body["user_healthcheck_error"] = health.message;
  body["concurrency"] = {{"max", queue.max_slots()}, {"current", queue.used_slots()}};
  if (queue.max_queued() > 0) {
    body["queue"] = {{"max", queue.max_queued()}, {"current", queue.num_queued()}};
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

void RemoveReadinessFile() {
  if (std::getenv("KUBERNETES_SERVICE_HOST") != nullptr) unlink("/var/run/cog/ready");
}

}  // namespace idefics
