// SPDX-License-Identifier: Apache-2.0
// The chunks of one completion's event stream (docs/openai-api.md#streams). Used by one thread at a
// time.
#pragma once

#include <string>
#include <vector>

#include "server/api/job_exchange.h"
#include "server/api/openai/completion_answer.h"

namespace idefics {

class CompletionStream final : public StreamWriter {
 public:
  // `tokenizer` must outlive this.
  CompletionStream(CompletionRequest wanted, AnswerHead head, const Tokenizer& tokenizer)
      : wanted_(std::move(wanted)), head_(std::move(head)), writer_(head_, tokenizer) {}
  CompletionStream(const CompletionStream&) = delete;
  CompletionStream& operator=(const CompletionStream&) = delete;

  std::string Begin(const Job& job) override;
  void Append(const Job& job, const std::vector<JobEvent>& events, size_t skipped,
              std::string* out) override;
  HttpResponse Fail(const Status& failure) const override {
    return ErrorResponse(FailureOf(failure, wanted_));
  }

 private:
  void AppendChunk(nlohmann::json chunk, std::string* out);
  void AppendEnd(const JobView& end, std::string* out);

  const CompletionRequest wanted_;  // its prompts are the job's now
  const AnswerHead head_;
  AnswerWriter writer_;
  JobUsage usage_;  // as far as the chunks tell it
};

}  // namespace idefics
