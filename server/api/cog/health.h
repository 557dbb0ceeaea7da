// SPDX-License-Identifier: Apache-2.0
// /health-check (docs/cog-api.md#health-check), and the readiness file of Replicate's platform.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "server/jobs/job_service.h"

namespace idefics {

// The body of /health-check.
nlohmann::json HealthBody(const JobService& service);

// /var/run/cog/ready, where KUBERNETES_SERVICE_HOST is set.
void WriteReadinessFile();
// The server is about to stop.
void RemoveReadinessFile();

}  // namespace idefics
