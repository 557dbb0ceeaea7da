// SPDX-License-Identifier: Apache-2.0
// Vertex AI's custom containers (docs/operations.md#platforms): {"instances": […], "parameters":
// {…}} -> {"predictions": […]}, at the paths that the platform names in the environment. Thread
// safe.
#pragma once

#include <functional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "server/http/router.h"
#include "server/jobs/job_service.h"

namespace idefics {

struct VertexPaths {
  std::string health;   // AIP_HEALTH_ROUTE; "": none
  std::string predict;  // AIP_PREDICT_ROUTE; "": none

  // `get`: std::getenv's work.
  static VertexPaths From(const std::function<const char*(const char*)>& get);
};

class VertexRoutes {
 public:
  // `service` must outlive this.
  VertexRoutes(JobService& service, VertexPaths paths)
      : service_(service), paths_(std::move(paths)) {}

  // Before all others: the platform's paths are its own choice.
  void AddTo(Router& router);

  // This needs no key.
  bool IsProbe(std::string_view path) const { return !path.empty() && path == paths_.health; }
  bool IsPrediction(std::string_view path) const { return !path.empty() && path == paths_.predict; }

 private:
  HttpResponse Predict(HttpRequest& request);
  std::variant<std::vector<JobSpec>, Rejection> Read(HttpRequest& request) const;

  JobService& service_;
  const VertexPaths paths_;
};

}  // namespace idefics
