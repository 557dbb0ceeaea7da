// SPDX-License-Identifier: Apache-2.0
// Cog's routes without a socket: a Router, a scripted predictor, a scripted client.
#include "server/api/cog/cog_routes.h"

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <future>
#include <nlohmann/json.hpp>
#include <thread>

#include "tests/server/doubles/scripted_images.h"
#include "tests/server/doubles/scripted_predictor.h"

namespace idefics {
namespace {

using nlohmann::json;

class ScriptedPeer final : public HttpPeer {
 public:
  explicit ScriptedPeer(std::string body) : body_(std::move(body)) {}
  Result<std::string> ReadBody() override { return body_; }
  bool Gone() const override { return gone; }
  void WhenGone(std::function<void()> callback) override {
    if (gone) callback();
  }
  std::atomic<bool> gone{false};

 private:
  std::string body_;
};

class CogFixture {
 public:
  CogFixture() {
    auto made = std::make_unique<ScriptedPredictor>();
    predictor = made.get();
    auto source = std::make_unique<ScriptedImages>();
    images = source.get();
    JobServiceOptions options;
    options.max_concurrency = 1;
    options.stall_s = 60;
    service = std::make_unique<JobService>(
        options,
        [keep = std::make_shared<std::unique_ptr<Predictor>>(std::move(made))](
            const std::stop_token&) -> Result<std::unique_ptr<Predictor>> {
          return std::move(*keep);
        },
        std::move(source));
    admission = std::make_unique<Admission>(*service, webhooks, CogOptions());
    routes = std::make_unique<CogRoutes>(*admission, [this] { shutdown_asked = true; });
    routes->AddTo(router);
  }

  void GetReady() {
    service->SetUp({});
    REQUIRE(service->setup().phase() == SetupState::Phase::kReady);
  }

  HttpResponse Send(const std::string& method, const std::string& path,
                    const std::string& body = "",
                    HttpHeaders headers = {{"Content-Type", "application/json"}}) {
    ScriptedPeer peer(body);
    return SendFrom(peer, method, path, std::move(headers));
  }

  HttpResponse SendFrom(HttpPeer& peer, const std::string& method, const std::string& path,
                        HttpHeaders headers = {{"Content-Type", "application/json"}}) {
    HttpRequest request;
    request.method = method;
    request.path = path;
    request.headers = std::move(headers);
    request.peer = &peer;
    return router.Route(request);
  }

  void WaitUntilFree() const {
    while (service->queue().used_slots() > 0)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
  }

  ScriptedPredictor* predictor = nullptr;
  ScriptedImages* images = nullptr;
  std::atomic<bool> shutdown_asked{false};
  WebhookSender webhooks{WebhookOptions()};
  std::unique_ptr<JobService> service;
  std::unique_ptr<Admission> admission;
  std::unique_ptr<CogRoutes> routes;
  Router router;
};

constexpr const char* kGood = R"({"input":{"image":"data:,x","text":"hi"}})";

TEST_CASE_METHOD(CogFixture, "a prediction answers with the stripped new text", "[cog]") {
  GetReady();
  predictor->pieces = {" A", " dog. ", "\n"};
  const HttpResponse response = Send("POST", "/predictions", kGood);
  REQUIRE(response.status == 200);
  const json body = json::parse(response.body);
  CHECK(body["status"] == "succeeded");
  CHECK(body["output"] == "A dog.");
  CHECK(body["id"].get<std::string>().rfind("pred_", 0) == 0);
  CHECK(body["input"]["max_new_tokens"] == 512);
  CHECK(body["metrics"]["predict_time"] >= 0);
  CHECK(body["metrics"]["output_token_count"] == 2);
  CHECK(body["logs"] == "");
  for (const auto& [name, value] : body.items()) CHECK_FALSE(value.is_null());
  CHECK(body["started_at"] <= body["completed_at"]);
}

TEST_CASE_METHOD(CogFixture, "prompt answers with the new text, return_full_text with all",
                 "[cog]") {
  GetReady();
  CHECK(
      json::parse(Send("POST", "/predictions", R"({"input":{"prompt":["hi"]}})").body)["output"] ==
      " A dog.");
  CHECK(json::parse(
            Send("POST", "/predictions", R"({"input":{"prompt":["hi"],"return_full_text":true}})")
                .body)["output"] == "User: hi \nAssistant: A dog.");
}

TEST_CASE_METHOD(CogFixture, "an answer that ends at once is empty, not the prompt", "[cog]") {
  GetReady();
  predictor->pieces = {};
  const json body = json::parse(Send("POST", "/predictions", kGood).body);
  CHECK(body["status"] == "succeeded");
  CHECK(body["output"] == "");
}

TEST_CASE_METHOD(CogFixture, "a failure is data and keeps what was made", "[cog]") {
  GetReady();
  predictor->status = Status::InvalidInput("the image is broken");
  const HttpResponse response = Send("POST", "/predictions", kGood);
  CHECK(response.status == 200);
  const json body = json::parse(response.body);
  CHECK(body["status"] == "failed");
  CHECK(body["error"] == "the image is broken");
  CHECK(body["output"] == "A dog.");
}

TEST_CASE_METHOD(CogFixture, "an internal failure is not shown to the client", "[cog]") {
  GetReady();
  predictor->status = Status::Internal("/secret/path: CUDA error 700");
  const std::string body = Send("POST", "/predictions", kGood).body;
  CHECK(body.find("secret") == std::string::npos);
  CHECK(json::parse(body)["status"] == "failed");
}

TEST_CASE_METHOD(CogFixture, "a failed download is a failed prediction", "[cog]") {
  GetReady();
  images->failure = Status(ErrorCode::kFetchFailed, "HTTP status 404");
  const json body = json::parse(Send("POST", "/predictions", kGood).body);
  CHECK(body["error"] == "Input validation error: HTTP status 404");
}

TEST_CASE_METHOD(CogFixture, "bodies get coglet's statuses", "[cog]") {
  GetReady();
  const auto status = [&](const std::string& body, HttpHeaders headers) {
    return Send("POST", "/predictions", body, std::move(headers)).status;
  };
  const HttpHeaders json_type = {{"Content-Type", "application/json"}};
  CHECK(status("{bad", json_type) == 400);
  CHECK(status("", json_type) == 400);
  CHECK(status(R"({"input":{"top_p":NaN}})", json_type) == 400);
  CHECK(status(std::string(200, '['), json_type) == 400);
  CHECK(status("\"\xff\"", json_type) == 400);
  CHECK(status(kGood + std::string("\0garbage", 8), json_type) == 400);
  CHECK(status("\xEF\xBB\xBF" + std::string(kGood), json_type) == 400);
  CHECK(status("x", {{"Content-Type", "text/plain"}}) == 415);
  CHECK(status("x", {{"Content-Type", "application/x-www-form-urlencoded"}}) == 415);
  CHECK(status(kGood, {{"Content-Type", "application/json; charset=utf-8"}}) == 200);
  CHECK(status(kGood, {{"Content-Type", "application/vnd.x+json"}}) == 200);
  CHECK(status(kGood, {{"Content-Type", "application/json+x"}}) == 200);
  CHECK(status(kGood, {}) == 200);
  CHECK(status("not json", {}) == 422);  // as {}: image and text are missing
  CHECK(status("[]", json_type) == 422);
  CHECK(status(R"({"id":5,"input":{}})", json_type) == 422);
  CHECK(status(R"({"webhook":5})", json_type) == 422);
  CHECK(status(R"({"context":null})", json_type) == 422);
  CHECK(status(R"({"context":{"a":1}})", json_type) == 422);
  CHECK(status(R"({"webhook_events_filter":["bogus"]})", json_type) == 422);
  CHECK(status(R"({"webhook_events_filter":[1]})", json_type) == 400);
  CHECK(status(R"({"id":"a","id":"b"})", json_type) == 422);
  CHECK(status(R"({"input":null})", json_type) == 422);
  CHECK(status(R"({"input":{"image":"data:,x","text":"hi"},"id":null,"webhook":null,"x":1})",
               json_type) == 200);
}

TEST_CASE_METHOD(CogFixture, "a 422 names the field as clients parse it", "[cog]") {
  GetReady();
  const HttpResponse response = Send(
      "POST", "/predictions", R"({"input":{"image":"data:,x","text":"a","max_new_tokens":7}})");
  CHECK(response.status == 422);
  CHECK(json::parse(response.body) ==
        json::parse(R"({"detail":[{"loc":["body","input","max_new_tokens"],
                       "msg":"7 is less than the minimum of 8","type":"value_error"}]})"));
}

TEST_CASE_METHOD(CogFixture, "before set-up has ended valid requests get 503, invalid ones 422",
                 "[cog]") {
  CHECK(Send("POST", "/predictions", kGood).status == 503);
  CHECK(Send("POST", "/predictions", "{}").status == 422);
  const json health = json::parse(Send("GET", "/health-check").body);
  CHECK(health["status"] == "STARTING");
  CHECK(health["setup"]["status"] == "starting");
  CHECK_FALSE(health["setup"].contains("completed_at"));
  CHECK(Send("GET", "/openapi.json").status == 200);
}

TEST_CASE_METHOD(CogFixture, "a failed set-up is shown and the server stays", "[cog]") {
  service->setup().Fail("bundle.json is missing");
  service->setup().Succeed("too late");
  const json health = json::parse(Send("GET", "/health-check").body);
  CHECK(health["status"] == "SETUP_FAILED");
  CHECK(health["setup"]["logs"] == "bundle.json is missing");
  CHECK(Send("POST", "/predictions", kGood).status == 503);
}

TEST_CASE_METHOD(CogFixture, "a full server is BUSY and answers 409, and 202 to the running id",
                 "[cog]") {
  GetReady();
  std::promise<void> may_end;
  predictor->on_generate = [&] { may_end.get_future().wait(); };
  const HttpHeaders async = {{"Content-Type", "application/json"}, {"Prefer", "respond-async"}};
  const HttpResponse first = Send("PUT", "/predictions/a%2Fb", kGood, async);
  CHECK(first.status == 202);
  CHECK(json::parse(first.body)["id"] == "a/b");
  CHECK(json::parse(first.body)["status"] == "starting");
  CHECK(json::parse(Send("GET", "/health-check").body)["status"] == "BUSY");
  CHECK(Send("POST", "/predictions", kGood).status == 409);
  CHECK(Send("POST", "/predictions", kGood).body.find("capacity") != std::string::npos);
  CHECK(Send("PUT", "/predictions/other", kGood).status == 409);
  CHECK(Send("POST", "/predictions", "{}").status == 422);
  CHECK(Send("PUT", "/predictions/a%2Fb", "{}").status == 202);
  CHECK(Send("PUT", "/predictions/x", R"({"id":"y"})").status == 422);
  may_end.set_value();
  WaitUntilFree();
  CHECK(json::parse(Send("GET", "/health-check").body)["status"] == "READY");
  CHECK(json::parse(Send("GET", "/predictions/a%2Fb").body)["status"] == "succeeded");
  CHECK(predictor->requests().size() == 1);
}

TEST_CASE_METHOD(CogFixture, "two hundred racing PUTs with one id run once", "[cog]") {
  GetReady();
  std::atomic<int> answered{0};
  std::atomic<int> conflicts{0};
  predictor->on_generate = [&] {  // the one run lasts until all others have their answers
    while (answered < 199) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  };
  {
    std::vector<std::jthread> clients;
    for (int i = 0; i < 200; ++i) {
      clients.emplace_back([&] {
        if (Send("PUT", "/predictions/same", kGood).status == 409) ++conflicts;
        ++answered;
      });
    }
  }
  CHECK(conflicts == 0);
  CHECK(predictor->requests().size() == 1);
}

TEST_CASE_METHOD(CogFixture, "cancel ends a running prediction; unknown ids get 404", "[cog]") {
  GetReady();
  predictor->pause = std::chrono::milliseconds(20);
  predictor->pieces = std::vector<std::string>(50'000, "x");
  const HttpHeaders async = {{"Content-Type", "application/json"}, {"Prefer", "respond-async"}};
  CHECK(Send("POST", "/predictions/none/cancel").status == 404);
  Send("PUT", "/predictions/p", kGood, async);
  CHECK(Send("POST", "/predictions/p/cancel").status == 200);
  WaitUntilFree();
  CHECK(json::parse(Send("GET", "/predictions/p").body)["status"] == "canceled");
  CHECK(Send("POST", "/predictions/p/cancel").status == 404);
}

TEST_CASE_METHOD(CogFixture, "a client that leaves cancels its synchronous prediction", "[cog]") {
  GetReady();
  predictor->pause = std::chrono::milliseconds(20);
  predictor->pieces = std::vector<std::string>(50'000, "x");
  ScriptedPeer peer(kGood);
  peer.gone = true;
  const HttpResponse response = SendFrom(peer, "POST", "/predictions");
  CHECK(json::parse(response.body)["status"] == "canceled");
  CHECK(service->queue().used_slots() == 0);
}

// All that a stream has to say.
std::string ReadAll(BodySource& stream) {
  std::string text;
  stream.WhenMore([] {});
  for (;;) {
    const BodySource::Piece piece = stream.Next();
    text += piece.bytes;
    if (piece.is_last) return text;
    std::this_thread::yield();
  }
}

TEST_CASE_METHOD(CogFixture, "an event stream has start, each piece in order, completed", "[cog]") {
  GetReady();
  predictor->pieces = {" A", " dog"};
  const HttpResponse response =
      Send("POST", "/predictions", R"({"id":"s","input":{"image":"data:,x","text":"hi"}})",
           {{"Content-Type", "application/json"},
            {"Accept", "application/json, text/event-stream;q=0.9"}});
  REQUIRE(response.stream);
  const std::string text = ReadAll(*response.stream);
  CHECK(text.rfind("event: start\ndata: {\"id\":\"s\",\"status\":\"processing\"}\n\n"
                   "event: output\ndata: {\"chunk\":\"A\",\"index\":0}\n\n"
                   "event: output\ndata: {\"chunk\":\" dog\",\"index\":1}\n\n",
                   0) == 0);
  const size_t completed = text.find("event: completed\ndata: ");
  REQUIRE(completed != std::string::npos);
  const json last = json::parse(text.substr(completed + 23));
  CHECK(last["output"] == "A dog");
}

TEST_CASE_METHOD(CogFixture, "wrong methods and paths get 405 with Allow and 404", "[cog]") {
  CHECK(Send("GET", "/nope").status == 404);
  CHECK(Send("GET", "/docs").status == 404);
  CHECK(Send("POST", "/trainings").status == 404);
  CHECK(Send("PUT", "/predictions/").status == 404);
  CHECK(Send("POST", "/predictions//cancel").status == 404);
  CHECK(Send("GET", "/predictions/x/stream").status == 404);
  const HttpResponse wrong = Send("GET", "/predictions");
  CHECK(wrong.status == 405);
  CHECK(*FindHeader(wrong.headers, "Allow") == "POST");
  CHECK(*FindHeader(Send("POST", "/health-check").headers, "Allow") == "GET,HEAD");
  const HttpResponse bad = Send("PUT", "/predictions/%ff", kGood);
  CHECK(bad.status == 400);
  CHECK(bad.body == "Invalid URL: Invalid UTF-8 in `id`");
  CHECK(Send("POST", "/predictions//cancel").body == "{}");
  CHECK(Send("PUT", "/predictions/a%zz%2", R"({"id":"a%zz%2"})").body.find("must match") ==
        std::string::npos);
}

TEST_CASE_METHOD(CogFixture, "an engine without progress is UNHEALTHY and still tried", "[cog]") {
  GetReady();
  predictor->health_now.stalled_s = 59;
  CHECK(json::parse(Send("GET", "/health-check").body)["status"] == "READY");
  predictor->health_now.stalled_s = 61;
  const json health = json::parse(Send("GET", "/health-check").body);
  CHECK(health["status"] == "UNHEALTHY");
  CHECK(health["user_healthcheck_error"] ==
        "The engine has made no progress for 61 s (--stall-timeout).");
  CHECK(Send("POST", "/predictions", kGood).status == 200);
}

TEST_CASE_METHOD(CogFixture, "a broken engine is DEFUNCT and predictions get 503, never 409",
                 "[cog]") {
  GetReady();
  predictor->health_now.broken = true;
  CHECK(json::parse(Send("GET", "/health-check").body)["status"] == "DEFUNCT");
  const HttpResponse response = Send("POST", "/predictions", kGood);
  CHECK(response.status == 503);
  CHECK(json::parse(response.body)["status"] == "failed");
}

TEST_CASE_METHOD(CogFixture, "after a stop was asked for new predictions get 503", "[cog]") {
  GetReady();
  CHECK(Send("POST", "/shutdown").body == "{}");
  CHECK(shutdown_asked);
  CHECK(service->queue().Drain(std::chrono::milliseconds(100)));
  CHECK(Send("POST", "/predictions", kGood).status == 503);
}

}  // namespace
}  // namespace idefics
