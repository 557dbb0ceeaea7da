// SPDX-License-Identifier: Apache-2.0
// OpenAI's routes on a router (docs/openai-api.md#routes). Thread safe: routes run on HTTP workers.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "server/api/openai/completion_routes.h"
#include "server/api/openai/tokenize_routes.h"

namespace idefics {

// 401 in the words of the API that has the path.
HttpResponse KeyRefusal(const HttpRequest& request);

class OpenAiRoutes {
 public:
  // `service` must outlive this.
  OpenAiRoutes(JobService& service, OpenAiOptions options);

  // `router` must not outlive this.
  void AddTo(Router& router);

 private:
  nlohmann::json Card(const std::string& name) const;
  HttpResponse Models() const;
  HttpResponse Model(const std::string& name) const;
  HttpResponse Health() const;

  JobService& service_;
  const OpenAiOptions options_;
  const int64_t started_at_;  // seconds since 1970
  CompletionRoutes completions_;
  TokenizeRoutes tokens_;
};

}  // namespace idefics
