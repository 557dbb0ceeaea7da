// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/webhook.h"

#include <utility>

#include "server/api/cog/prediction_object.h"
#include "server/api/json_body.h"

namespace idefics {
namespace {

class CogWebhook final : public WebhookSource {
 public:
  CogWebhook(std::shared_ptr<Job> job, std::chrono::milliseconds interval)
      : job_(std::move(job)), context_(*CogContextOf(*job_)), interval_(interval) {
    target_ = {*context_.webhook, context_.trace_headers, job_->id(), job_->origin()};
  }

  const WebhookTarget& target() const override { return target_; }

  std::optional<WebhookPost> Next(Clock::time_point now) override {
    ReadEvents();
    if (std::exchange(start_due_, false)) return Post(job_->log().ViewAt(1), "start", now);
    if (ProgressDue() && (ended_ || !last_post_ || now - *last_post_ >= interval_)) {
      const char* event = output_due_ && !OutputIsHeld() ? "output" : "logs";
      if (!OutputIsHeld()) output_due_ = false;
      logs_due_ = false;
      return Post(ProgressView(), event, now);
    }
    if (!std::exchange(completed_due_, false)) return std::nullopt;
    WebhookPost post = Post(job_->log().View(), "completed", now);
    post.retried = true;
    return post;
  }

  bool finished() const override {
    return ended_ && !start_due_ && !output_due_ && !logs_due_ && !completed_due_;
  }

 private:
  void ReadEvents() {
    size_t next = cursor_;
    const EventLog::Batch batch = job_->log().Read(&next);
    if (batch.skipped > 0) {  // a burst: what was in the dropped events counts as all of them
      NoteStarted();
      NoteProgress();
      cursor_ += batch.skipped;
      return ReadEvents();
    }
    for (const JobEvent& event : batch.events) {
      if (std::holds_alternative<JobFinished>(event)) {
        NoteFinished();
        return;  // the cursor stays before it
      }
      if (std::holds_alternative<JobStarted>(event)) NoteStarted();
      if (std::holds_alternative<JobText>(event)) output_due_ = context_.webhook_events.output;
      if (std::holds_alternative<JobLogLine>(event)) logs_due_ = context_.webhook_events.logs;
      ++cursor_;
    }
  }

  void NoteStarted() {
    if (!std::exchange(started_, true)) start_due_ = context_.webhook_events.start;
  }

  void NoteProgress() {
    output_due_ = context_.webhook_events.output;
    logs_due_ = context_.webhook_events.logs;
  }

  void NoteFinished() {
    if (std::exchange(ended_, true)) return;
    completed_due_ = context_.webhook_events.completed;
    if (completed_due_) logs_due_ = false;  // it holds them
  }

  // As in coglet a string output is posted once, when it is whole.
  bool OutputIsHeld() const { return !ended_ && context_.output == OutputKind::kString; }

  bool ProgressDue() const { return logs_due_ || (output_due_ && !OutputIsHeld()); }

  JobView ProgressView() const {
    JobView view = job_->log().ViewAt(cursor_);
    if (context_.output == OutputKind::kList) return view;
    const bool whole = !OutputIsHeld() && !view.pieces.empty();
    view.pieces = whole ? std::vector{JobText{view.Text()}} : std::vector<JobText>();
    return view;
  }

  WebhookPost Post(const JobView& view, const char* event, Clock::time_point now) {
    last_post_ = now;
    return {JsonBytes(PredictionObject(*job_, view)), event};
  }

  const std::shared_ptr<Job> job_;
  const CogContext& context_;  // the job's
  const std::chrono::milliseconds interval_;
  WebhookTarget target_;
  size_t cursor_ = 0;  // all before it was noted; it stays before the last event
  std::optional<Clock::time_point> last_post_;
  bool started_ = false;
  bool ended_ = false;
  bool start_due_ = false;
  bool output_due_ = false;
  bool logs_due_ = false;
  bool completed_due_ = false;
};

}  // namespace

std::unique_ptr<WebhookSource> MakeWebhook(std::shared_ptr<Job> job,
                                           std::chrono::milliseconds interval) {
  const CogContext* context = CogContextOf(*job);
  if (context == nullptr || !context->webhook) return nullptr;
  const WebhookEvents& events = context->webhook_events;
  if (!events.start && !events.output && !events.logs && !events.completed) return nullptr;
  return std::make_unique<CogWebhook>(std::move(job), interval);
}

}  // namespace idefics
