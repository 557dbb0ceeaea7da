// SPDX-License-Identifier: Apache-2.0
#include "weights/lost_file.h"

#include <unistd.h>

#include <array>
#include <atomic>
#include <csignal>
#include <string>

#include "common/log.h"
#include "common/mutex.h"

namespace idefics {
namespace {

// The handler reads it while others may write: `begin` is set last, and cleared first.
struct Watched {
  std::atomic<const uint8_t*> begin{nullptr};
  std::atomic<size_t> num_bytes{0};
  std::string line{};
};

constexpr size_t kMaxWatched = 1024;  // an 80b has some dozen files; beyond them nothing is said
std::array<Watched, kMaxWatched> g_watched;
Mutex g_mutex;  // of who writes to it
// The handler before ours. The model runtime has a copy of this file with mappings of its own.
struct sigaction g_previous {};

// Async-signal-safe.
void OnBusError(int number, siginfo_t* info, void* context) {
  const auto* address = static_cast<const uint8_t*>(info->si_addr);
  for (const Watched& watched : g_watched) {
    const uint8_t* begin = watched.begin.load(std::memory_order_acquire);
    const bool of_memory = info->si_code > 0;  // not sent by somebody
    if (!of_memory || begin == nullptr || address < begin) continue;
    if (static_cast<size_t>(address - begin) >= watched.num_bytes.load()) continue;
    [[maybe_unused]] const ssize_t written =
        write(STDERR_FILENO, watched.line.data(), watched.line.size());
    _exit(1);
  }
  if ((g_previous.sa_flags & SA_SIGINFO) != 0)
    return g_previous.sa_sigaction(number, info, context);
  std::signal(number, SIG_DFL);
  std::raise(number);  // comes when this handler returns
}

void InstallHandlerOnce() {
  static const bool installed = [] {
    struct sigaction action {};
    action.sa_sigaction = OnBusError;
    action.sa_flags = SA_SIGINFO;
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, &g_previous) == 0;
  }();
  static_cast<void>(installed);
}

}  // namespace

void WatchMapping(std::span<const uint8_t> bytes, const std::filesystem::path& path) {
  InstallHandlerOnce();
  const MutexLock lock(g_mutex);
  for (Watched& watched : g_watched) {
    if (watched.begin.load() != nullptr) continue;
    watched.line = LineWithoutTime(
        LogLevel::kError,
        "The file " + path.string() +
            " can no longer be read: it was cut short while it was in use, or its disk fails. Put "
            "it back and start again; a bundle is replaced by renaming another folder into its "
            "place, not by writing into it.");
    watched.num_bytes.store(bytes.size());
    watched.begin.store(bytes.data(), std::memory_order_release);
    return;
  }
}

void UnwatchMapping(std::span<const uint8_t> bytes) {
  const MutexLock lock(g_mutex);
  for (Watched& watched : g_watched) {
    if (watched.begin.load() == bytes.data()) return watched.begin.store(nullptr);
  }
}

}  // namespace idefics
