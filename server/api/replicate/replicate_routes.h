// SPDX-License-Identifier: Apache-2.0
// Replicate's public API over the same jobs, as far as its Python client needs it with `base_url`
// set to this server (docs/cog-api.md#replicates-api): predictions.create, get, cancel, run,
// models.predictions.create. Asynchronous unless "Prefer: wait"; answers have model, version and
// urls. Thread safe.
#pragma once

#include <memory>
#include <string>

#include "server/api/cog/admission.h"
#include "server/http/router.h"

namespace idefics {

class ReplicateRoutes {
 public:
  // `admission` must outlive this.
  explicit ReplicateRoutes(Admission& admission);

  // `router` must not outlive this.
  void AddTo(Router& router);

 private:
  HttpResponse Create(HttpRequest& request, const std::string& model);
  HttpResponse Get(const HttpRequest& request, const std::string& id);
  HttpResponse Cancel(const HttpRequest& request, const std::string& id);
  HttpResponse Version(const std::string& id) const;

  Admission& admission_;
  JobService& service_;
  const std::string started_at_;
};

}  // namespace idefics
