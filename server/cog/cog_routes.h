// SPDX-License-Identifier: Apache-2.0
// Cog's endpoints (cog-contract.md section 1) on a router. Thread safe: routes run on HTTP workers.
#pragma once

#include <string>

#include "server/cog/admission.h"
#include "server/cog/event_stream.h"
#include "server/http/router.h"

namespace idefics {

class CogRoutes {
 public:
  explicit CogRoutes(Admission& admission);

  // `router` must not outlive this.
  void AddTo(Router& router);

 private:
  HttpResponse Health() const;
  HttpResponse Predict(HttpRequest& request, const std::string* path_id);
  HttpResponse Get(const std::string& id);
  HttpResponse Cancel(const std::string& id);

  Admission& admission_;
  EventStreams streams_;
  const std::string openapi_;
};

// The body of GET /.
std::string RootBody();

}  // namespace idefics
