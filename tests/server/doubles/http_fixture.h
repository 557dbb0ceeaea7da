// SPDX-License-Identifier: Apache-2.0
// A server on a loopback port with a few routes, and a client that sends raw bytes.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <memory>
#include <string>
#include <thread>

#include "server/http/http_server.h"

namespace idefics {

using std::chrono::milliseconds;

// A client that sends raw bytes.
class RawClient {
 public:
  explicit RawClient(int port) : fd_(socket(AF_INET, SOCK_STREAM, 0)) {
    const timeval limit{60, 0};
    setsockopt(fd_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_port = htons(static_cast<uint16_t>(port));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    connected_ = connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) == 0;
  }
  ~RawClient() { close(fd_); }
  RawClient(const RawClient&) = delete;
  RawClient& operator=(const RawClient&) = delete;

  bool connected() const { return connected_; }
  void Send(const std::string& bytes) const { send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL); }

  // Everything until the server closes, or until `end` was seen.
  std::string Receive(const std::string& end = "") {
    std::string got;
    char buffer[4096];
    while (end.empty() || got.find(end) == std::string::npos) {
      const ssize_t n = recv(fd_, buffer, sizeof buffer, 0);
      if (n <= 0) break;
      got.append(buffer, static_cast<size_t>(n));
    }
    return got;
  }

 private:
  int fd_;
  bool connected_ = false;
};

inline HttpResponse EchoSize(HttpRequest& request) {
  const auto body = request.peer->ReadBody();
  if (!body.ok()) {
    const bool too_large = body.status().code() == ErrorCode::kTooLarge;
    return HttpResponse::Text(too_large ? 413 : 400, body.status().message());
  }
  return HttpResponse::Text(200, "size=" + std::to_string(body->size()) + ";");
}

// A stream of these, all there from the start; an empty one throws.
class Pieces final : public BodySource {
 public:
  explicit Pieces(std::vector<std::string> pieces) : pieces_(std::move(pieces)) {}
  Piece Next() override {
    if (pieces_.at(next_).empty()) throw std::bad_alloc();
    const bool is_last = next_ + 1 == pieces_.size();
    return {pieces_[next_++], is_last};
  }
  void WhenMore(std::function<void()>) override {}

 private:
  const std::vector<std::string> pieces_;
  size_t next_ = 0;
};

class HttpFixture {
 public:
  HttpFixture() {
    router.Add("GET", "/ok", [](HttpRequest&) { return HttpResponse::Text(200, "fine;"); });
    router.Add("POST", "/echo", EchoSize);
    router.Add("POST", "/ignore", [](HttpRequest&) { return HttpResponse::Text(200, "ignored;"); });
    router.Add("GET", "/throw",
               [](HttpRequest&) -> HttpResponse { throw std::runtime_error("x"); });
    router.Add("GET", "/stream", [](HttpRequest&) {
      HttpResponse response = HttpResponse::Text(200, "");
      response.stream = std::make_unique<Pieces>(std::vector<std::string>{"one ", "two"});
      return response;
    });
    router.Add("POST", "/wait", [this](HttpRequest& request) {
      started = true;
      while (!request.peer->Gone() && !release) std::this_thread::sleep_for(milliseconds(2));
      saw_gone = request.peer->Gone();
      ended = true;
      return HttpResponse::Text(200, "waited;");
    });
    options.host = "127.0.0.1";
    options.port = 0;
    options.body.max_bytes = 1000;
    Start();
  }

  // Anew, with the options and routes of now.
  void Start() {
    server = std::make_unique<HttpServer>(options, router);
    REQUIRE(server->Start().ok());
  }

  // A client whose POST to `path` follows a GET of /ok before that has its answer.
  std::unique_ptr<RawClient> Pipeline(const std::string& path) const {
    auto client = std::make_unique<RawClient>(server->port());
    client->Send("GET /ok HTTP/1.1\r\nHost: x\r\n\r\nPOST " + path +
                 " HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n");
    return client;
  }

  std::string Ask(const std::string& bytes, const std::string& end = "") const {
    RawClient client(server->port());
    client.Send(bytes);
    return client.Receive(end);
  }

  Router router;
  HttpServerOptions options;
  std::unique_ptr<HttpServer> server;
  std::atomic<bool> started{false};
  std::atomic<bool> release{false};
  std::atomic<bool> saw_gone{false};
  std::atomic<bool> ended{false};
};

inline bool HasStatus(const std::string& answer, int status) {
  return answer.rfind("HTTP/1.1 " + std::to_string(status) + " ", 0) == 0;
}

}  // namespace idefics
