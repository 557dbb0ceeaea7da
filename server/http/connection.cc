// SPDX-License-Identifier: Apache-2.0
#include "server/http/connection.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

namespace idefics {
namespace {

constexpr size_t kReadBytes = 64 * 1024;

int PollTimeoutMs(Connection::Clock::duration left) {
  const auto ms = std::chrono::ceil<std::chrono::milliseconds>(left).count();
  return static_cast<int>(std::clamp<int64_t>(ms, 0, 60'000));
}

}  // namespace

Connection::~Connection() { close(fd_); }

void Connection::Consume(size_t bytes) {
  begin_ += bytes;
  num_scanned = 0;
  if (begin_ < buffer_.size()) return;
  buffer_.clear();
  begin_ = 0;
}

void Connection::DropUnread() {
  std::string().swap(buffer_);
  begin_ = 0;
  num_scanned = 0;
}

// What was used goes once a refill, not once a use.
void Connection::Append(const char* bytes, size_t count) {
  buffer_.erase(0, std::exchange(begin_, 0));
  buffer_.append(bytes, count);
}

bool Connection::ReadAvailable(size_t max_bytes) {
  std::array<char, kReadBytes> bytes;
  while (max_bytes > 0) {
    const ssize_t n = recv(fd_, bytes.data(), std::min(bytes.size(), max_bytes), MSG_DONTWAIT);
    if (n == 0) return false;
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR;
    Append(bytes.data(), static_cast<size_t>(n));
    max_bytes -= static_cast<size_t>(n);
    if (static_cast<size_t>(n) < bytes.size()) return true;
  }
  return true;
}

Status Connection::ReadMore(Clock::time_point read_deadline) {
  std::array<char, kReadBytes> bytes;
  for (;;) {
    const ssize_t n = recv(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT);
    if (n > 0) {
      Append(bytes.data(), static_cast<size_t>(n));
      return Status::Ok();
    }
    if (n == 0) return {ErrorCode::kCanceled, "the client closed the connection"};
    if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
      return {ErrorCode::kCanceled, "the connection broke"};
    }
    const auto left = read_deadline - Clock::now();
    if (left <= Clock::duration::zero()) {
      return {ErrorCode::kDeadline, "the request did not arrive in time"};
    }
    pollfd wait{fd_, POLLIN, 0};
    poll(&wait, 1, PollTimeoutMs(left));
  }
}

Connection::Clock::time_point Connection::WriteDeadline(size_t bytes, Clock::duration stall) {
  constexpr size_t kBytesPerSecond = 64 * 1024;
  return Clock::now() + stall + std::chrono::seconds(bytes / kBytesPerSecond);
}

bool Connection::WriteAll(std::string_view bytes, Clock::duration stall) {
  const auto end = WriteDeadline(bytes.size(), stall);
  while (!bytes.empty()) {
    const ssize_t n = send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n > 0) {
      bytes.remove_prefix(static_cast<size_t>(n));
      continue;
    }
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) return false;
    const auto left = end - Clock::now();
    if (left <= Clock::duration::zero()) return false;
    pollfd wait{fd_, POLLOUT, 0};
    poll(&wait, 1, PollTimeoutMs(left));
    if ((wait.revents & (POLLERR | POLLHUP)) != 0) return false;
  }
  return true;
}

bool Connection::WriteOrKeep(std::string bytes) {
  if (has_kept()) {
    kept_ += bytes;
    return true;
  }
  kept_ = std::move(bytes);
  kept_begin_ = 0;
  return Flush(kept_.size());
}

bool Connection::Flush(size_t max_bytes) {
  while (has_kept() && max_bytes > 0) {
    const ssize_t n = send(fd_, kept_.data() + kept_begin_, std::min(num_kept(), max_bytes),
                           MSG_DONTWAIT | MSG_NOSIGNAL);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK;
    kept_begin_ += static_cast<size_t>(n);
    max_bytes -= static_cast<size_t>(n);
  }
  if (!has_kept()) {
    std::string().swap(kept_);
    kept_begin_ = 0;
  }
  return true;
}

void Connection::WriteOnce(std::string_view bytes) {
  // The result is of no use: a peer that cannot take a hundred bytes is closed all the same.
  [[maybe_unused]] const ssize_t n =
      send(fd_, bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Connection::BreakOff() {
  stream.reset();
  keep_alive = false;
}

void Connection::ShutdownWrite() { shutdown(fd_, SHUT_WR); }

bool Connection::PeerGone() const {
  pollfd wait{fd_, POLLRDHUP, 0};
  if (poll(&wait, 1, 0) <= 0) return false;
  return (wait.revents & (POLLRDHUP | POLLHUP | POLLERR | POLLNVAL)) != 0;
}

}  // namespace idefics
