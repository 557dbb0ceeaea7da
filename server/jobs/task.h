// SPDX-License-Identifier: Apache-2.0
// What is to be generated and what of it is the answer, and how to run that to its end: images are
// fetched, the predictor generates, text passes on to an observer. HTTP and the command line both
// run tasks. Thread safe.
#pragma once

#include <chrono>
#include <stop_token>
#include <vector>

#include "common/defaults.h"
#include "predictor/predictor.h"
#include "server/fetch/image_source.h"

namespace idefics {

// Which part of the text is the answer.
enum class ResponseText {
  kNew,       // the new text as it is
  kStripped,  // the new text without white space at both ends
  kFull,      // prompt and new text; one piece, for it is known only with the whole
};

struct Task {
  GenerateRequest request;  // images may lack their files: they have references
  ResponseText response = ResponseText::kNew;
  SpanParent span{};  // below which its downloads are
  Status refusal;     // not ok: what no schema can say against it; running it fails with this
};

struct TaskLimits {
  int max_images = defaults::kMaxImages;  // of one request (--max-images)
};

// "eos", "length", "stop", "canceled" or "error".
const char* FinishReasonName(FinishReason reason);

// The moments of a request, all of one clock. The epoch: not reached.
struct TaskClocks {
  using Clock = std::chrono::steady_clock;
  Clock::time_point received{};
  Clock::time_point started{};  // it has a slot
  Clock::time_point first_token{};
  Clock::time_point completed{};
};

struct TaskOutcome {
  Status status;
  GenerateResult result;
  double fetch_s = 0;
  TaskClocks clocks;
};

class TaskRunner {
 public:
  // Both must outlive this.
  TaskRunner(Predictor& predictor, ImageSource& images, const TaskLimits& limits)
      : predictor_(predictor), images_(images), limits_(limits) {}

  // Runs it on the calling thread; `observer` sees the answer's text, and what else the predictor
  // shows. `received`: when the request arrived; it starts now. Only running out of memory throws.
  TaskOutcome Run(Task task, TaskClocks::Clock::time_point received, std::stop_token stop,
                  GenerateObserver& observer) const;

 private:
  Status FetchImages(Task* task, const std::stop_token& stop) const;
  Status CheckNumImages(size_t count) const;

  Predictor& predictor_;
  ImageSource& images_;
  const TaskLimits limits_;
};

// input_token_count, cached_token_count (of these), output_token_count, image_count, fetch_time,
// preprocess_time, queue_time, time_to_first_token, finish_reason (the first choice's),
// tokens_per_second; times in seconds.
std::vector<Metric> MetricsOf(const TaskOutcome& outcome);

}  // namespace idefics
