// SPDX-License-Identifier: Apache-2.0
// Cog's endpoints (docs/cog-api.md) on a router. Thread safe: routes run on HTTP workers.
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "server/api/cog/admission.h"
#include "server/api/cog/event_stream.h"
#include "server/http/router.h"

namespace idefics {

class CogRoutes {
 public:
  // `admission` must outlive this. `request_shutdown` returns at once.
  CogRoutes(Admission& admission, std::function<void()> request_shutdown);

  // `router` must not outlive this.
  void AddTo(Router& router);

 private:
  HttpResponse Health() const;
  HttpResponse Predict(HttpRequest& request, const std::string* path_id);
  HttpResponse Get(const std::string& id);
  HttpResponse Cancel(const std::string& id);

  Admission& admission_;
  JobService& service_;
  const std::function<void()> request_shutdown_;
  EventStreams streams_;
  const std::string openapi_;
};

}  // namespace idefics
