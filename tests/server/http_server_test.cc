// SPDX-License-Identifier: Apache-2.0
// The HTTP server over real loopback sockets: framing, limits, keep-alive, streaming, drain.
#include "server/http/http_server.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "server/http/request_head.h"
#include "tests/server/doubles/http_fixture.h"

namespace idefics {
namespace {

using std::chrono::milliseconds;

TEST_CASE_METHOD(HttpFixture, "three pipelined requests get three answers in order", "[http]") {
  const std::string answer =
      Ask("GET /ok HTTP/1.1\r\nHost: x\r\n\r\nPOST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: "
          "3\r\n\r\nabc"
          "GET /nope HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  const size_t first = answer.find("fine;");
  const size_t second = answer.find("size=3;");
  const size_t third = answer.find("404 Not Found");
  CHECK(first < second);
  CHECK(second < third);
  CHECK(third != std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "an error status keeps the connection", "[http]") {
  const std::string answer =
      Ask("GET /nope HTTP/1.1\r\nHost: x\r\n\r\nGET /ok HTTP/1.1\r\nHost: x\r\nConnection: "
          "close\r\n\r\n");
  CHECK(answer.find("fine;") != std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "a chunked body arrives whole and leaves the next request",
                 "[http]") {
  const std::string answer =
      Ask("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: "
          "chunked\r\n\r\n3\r\nabc\r\na;x=y\r\n0123456789\r\n"
          "0\r\nTrailer: x\r\n\r\nGET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(answer.find("size=13;") != std::string::npos);
  CHECK(answer.find("fine;") != std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "what two parsers could read differently is refused and closed",
                 "[http]") {
  const std::string post = "POST /echo HTTP/1.1\r\nHost: x\r\n";
  for (const std::string& bad : {
           post + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
           post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
           post + "Content-Length: +3\r\n\r\nabc",
           post + "Content-Length: 5x\r\n\r\nabcde",
           post + "Content-Length: \r\n\r\n",
           post + "Content-Length : 3\r\n\r\nabc",
           post + "X: a\r\n b\r\n\r\n",
           post + "X: a\x01\r\n\r\n",
           post + "NoColon\r\n\r\n",
           std::string("GET  /ok HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("GET /ok\r\n\r\n"),
           std::string("GET ftp://x/ok HTTP/1.1\r\nHost: x\r\n\r\n"),
           std::string("\x16\x03\x01\x02\x00"),
       }) {
    INFO(bad);
    const std::string answer = Ask(bad);  // ends: the server closes
    CHECK(HasStatus(answer, 400));
    CHECK(answer.find("size=") == std::string::npos);
  }
  CHECK(HasStatus(Ask(post + "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501));
  CHECK(HasStatus(Ask("GET /ok HTTP/2.0\r\n\r\n"), 505));
}

TEST_CASE_METHOD(HttpFixture, "bad chunk sizes are refused and closed", "[http]") {
  for (const char* size : {"-2", "+5", " 5", "0x5", "5x", "", "fffffffffffffffff", "ffffffff"}) {
    INFO(size);
    const std::string answer =
        Ask("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" +
            std::string(size) + "\r\nabcde\r\n0\r\n\r\n");
    CHECK((HasStatus(answer, 400) || HasStatus(answer, 413)));
    CHECK(answer.find("Connection: close") != std::string::npos);
  }
}

TEST_CASE_METHOD(HttpFixture, "body limits hold for sized and chunked bodies", "[http]") {
  CHECK(HasStatus(Ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n"), 413));
  std::string chunks = "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
  for (int i = 0; i < 11; ++i) chunks += "64\r\n" + std::string(100, 'x') + "\r\n";
  CHECK(HasStatus(Ask(chunks + "0\r\n\r\n"), 413));
}

TEST_CASE_METHOD(HttpFixture, "a half-sent head or body is dropped at its deadline", "[http]") {
  const auto usual = std::min<std::chrono::nanoseconds>(options.head_time, options.body.time);
  options.head_time = milliseconds(300);
  options.body.time = milliseconds(300);
  Start();
  const auto start = std::chrono::steady_clock::now();
  CHECK(HasStatus(Ask("GET /ok HTTP/1.1\r\nHost: x\r\nX:"), 408));
  CHECK(HasStatus(Ask("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"), 400));
  CHECK(std::chrono::steady_clock::now() - start < usual);
}

TEST_CASE_METHOD(HttpFixture, "floods of headers and long targets are refused", "[http]") {
  std::string many = "GET /ok HTTP/1.1\r\nHost: x\r\n";
  for (int i = 0; i < 101; ++i) many += "X: y\r\n";
  CHECK(HasStatus(Ask(many + "\r\n"), 431));
  CHECK(HasStatus(Ask("GET /" + std::string(70'000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n"), 414));
  CHECK(HasStatus(Ask("GET /ok HTTP/1.1\r\nHost: x\r\nX: " + std::string(70'000, 'a') + "\r\n\r\n"),
                  431));
}

TEST_CASE("a long target is refused with 414 however much of the head has arrived", "[http]") {
  const std::string whole = "GET /" + std::string(70'000, 'a') + " HTTP/1.1\r\nHost: x\r\n\r\n";
  for (const size_t bytes : {size_t{40'000}, size_t{69'000}, whole.size()}) {
    const auto error = CheckPartialHead(std::string_view(whole).substr(0, bytes), HeadLimits());
    REQUIRE(error.has_value());
    CHECK(error->status == 414);
  }
}

TEST_CASE_METHOD(HttpFixture, "an unread body is not taken for the next request", "[http]") {
  const std::string answer =
      Ask("POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nGET /ok HTTP/1.1\r\nHost: "
          "x\r\nConnection: "
          "close\r\n\r\n");
  CHECK(answer.find("ignored;") != std::string::npos);
  CHECK(answer.find("fine;") == std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "a short body that a route did not read does not cost the connection",
                 "[http]") {
  for (const char* body : {"Content-Length: 3\r\n\r\nabc",
                           "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"}) {
    const std::string answer = Ask("POST /ignore HTTP/1.1\r\nHost: x\r\n" + std::string(body) +
                                   "GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    CHECK(answer.find("ignored;") != std::string::npos);
    CHECK(answer.find("fine;") != std::string::npos);
  }
}

TEST_CASE_METHOD(HttpFixture, "a long body that a route did not read ends the connection",
                 "[http]") {
  for (const std::string& head :
       {std::string("Content-Length: 100000\r\n\r\n"),
        std::string("Content-Length: 3\r\nExpect: 100-continue\r\n\r\n")}) {
    const std::string answer = Ask("POST /ignore HTTP/1.1\r\nHost: x\r\n" + head);
    CHECK(answer.find("Connection: close") != std::string::npos);
    CHECK(answer.find("100 Continue") == std::string::npos);
  }
}

TEST_CASE_METHOD(HttpFixture, "Expect: 100-continue is answered before the body", "[http]") {
  RawClient client(server->port());
  client.Send(
      "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n");
  CHECK(client.Receive("\r\n\r\n").find("100 Continue") != std::string::npos);
  client.Send("abc");
  CHECK(client.Receive("size=3;").find("200 OK") != std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "HEAD has no body, Range is ignored, HTTP/1.0 closes", "[http]") {
  const std::string head = Ask("HEAD /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(HasStatus(head, 200));
  CHECK(head.find("Content-Length: 5") != std::string::npos);
  CHECK(head.find("fine;") == std::string::npos);
  CHECK(HasStatus(Ask("GET http://x/ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 200));
  CHECK(HasStatus(
      Ask("GET /ok HTTP/1.1\r\nHost: x\r\nRange: bytes=0-1\r\nConnection: close\r\n\r\n"), 200));
  CHECK(HasStatus(Ask("GET /ok HTTP/1.1\r\nHost: x\r\nRange: junk\r\nConnection: close\r\n\r\n"),
                  200));
  CHECK(Ask("GET /ok HTTP/1.0\r\n\r\n").find("Connection: close") != std::string::npos);
}

// A stream that has something whenever it is told.
struct Tap {
  std::mutex mutex;
  std::string bytes;
  bool is_last = false;
  std::function<void()> stir;
  std::atomic<bool> closed{false};

  void Give(const std::string& more, bool last = false) {
    std::function<void()> wake;
    {
      const std::lock_guard lock(mutex);
      bytes += more;
      is_last = last;
      wake = stir;
    }
    if (wake) wake();  // else it is read when it begins
  }
};

class TapStream final : public BodySource {
 public:
  explicit TapStream(Tap& tap) : tap_(tap) {}
  ~TapStream() override { tap_.closed = true; }
  Piece Next() override {
    const std::lock_guard lock(tap_.mutex);
    return {std::exchange(tap_.bytes, ""), tap_.is_last};
  }
  void WhenMore(std::function<void()> stir) override {
    const std::lock_guard lock(tap_.mutex);
    tap_.stir = std::move(stir);
  }

 private:
  Tap& tap_;
};

TEST_CASE_METHOD(HttpFixture, "a stream that waits holds no thread", "[http]") {
  constexpr size_t kStreams = 8;
  std::array<Tap, kStreams> taps;
  std::atomic<size_t> next{0};
  router.Add("POST", "/tap", [&](HttpRequest&) {
    HttpResponse response = HttpResponse::Text(200, "");
    response.stream = std::make_unique<TapStream>(taps[next++]);
    return response;
  });
  options.max_request_threads = 2;
  HttpServer small(options, router);
  REQUIRE(small.Start().ok());
  std::vector<std::unique_ptr<RawClient>> clients;
  for (Tap& tap : taps) {
    clients.push_back(std::make_unique<RawClient>(small.port()));
    clients.back()->Send("POST /tap HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    CHECK(HasStatus(clients.back()->Receive("\r\n\r\n"), 200));
    tap.Give("one;");
    CHECK(clients.back()->Receive("one;\r\n").ends_with("4\r\none;\r\n"));
  }
  RawClient other(small.port());
  other.Send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab");
  CHECK(other.Receive("size=2;").ends_with("size=2;"));

  taps[0].Give("two;", /*last=*/true);
  CHECK(clients[0]->Receive("0\r\n\r\n") == "4\r\ntwo;\r\n0\r\n\r\n");
  clients[0]->Send("GET /ok HTTP/1.1\r\nHost: x\r\n\r\n");  // the connection goes on
  CHECK(HasStatus(clients[0]->Receive("fine;"), 200));
  clients[1].reset();  // its client leaves
  while (!taps[1].closed) std::this_thread::yield();
  small.Stop(milliseconds(0));  // breaks the others
  CHECK(std::all_of(taps.begin(), taps.end(), [](const Tap& tap) { return tap.closed.load(); }));
}

TEST_CASE_METHOD(HttpFixture, "a stream is chunked, and plain for HTTP/1.0", "[http]") {
  const std::string chunked = Ask("GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
  CHECK(chunked.find("4\r\none \r\n3\r\ntwo\r\n0\r\n\r\n") != std::string::npos);
  const std::string plain = Ask("GET /stream HTTP/1.0\r\n\r\n");
  CHECK(plain.find("\r\n\r\none two") != std::string::npos);
}

TEST_CASE_METHOD(HttpFixture, "an exception in a route is a 500 and the server lives", "[http]") {
  CHECK(HasStatus(Ask("GET /throw HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 500));
  CHECK(HasStatus(Ask("GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 200));
}

TEST_CASE_METHOD(HttpFixture, "a route sees that its client left", "[http]") {
  {
    RawClient client(server->port());
    client.Send("POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    while (!started) std::this_thread::sleep_for(milliseconds(1));
  }
  while (!ended) std::this_thread::sleep_for(milliseconds(1));
  CHECK(saw_gone);
}

TEST_CASE_METHOD(HttpFixture, "hundreds of idle connections cost no thread and delay nobody",
                 "[http]") {
  std::vector<std::unique_ptr<RawClient>> idle;
  for (int i = 0; i < 400; ++i) {
    idle.push_back(std::make_unique<RawClient>(server->port()));
    REQUIRE(idle.back()->connected());
    if (i % 2 == 0) idle.back()->Send("GET /ok HT");
  }
  CHECK(HasStatus(Ask("GET /ok HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"), 200));
}

TEST_CASE_METHOD(HttpFixture, "Stop lets a running request end and refuses new ones", "[http]") {
  RawClient running(server->port());
  running.Send("POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  while (!started) std::this_thread::sleep_for(milliseconds(1));
  const int port = server->port();
  std::thread stop([&] { server->Stop(std::chrono::minutes(1)); });
  while (RawClient(port).connected()) std::this_thread::sleep_for(milliseconds(2));
  release = true;
  CHECK(running.Receive().find("waited;") != std::string::npos);
  stop.join();
}

TEST_CASE_METHOD(HttpFixture, "Stop without grace breaks what still runs", "[http]") {
  RawClient running(server->port());
  running.Send("POST /wait HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
  while (!started) std::this_thread::sleep_for(milliseconds(1));
  server->Stop(milliseconds(0));
  CHECK(ended);
}

TEST_CASE_METHOD(HttpFixture, "a port in use is an error that names it", "[http]") {
  HttpServerOptions same = options;
  same.port = server->port();
  HttpServer second(same, router);
  const Status status = second.Start();
  REQUIRE_FALSE(status.ok());
  CHECK(status.message().find(std::to_string(same.port)) != std::string::npos);
}

}  // namespace
}  // namespace idefics
