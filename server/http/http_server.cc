// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_server.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <condition_variable>
#include <cstring>
#include <mutex>
#include <thread>
#include <unordered_map>
#include <utility>
#include <vector>

#include "common/log.h"
#include "common/worker_pool.h"
#include "server/http/connection.h"
#include "server/http/exchange.h"
#include "server/http/listener.h"
#include "server/http/response_writer.h"

namespace idefics {
namespace {

using Clock = Connection::Clock;
using State = Connection::State;

constexpr auto kSweepTime = std::chrono::milliseconds(250);
constexpr auto kLingerTime = std::chrono::seconds(10);
constexpr int kKeptRequestThreads = 8;
constexpr int kKeptQuickThreads = 4;

}  // namespace

class HttpServer::Loop {
 public:
  Loop(HttpServerOptions options, const Router& router)
      : options_(std::move(options)), router_(router) {}

  ~Loop() {
    Stop(std::chrono::milliseconds(0));
    if (epoll_ >= 0) close(epoll_);
    if (wake_ >= 0) close(wake_);
  }

  Status Start();
  void Stop(std::chrono::milliseconds grace);
  int port() const { return port_; }

 private:
  void Run();
  void HandleEvent(int fd, uint32_t events);
  void Accept();
  void PauseAccepting(bool pause);
  void OnBytes(Connection& connection);
  void Dispatch(Connection& connection, RequestHead head);
  void Serve(Connection& connection, const RequestHead& head);
  void Refuse(Connection& connection, int status, const std::string& message);
  void Linger(Connection& connection);
  void Park(Connection& connection);
  void HandOver(Connection& connection, State state);
  void WatchPeer(Connection& connection, std::function<void()> callback);
  void TellGone(Connection& connection);
  void Arm(int fd) const;
  void Return(Connection& connection);
  void TakeReturned();
  void Sweep();
  void BeginDrain();
  void Wake() const;

  const HttpServerOptions options_;
  const Router& router_;
  int listener_ = -1;
  int epoll_ = -1;
  int wake_ = -1;
  int port_ = 0;
  bool accepting_paused_ = false;                                     // loop thread
  std::unordered_map<int, std::unique_ptr<Connection>> connections_;  // loop thread
  std::atomic<bool> draining_{false};
  std::atomic<bool> stop_{false};
  std::atomic<bool> break_all_{false};
  std::mutex hand_over_;  // from a worker to the loop; the loop takes it before it closes
  std::mutex mutex_;
  std::condition_variable ended_;
  std::vector<int> returned_;  // connections that workers give back with bytes in their buffer
  int running_ = 0;
  std::unique_ptr<WorkerPool> request_pool_;
  std::unique_ptr<WorkerPool> quick_pool_;
  std::thread thread_;
};

Status HttpServer::Loop::Start() {
  RaiseDescriptorLimit();
  ASSIGN_OR_RETURN(listener_, Listen(options_.host, options_.port));
  port_ = BoundPort(listener_);
  epoll_ = epoll_create1(EPOLL_CLOEXEC);
  wake_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
  for (const int fd : {listener_, wake_}) {
    epoll_event event{EPOLLIN, {.fd = fd}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) {
      return Status::Internal("epoll failed: " + std::string(std::strerror(errno)));
    }
  }
  request_pool_ = std::make_unique<WorkerPool>(kKeptRequestThreads, options_.max_request_threads);
  quick_pool_ = std::make_unique<WorkerPool>(kKeptQuickThreads, options_.max_quick_threads);
  thread_ = std::thread([this] { Run(); });
  return Status::Ok();
}

void HttpServer::Loop::Stop(std::chrono::milliseconds grace) {
  if (!thread_.joinable()) return;
  draining_ = true;
  Wake();
  {
    std::unique_lock lock(mutex_);
    ended_.wait_for(lock, grace, [this] { return running_ == 0; });
  }
  break_all_ = true;  // what still runs sees its peer gone
  Wake();
  {
    std::unique_lock lock(mutex_);
    ended_.wait(lock, [this] { return running_ == 0; });
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

void HttpServer::Loop::Run() {
  std::array<epoll_event, 256> events;
  auto next_sweep = Clock::now() + kSweepTime;
  while (!stop_) {
    const int n =
        epoll_wait(epoll_, events.data(), events.size(), static_cast<int>(kSweepTime.count()));
    for (int i = 0; i < n; ++i) HandleEvent(events[i].data.fd, events[i].events);
    TakeReturned();
    if (draining_ && listener_ >= 0) BeginDrain();
    if (Clock::now() >= next_sweep || draining_) {
      Sweep();
      next_sweep = Clock::now() + kSweepTime;
    }
  }
}

void HttpServer::Loop::BeginDrain() {
  close(listener_);
  listener_ = -1;
}

void HttpServer::Loop::HandleEvent(int fd, uint32_t) {
  if (fd == listener_) return Accept();
  if (fd == wake_) {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(wake_, &count, sizeof count);
    return;
  }
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  Connection& connection = *found->second;
  const State state = connection.state.load(std::memory_order_acquire);
  if (state == State::kRunning) return TellGone(connection);
  if (state != State::kParked && state != State::kLingering) return;
  const bool open = connection.ReadAvailable(options_.head.max_head_bytes);
  if (state == State::kLingering) connection.buffer().clear();
  if (!open) {
    const std::lock_guard lock(hand_over_);
    connections_.erase(found);
    return;
  }
  if (state == State::kLingering) return Arm(connection.fd());
  OnBytes(connection);
}

void HttpServer::Loop::Accept() {
  for (int i = 0; i < 256; ++i) {  // a burst of connects must not keep the loop from the others
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
      if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        PauseAccepting(true);  // until the next sweep has closed some
      }
      return;
    }
    if (static_cast<int>(connections_.size()) >= options_.max_connections) {
      close(fd);
      continue;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    auto made = std::make_unique<Connection>(fd);
    made->deadline = Clock::now() + options_.keep_alive_time;
    epoll_event event{EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, {.fd = fd}};
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &event) != 0) continue;
    connections_[fd] = std::move(made);
  }
}

void HttpServer::Loop::PauseAccepting(bool pause) {
  if (listener_ < 0 || pause == accepting_paused_) return;
  accepting_paused_ = pause;
  epoll_event event{pause ? 0U : static_cast<uint32_t>(EPOLLIN), {.fd = listener_}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, listener_, &event);
}

// The connection is parked and has new bytes.
void HttpServer::Loop::OnBytes(Connection& connection) {
  std::string& buffer = connection.buffer();
  // RFC 9112 2.2: an empty line before a request is skipped.
  while (buffer.rfind("\r\n", 0) == 0) buffer.erase(0, 2);
  const size_t end = FindHeadEnd(buffer);
  if (end == std::string::npos) {
    if (const auto error = CheckPartialHead(buffer, options_.head)) {
      return Refuse(connection, error->status, error->message);
    }
    if (!buffer.empty() && !connection.head_started) {
      connection.head_started = true;
      connection.deadline = Clock::now() + options_.head_time;
    }
    return Arm(connection.fd());
  }
  RequestHead head;
  const auto error = ParseHead(std::string_view(buffer).substr(0, end), options_.head, &head);
  if (error) return Refuse(connection, error->status, error->message);
  buffer.erase(0, end);
  Dispatch(connection, std::move(head));
}

void HttpServer::Loop::Dispatch(Connection& connection, RequestHead head) {
  const bool quick = !head.has_body() && (head.method == "GET" || head.method == "HEAD");
  connection.state.store(State::kRunning, std::memory_order_release);
  {
    const std::lock_guard lock(mutex_);
    ++running_;
  }
  const bool accepted =
      (quick ? quick_pool_ : request_pool_)->Run([this, &connection, head = std::move(head)] {
        Serve(connection, head);
        const std::lock_guard lock(mutex_);
        if (--running_ == 0) ended_.notify_all();
      });
  if (accepted) return;
  {
    const std::lock_guard lock(mutex_);
    if (--running_ == 0) ended_.notify_all();
  }
  Refuse(connection, 503, "The server is running as many requests as it can; try again.");
}

// Worker thread. `connection` is not touched after it is parked, lingering or done.
void HttpServer::Loop::Serve(Connection& connection, const RequestHead& head) {
  const ExchangeOptions exchange{
      options_.body, options_.write_stall, draining_.load(),
      [this](Connection& c, std::function<void()> callback) { WatchPeer(c, std::move(callback)); }};
  if (!RunExchange(connection, head, router_, exchange)) return Linger(connection);
  if (connection.buffer().empty()) return Park(connection);
  Return(connection);  // a pipelined request waits in the buffer
}

// The loop's parked connections only.
void HttpServer::Loop::Refuse(Connection& connection, int status, const std::string& message) {
  connection.WriteOnce(RefusalBytes(status, message));
  Linger(connection);
}

void HttpServer::Loop::Linger(Connection& connection) {
  connection.ShutdownWrite();
  connection.buffer().clear();
  connection.deadline = Clock::now() + kLingerTime;
  HandOver(connection, State::kLingering);
}

void HttpServer::Loop::Park(Connection& connection) {
  connection.head_started = false;
  connection.deadline = Clock::now() + options_.keep_alive_time;
  HandOver(connection, State::kParked);
}

// The loop cannot close the connection between the two.
void HttpServer::Loop::HandOver(Connection& connection, State state) {
  const std::lock_guard lock(hand_over_);
  connection.on_gone = nullptr;
  connection.state.store(state, std::memory_order_release);
  Arm(connection.fd());
}

// Worker thread. epoll tells at once where the peer is gone already.
void HttpServer::Loop::WatchPeer(Connection& connection, std::function<void()> callback) {
  const std::lock_guard lock(hand_over_);
  connection.on_gone = std::move(callback);
  epoll_event event{EPOLLRDHUP | EPOLLONESHOT, {.fd = connection.fd()}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, connection.fd(), &event);
}

void HttpServer::Loop::TellGone(Connection& connection) {
  std::function<void()> on_gone;
  {
    const std::lock_guard lock(hand_over_);
    if (connection.state.load() == State::kRunning) on_gone.swap(connection.on_gone);
  }
  if (on_gone) on_gone();
}

void HttpServer::Loop::Arm(int fd) const {
  epoll_event event{EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, {.fd = fd}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, fd, &event);
}

void HttpServer::Loop::Return(Connection& connection) {
  {
    const std::lock_guard lock(hand_over_);
    connection.on_gone = nullptr;
  }
  {
    const std::lock_guard lock(mutex_);
    returned_.push_back(connection.fd());
  }
  Wake();
}

void HttpServer::Loop::TakeReturned() {
  std::vector<int> returned;
  {
    const std::lock_guard lock(mutex_);
    returned.swap(returned_);
  }
  for (const int fd : returned) {
    Connection& connection = *connections_.at(fd);
    connection.head_started = false;
    connection.deadline = Clock::now() + options_.keep_alive_time;
    connection.state.store(State::kParked, std::memory_order_release);
    OnBytes(connection);
  }
}

void HttpServer::Loop::Sweep() {
  PauseAccepting(false);
  const auto now = Clock::now();
  const std::lock_guard lock(hand_over_);
  for (auto it = connections_.begin(); it != connections_.end();) {
    Connection& connection = *it->second;
    const State state = connection.state.load(std::memory_order_acquire);
    bool drop = false;
    if (state == State::kParked) {
      drop = now >= connection.deadline || (draining_ && !connection.head_started);
      if (drop && connection.head_started) {
        connection.WriteOnce(RefusalBytes(408, "The request head did not arrive in time."));
      }
    } else if (state == State::kLingering) {
      drop = now >= connection.deadline;
    } else if (break_all_) {
      shutdown(connection.fd(), SHUT_RDWR);
    }
    it = drop ? connections_.erase(it) : std::next(it);
  }
}

HttpServer::HttpServer(HttpServerOptions options, const Router& router)
    : loop_(std::make_unique<Loop>(std::move(options), router)) {}
HttpServer::~HttpServer() = default;
Status HttpServer::Start() { return loop_->Start(); }
int HttpServer::port() const { return loop_->port(); }
void HttpServer::Stop(std::chrono::milliseconds grace) { loop_->Stop(grace); }

}  // namespace idefics
