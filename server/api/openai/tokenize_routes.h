// SPDX-License-Identifier: Apache-2.0
// POST /tokenize, POST /detokenize, GET /tokenizer_info: text <-> the model's token ids, as
// evaluation and benchmark clients ask for them (docs/openai-api.md#routes). Thread safe.
#pragma once

#include "server/http/router.h"
#include "server/jobs/job_service.h"

namespace idefics {

class TokenizeRoutes {
 public:
  // `service` must outlive this.
  explicit TokenizeRoutes(JobService& service) : service_(service) {}

  HttpResponse Tokenize(HttpRequest& request) const;
  HttpResponse Detokenize(HttpRequest& request) const;
  HttpResponse Info() const;

 private:
  JobService& service_;
};

}  // namespace idefics
