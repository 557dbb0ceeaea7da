// SPDX-License-Identifier: Apache-2.0
// GET /metrics (docs/operations.md#metrics): what the server counts, in Prometheus' text format or,
// where Accept asks for it, OpenMetrics. Takes no lock of the engine. Thread safe.
#pragma once

#include <functional>
#include <string>
#include <utility>

#include "server/http/http_metrics.h"
#include "server/http/router.h"
#include "server/jobs/job_service.h"
#include "server/trace/tracer.h"

namespace idefics {

class MetricsRoutes {
 public:
  using More = std::function<void(MetricsPage&)>;

  // `model`: the label model_name. `aliases`: whether families stand under vLLM's names, too.
  // `more`: appends what others count. All must outlive this.
  MetricsRoutes(const JobService& service, const HttpMetrics& http, const Tracer& tracer,
                std::string model, bool aliases, More more)
      : service_(service),
        http_(http),
        tracer_(tracer),
        model_(std::move(model)),
        aliases_(aliases),
        more_(std::move(more)) {}

  void AddTo(Router& router);

 private:
  std::string Page(MetricsPage::Format format) const;

  const JobService& service_;
  const HttpMetrics& http_;
  const Tracer& tracer_;
  const std::string model_;
  const bool aliases_;
  const More more_;
};

}  // namespace idefics
