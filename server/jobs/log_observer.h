// SPDX-License-Identifier: Apache-2.0
// Writes what a running request shows into an event log. On the thread that runs it.
#pragma once

#include <utility>

#include "predictor/predictor.h"
#include "server/jobs/event_log.h"

namespace idefics {

// What a request has cost that has ended.
JobUsage UsageOf(const GenerateResult& result);

class LogObserver final : public GenerateObserver {
 public:
  explicit LogObserver(EventLog& log) : log_(log) {}

  void OnPrompt(int num_tokens, int num_image_tokens) override {
    log_.SetUsage({num_tokens, num_image_tokens, 0});
  }
  void OnText(const TextPiece& piece) override;
  void OnChoiceEnd(int choice, FinishReason reason) override { log_.EndChoice({choice, reason}); }
  void OnLog(LogSource source, std::string_view text) override { log_.AddLog(source, text); }
  void OnMetric(Metric metric) override { log_.AddMetric(std::move(metric)); }

 private:
  EventLog& log_;
};

}  // namespace idefics
