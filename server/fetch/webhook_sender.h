// SPDX-License-Identifier: Apache-2.0
// Posts bodies to webhooks: one thread with curl multi for all. What is posted, and when, a source
// says (an API's cursor on a job's events); of one source at most one post is under way, so its
// posts arrive in order.
#pragma once

#include <array>
#include <chrono>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "common/byte_budget.h"
#include "common/metrics.h"
#include "server/fetch/host_list.h"
#include "server/fetch/url_policy.h"
#include "server/trace/request_origin.h"

namespace idefics {

struct WebhookTarget {
  std::string url;
  std::vector<std::string> headers;  // "NAME: VALUE", beside those of the sender
  std::string name;                  // for log lines: the job's id
  RequestOrigin origin{};            // for log lines and spans, a post's own goes with it
};

struct WebhookPost {
  static constexpr std::array kEvents = {"start", "output", "logs", "completed"};

  std::string body;      // JSON
  std::string event;     // what it tells of, one of kEvents, for its span
  bool retried = false;  // tried again where the receiver or the network fails
};

// Thread of the sender only.
class WebhookSource {
 public:
  using Clock = std::chrono::steady_clock;
  virtual ~WebhookSource() = default;

  virtual const WebhookTarget& target() const = 0;
  // The next post that is due; nullopt: none now.
  virtual std::optional<WebhookPost> Next(Clock::time_point now) = 0;
  // No post will be due any more.
  virtual bool finished() const = 0;
};

struct WebhookOptions {
  std::string user_agent = "cog-idefics";
  std::string bearer_token;      // "": no Authorization header
  HostList token_hosts;          // who gets it
  Reach reach = Reach::kPublic;  // which addresses are connected
  ByteBudget* memory = nullptr;  // for posts; must outlive the sender
};

class WebhookSender {
 public:
  explicit WebhookSender(WebhookOptions options);
  ~WebhookSender();  // what is not posted by then is lost: Drain first
  WebhookSender(const WebhookSender&) = delete;
  WebhookSender& operator=(const WebhookSender&) = delete;

  // Any thread.
  void Add(std::unique_ptr<WebhookSource> source);

  // Looks at all sources again soon. Any thread; returns at once.
  void Wake() const;

  // Waits until every source is finished and everything is posted or given up, at most `time`.
  // True: nothing is left.
  bool Drain(std::chrono::milliseconds time);

  // Posts by what became of them, and sources that are not finished. Any thread.
  void AddTo(MetricsPage& page) const;

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
  std::jthread thread_;  // last: it runs the loop
};

// Seconds before retry `attempt` (from 1): 0.2, 0.4, … 102.4.
double WebhookBackoffSeconds(int attempt);

// Whether a retried post is tried again after this answer; 0 stands for none.
bool IsRetriedWebhookStatus(long status);

}  // namespace idefics
