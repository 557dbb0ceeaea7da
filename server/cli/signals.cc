// SPDX-License-Identifier: Apache-2.0
#include "server/cli/signals.h"

#include <poll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <csignal>
#include <cstdint>

namespace idefics {

StopSignals::StopSignals() {
  signal(SIGPIPE, SIG_IGN);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGTERM);
  sigaddset(&set, SIGINT);
  sigaddset(&set, SIGHUP);
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
  request_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
}

StopSignals::~StopSignals() {
  close(signal_fd_);
  close(request_fd_);
}

StopSignals::Event StopSignals::Wait(std::chrono::milliseconds time) {
  pollfd waits[] = {{signal_fd_, POLLIN, 0}, {request_fd_, POLLIN, 0}};
  poll(waits, 2, static_cast<int>(time.count()));
  signalfd_siginfo info;
  if (read(signal_fd_, &info, sizeof info) == sizeof info) {
    if (info.ssi_signo == SIGHUP) return Event::kReload;
    return info.ssi_signo == SIGINT ? Event::kInterrupt : Event::kTerminate;
  }
  uint64_t count;
  if (read(request_fd_, &count, sizeof count) == sizeof count) return Event::kShutdownRequest;
  return Event::kNone;
}

void StopSignals::RequestShutdown() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t n = write(request_fd_, &one, sizeof one);
}

}  // namespace idefics
