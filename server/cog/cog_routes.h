// SPDX-License-Identifier: Apache-2.0
// Cog's endpoints (cog-contract.md section 1) on a router. Thread safe: routes run on HTTP workers.
#pragma once

#include <atomic>
#include <functional>
#include <string>

#include "server/cog/backend.h"
#include "server/cog/openapi.h"
#include "server/cog/registry.h"
#include "server/cog/runner.h"
#include "server/cog/setup_state.h"
#include "server/cog/webhook.h"
#include "server/http/router.h"

namespace idefics {

class CogRoutes {
 public:
  struct Parts {
    Backend& backend;
    Registry& registry;
    Runner& runner;
    SetupState& setup;
    WebhookSender& webhooks;
    std::function<void()> request_shutdown;  // returns at once
  };

  CogRoutes(Parts parts, OutputKind output);

  // `router` must not outlive this.
  void AddTo(Router& router);

 private:
  HttpResponse Health();
  HttpResponse Predict(HttpRequest& request, const std::string* path_id);
  HttpResponse Claim(PredictionRequest prediction_request, const HttpRequest& request);
  HttpResponse WaitForEnd(const std::shared_ptr<Prediction>& prediction,
                          const HttpRequest& request);
  HttpResponse Get(const std::string& id);
  HttpResponse Cancel(const std::string& id);

  Parts parts_;
  const OutputKind output_;
  const std::string openapi_;
};

// The body of GET /.
std::string RootBody();

}  // namespace idefics
