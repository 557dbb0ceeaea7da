// SPDX-License-Identifier: Apache-2.0
#include "server/api/metrics_object.h"

#include <nlohmann/json.hpp>
#include <string>
#include <utility>

namespace idefics {
namespace {

using nlohmann::json;

// "time.load" = 1 -> {"time": {"load": 1}}; only events keep the dots.
void SetNested(std::string_view name, const json& value, json* object) {
  if (!object->is_object()) *object = json::object();
  const size_t dot = name.find('.');
  json& member = (*object)[std::string(name.substr(0, dot))];
  if (dot == std::string_view::npos) {
    member = value;
  } else {
    SetNested(name.substr(dot + 1), value, &member);
  }
}

}  // namespace

json MetricJson(const MetricValue& value) {
  return std::visit([](const auto& plain) { return json(plain); }, value);
}

json MetricsObject(const JobView& view) {
  json metrics = json::object();
  for (const Metric& metric : view.metrics) {
    SetNested(metric.name, MetricJson(metric.value), &metrics);
  }
  if (IsTerminal(view.state)) metrics["predict_time"] = view.run_s;
  return metrics;
}

}  // namespace idefics
