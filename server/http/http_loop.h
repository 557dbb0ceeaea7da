// SPDX-License-Identifier: Apache-2.0
// The inside of HttpServer. http_loop.cc: all that the event loop's thread does. http_server.cc:
// start and stop, and what workers do with a connection until they hand it back. Private to
// server/http.
#pragma once

#include <algorithm>
#include <atomic>
#include <deque>
#include <memory>
#include <thread>
#include <unordered_map>
#include <vector>

#include "common/mutex.h"
#include "common/worker_pool.h"
#include "server/http/connection.h"
#include "server/http/http_server.h"

namespace idefics {

class HttpServer::Loop {
 public:
  Loop(HttpServerOptions options, const Router& router)
      : options_(std::move(options)), router_(router) {}
  ~Loop();

  Status Start();
  void EndConnections() { ending_ = true; }
  void Stop(std::chrono::milliseconds grace);
  int port() const { return port_; }
  int num_connections() const { return num_connections_; }
  bool on_loopback() const { return loopback_; }

 private:
  using Clock = Connection::Clock;
  using State = Connection::State;
  using Connections = std::unordered_map<int, std::unique_ptr<Connection>>;

  // The loop's thread.
  void Run();
  void HandleEvent(int fd, uint32_t events);
  void HandleConnection(Connection& connection);
  void Accept();
  void AddConnection(int fd, std::string peer_name);
  bool MakeRoom();
  void PauseAccepting(bool pause);
  void OnBytes(Connection& connection);
  void OnHead(Connection& connection, RequestHead head);
  bool SkipBlankLines(Connection& connection);
  bool CountBuffer(Connection& connection);
  void AwaitHead(Connection& connection);
  void Dispatch(Connection& connection, RequestHead head);
  void Refuse(Connection& connection, int status, const std::string& message);
  void WriteRefusal(Connection& connection, int status, const std::string& message) const;
  void OnWritable(Connection& connection);
  void Drop(int fd);
  void TakeReturned();
  void GiveTurns();
  void TakeStirred();
  void GoOn(Connection& connection);
  void Sweep();
  bool IsOver(Connection& connection, Clock::time_point now);

  // A worker's thread, with a connection that is its own until it hands it back.
  bool Serve(Connection& connection, const RequestHead& head);
  bool Continue(Connection& connection);
  void EndTurn(Connection& connection);
  bool AwaitPeer(Connection& connection);
  bool AwaitStream(Connection& connection);
  void GiveBack(Connection& connection, bool keep_alive);
  void WatchPeer(Connection& connection, std::function<void()> callback);
  void Return(Connection& connection);

  // Both.
  void Linger(Connection& connection);
  void Park(Connection& connection);
  void HandOver(Connection& connection, State state);
  void TellGone(Connection& connection);
  void Arm(int fd, uint32_t events) const;
  void Wake() const;
  void BeginRequest();
  void EndRequest();
  void Stir(Connection& connection);  // any thread

  const HttpServerOptions options_;
  const Router& router_;
  int listener_ = -1;
  int epoll_ = -1;
  int wake_ = -1;
  int port_ = 0;
  bool loopback_ = false;          // it listens there only
  bool accepting_paused_ = false;  // loop thread
  Connections connections_;        // loop thread
  std::atomic<int> num_connections_{0};
  // Their next request came before the answer to the last. These take turns, behind everybody who
  // waits for an answer before asking again: whoever floods delays floods. Loop thread; the
  // connections are kRunning until it is their turn.
  std::deque<int> pipelined_;
  bool gives_turn_ = false;  // loop thread
  const int max_turns_ = std::max(1, static_cast<int>(std::thread::hardware_concurrency()) / 2);
  std::atomic<int> num_turns_{0};
  std::atomic<bool> turn_wanted_{false};  // pipelined_ is not empty
  std::atomic<bool> ending_{false};
  std::atomic<bool> draining_{false};
  std::atomic<bool> stop_{false};
  std::atomic<bool> break_all_{false};
  std::atomic<int> num_reading_{0};  // requests that took a thread before their body was there
  Mutex hand_over_;  // from a worker to the loop; the loop takes it before it closes
  Mutex mutex_;
  CondVar ended_;
  // Connections that workers give back with bytes in their buffer, for pipelined_.
  std::vector<int> returned_ IDEFICS_GUARDED_BY(mutex_);
  // Connections whose stream may have more.
  std::vector<int> stirred_ IDEFICS_GUARDED_BY(mutex_);
  // Requests with a worker, and answers that are being made or taken.
  int running_ IDEFICS_GUARDED_BY(mutex_) = 0;
  std::unique_ptr<WorkerPool> request_pool_;
  std::unique_ptr<WorkerPool> quick_pool_;
  std::thread thread_;
};

}  // namespace idefics
