// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_server.h"

#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <exception>
#include <utility>

#include "common/caught.h"
#include "server/http/exchange.h"
#include "server/http/http_loop.h"
#include "server/http/listener.h"
#include "server/http/response_writer.h"

namespace idefics {
namespace {

constexpr auto kLingerTime = std::chrono::seconds(10);
constexpr int kKeptRequestThreads = 8;
constexpr int kKeptQuickThreads = 4;

}  // namespace

HttpServer::Loop::~Loop() {
  Stop(std::chrono::milliseconds(0));
  if (epoll_ >= 0) close(epoll_);
  if (wake_ >= 0) close(wake_);
}

Status HttpServer::Loop::Start() {
  RaiseDescriptorLimit();
  ASSIGN_OR_RETURN(listener_, Listen(options_.host, options_.port));
  port_ = BoundPort(listener_);
  loopback_ = IsBoundToLoopback(listener_);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const int fd : {listener_, wake_}) {
    epoll_event event{EPOLLIN, {.fd = fd}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
      return Status::Internal("epoll failed: " + std::string(std::strerror(errno)));
    }
  }
  request_pool_ = std::make_unique<WorkerPool>(kKeptRequestThreads, options_.max_request_threads);
  // None of these waits for anything: a flood of them is a matter of turns.
  quick_pool_ = std::make_unique<WorkerPool>(kKeptQuickThreads, options_.max_quick_threads,
                                             options_.max_connections);
  thread_ = std::thread([this] { Run(); });
  return Status::Ok();
}

void HttpServer::Loop::Stop(std::chrono::milliseconds grace) {
  if (!thread_.joinable()) return;
  draining_ = true;
  Wake();
  {
    MutexLock lock(mutex_);
    ended_.WaitFor(lock, grace, [this]() IDEFICS_REQUIRES(mutex_) { return running_ == 0; });
  }
  break_all_ = true;  // what still runs sees its peer gone
  Wake();
  {
    MutexLock lock(mutex_);
    ended_.Wait(lock, [this]() IDEFICS_REQUIRES(mutex_) { return running_ == 0; });
  }
  stop_ = true;
  Wake();
  thread_.join();
  request_pool_.reset();
  quick_pool_.reset();
  connections_.clear();
}

void HttpServer::Loop::Wake() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(wake_, &one, sizeof one);
}

void HttpServer::Loop::BeginRequest() {
  const MutexLock lock(mutex_);
  ++running_;
}

void HttpServer::Loop::EndRequest() {
  const MutexLock lock(mutex_);
  if (--running_ == 0) ended_.NotifyAll();
}

// `connection` is not touched after it is handed back. False: its answer goes on, and whoever sees
// the end of that ends the request.
bool HttpServer::Loop::Serve(Connection& connection, const RequestHead& head) {
  const ExchangeOptions exchange{
      options_.body, ending_ || draining_, options_.memory,
      [this](Connection& c, std::function<void()> callback) { WatchPeer(c, std::move(callback)); }};
  connection.keep_alive = false;
  try {
    connection.keep_alive = RunExchange(connection, head, router_, exchange);
    if (connection.stream) connection.stream->WhenMore([this, &connection] { Stir(connection); });
  } catch (...) {
    LogCaught("A request's answer");
    connection.BreakOff();
  }
  EndTurn(connection);
  return Continue(connection);
}

void HttpServer::Loop::EndTurn(Connection& connection) {
  if (!std::exchange(connection.has_turn, false)) return;
  --num_turns_;
  if (turn_wanted_) Wake();
}

// An answer goes on: with what its stream has, or else with what its peer takes. As Serve.
bool HttpServer::Loop::Continue(Connection& connection) {
  for (;;) {
    connection.stirred = false;
    try {
      if (!WriteStream(connection)) connection.BreakOff();
    } catch (...) {
      LogCaught("A stream");
      connection.BreakOff();
    }
    if (connection.has_kept() && AwaitPeer(connection)) return false;
    if (!connection.stream) break;
    if (AwaitStream(connection)) return false;
  }
  GiveBack(connection, connection.keep_alive);
  return true;
}

// False: there is no memory to wait for the peer, and the answer ends here.
bool HttpServer::Loop::AwaitPeer(Connection& connection) {
  if (!connection.memory.GrowTo(connection.num_kept())) {
    connection.BreakOff();
    return false;
  }
  connection.deadline = Connection::WriteDeadline(connection.num_kept(), options_.write_stall);
  HandOver(connection, State::kWriting);
  return true;
}

// False: there is more already. Stir's word is either seen here or by the loop afterwards.
bool HttpServer::Loop::AwaitStream(Connection& connection) {
  const MutexLock lock(hand_over_);
  if (connection.stirred) return false;
  connection.on_gone = nullptr;
  connection.deadline = Clock::now() + connection.stream->patience();
  connection.state.store(State::kStreaming, std::memory_order_release);
  Arm(connection.fd(), EPOLLRDHUP);
  return true;
}

void HttpServer::Loop::Stir(Connection& connection) {
  if (connection.stirred.exchange(true)) return;
  {
    const MutexLock lock(mutex_);
    stirred_.push_back(connection.fd());
  }
  Wake();
}

void HttpServer::Loop::GiveBack(Connection& connection, bool keep_alive) {
  if (!keep_alive) return Linger(connection);
  if (connection.unread().empty()) return Park(connection);
  Return(connection);  // a pipelined request waits in the buffer
}

void HttpServer::Loop::Linger(Connection& connection) {
  connection.ShutdownWrite();
  connection.DropUnread();
  connection.memory.ShrinkTo(0);
  connection.since = Clock::now();
  connection.deadline = connection.since + kLingerTime;
  HandOver(connection, State::kLingering);
}

void HttpServer::Loop::Park(Connection& connection) {
  connection.DropUnread();
  connection.memory.ShrinkTo(0);
  connection.head_started = false;
  connection.num_blank_lines = 0;
  connection.since = Clock::now();
  connection.deadline = connection.since + options_.keep_alive_time;
  HandOver(connection, State::kParked);
}

// The loop cannot close the connection between the two.
void HttpServer::Loop::HandOver(Connection& connection, State state) {
  const MutexLock lock(hand_over_);
  connection.on_gone = nullptr;
  connection.state.store(state, std::memory_order_release);
  // A peer that sends no more may still take its answer.
  Arm(connection.fd(), state == State::kWriting ? EPOLLOUT : EPOLLIN | EPOLLRDHUP);
}

// A request that waits takes no processor from others. epoll tells at once where the peer is gone
// already.
void HttpServer::Loop::WatchPeer(Connection& connection, std::function<void()> callback) {
  EndTurn(connection);
  const MutexLock lock(hand_over_);
  connection.on_gone = std::move(callback);
  Arm(connection.fd(), EPOLLRDHUP);
}

void HttpServer::Loop::Arm(int fd, uint32_t events) const {
  epoll_event event{events | EPOLLONESHOT, {.fd = fd}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void HttpServer::Loop::Return(Connection& connection) {
  {
    const MutexLock lock(hand_over_);
    connection.on_gone = nullptr;
  }
  {
    const MutexLock lock(mutex_);
    returned_.push_back(connection.fd());
  }
  Wake();
}

HttpServer::HttpServer(HttpServerOptions options, const Router& router)
    : loop_(std::make_unique<Loop>(std::move(options), router)) {}
HttpServer::~HttpServer() = default;
Status HttpServer::Start() { return loop_->Start(); }
int HttpServer::port() const { return loop_->port(); }
int HttpServer::num_connections() const { return loop_->num_connections(); }
bool HttpServer::on_loopback() const { return loop_->on_loopback(); }
void HttpServer::EndConnections() { loop_->EndConnections(); }
void HttpServer::Stop(std::chrono::milliseconds grace) { loop_->Stop(grace); }

}  // namespace idefics
