// SPDX-License-Identifier: Apache-2.0
#include "server/cog/runner.h"

#include <exception>
#include <utility>

#include "common/log.h"

namespace idefics {
namespace {

constexpr int kKeptThreads = 4;
constexpr int kMaxThreads = 4096;  // slots are the real limit

// One line a prediction, without anything of its content.
void LogEnd(const Prediction& prediction, const Status& status) {
  nlohmann::json fields = prediction.metrics();
  fields["prediction_id"] = prediction.id();
  fields["status"] = PredictionStatusName(prediction.status());
  if (!status.ok()) fields["code"] = ErrorCodeName(status.code());
  const bool is_bug = status.code() == ErrorCode::kInternal;
  LogWithFields(is_bug ? LogLevel::kError : LogLevel::kInfo,
                is_bug ? "Prediction failed: " + status.message() : "Prediction ended",
                fields.dump(-1, ' ', true, nlohmann::json::error_handler_t::replace));
}

}  // namespace

Runner::Runner(Backend& backend, Registry& registry)
    : backend_(backend), registry_(registry), threads_(kKeptThreads, kMaxThreads) {}

void Runner::Start(std::shared_ptr<Prediction> prediction) {
  const bool started = threads_.Run([this, prediction] {
    for (auto next = prediction; next != nullptr;) next = Run(next);
  });
  if (started) return;
  const Status no_thread(ErrorCode::kOverloaded, "the system gives no more threads; try again");
  for (auto next = std::move(prediction); next != nullptr;) {
    next = registry_.Complete(next, no_thread);
  }
}

void Runner::RunHere(const std::shared_ptr<Prediction>& prediction) {
  if (auto next = Run(prediction)) Start(std::move(next));
}

// Returns the one to run next, or nullptr.
std::shared_ptr<Prediction> Runner::Run(const std::shared_ptr<Prediction>& prediction) {
  const nlohmann::json input = prediction->TakeInput();
  Status status(ErrorCode::kCanceled, "canceled before it began");
  if (!prediction->stop_token().stop_requested()) {
    prediction->Begin();
    try {
      status = backend_.Run(input, *prediction, prediction->stop_token());
    } catch (const std::exception& e) {
      status = Status::Internal(e.what());
    }
  }
  auto next = registry_.Complete(prediction, status);
  LogEnd(*prediction, status);
  return next;
}

}  // namespace idefics
