// SPDX-License-Identifier: Apache-2.0
// The HTTP/1.1 server. A connection holds a thread only while one of its requests runs: one
// event-loop thread owns all others (epoll), so thousands of idle or half-sent ones cost only a
// descriptor each. A request's way: http_server.cc (bytes arrive) -> request_head.cc (the head is
// judged) -> a worker: exchange.cc -> router.cc -> the route -> response_writer.cc -> back to the
// loop.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "common/status.h"
#include "server/http/body_reader.h"
#include "server/http/cors.h"
#include "server/http/request_head.h"
#include "server/http/router.h"

namespace idefics {

struct HttpServerOptions {
  std::string host = "127.0.0.1";
  int port = 5000;  // 0: any free one
  HeadLimits head;
  CorsPolicy cors;
  BodyLimits body;
  std::chrono::milliseconds head_time{10'000};        // from the first byte of a head to its last
  std::chrono::milliseconds keep_alive_time{75'000};  // idle; longer than a director's 5 s polling
  // For a client to take an answer, or a piece of a stream, and a second for each 64 KiB of it.
  std::chrono::milliseconds write_stall{30'000};
  int max_connections = 20'000;
  int max_request_threads = 4096;  // a request that waits for its job holds one
  int max_body_threads = 2048;     // of these: requests whose body has yet to come
  int max_quick_threads = 16;      // GET, HEAD and quick routes: never behind the others
  ByteBudget* memory = nullptr;    // for bodies and buffers; must outlive the server
  // Told of answers to what never became a request of a route. Called by the loop's thread.
  std::function<void(int status)> on_refusal = [](int) {};
};

class HttpServer {
 public:
  // `router` must outlive the server.
  HttpServer(HttpServerOptions options, const Router& router);
  ~HttpServer();  // Stop(0)
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Binds and starts to serve on its own threads. Error: the address is not to be had.
  Status Start();

  // Both: REQUIRES: Start() was ok. The bound port.
  int port() const;
  // Nobody but this machine reaches it.
  bool on_loopback() const;

  // That are open, of the moment. Any thread.
  int num_connections() const;

  // From now on each answer ends its connection, so that clients look for another server; all else
  // goes on. Any thread.
  void EndConnections();

  // Refuses new connections, closes idle ones, lets running requests end for at most `grace`, then
  // breaks the rest. Idempotent.
  void Stop(std::chrono::milliseconds grace);

 private:
  class Loop;
  std::unique_ptr<Loop> loop_;
};

}  // namespace idefics
