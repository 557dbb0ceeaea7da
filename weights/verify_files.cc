// SPDX-License-Identifier: Apache-2.0
#include "weights/verify_files.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <thread>
#include <vector>

#include "common/mutex.h"
#include "common/progress.h"
#include "common/sha256.h"

namespace idefics {
namespace {

constexpr size_t kPieceBytes = size_t{4} << 20;
constexpr auto kRedraw = std::chrono::milliseconds(200);

Status MissingFile(const std::filesystem::path& path, const char* why) {
  return Status::InvalidInput(path.string() + " cannot be read (" + why +
                              "), bundle.json names it: copy or export the bundle again");
}

// What the threads share. `done_bytes` is for the progress bar; the first failure stops all.
struct Work {
  std::vector<std::pair<std::filesystem::path, BundleFile>> files;  // largest first
  std::atomic<size_t> next = 0;
  std::atomic<uint64_t> done_bytes = 0;
  std::atomic<bool> stop = false;
  Mutex mutex;
  CondVar changed;
  size_t running IDEFICS_GUARDED_BY(mutex) = 0;
  Status status IDEFICS_GUARDED_BY(mutex);
};

// Reads by read(), not through a mapping: a file that shrinks gives an error, not a signal.
Result<std::string> HashFile(const std::filesystem::path& path, Work* work) {
  const int fd = open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) return MissingFile(path, std::strerror(errno));
  std::vector<uint8_t> piece(kPieceBytes);
  Sha256 hash;
  std::optional<Status> failure;
  while (!work->stop) {
    const ssize_t count = read(fd, piece.data(), piece.size());
    if (count < 0 && errno == EINTR) continue;
    if (count < 0) failure = MissingFile(path, std::strerror(errno));
    if (count <= 0) break;
    hash.Update({piece.data(), static_cast<size_t>(count)});
    work->done_bytes += static_cast<uint64_t>(count);
  }
  close(fd);
  if (failure) return *failure;
  return hash.Finish();
}

Status CheckHash(const std::filesystem::path& path, const BundleFile& file, Work* work) {
  ASSIGN_OR_RETURN(const std::string found, HashFile(path, work));
  if (found == file.sha256 || work->stop) return Status::Ok();
  return Status::InvalidInput(path.string() + " is damaged, its sha256 is " + found +
                              ", bundle.json expects " + file.sha256 +
                              ": copy or export the bundle again");
}

void HashFiles(Work* work) {
  for (size_t i = work->next++; i < work->files.size() && !work->stop; i = work->next++) {
    const Status status = CheckHash(work->files[i].first, work->files[i].second, work);
    if (status.ok()) continue;
    MutexLock lock(work->mutex);
    if (work->status.ok()) work->status = status;
    work->stop = true;
  }
  MutexLock lock(work->mutex);
  --work->running;
  work->changed.NotifyAll();
}

void DrawUntilDone(Work* work, uint64_t total) {
  Progress progress("checking the bundle", total, "B");
  uint64_t shown = 0;
  MutexLock lock(work->mutex);
  while (work->running > 0) {
    work->changed.WaitFor(lock, kRedraw);
    const uint64_t done = work->done_bytes;
    progress.Advance(done - shown);
    shown = done;
  }
}

}  // namespace

Status VerifyFileSizes(const std::filesystem::path& folder,
                       const std::map<std::string, BundleFile>& files) {
  for (const auto& [name, file] : files) {
    const std::filesystem::path path = folder / name;
    std::error_code error;
    const bool regular = std::filesystem::is_regular_file(path, error);
    if (error || !regular) {
      return MissingFile(path, error ? error.message().c_str() : "it is missing or no file");
    }
    const uint64_t size = std::filesystem::file_size(path, error);
    if (error) return MissingFile(path, error.message().c_str());
    if (size != file.bytes) {
      return Status::InvalidInput(path.string() + " has " + std::to_string(size) +
                                  " bytes, bundle.json expects " + std::to_string(file.bytes) +
                                  ": copy or export the bundle again");
    }
  }
  return Status::Ok();
}

Status VerifyFileHashes(const std::filesystem::path& folder,
                        const std::map<std::string, BundleFile>& files,
                        const VerifyHashesOptions& options) {
  Work work;
  uint64_t total = 0;
  for (const auto& [name, file] : files) {
    work.files.emplace_back(folder / name, file);
    total += file.bytes;
  }
  std::stable_sort(work.files.begin(), work.files.end(),
                   [](const auto& a, const auto& b) { return a.second.bytes > b.second.bytes; });
  const size_t num_threads =
      std::clamp<size_t>(static_cast<size_t>(std::max(options.num_threads, 1)), 1,
                         std::max<size_t>(work.files.size(), 1));
  {
    MutexLock lock(work.mutex);
    work.running = num_threads;
  }
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < num_threads; ++i) threads.emplace_back(HashFiles, &work);
  if (options.show_progress) DrawUntilDone(&work, total);
  threads.clear();
  MutexLock lock(work.mutex);
  return work.status;
}

}  // namespace idefics
