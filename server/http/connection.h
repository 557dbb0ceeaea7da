// SPDX-License-Identifier: Apache-2.0
// One accepted socket with the bytes read but not yet used. The event loop owns it while it is
// parked, one worker while its request runs; never both.
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "common/byte_budget.h"
#include "common/status.h"
#include "server/http/message.h"
#include "server/http/request_head.h"

namespace idefics {

class Connection {
 public:
  using Clock = std::chrono::steady_clock;

  // kParked: in the event loop, waiting for a head, or for the short body of `waiting`.
  // kRunning: with a worker.  kWriting: in the event loop, with bytes of an answer that its peer
  // has not taken yet.  kStreaming: in the event loop, until `stream` has more.  kLingering:
  // answered and shut for writing; what still arrives is dropped, so that the last answer is not
  // lost to a reset.
  enum class State { kParked, kRunning, kWriting, kStreaming, kLingering };

  explicit Connection(int fd) : fd_(fd) {}
  ~Connection();
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;

  int fd() const { return fd_; }

  // What was read and not yet used; Consume drops its first bytes.
  std::string_view unread() const { return std::string_view(buffer_).substr(begin_); }
  void Consume(size_t bytes);
  void DropUnread();  // gives its memory back, too

  // Reads what is there without waiting. False: the peer closed or the socket broke.
  bool ReadAvailable(size_t max_bytes);

  // Appends at least one byte to unread(), waiting until `deadline`.
  // Errors: kDeadline, kCanceled (the peer closed or the socket broke).
  Status ReadMore(Clock::time_point deadline);

  // So long a peer may take to take so much: `stall`, and a second for each 64 KiB.
  static Clock::time_point WriteDeadline(size_t bytes, Clock::duration stall);

  // Writes all of it until WriteDeadline. False: given up or broken.
  bool WriteAll(std::string_view bytes, Clock::duration stall);

  // Writes what the peer takes at once, and keeps the rest for Flush. False: broken.
  bool WriteOrKeep(std::string bytes);
  bool has_kept() const { return kept_begin_ < kept_.size(); }
  size_t num_kept() const { return kept_.size() - kept_begin_; }
  // Writes of what is kept as much as the peer takes now, `max_bytes` at most. False: broken.
  bool Flush(size_t max_bytes);

  // One try without waiting, for the event loop's short refusals.
  void WriteOnce(std::string_view bytes);

  // The answer ends here, and with it the connection: the peer sees no end of its stream.
  void BreakOff();

  // No more answers; the peer sees the end of the stream.
  void ShutdownWrite();

  // The peer closed its sending side, or the connection is broken.
  bool PeerGone() const;

  std::string peer_name;  // listener.h
  std::atomic<State> state{State::kParked};
  Clock::time_point deadline;          // of every state but kRunning; written by the owner
  Clock::time_point since;             // when it was parked or began to linger
  bool head_started = false;           // a byte of the next head has arrived
  size_t num_scanned = 0;              // bytes of unread() that hold no end of a head
  size_t num_blank_lines = 0;          // before the next head
  std::optional<RequestHead> waiting;  // of kParked: judged, its body is being read
  bool has_turn = false;               // of kRunning: one of those that pipelined requests take
  bool keep_alive = false;             // of kWriting and kStreaming: what follows
  std::atomic<bool> stirred{false};    // `stream` may have more than was written
  ByteBudget::Share memory;            // for its buffers, where they are not small
  std::function<void()> on_gone;       // of a running request; guarded by the event loop's lock
  std::unique_ptr<BodySource> stream;  // of an answer that goes on; its last piece ends it
  bool stream_chunked = true;

 private:
  void Append(const char* bytes, size_t count);

  int fd_;
  std::string buffer_;
  size_t begin_ = 0;  // of buffer_: where unread() begins
  std::string kept_;
  size_t kept_begin_ = 0;
};

}  // namespace idefics
