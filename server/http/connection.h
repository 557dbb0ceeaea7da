// SPDX-License-Identifier: Apache-2.0
// One accepted socket with the bytes read but not yet used. The event loop owns it while it is
// parked, one worker while its request runs; never both.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "common/status.h"

namespace idefics {

class Connection {
 public:
  using Clock = std::chrono::steady_clock;

  // kParked: in the event loop, waiting for a head.  kRunning: with a worker.
  // kLingering: answered and shut for writing; what still arrives is dropped, so that the last
  // answer is not lost to a reset.  kDone: to be closed by the event loop.
  enum class State { kParked, kRunning, kLingering, kDone };

  explicit Connection(int fd) : fd_(fd) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }
  std::string& buffer() { return buffer_; }

  // Reads what is there without waiting. False: the peer closed or the socket broke.
  bool ReadAvailable(size_t max_bytes);

  // Appends at least one byte to buffer(), waiting until `deadline`.
  // Errors: kDeadline, kCanceled (the peer closed or the socket broke).
  Status ReadMore(Clock::time_point deadline);

  // Writes all of it; a peer that takes nothing for `stall` is given up. False: given up or broken.
  bool WriteAll(std::string_view bytes, Clock::duration stall);

  // One try without waiting, for the event loop's short refusals.
  void WriteOnce(std::string_view bytes);

  // No more answers; the peer sees the end of the stream.
  void ShutdownWrite();

  // The peer closed its sending side, or the connection is broken.
  bool PeerGone() const;

  std::atomic<State> state{State::kParked};
  Clock::time_point deadline;     // of the state kParked or kLingering; written by the owner
  bool head_started = false;      // a byte of the next head has arrived
  std::function<void()> on_gone;  // of a running request; guarded by the event loop's lock

 private:
  int fd_;
  std::string buffer_;
};

}  // namespace idefics
