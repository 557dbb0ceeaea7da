// SPDX-License-Identifier: Apache-2.0
// Clients that mean no good, over real loopback sockets: what they may cost, and whom.
#include <algorithm>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <new>
#include <string>
#include <thread>
#include <vector>

#include "server/http/request_head.h"
#include "tests/server/doubles/http_fixture.h"

namespace idefics {
namespace {

TEST_CASE("a head that comes byte by byte is not looked through again for each", "[http]") {
  const std::string head = "GET /ok HTTP/1.1\r\nHost: x\r\n\r\nrest";
  for (size_t scanned = 0; scanned + 8 <= head.size(); ++scanned) {
    CHECK(FindHeadEnd(head, scanned) == head.size() - 4);
  }
  CHECK(FindHeadEnd(head, head.size()) == std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "a few empty lines before a request are skipped, a flood is refused",
                 "[http]") {
  const std::string request = "GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
  CHECK(HasStatus(Ask("\r\n\r\n" + request), 200));
  std::string lines;
  for (int i = 0; i < 9; ++i) lines += "\r\n";
  CHECK(HasStatus(Ask(lines + request), 400));
}

TEST_CASE_METHOD(HttpFixture, "a stream that throws ends its connection and nothing else",
                 "[http]") {
  router.Add("GET", "/broken", [](HttpRequest&) {
    HttpResponse response = HttpResponse::Text(200, "");
    response.stream = std::make_unique<Pieces>(std::vector<std::string>{"one", ""});
    return response;
  });
  const std::string broken = Ask("GET /broken HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(broken.find("one") != std::string::npos);
  CHECK(broken.find("0\r\n\r\n") == std::string::npos);
  CHECK(HasStatus(Ask("GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 200));
}

TEST_CASE_METHOD(HttpFixture, "bodies that stop in the midst keep out nobody who is quick",
                 "[http]") {
  router.Add("POST", "/quick", EchoSize, Router::Lane::kQuick);
  router.Add("POST", "/body", EchoSize, Router::Lane::kBody);
  options.max_request_threads = 4;
  options.max_body_threads = 2;
  HttpServer small(options, router);
  REQUIRE(small.Start().ok());
  const auto ask = [&](const std::string& bytes) {
    RawClient client(small.port());
    client.Send(bytes);
    return client.Receive(";");
  };
  const std::string half = "POST /body HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5";
  std::vector<std::unique_ptr<RawClient>> stopped;
  for (int i = 0; i < 2; ++i) {
    stopped.push_back(std::make_unique<RawClient>(small.port()));
    stopped.back()->Send(half);
  }
  std::string refused;
  while (!HasStatus(refused, 503)) {  // the two may not have arrived yet
    RawClient third(small.port());
    third.Send(half);
    refused = third.Receive("again.");
  }
  for (int i = 0; i < 20; ++i) {  // short ones wait in the event loop
    stopped.push_back(std::make_unique<RawClient>(small.port()));
    stopped.back()->Send("POST /body HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab");
  }
  const std::string whole = " HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc";
  CHECK(ask("POST /quick" + whole).find("size=3;") != std::string::npos);
  CHECK(ask("POST /body" + whole).find("size=3;") != std::string::npos);
  stopped.back()->Send("cde");
  CHECK(stopped.back()->Receive(";").find("size=5;") != std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "pipelined requests take turns, and nobody else waits for them",
                 "[http]") {
  constexpr int kClients = 12;
  std::atomic<int> num_running{0};
  std::atomic<int> most_running{0};
  router.Add("POST", "/turn", [&](HttpRequest&) {
    const int running = ++num_running;
    for (int most = most_running; most < running;)
      most_running.compare_exchange_weak(most, running);
    while (!release) std::this_thread::yield();
    --num_running;
    return HttpResponse::Text(200, "turn;");
  });
  Start();
  const int max_turns = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2);
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < kClients; ++i) {
    clients.push_back(Pipeline("/turn"));
    CHECK(HasStatus(clients.back()->Receive("fine;"), 200));
  }
  while (num_running == 0) std::this_thread::yield();
  CHECK(HasStatus(Ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab", "size=2;"),
                  200));
  release = true;
  for (const auto& client : clients) CHECK(client->Receive("turn;").ends_with("turn;"));
  CHECK(most_running <= max_turns);
}

TEST_CASE_METHOD(HttpFixture, "a pipelined request that waits holds up no other", "[http]") {
  constexpr int kClients = 8;
  std::atomic<int> num_waiting{0};
  router.Add("POST", "/job", [&](HttpRequest& request) {
    request.peer->WhenGone([] {});
    ++num_waiting;
    while (!release) std::this_thread::yield();
    return HttpResponse::Text(200, "done;");
  });
  Start();
  std::vector<std::unique_ptr<RawClient>> clients;
  for (int i = 0; i < kClients; ++i) clients.push_back(Pipeline("/job"));
  while (num_waiting < kClients) std::this_thread::yield();  // all at once
  release = true;
  for (const auto& client : clients) CHECK(client->Receive("done;").ends_with("done;"));
}

TEST_CASE_METHOD(HttpFixture, "Stop waits for an answer that is being taken", "[http]") {
  const std::string big(16 << 20, 'x');
  router.Add("GET", "/big", [&](HttpRequest&) { return HttpResponse::Text(200, big); });
  RawClient client(server->port());
  client.Send("GET /big HTTP/1.1\r\nHost: x\r\n\r\n");
  CHECK(client.Receive("\r\n\r\n").size() < big.size() / 2);
  std::thread stop([&] { server->Stop(std::chrono::minutes(1)); });
  CHECK(client.Receive().size() > big.size() / 2);
  stop.join();
}

}  // namespace
}  // namespace idefics
