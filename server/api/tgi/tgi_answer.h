// SPDX-License-Identifier: Apache-2.0
// What a job has written, as text-generation-inference's objects. Pure.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "predictor/text/tokenizer.h"
#include "server/api/job_exchange.h"
#include "server/api/tgi/tgi_request.h"

namespace idefics {

struct TgiError {
  int status = 422;
  std::string message;
  const char* type = "validation";
};

TgiError TgiErrorOf(const Status& failure);

// {"error", "error_type"}, with Retry-After where trying again may help.
HttpResponse TgiErrorResponse(const TgiError& error);
inline HttpResponse TgiFailure(const Status& failure) {
  return TgiErrorResponse(TgiErrorOf(failure));
}

// {"generated_text", "details"?}. `view`: of a job that succeeded.
nlohmann::json TgiAnswer(const JobView& view, const TgiRequest& wanted, const Tokenizer& tokenizer);

// The records of a stream: one a token; the last one holds the whole text too, and so is held back
// until the job has ended. Used by one thread at a time.
class TgiStreamWriter final : public StreamWriter {
 public:
  // `tokenizer` must outlive this.
  TgiStreamWriter(TgiRequest wanted, const Tokenizer& tokenizer)
      : wanted_(std::move(wanted)), tokenizer_(tokenizer) {}

  std::string Begin(const Job& /*job*/) override { return ""; }
  void Append(const Job& job, const std::vector<JobEvent>& events, size_t skipped,
              std::string* out) override;
  HttpResponse Fail(const Status& failure) const override { return TgiFailure(failure); }

 private:
  void AppendText(const JobText& text, std::string* out);
  void AppendEnd(const JobView& view, std::string* out);
  void AppendHeld(std::string* out);

  const TgiRequest wanted_;
  const Tokenizer& tokenizer_;
  nlohmann::json held_;  // null: none
  int num_tokens_ = 0;
};

}  // namespace idefics
