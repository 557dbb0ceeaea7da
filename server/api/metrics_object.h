// SPDX-License-Identifier: Apache-2.0
// A job's metrics as JSON: in Cog's prediction object, and at the end of OpenAI's streams. Pure.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include "server/jobs/event_log.h"

namespace idefics {

nlohmann::json MetricJson(const MetricValue& value);

// By name, where a dot nests; `predict_time` too where the job has ended.
nlohmann::json MetricsObject(const JobView& view);

}  // namespace idefics
