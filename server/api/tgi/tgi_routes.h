// SPDX-License-Identifier: Apache-2.0
// text-generation-inference's routes on a router. Thread safe: routes run on HTTP workers.
#pragma once

#include <string>
#include <variant>

#include "server/api/tgi/tgi_request.h"
#include "server/http/router.h"
#include "server/jobs/job_service.h"

namespace idefics {

struct TgiOptions {
  std::string model;    // its name
  int max_queued = -1;  // requests of this API that may wait for a slot; -1: four for each slot
};

class TgiRoutes {
 public:
  // `service` must outlive this.
  TgiRoutes(JobService& service, TgiOptions options)
      : service_(service), options_(std::move(options)) {}

  // `router` must not outlive this.
  void AddTo(Router& router);

 private:
  struct Started {
    TgiRequest wanted;
    JobService::Submitted submitted;
  };

  std::variant<Started, HttpResponse> Start(HttpRequest& request, bool streams);
  HttpResponse Generate(HttpRequest& request, bool streams);
  HttpResponse Whole(const Started& started, HttpPeer& peer);
  HttpResponse Stream(Started started, HttpPeer& peer);
  HttpResponse Info() const;

  JobService& service_;
  const TgiOptions options_;
};

}  // namespace idefics
