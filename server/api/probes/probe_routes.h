// SPDX-License-Identifier: Apache-2.0
// What platforms ask before they send work, each in its own words: Kubernetes (/livez, /readyz),
// KServe's open inference protocol (/v2/…), SageMaker and RunPod (/ping). All are views of
// ServiceState (server/jobs/job_service.h). Thread safe; none waits.
#pragma once

#include <string>

#include "server/http/router.h"
#include "server/jobs/job_service.h"

namespace idefics {

// Whether requests are welcome: 200, or 503 with why not.
HttpResponse ReadinessAnswer(const ServiceState& state);

class ProbeRoutes {
 public:
  // `model`: the name that the open inference protocol shows. `service` must outlive this.
  ProbeRoutes(const JobService& service, std::string model)
      : service_(service), model_(std::move(model)) {}

  void AddTo(Router& router);

  // These need no key.
  static bool IsProbe(const std::string& path);

 private:
  HttpResponse Live() const;
  HttpResponse Ping() const;
  HttpResponse Model(const std::string& name) const;
  HttpResponse ModelReady(const std::string& name) const;

  const JobService& service_;
  const std::string model_;
};

}  // namespace idefics
