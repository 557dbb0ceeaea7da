// SPDX-License-Identifier: Apache-2.0
#include "server/cog/webhook.h"

#include <curl/curl.h>
#include <sys/socket.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <mutex>
#include <utility>

#include "common/log.h"
#include "server/fetch/certificates.h"
#include "server/fetch/url_policy.h"

namespace idefics {
namespace {

using nlohmann::json;
using Clock = std::chrono::steady_clock;

constexpr int kMaxRetries = 12;
constexpr long kPostTimeoutMs = 30'000;
constexpr int kPollMs = 100;

struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
struct ListDeleter {
  void operator()(curl_slist* list) const { curl_slist_free_all(list); }
};

// One watched prediction. Loop thread only.
struct Watched {
  std::shared_ptr<Prediction> prediction;
  PredictionProgress seen;
  bool start_due = false;
  bool output_due = false;
  bool logs_due = false;
  bool ended = false;
  bool completed_due = false;
  int attempts = 0;  // of "completed"
  Clock::time_point next_try{};
  Clock::time_point last_post{};
  // The post under way.
  bool posting = false;
  bool posting_completed = false;
  bool allow_private = false;
  std::string body;
  std::unique_ptr<CURL, EasyDeleter> easy;
  std::unique_ptr<curl_slist, ListDeleter> headers;

  bool finished() const {
    return ended && !posting && !start_due && !output_due && !logs_due && !completed_due;
  }
};

size_t Discard(char*, size_t, size_t count, void*) { return count; }

curl_socket_t OnOpenSocket(void* user, curlsocktype, curl_sockaddr* address) {
  const auto& watched = *static_cast<const Watched*>(user);
  if (!watched.allow_private && !IsPublicAddress(address->addr)) return CURL_SOCKET_BAD;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

bool Wants(const Prediction& prediction, const char* event) {
  const auto& wanted = prediction.request().webhook_events;
  return std::find(wanted.begin(), wanted.end(), event) != wanted.end();
}

// Notes what has happened since the last look.
void TakeProgress(Watched& watched) {
  const Prediction& prediction = *watched.prediction;
  const PredictionProgress seen = std::exchange(watched.seen, prediction.progress());
  const PredictionProgress& now = watched.seen;
  if (now.begun && !seen.begun) watched.start_due = Wants(prediction, "start");
  if (now.outputs > seen.outputs) watched.output_due = Wants(prediction, "output");
  if (now.logs > seen.logs) watched.logs_due = Wants(prediction, "logs");
  if (now.announced && !seen.announced) {
    watched.ended = true;
    watched.completed_due = Wants(prediction, "completed");
    if (watched.completed_due) watched.logs_due = false;  // it holds them
  }
}

// As in coglet a string output is posted once, when it is whole.
bool ProgressDue(const Watched& watched) {
  const bool whole = watched.ended || watched.prediction->output_kind() == OutputKind::kStream;
  return watched.logs_due || (watched.output_due && whole);
}

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
  explicit Loop(WebhookOptions options) : options_(std::move(options)) {
    curl_global_init(CURL_GLOBAL_DEFAULT);
    multi_ = curl_multi_init();
  }
  ~Loop() {
    for (Watched& watched : watched_) {
      if (watched.posting) curl_multi_remove_handle(multi_, watched.easy.get());
    }
    watched_.clear();
    curl_multi_cleanup(multi_);
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  void Add(std::shared_ptr<Prediction> prediction) {
    prediction->SetOnEvent([this] { Wake(); });
    {
      const std::lock_guard lock(mutex_);
      added_.push_back(std::move(prediction));
      ++unfinished_;
    }
    Wake();
  }

  bool Drain(std::chrono::milliseconds time) {
    std::unique_lock lock(mutex_);
    return idle_.wait_for(lock, time, [this] { return unfinished_ == 0; });
  }

  void Wake() const { curl_multi_wakeup(multi_); }

  void Run(const std::stop_token& stop) {
    const std::stop_callback wake(stop, [this] { Wake(); });
    while (!stop.stop_requested()) {
      TakeAdded();
      for (Watched& watched : watched_) Advance(watched);
      int running = 0;
      curl_multi_perform(multi_, &running);
      TakeAnswers();
      DropFinished();
      curl_multi_poll(multi_, nullptr, 0, watched_.empty() ? kPollMs * 10 : kPollMs, nullptr);
    }
  }

 private:
  void TakeAdded() {
    std::list<std::shared_ptr<Prediction>> added;
    {
      const std::lock_guard lock(mutex_);
      added.swap(added_);
    }
    for (auto& prediction : added) {
      Watched& watched = watched_.emplace_back();
      watched.prediction = std::move(prediction);
      watched.allow_private = options_.allow_private;
    }
  }

  // Starts the next post that is due.
  void Advance(Watched& watched) {
    if (watched.posting) return;
    TakeProgress(watched);
    const auto now = Clock::now();
    if (watched.start_due) {
      watched.start_due = false;
      Post(watched, watched.prediction->ProgressSnapshot(/*at_start=*/true));
    } else if (ProgressDue(watched) &&
               (watched.ended || now - watched.last_post >= options_.interval)) {
      watched.output_due = watched.output_due && !watched.ended &&
                           watched.prediction->output_kind() == OutputKind::kString;
      watched.logs_due = false;
      Post(watched, watched.prediction->ProgressSnapshot(/*at_start=*/false));
    } else if (watched.completed_due && now >= watched.next_try) {
      watched.completed_due = false;
      watched.posting_completed = true;
      ++watched.attempts;
      Post(watched, watched.prediction->Snapshot());
    }
  }

  void Post(Watched& watched, const json& payload) {
    const PredictionRequest& request = watched.prediction->request();
    watched.body = payload.dump(-1, ' ', false, json::error_handler_t::replace);
    watched.last_post = Clock::now();
    const auto add = [&](const std::string& line) {
      watched.headers.reset(curl_slist_append(watched.headers.release(), line.c_str()));
    };
    watched.headers.reset();
    add("Content-Type: application/json");
    add("Expect:");
    if (!options_.bearer_token.empty()) add("Authorization: Bearer " + options_.bearer_token);
    for (const auto& [name, value] : request.trace) add(name + ": " + value);
    watched.easy.reset(curl_easy_init());
    CURL* easy = watched.easy.get();
    const std::string agent = std::string("coglet/") + kCogVersion + " cog-idefics";
    curl_easy_setopt(easy, CURLOPT_URL, request.webhook->c_str());
    curl_easy_setopt(easy, CURLOPT_PRIVATE, &watched);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, watched.body.data());
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE,
                     static_cast<curl_off_t>(watched.body.size()));
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, watched.headers.get());
    curl_easy_setopt(easy, CURLOPT_USERAGENT, agent.c_str());
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, Discard);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, OnOpenSocket);
    curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, &watched);
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
    curl_easy_setopt(easy, CURLOPT_POSTREDIR, static_cast<long>(CURL_REDIR_POST_ALL));
    curl_easy_setopt(easy, CURLOPT_MAXREDIRS, 5L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    TrustCertificatesOfEnvironment(easy);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, kPostTimeoutMs);
    curl_multi_add_handle(multi_, easy);
    watched.posting = true;
  }

  void TakeAnswers() {
    int left = 0;
    while (const CURLMsg* message = curl_multi_info_read(multi_, &left)) {
      char* user = nullptr;
      curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &user);
      auto& watched = *reinterpret_cast<Watched*>(user);
      long status = 0;
      if (message->data.result == CURLE_OK) {
        curl_easy_getinfo(message->easy_handle, CURLINFO_RESPONSE_CODE, &status);
      }
      const bool malformed = message->data.result == CURLE_URL_MALFORMAT ||
                             message->data.result == CURLE_UNSUPPORTED_PROTOCOL;
      curl_multi_remove_handle(multi_, message->easy_handle);
      watched.posting = false;
      TakeAnswer(watched, status, malformed);
    }
  }

  static void TakeAnswer(Watched& watched, long status, bool malformed) {
    const bool was_completed = std::exchange(watched.posting_completed, false);
    if (status >= 200 && status < 300) return;
    const bool again = was_completed && !malformed && IsRetriedWebhookStatus(status) &&
                       watched.attempts <= kMaxRetries;
    if (again) {
      watched.completed_due = true;
      watched.next_try = Clock::now() + std::chrono::milliseconds(static_cast<int>(
                                            1000 * WebhookBackoffSeconds(watched.attempts)));
    }
    LogWarning("A webhook post of prediction " + watched.prediction->id() + " failed with status " +
               std::to_string(status) + (again ? "; it is tried again." : "; it is given up."));
  }

  void DropFinished() {
    for (auto it = watched_.begin(); it != watched_.end();) {
      if (!it->finished()) {
        ++it;
        continue;
      }
      it = watched_.erase(it);
      const std::lock_guard lock(mutex_);
      if (--unfinished_ == 0) idle_.notify_all();
    }
  }

  const WebhookOptions options_;
  CURLM* multi_ = nullptr;
  std::list<Watched> watched_;  // loop thread; a list, for curl keeps their addresses
  std::mutex mutex_;
  std::condition_variable idle_;
  std::list<std::shared_ptr<Prediction>> added_;
  int unfinished_ = 0;
};

WebhookSender::WebhookSender(WebhookOptions options)
    : loop_(std::make_unique<Loop>(std::move(options))),
      thread_([this](const std::stop_token& stop) { loop_->Run(stop); }) {}

WebhookSender::~WebhookSender() = default;

void WebhookSender::Watch(std::shared_ptr<Prediction> prediction) {
  const PredictionRequest& request = prediction->request();
  if (!request.webhook || request.webhook_events.empty()) return;
  loop_->Add(std::move(prediction));
}

bool WebhookSender::Drain(std::chrono::milliseconds time) { return loop_->Drain(time); }

}  // namespace idefics
