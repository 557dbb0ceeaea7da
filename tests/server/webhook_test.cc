// SPDX-License-Identifier: Apache-2.0
// Webhooks against a receiver on loopback.
#include "server/api/cog/webhook.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <mutex>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/api/cog/prediction_object.h"
#include "server/http/http_server.h"

namespace idefics {
namespace {

using nlohmann::json;
using std::chrono::milliseconds;

struct ReceivedPost {
  json body;
  HttpHeaders headers;
};

class WebhookFixture {
 public:
  WebhookFixture() {
    router.Add("POST", "/hook", [this](HttpRequest& request) {
      const auto body = request.peer->ReadBody();
      std::this_thread::sleep_for(delay);
      const std::lock_guard lock(mutex_);
      posts_.push_back({json::parse(body.ok() ? *body : "null"), request.headers});
      if (failures > 0) {
        --failures;
        return HttpResponse::Empty(failure_status);
      }
      return HttpResponse::Empty(200);
    });
    HttpServerOptions http;
    http.host = "127.0.0.1";
    http.port = 0;
    server = std::make_unique<HttpServer>(http, router);
    REQUIRE(server->Start().ok());
    options.reach = Reach::kPublicAndLoopback;
    options.token_hosts = HostList("127.0.0.1");
  }

  std::string Url() const { return "http://127.0.0.1:" + std::to_string(server->port()) + "/hook"; }

  static std::shared_ptr<Job> Make(std::string url, WebhookEvents events = {},
                                   OutputKind kind = OutputKind::kList) {
    auto context = std::make_shared<CogContext>();
    context->echo = {{"text", "hi"}};
    context->output = kind;
    context->webhook = std::move(url);
    context->webhook_events = events;
    context->trace_headers = {"traceparent: 00-aa-bb-01"};
    return std::make_shared<Job>(JobSpec{"w1", Task(), std::move(context)}, 1024);
  }

  // As the admission does it.
  void Watch(WebhookSender& sender, const std::shared_ptr<Job>& job) const {
    auto source = MakeWebhook(job, interval);
    if (source == nullptr) return;
    job->log().AddListener([&sender] { sender.Wake(); });
    sender.Add(std::move(source));
  }

  std::vector<ReceivedPost> Posts() const {
    const std::lock_guard lock(mutex_);
    return posts_;
  }

  Router router;
  std::unique_ptr<HttpServer> server;
  WebhookOptions options;
  milliseconds interval{50};
  int failures = 0;
  int failure_status = 500;
  milliseconds delay{0};

 private:
  mutable std::mutex mutex_;
  std::vector<ReceivedPost> posts_;
};

constexpr WebhookEvents kNone{false, false, false, false};
constexpr WebhookEvents kOnlyStart{true, false, false, false};
constexpr WebhookEvents kOnlyLogs{false, false, true, false};
constexpr WebhookEvents kOnlyCompleted{false, false, false, true};

TEST_CASE_METHOD(WebhookFixture, "the last log lines are posted though completed is not wanted",
                 "[webhook]") {
  interval = std::chrono::hours(1);  // the second post would be due after it
  WebhookSender sender(options);
  const auto job = Make(Url(), kOnlyLogs);
  Watch(sender, job);
  job->log().Start();
  job->log().AddLog(LogSource::kStdout, "first\n");
  while (Posts().empty()) std::this_thread::sleep_for(milliseconds(1));
  job->log().AddLog(LogSource::kStdout, "last\n");  // within the interval
  job->log().Finish(Status::Ok());
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  CHECK(Posts().back().body["logs"] == "first\nlast\n");
}

TEST_CASE_METHOD(WebhookFixture, "posts come in order: start, growing output, completed",
                 "[webhook]") {
  options.bearer_token = "secret";
  WebhookSender sender(options);
  const auto job = Make(Url());
  delay = milliseconds(20);  // a slow receiver must not reorder them
  const auto begun = std::chrono::steady_clock::now();
  Watch(sender, job);
  job->log().Start();
  for (int i = 0; i < 20; ++i) {
    job->log().AddText({"p" + std::to_string(i)});
    std::this_thread::sleep_for(milliseconds(10));
  }
  job->log().Finish(Status::Ok());
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  const auto posts = Posts();
  REQUIRE(posts.size() >= 3);
  // Coalesced: start, completed, and of the output one for each interval and the last.
  const auto intervals = (std::chrono::steady_clock::now() - begun) / interval;
  CHECK(posts.size() <= 4 + static_cast<size_t>(intervals));
  CHECK(posts.front().body["status"] == "processing");
  CHECK_FALSE(posts.front().body.contains("output"));
  CHECK(posts.front().body["logs"] == "");
  size_t before = 0;
  for (size_t i = 1; i + 1 < posts.size(); ++i) {
    CHECK(posts[i].body["status"] == "processing");
    CHECK(posts[i].body["output"].size() > before);
    before = posts[i].body["output"].size();
  }
  CHECK(before == 20);
  CHECK(posts.back().body["status"] == "succeeded");
  CHECK(posts.back().body["output"].size() == 20);
  CHECK(posts.back().body["input"]["text"] == "hi");
  for (const ReceivedPost& post : posts) {
    CHECK(*FindHeader(post.headers, "User-Agent") == "cog-idefics");
    CHECK(*FindHeader(post.headers, "Authorization") == "Bearer secret");
    CHECK(*FindHeader(post.headers, "traceparent") == "00-aa-bb-01");
    CHECK(*FindHeader(post.headers, "Content-Type") == "application/json");
  }
}

TEST_CASE_METHOD(WebhookFixture, "a post before the end shows nothing of the end", "[webhook]") {
  interval = milliseconds(0);
  WebhookSender sender(options);
  const auto job = Make(Url());
  job->log().Start();
  job->log().AddLog(LogSource::kStdout, "line\n");
  job->log().AddText({"x"});
  job->log().Finish(Status::InvalidInput("no"));
  Watch(sender, job);  // late: all of it has happened
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  const auto posts = Posts();
  REQUIRE(posts.size() == 3);
  CHECK(posts[0].body["logs"] == "");
  CHECK_FALSE(posts[0].body.contains("output"));
  CHECK(posts[1].body["output"] == json::array({"x"}));
  for (size_t i : {0, 1}) {
    CHECK(posts[i].body["status"] == "processing");
    for (const char* later : {"completed_at", "error"}) CHECK_FALSE(posts[i].body.contains(later));
    CHECK_FALSE(posts[i].body["metrics"].contains("predict_time"));
  }
  CHECK(posts[2].body["error"] == "no");
}

TEST_CASE_METHOD(WebhookFixture, "a string output is posted once, as a list of one", "[webhook]") {
  interval = milliseconds(0);
  WebhookSender sender(options);
  const auto job = Make(Url(), {false, true, false, true}, OutputKind::kString);
  Watch(sender, job);
  job->log().Start();
  job->log().AddText({"A"});
  std::this_thread::sleep_for(milliseconds(150));
  job->log().AddText({" dog"});
  job->log().Finish(Status::Ok());
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  const auto posts = Posts();
  REQUIRE(posts.size() == 2);
  CHECK(posts[0].body["output"] == json::array({"A dog"}));
  CHECK(posts[1].body["output"] == "A dog");
}

TEST_CASE_METHOD(WebhookFixture, "only the wanted events are posted", "[webhook]") {
  WebhookSender sender(options);
  for (const WebhookEvents& events : {kOnlyStart, kOnlyCompleted, kNone}) {
    const auto job = Make(Url(), events);
    Watch(sender, job);
    job->log().Start();
    job->log().AddText({"x"});
    job->log().AddLog(LogSource::kStdout, "line\n");
    job->log().Finish(Status::Ok());
  }
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  CHECK(Posts().size() == 2);
}

TEST_CASE_METHOD(WebhookFixture, "completed is tried again after a 500, start is not",
                 "[webhook]") {
  WebhookSender sender(options);
  failures = 2;  // start, and the first completed
  const auto job = Make(Url(), {true, false, false, true});
  Watch(sender, job);
  job->log().Start();
  job->log().Finish(Status::InvalidInput("no"));
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  const auto posts = Posts();
  REQUIRE(posts.size() == 3);
  CHECK(posts[1].body["status"] == "failed");
  CHECK(posts[2].body == posts[1].body);
}

TEST_CASE_METHOD(WebhookFixture, "completed is given up after a 404 and for a target that is none",
                 "[webhook]") {
  WebhookSender sender(options);
  failures = 1;
  failure_status = 404;
  for (const std::string& url :
       {Url(), std::string("notaurl://"), std::string("ftp://x/"), std::string()}) {
    const auto job = Make(url, kOnlyCompleted);
    Watch(sender, job);
    job->log().Start();
    job->log().Finish(Status::Ok());
  }
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  CHECK(Posts().size() == 1);
}

TEST_CASE_METHOD(WebhookFixture, "loopback is refused by default, and not tried again",
                 "[webhook]") {
  options.reach = Reach::kPublic;
  WebhookSender sender(options);
  const auto job = Make(Url());
  Watch(sender, job);
  job->log().Start();
  job->log().Finish(Status::Ok());
  REQUIRE(sender.Drain(std::chrono::seconds(30)));  // twelve retries would take 409 s
  CHECK(Posts().empty());
}

TEST_CASE_METHOD(WebhookFixture, "the token goes only to hosts that are named", "[webhook]") {
  options.bearer_token = "secret";
  options.token_hosts = HostList("localhost,.example.org");
  WebhookSender sender(options);
  std::string by_name = Url();
  by_name.replace(by_name.find("127.0.0.1"), std::strlen("127.0.0.1"), "LOCALHOST");
  for (const std::string& url : {Url(), by_name}) {
    const auto job = Make(url, kOnlyCompleted);
    Watch(sender, job);
    job->log().Start();
    job->log().Finish(Status::Ok());
    REQUIRE(sender.Drain(std::chrono::seconds(30)));
  }
  const auto posts = Posts();
  REQUIRE(posts.size() == 2);
  CHECK(FindHeader(posts[0].headers, "Authorization") == nullptr);
  REQUIRE(FindHeader(posts[1].headers, "Authorization") != nullptr);
  CHECK(*FindHeader(posts[1].headers, "Authorization") == "Bearer secret");
}

TEST_CASE_METHOD(WebhookFixture, "a post that waits to be tried again counts in the budget",
                 "[webhook]") {
  ByteBudget memory(1 << 20);
  options.memory = &memory;
  failures = 3;
  WebhookSender sender(options);
  const auto job = Make(Url(), kOnlyCompleted);
  Watch(sender, job);
  job->log().Start();
  job->log().AddText({std::string(100'000, 'x')});
  job->log().Finish(Status::Ok());
  while (Posts().empty()) std::this_thread::sleep_for(milliseconds(1));
  CHECK(memory.used() > 100'000);
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  CHECK(Posts().size() == 4);
  CHECK(memory.used() == 0);
}

TEST_CASE_METHOD(WebhookFixture, "a post that the budget has no room for is tried once",
                 "[webhook]") {
  ByteBudget memory(10);
  options.memory = &memory;
  failures = 1;
  WebhookSender sender(options);
  const auto job = Make(Url(), kOnlyCompleted);
  Watch(sender, job);
  job->log().Start();
  job->log().Finish(Status::Ok());
  REQUIRE(sender.Drain(std::chrono::seconds(30)));
  CHECK(Posts().size() == 1);
}

TEST_CASE("the backoff doubles up to 102.4 seconds", "[webhook]") {
  CHECK(WebhookBackoffSeconds(1) == 0.2);
  CHECK(WebhookBackoffSeconds(2) == 0.4);
  CHECK(WebhookBackoffSeconds(12) == 102.4);
  CHECK(IsRetriedWebhookStatus(503));
  CHECK(IsRetriedWebhookStatus(0));
  CHECK_FALSE(IsRetriedWebhookStatus(404));
}

}  // namespace
}  // namespace idefics
