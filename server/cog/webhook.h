// SPDX-License-Identifier: Apache-2.0
// Posts what happens to predictions to their webhook (cog-contract.md section 4). One thread with
// curl multi for all; of one prediction at most one post is under way, so posts arrive in order.
// Output and logs are coalesced: a post holds everything so far. Only "completed" is tried again.
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <thread>

#include "server/cog/prediction.h"

namespace idefics {

struct WebhookOptions {
  std::chrono::milliseconds interval{500};  // between posts of one prediction, "completed" excepted
  std::string bearer_token;                 // "": no Authorization header
  bool allow_private = false;               // else only public addresses are connected
};

class WebhookSender {
 public:
  explicit WebhookSender(WebhookOptions options);
  ~WebhookSender();  // what is not posted by then is lost: Drain first
  WebhookSender(const WebhookSender&) = delete;
  WebhookSender& operator=(const WebhookSender&) = delete;

  // Watches it from now to its end; nothing where it names no webhook or wants no events. Any
  // thread.
  void Watch(std::shared_ptr<Prediction> prediction);

  // Waits until everything is posted or given up, at most `time`. True: nothing is left.
  bool Drain(std::chrono::milliseconds time);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
  std::jthread thread_;  // last: it runs the loop
};

// Seconds before retry `attempt` (from 1) of "completed": 0.2, 0.4, … 102.4.
double WebhookBackoffSeconds(int attempt);

// Whether "completed" is tried again after this answer; 0 stands for none.
bool IsRetriedWebhookStatus(long status);

}  // namespace idefics
