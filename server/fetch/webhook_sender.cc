// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/webhook_sender.h"

#include <algorithm>
#include <list>
#include <utility>

#include "common/caught.h"
#include "common/log.h"
#include "common/mutex.h"
#include "server/fetch/client_span.h"
#include "server/fetch/outbound.h"

namespace idefics {
namespace {

using Clock = WebhookSource::Clock;
using std::chrono::milliseconds;

constexpr int kMaxRetries = 12;
constexpr milliseconds kPostTime{30'000};
constexpr long kMaxRedirects = 5;
constexpr int kPollMs = 100;
constexpr size_t kMaxWaiting = 1024;  // predictions with posts; beyond them a post is tried once

size_t Discard(char*, size_t, size_t count, void*) { return count; }

// A source and its post that is under way or waits to be tried again. Loop thread only.
struct Watched {
  std::unique_ptr<WebhookSource> source;
  std::optional<WebhookPost> post;
  ByteBudget::Share memory;      // for `post`
  bool kept = false;             // there was room for `post`: it may wait to be tried again
  int num_attempts = 0;          // of `post`
  Clock::time_point next_try{};  // of `post`, while it is not under way
  AddressGuard guard;
  EasyHandle easy;  // set: it is under way
  HeaderLines headers;
  ClientSpan span;  // of the attempt that is under way

  bool finished() const { return !post && source->finished(); }
};

}  // namespace

double WebhookBackoffSeconds(int attempt) {
  constexpr double kFirst = 0.1;
  constexpr int kMaxDoublings = 10;
  return kFirst * static_cast<double>(1 << std::min(attempt, kMaxDoublings));
}

bool IsRetriedWebhookStatus(long status) {
  for (const long retried : {0L, 429L, 500L, 502L, 503L, 504L}) {
    if (status == retried) return true;
  }
  return false;
}

class WebhookSender::Loop {
 public:
  explicit Loop(WebhookOptions options) : options_(std::move(options)), multi_(MakeMulti()) {
    // A burst must not leave as many idle connections as it had posts.
    constexpr long kKeptConnections = 4;
    curl_multi_setopt(multi_.get(), CURLMOPT_MAXCONNECTS, kKeptConnections);
  }
  ~Loop() {
    for (Watched& watched : watched_) {
      if (watched.easy) curl_multi_remove_handle(multi_.get(), watched.easy.get());
    }
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void Add(std::unique_ptr<WebhookSource> source) {
    {
      const MutexLock lock(mutex_);
      added_.push_back(std::move(source));
      ++num_unfinished_;
    }
    Wake();
  }

  bool Drain(milliseconds time) {
    MutexLock lock(mutex_);
    return idle_.WaitFor(lock, time,
                         [this]() IDEFICS_REQUIRES(mutex_) { return num_unfinished_ == 0; });
  }

  void Wake() const { curl_multi_wakeup(multi_.get()); }

  void AddTo(MetricsPage& page) {
    using Type = MetricsPage::Type;
    constexpr const char* kDeliveries = "idefics_webhook_deliveries";
    page.AddFamily(kDeliveries, Type::kCounter, "Posts to webhooks, by what became of them.");
    for (size_t i = 0; i < outcomes_.size(); ++i) {
      for (const auto& [outcome, counter] : {std::pair("delivered", &outcomes_[i].delivered),
                                             std::pair("retried", &outcomes_[i].retried),
                                             std::pair("gave_up", &outcomes_[i].gave_up)}) {
        page.AddSample(kDeliveries, Type::kCounter,
                       {{"event", WebhookPost::kEvents[i]}, {"outcome", outcome}},
                       static_cast<double>(counter->value()));
      }
    }
    const MutexLock lock(mutex_);
    page.AddGauge({"idefics_webhook_backlog"}, "Predictions with posts that may come.",
                  num_unfinished_);
  }

  void Run(const std::stop_token& stop) {
    const std::stop_callback wake(stop, [this] { Wake(); });
    while (!stop.stop_requested()) {
      try {
        TakeAdded();
        Work();
      } catch (...) {
        LogCaught("A webhook");
      }
      curl_multi_poll(multi_.get(), nullptr, 0, watched_.empty() ? kPollMs * 10 : kPollMs, nullptr);
    }
  }

 private:
  struct Outcomes {
    Counter delivered;
    Counter retried;  // each time
    Counter gave_up;
  };

  void Work() {
    for (Watched& watched : watched_) {
      try {
        Advance(watched);
      } catch (...) {  // no memory for this post: the others go on
        LogCaught("A webhook");
        watched.post.reset();
      }
    }
    int running = 0;
    curl_multi_perform(multi_.get(), &running);
    TakeAnswers();
    DropFinished();
  }

  void TakeAdded() {
    std::list<std::unique_ptr<WebhookSource>> added;
    {
      const MutexLock lock(mutex_);
      added.swap(added_);
    }
    for (auto& source : added) {
      Watched& watched = watched_.emplace_back();
      watched.source = std::move(source);
      watched.memory = ByteBudget::Share(options_.memory);
    }
  }

  void Advance(Watched& watched) {
    if (watched.easy) return;
    const auto now = Clock::now();
    if (!watched.post) {
      watched.post = watched.source->Next(now);
      watched.num_attempts = 0;
      watched.next_try = now;
      watched.memory.ShrinkTo(0);
      watched.kept = watched.post && watched.memory.Grow(watched.post->body.size());
    }
    if (watched.post && now >= watched.next_try) Send(watched);
  }

  void Send(Watched& watched) {
    const WebhookTarget& target = watched.source->target();
    const std::string& body = watched.post->body;
    const auto add = [&](const std::string& line) { AddHeaderLine(line, &watched.headers); };
    watched.headers.reset();
    add("Content-Type: application/json");
    add("Expect:");
    if (GetsToken(target)) add("Authorization: Bearer " + options_.bearer_token);
    for (const std::string& header : target.headers) add(header);
    watched.span = ClientSpan(target.origin.span, "POST", target.url);
    watched.span.Note("idefics.webhook.event", watched.post->event);
    if (watched.num_attempts > 0) {
      watched.span.Note("http.request.resend_count", int64_t{watched.num_attempts});
    }
    watched.span.AddHeaders(/*with_state=*/true, &watched.headers);
    watched.guard = AddressGuard{.reach = options_.reach};
    watched.easy =
        MakeOutbound({target.url, options_.user_agent, kMaxRedirects, kPostTime}, &watched.guard);
    CURL* easy = watched.easy.get();
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &watched);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, static_cast<curl_off_t>(body.size()));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, watched.headers.get());
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, Discard);
    curl_easy_setopt(easy, CURLOPT_POSTREDIR, static_cast<long>(CURL_REDIR_POST_ALL));
    ++watched.num_attempts;
    curl_multi_add_handle(multi_.get(), easy);
  }

  // Never a host that only the client chose.
  bool GetsToken(const WebhookTarget& target) {
    if (options_.bearer_token.empty()) return false;
    if (options_.token_hosts.Holds(HostOf(target.url))) return true;
    if (!std::exchange(told_of_token_, true)) {
      LogWarning(
          "A webhook is posted without WEBHOOK_AUTH_TOKEN: --webhook-token-hosts does not "
          "name its host. Further ones are not told of.");
    }
    return false;
  }

  void TakeAnswers() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_.get(), &left)) {
      char* user = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
      auto& watched = *reinterpret_cast<Watched*>(user);
      long status = 0;
      if (message->data.result == CURLE_OK) {
        curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
      }
      const bool hopeless = message->data.result == CURLE_URL_MALFORMAT ||
                            message->data.result == CURLE_UNSUPPORTED_PROTOCOL ||
                            watched.guard.denied;
      curl_multi_remove_handle(multi_.get(), message->easy_handle);
      watched.easy.reset();
      TakeAnswer(watched, status, hopeless);
    }
  }

  void TakeAnswer(Watched& watched, long status, bool hopeless) {
    const bool good = status >= 200 && status < 300;
    const std::string error = status > 0 ? std::to_string(status) : "network";
    watched.span.End(status, good ? "" : error);
    const bool again = !good && !hopeless && watched.post->retried && watched.kept &&
                       watched_.size() <= kMaxWaiting && IsRetriedWebhookStatus(status) &&
                       watched.num_attempts <= kMaxRetries;
    Outcomes& outcomes = OutcomesOf(watched.post->event);
    (good ? outcomes.delivered : again ? outcomes.retried : outcomes.gave_up).Add();
    if (again) {
      const double pause_s = WebhookBackoffSeconds(watched.num_attempts);
      watched.next_try = Clock::now() + milliseconds(static_cast<int>(1000 * pause_s));
    } else {
      watched.post.reset();
      watched.memory.ShrinkTo(0);
    }
    if (good) return;
    const LogScope scope(
        [&](LogMembers& members) { AddLogMembers(watched.source->target().origin, members); });
    LogWarning("A webhook post of prediction " + watched.source->target().name + " failed " +
               (watched.guard.denied ? "because its address is not public (--webhook-hosts)"
                                     : "with status " + std::to_string(status)) +
               (again ? "; it is tried again." : "; it is given up."));
  }

  Outcomes& OutcomesOf(std::string_view event) {
    const auto& events = WebhookPost::kEvents;
    const auto found = std::find(events.begin(), events.end(), event);
    IDEFICS_CHECK(found != events.end());
    return outcomes_[static_cast<size_t>(found - events.begin())];
  }

  void DropFinished() {
    for (auto it = watched_.begin(); it != watched_.end();) {
      if (!it->finished()) {
        ++it;
        continue;
      }
      it = watched_.erase(it);
      const MutexLock lock(mutex_);
      if (--num_unfinished_ == 0) idle_.NotifyAll();
    }
  }

  const WebhookOptions options_;
  const MultiHandle multi_;
  std::array<Outcomes, WebhookPost::kEvents.size()> outcomes_;
  bool told_of_token_ = false;  // loop thread
  std::list<Watched> watched_;  // loop thread; a list, for curl keeps their addresses
  Mutex mutex_;
  CondVar idle_;
  std::list<std::unique_ptr<WebhookSource>> added_ IDEFICS_GUARDED_BY(mutex_);
  int num_unfinished_ IDEFICS_GUARDED_BY(mutex_) = 0;
};

WebhookSender::WebhookSender(WebhookOptions options)
    : loop_(std::make_unique<Loop>(std::move(options))),
      thread_([this](const std::stop_token& stop) { loop_->Run(stop); }) {}

WebhookSender::~WebhookSender() = default;

void WebhookSender::Add(std::unique_ptr<WebhookSource> source) { loop_->Add(std::move(source)); }
void WebhookSender::Wake() const { loop_->Wake(); }
bool WebhookSender::Drain(milliseconds time) { return loop_->Drain(time); }
void WebhookSender::AddTo(MetricsPage& page) const { loop_->AddTo(page); }

}  // namespace idefics
