// SPDX-License-Identifier: Apache-2.0
// Webhooks against a receiver on loopback.
#include "server/cog/webhook.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <mutex>
#include <thread>

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
    options.allow_private = true;
    options.interval = milliseconds(50);
  }

  std::shared_ptr<Prediction> Make(std::vector<std::string> events = {"start", "output", "logs",
                                                                      "completed"},
                                   OutputKind kind = OutputKind::kStream) {
    PredictionRequest request;
    request.id = "w1";
    request.input = {{"text", "hi"}};
    request.webhook = "http://127.0.0.1:" + std::to_string(server->port()) + "/hook";
    request.webhook_events = std::move(events);
    request.trace = {{"traceparent", "00-aa-bb-01"}};
    return std::make_shared<Prediction>(std::move(request), kind);
  }

  static void End(Prediction& prediction, const Status& status = Status::Ok()) {
    prediction.SetTerminal(status);
    prediction.AnnounceTerminal();
  }

  std::vector<ReceivedPost> Posts() const {
    const std::lock_guard lock(mutex_);
    return posts_;
  }

  Router router;
  std::unique_ptr<HttpServer> server;
  WebhookOptions options;
  int failures = 0;
  int failure_status = 500;
  milliseconds delay{0};

 private:
  mutable std::mutex mutex_;
  std::vector<ReceivedPost> posts_;
};

TEST_CASE_METHOD(WebhookFixture, "the last log lines are posted though completed is not wanted",
                 "[webhook]") {
  WebhookSender sender(options);
  const auto prediction = Make({"logs"});
  sender.Watch(prediction);
  prediction->Begin();
  prediction->Log("stdout", "first\n");
  std::this_thread::sleep_for(milliseconds(20));
  prediction->Log("stdout", "last\n");  // within the interval
  End(*prediction);
  REQUIRE(sender.Drain(std::chrono::seconds(10)));
  const auto posts = Posts();
  REQUIRE_FALSE(posts.empty());
  CHECK(posts.back().body["logs"] == "first\nlast\n");
}

TEST_CASE_METHOD(WebhookFixture, "posts come in order: start, growing output, completed",
                 "[webhook]") {
  options.bearer_token = "secret";
  WebhookSender sender(options);
  const auto prediction = Make();
  delay = milliseconds(20);  // a slow receiver must not reorder them
  sender.Watch(prediction);
  prediction->Begin();
  for (int i = 0; i < 20; ++i) {
    prediction->Output("p" + std::to_string(i));
    std::this_thread::sleep_for(milliseconds(10));
  }
  End(*prediction);
  REQUIRE(sender.Drain(std::chrono::seconds(10)));
  const auto posts = Posts();
  REQUIRE(posts.size() >= 4);
  CHECK(posts.size() < 20);  // coalesced
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
    CHECK(FindHeader(post.headers, "User-Agent")->rfind("coglet/", 0) == 0);
    CHECK(*FindHeader(post.headers, "Authorization") == "Bearer secret");
    CHECK(*FindHeader(post.headers, "traceparent") == "00-aa-bb-01");
    CHECK(*FindHeader(post.headers, "Content-Type") == "application/json");
  }
}

TEST_CASE_METHOD(WebhookFixture, "a string output is posted once, as a list of one", "[webhook]") {
  WebhookSender sender(options);
  const auto prediction = Make({"output", "completed"}, OutputKind::kString);
  sender.Watch(prediction);
  prediction->Begin();
  prediction->Output("A");
  std::this_thread::sleep_for(milliseconds(150));
  prediction->Output(" dog");
  End(*prediction);
  REQUIRE(sender.Drain(std::chrono::seconds(10)));
  const auto posts = Posts();
  REQUIRE(posts.size() == 2);
  CHECK(posts[0].body["output"] == json::array({"A dog"}));
  CHECK(posts[1].body["output"] == "A dog");
}

TEST_CASE_METHOD(WebhookFixture, "only the wanted events are posted", "[webhook]") {
  WebhookSender sender(options);
  for (const char* event : {"start", "completed"}) {
    const auto prediction = Make({event});
    sender.Watch(prediction);
    prediction->Begin();
    prediction->Output("x");
    prediction->Log("stdout", "line\n");
    End(*prediction);
  }
  const auto none = Make({});
  sender.Watch(none);
  none->Begin();
  End(*none);
  REQUIRE(sender.Drain(std::chrono::seconds(10)));
  CHECK(Posts().size() == 2);
}

TEST_CASE_METHOD(WebhookFixture, "completed is tried again after a 500, start is not",
                 "[webhook]") {
  WebhookSender sender(options);
  failures = 2;  // start, and the first completed
  const auto prediction = Make({"start", "completed"});
  sender.Watch(prediction);
  prediction->Begin();
  End(*prediction, Status::InvalidInput("no"));
  REQUIRE(sender.Drain(std::chrono::seconds(10)));
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
  const auto prediction = Make({"completed"});
  sender.Watch(prediction);
  prediction->Begin();
  End(*prediction);
  for (const char* url : {"notaurl://", "ftp://x/", ""}) {
    PredictionRequest request;
    request.id = url;
    request.webhook = url;
    const auto bad = std::make_shared<Prediction>(std::move(request), OutputKind::kString);
    sender.Watch(bad);
    bad->Begin();
    End(*bad);
  }
  REQUIRE(sender.Drain(std::chrono::seconds(10)));
  CHECK(Posts().size() == 1);
}

TEST_CASE_METHOD(WebhookFixture, "loopback is refused by default", "[webhook]") {
  options.allow_private = false;
  WebhookSender sender(options);
  const auto prediction = Make({"start"});
  sender.Watch(prediction);
  prediction->Begin();
  End(*prediction);
  REQUIRE(sender.Drain(std::chrono::seconds(10)));
  CHECK(Posts().empty());
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
