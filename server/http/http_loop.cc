// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_loop.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "common/caught.h"
#include "server/http/listener.h"
#include "server/http/request_guard.h"
#include "server/http/response_writer.h"

namespace idefics {
namespace {

constexpr auto kSweepTime = std::chrono::milliseconds(250);
constexpr size_t kMaxBlankLines = 8;
// A body up to here is read by the loop, so that a client that stops in the midst of one costs no
// thread.
constexpr size_t kLoopBodyBytes = 256 * 1024;
constexpr size_t kSmallBufferBytes = 4 * 1024;  // not worth counting
constexpr size_t kFlushBytes = 256 * 1024;      // then the others' turn
constexpr size_t kRoomShare = 64;  // of the connections that wait, where there is no room for one

}  // namespace

void HttpServer::Loop::Run() {
  std::array<epoll_event, 256> events;
  auto next_sweep = Clock::now() + kSweepTime;
  while (!stop_) {
    const int n =
        epoll_wait(epoll_, events.data(), events.size(), static_cast<int>(kSweepTime.count()));
    for (int i = 0; i < n; ++i) {
      try {
        HandleEvent(events[i].data.fd, events[i].events);
      } catch (...) {
        LogCaught("A connection");
        Drop(events[i].data.fd);
      }
    }
    TakeReturned();
    GiveTurns();
    TakeStirred();
    num_connections_ = static_cast<int>(connections_.size());
    if (draining_ && listener_ >= 0) close(std::exchange(listener_, -1));
    if (Clock::now() >= next_sweep || draining_) {
      Sweep();
      next_sweep = Clock::now() + kSweepTime;
    }
  }
}

void HttpServer::Loop::HandleEvent(int fd, uint32_t) {
  if (fd == listener_) return Accept();
  if (fd == wake_) {
    uint64_t count;
    [[maybe_unused]] const ssize_t n = read(wake_, &count, sizeof count);
    return;
  }
  const auto found = connections_.find(fd);
  if (found != connections_.end()) HandleConnection(*found->second);
}

void HttpServer::Loop::HandleConnection(Connection& connection) {
  const State state = connection.state.load(std::memory_order_acquire);
  if (state == State::kRunning) return TellGone(connection);
  if (state == State::kWriting) return OnWritable(connection);
  if (state == State::kStreaming) return Drop(connection.fd());  // its peer is gone
  const size_t wanted = connection.waiting
                            ? connection.waiting->content_length - connection.unread().size()
                            : options_.head.max_head_bytes;
  const bool open = connection.ReadAvailable(wanted);
  if (!open) return Drop(connection.fd());
  if (state == State::kLingering) {
    connection.DropUnread();
    return Arm(connection.fd(), EPOLLIN | EPOLLRDHUP);
  }
  OnBytes(connection);
}

// Only what is with the loop: a worker's connection stays.
void HttpServer::Loop::Drop(int fd) {
  const auto found = connections_.find(fd);
  if (found == connections_.end()) return;
  const State state = found->second->state.load(std::memory_order_acquire);
  if (state == State::kRunning) return;
  Connections::node_type dropped;  // goes without the lock: what it streams may tell others of it
  {
    const MutexLock lock(hand_over_);
    dropped = connections_.extract(found);
  }
  dropped = {};
  if (state == State::kWriting || state == State::kStreaming) EndRequest();
}

void HttpServer::Loop::OnWritable(Connection& connection) {
  if (!connection.Flush(kFlushBytes)) return Drop(connection.fd());
  if (connection.has_kept()) return Arm(connection.fd(), EPOLLOUT);
  if (connection.stream) return GoOn(connection);
  EndRequest();
  if (!connection.keep_alive || draining_) return Linger(connection);
  if (connection.unread().empty()) return Park(connection);
  connection.state.store(State::kRunning, std::memory_order_release);
  pipelined_.push_back(connection.fd());
}

void HttpServer::Loop::Accept() {
  for (int i = 0; i < 256; ++i) {  // a burst of connects must not keep the loop from the others
    const bool full = static_cast<int>(connections_.size()) >= options_.max_connections;
    if (full && !MakeRoom()) return PauseAccepting(true);  // until the next sweep has closed some
    sockaddr_storage peer{};
    socklen_t size = sizeof peer;
    const int fd =
        accept4(listener_, reinterpret_cast<sockaddr*>(&peer), &size, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd >= 0) {
      AddConnection(fd, PeerName(peer));
      continue;
    }
    const bool no_room = errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM;
    if (!no_room) return;
    if (!MakeRoom()) return PauseAccepting(true);
  }
}

void HttpServer::Loop::AddConnection(int fd, std::string peer_name) {
  auto made = std::make_unique<Connection>(fd);  // closes it
  made->peer_name = std::move(peer_name);
  const int on = 1;
  setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  made->memory = ByteBudget::Share(options_.memory);
  made->since = Clock::now();
  made->deadline = made->since + options_.keep_alive_time;
  epoll_event event{EPOLLIN | EPOLLRDHUP | EPOLLONESHOT, {.fd = fd}};
  Connection& added = *made;
  connections_[fd] = std::move(made);
  if (epoll_ctl(epoll_, EPOLL_CTL_ADD, added.fd(), &event) != 0) Drop(fd);
}

// Closes those that have waited longest, a few at a time: a flood must not keep new clients out,
// and a search for each would be one of its own. False: none waits.
bool HttpServer::Loop::MakeRoom() {
  std::vector<std::pair<Clock::time_point, int>> waiting;
  for (const auto& [fd, connection] : connections_) {
    const State state = connection->state.load(std::memory_order_acquire);
    if (state == State::kParked || state == State::kLingering) {
      waiting.emplace_back(connection->since, fd);
    }
  }
  if (waiting.empty()) return false;
  const auto count = static_cast<ptrdiff_t>(waiting.size() / kRoomShare + 1);
  std::nth_element(waiting.begin(), waiting.begin() + count - 1, waiting.end());
  std::for_each_n(waiting.begin(), count, [this](const auto& oldest) { Drop(oldest.second); });
  return true;
}

void HttpServer::Loop::PauseAccepting(bool pause) {
  if (listener_ < 0 || pause == accepting_paused_) return;
  accepting_paused_ = pause;
  epoll_event event{pause ? 0U : static_cast<uint32_t>(EPOLLIN), {.fd = listener_}};
  epoll_ctl(epoll_, EPOLL_CTL_MOD, listener_, &event);
}

// RFC 9112 2.2: an empty line before a request is skipped. False: there were too many.
bool HttpServer::Loop::SkipBlankLines(Connection& connection) {
  const std::string_view bytes = connection.unread();
  size_t skipped = 0;
  while (bytes.substr(skipped, 2) == "\r\n") {
    if (++connection.num_blank_lines > kMaxBlankLines) return false;
    skipped += 2;
  }
  if (skipped > 0) connection.Consume(skipped);
  return true;
}

bool HttpServer::Loop::CountBuffer(Connection& connection) {
  const size_t size = connection.unread().size();
  return size <= kSmallBufferBytes || connection.memory.GrowTo(size);
}

// The connection is parked and has new bytes.
void HttpServer::Loop::OnBytes(Connection& connection) {
  if (!CountBuffer(connection)) {
    return Refuse(connection, 503, "The server holds as many bytes as it may; try again.");
  }
  if (connection.waiting) {
    if (connection.unread().size() < connection.waiting->content_length) {
      return Arm(connection.fd(), EPOLLIN | EPOLLRDHUP);
    }
    RequestHead head = std::move(*connection.waiting);
    connection.waiting.reset();
    return Dispatch(connection, std::move(head));
  }
  if (!connection.head_started) {  // an empty line counts, too
    connection.head_started = true;
    connection.deadline = Clock::now() + options_.head_time;
  }
  if (!SkipBlankLines(connection)) {
    return Refuse(connection, 400, "Empty lines are no request.");
  }
  const std::string_view bytes = connection.unread();
  const size_t end = FindHeadEnd(bytes, connection.num_scanned);
  if (end == std::string_view::npos) {
    if (const auto error = CheckPartialHead(bytes, options_.head)) {
      return Refuse(connection, error->status, error->message);
    }
    connection.num_scanned = bytes.size();
    return Arm(connection.fd(), EPOLLIN | EPOLLRDHUP);
  }
  RequestHead head;
  auto error = ParseHead(bytes.substr(0, end), options_.head, &head);
  if (!error) error = CheckCaller(head, loopback_, options_.cors);
  if (error) return Refuse(connection, error->status, error->message);
  connection.Consume(end);
  OnHead(connection, std::move(head));
}

void HttpServer::Loop::OnHead(Connection& connection, RequestHead head) {
  const bool gathers =
      head.content_length > connection.unread().size() &&
      head.content_length <= std::min<size_t>(kLoopBodyBytes, options_.body.max_bytes) &&
      !head.expect_continue && !head.chunked &&
      router_.LaneOf(head.method, head.path()) != Router::Lane::kPlain;
  if (!gathers) return Dispatch(connection, std::move(head));
  connection.deadline =
      Clock::now() + std::chrono::duration_cast<Clock::duration>(options_.body.time);
  head.body_deadline = connection.deadline;
  connection.waiting = std::move(head);
  Arm(connection.fd(), EPOLLIN | EPOLLRDHUP);
}

void HttpServer::Loop::Dispatch(Connection& connection, RequestHead head) {
  const bool lacks = head.chunked || head.content_length > connection.unread().size();
  const bool reads = lacks && !head.body_deadline;  // else its route says at once that it is late
  const bool quick =
      lacks ? !reads : router_.LaneOf(head.method, head.path()) == Router::Lane::kQuick;
  if (reads && num_reading_ >= options_.max_body_threads) {
    return Refuse(connection, 503, "The server is reading as many requests as it can; try again.");
  }
  connection.state.store(State::kRunning, std::memory_order_release);
  BeginRequest();
  num_reading_ += reads ? 1 : 0;
  connection.has_turn = gives_turn_ && !reads;
  num_turns_ += connection.has_turn ? 1 : 0;
  bool accepted = false;
  try {
    accepted = (quick ? quick_pool_ : request_pool_)
                   ->Run([this, &connection, reads, head = std::move(head)] {
                     const bool ended = Serve(connection, head);
                     num_reading_ -= reads ? 1 : 0;
                     if (ended) EndRequest();
                   });
  } catch (const std::bad_alloc&) {  // no memory for it: as if there were no thread
    accepted = false;
  }
  if (accepted) return;
  num_reading_ -= reads ? 1 : 0;
  EndTurn(connection);
  EndRequest();
  Refuse(connection, 503, "The server is running as many requests as it can; try again.");
}

void HttpServer::Loop::WriteRefusal(Connection& connection, int status,
                                    const std::string& message) const {
  options_.on_refusal(status);
  connection.WriteOnce(RefusalBytes(status, message));
}

// The loop's parked connections only.
void HttpServer::Loop::Refuse(Connection& connection, int status, const std::string& message) {
  WriteRefusal(connection, status, message);
  connection.waiting.reset();
  Linger(connection);
}

void HttpServer::Loop::TellGone(Connection& connection) {
  std::function<void()> on_gone;
  {
    const MutexLock lock(hand_over_);
    if (connection.state.load() == State::kRunning) on_gone.swap(connection.on_gone);
  }
  if (on_gone) on_gone();
}

void HttpServer::Loop::AwaitHead(Connection& connection) {
  connection.head_started = false;
  connection.num_blank_lines = 0;
  connection.since = Clock::now();
  connection.deadline = connection.since + options_.keep_alive_time;
  connection.state.store(State::kParked, std::memory_order_release);
}

void HttpServer::Loop::TakeReturned() {
  const MutexLock lock(mutex_);
  pipelined_.insert(pipelined_.end(), returned_.begin(), returned_.end());
  returned_.clear();
}

// EndTurn reads turn_wanted_ after it has given a turn back: either it wakes the loop, or the loop
// sees the turn.
void HttpServer::Loop::GiveTurns() {
  turn_wanted_ = !pipelined_.empty();
  while (!pipelined_.empty() && num_turns_ < max_turns_) {
    const int fd = pipelined_.front();
    pipelined_.pop_front();
    Connection& connection = *connections_.at(fd);
    AwaitHead(connection);
    gives_turn_ = true;
    try {
      OnBytes(connection);
    } catch (...) {
      LogCaught("A connection");
      Drop(fd);
    }
    gives_turn_ = false;
  }
}

void HttpServer::Loop::TakeStirred() {
  std::vector<int> stirred;
  {
    const MutexLock lock(mutex_);
    stirred.swap(stirred_);
  }
  for (const int fd : stirred) {
    const auto found = connections_.find(fd);
    if (found == connections_.end()) continue;
    bool waits = false;
    {
      const MutexLock lock(hand_over_);  // a worker that is about to wait for it
      waits = found->second->state.load() == State::kStreaming;
    }
    if (waits) GoOn(*found->second);
  }
}

// A worker makes the next piece of a stream. Without one it is tried again soon.
void HttpServer::Loop::GoOn(Connection& connection) {
  connection.state.store(State::kRunning, std::memory_order_release);
  bool accepted = false;
  try {
    accepted = request_pool_->Run([this, &connection] {
      if (Continue(connection)) EndRequest();
    });
  } catch (const std::bad_alloc&) {
    accepted = false;
  }
  if (accepted) return;
  connection.deadline = Clock::now();
  connection.state.store(State::kStreaming, std::memory_order_release);
  Arm(connection.fd(), EPOLLRDHUP);
}

// Whether a connection has come to its deadline.
bool HttpServer::Loop::IsOver(Connection& connection, Clock::time_point now) {
  const State state = connection.state.load(std::memory_order_acquire);
  if (state == State::kParked) {
    const bool idle = !connection.head_started && !connection.waiting;
    const bool over = now >= connection.deadline || (draining_ && idle);
    if (over && !idle) WriteRefusal(connection, 408, "The request head did not arrive in time.");
    return over;
  }
  if (state == State::kWriting) return now >= connection.deadline || break_all_;
  if (state == State::kStreaming) return break_all_;
  if (state == State::kLingering) return now >= connection.deadline;
  if (break_all_) shutdown(connection.fd(), SHUT_RDWR);
  return false;
}

void HttpServer::Loop::Sweep() {
  PauseAccepting(false);
  const auto now = Clock::now();
  std::vector<int> over;
  std::vector<Connection*> silent;
  std::vector<Connection*> late;  // of short bodies
  {
    const MutexLock lock(hand_over_);
    for (const auto& [fd, connection] : connections_) {
      if (connection->waiting && now >= connection->deadline) {
        late.push_back(connection.get());
      } else if (IsOver(*connection, now)) {
        over.push_back(fd);
      } else if (connection->state.load() == State::kStreaming && now >= connection->deadline) {
        silent.push_back(connection.get());
      }
    }
  }
  for (Connection* connection : silent) GoOn(*connection);
  for (auto* slow : late) Dispatch(*slow, std::exchange(slow->waiting, std::nullopt).value());
  for (const int fd : over) Drop(fd);
}

}  // namespace idefics
