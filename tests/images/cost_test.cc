// SPDX-License-Identifier: Apache-2.0
// What hostile images cost, as ratios and counts: processor seconds against those of a plain image,
// bytes held at most, seconds from "stop" to the answer. Processor time is the thread's own, so
// that a busy machine changes nothing.
#include <malloc.h>
#include <pthread.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <chrono>
#include <ctime>
#include <fstream>
#include <functional>
#include <iterator>
#include <string>
#include <thread>

#include "predictor/images/preprocess.h"
#include "tests/images/hostile_files.h"

namespace idefics {
namespace {

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
constexpr bool kCountsMemory = false;  // the sanitizers' own memory is in the way
#else
constexpr bool kCountsMemory = true;
#endif

double SecondsOf(clockid_t clock) {
  timespec time = {};
  clock_gettime(clock, &time);
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_nsec) * 1e-9;
}

Result<ModelImage> Read(const FileBytes& file, const ImageLimits& limits = {},
                        const DecodeControl& control = {}) {
  return PreprocessImage(file, ImagePolicy::kUprightAlphaDropped, {}, limits, control);
}

double ProcessorSeconds(const FileBytes& file) {
  const double start = SecondsOf(CLOCK_THREAD_CPUTIME_ID);
  static_cast<void>(Read(file).ok());
  return SecondsOf(CLOCK_THREAD_CPUTIME_ID) - start;
}

// The same work on every machine: an image of 16 megapixels.
double PlainSeconds() {
  static const double seconds = ProcessorSeconds(PlainJpeg(4096, 4096, 1));
  return seconds;
}

int64_t ResidentBytes() {
  std::ifstream file("/proc/self/statm");
  int64_t size = 0;
  int64_t resident = 0;
  file >> size >> resident;
  return resident * sysconf(_SC_PAGESIZE);
}

// How much a process grows that reads the file: one of its own, without memory that was in use here
// before.
int64_t PeakBytes(const FileBytes& file) {
  malloc_trim(0);
  int ends[2] = {};
  REQUIRE(pipe(ends) == 0);
  const pid_t child = fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    const int64_t before = ResidentBytes();
    static_cast<void>(Read(file).ok());
    rusage usage = {};
    getrusage(RUSAGE_SELF, &usage);
    const int64_t grown = int64_t{usage.ru_maxrss} * 1024 - before;
    _exit(write(ends[1], &grown, sizeof(grown)) == sizeof(grown) ? 0 : 1);
  }
  int64_t grown = 0;
  const bool told = read(ends[0], &grown, sizeof(grown)) == sizeof(grown);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  close(ends[0]);
  close(ends[1]);
  REQUIRE(told);
  return grown;
}

ErrorCode CodeOf(const FileBytes& file) { return Read(file).status().code(); }

constexpr int64_t kMiB = 1 << 20;

TEST_CASE("tiles far larger than a TIFF are refused before one is read", "[cost]") {
  const FileBytes file = TiffWithTiles(200, 32 << 20);
  REQUIRE(file.size() < 100 << 10);
  CHECK(ProcessorSeconds(file) < PlainSeconds() / 2);
  CHECK(CodeOf(file) == ErrorCode::kTooLarge);
  CHECK(Read(TiffWithTiles(2, 1 << 20)).ok());
}

TEST_CASE("tags of a TIFF that share their bytes do not multiply them", "[cost]") {
  const FileBytes file = TiffWithTags(500, 1 << 20);
  if (kCountsMemory) CHECK(PeakBytes(file) < 64 * kMiB);
  CHECK(CodeOf(file) == ErrorCode::kInvalidInput);
  CHECK(Read(TiffWithTags(500, 1 << 10)).ok());
}

TEST_CASE("a TIFF is read only in the compressions that are needed", "[cost]") {
  for (const int compression : {34661, 34887, 34925, 50000, 50001, 32809, 34676}) {
    CAPTURE(compression);
    const auto image = Read(TiffWithCompression(static_cast<uint16_t>(compression)));
    REQUIRE_FALSE(image.ok());
    CHECK(image.status().message().find("(" + std::to_string(compression) + ")") !=
          std::string::npos);
  }
  CHECK(Read(TiffWithCompression(1)).ok());
}

TEST_CASE("a row of millions of pixels is refused, one at the limit takes little", "[cost]") {
  const ImageLimits limits;
  const auto most = static_cast<uint32_t>(limits.max_side);
  for (const auto& [width, height] : {std::pair(6'000'000U, 1U), std::pair(1U, most + 1)}) {
    const FileBytes file = GreyPng(width, height);
    if (kCountsMemory) CHECK(PeakBytes(file) < 64 * kMiB);
    CHECK(CodeOf(file) == ErrorCode::kTooLarge);
  }
  for (const auto& [width, height] : {std::pair(most, 1U), std::pair(1U, most)}) {
    const FileBytes file = GreyPng(width, height);
    if (kCountsMemory) CHECK(PeakBytes(file) < 64 * kMiB);
    CHECK(Read(file).ok());
  }
}

TEST_CASE("a thousand compressed texts in a PNG are not inflated", "[cost]") {
  CHECK(ProcessorSeconds(PngWithTexts(1000)) < PlainSeconds() / 2);
  CHECK(Read(PngWithTexts(1000)).ok());
}

TEST_CASE("an interlaced PNG takes no more memory than its pixels", "[cost]") {
  const FileBytes file = InterlacedPng(3000, 3000);
  REQUIRE(Read(file).ok());
  if (kCountsMemory) CHECK(PeakBytes(file) < 6 * 9'000'000);
}

TEST_CASE("a JPEG ends where its scans have walked over too many pixels", "[cost]") {
  const double few = ProcessorSeconds(JpegWithScans(4096, 4096, 100));
  CHECK(ProcessorSeconds(JpegWithScans(4096, 4096, 450)) < 2 * few);
  CHECK(CodeOf(JpegWithScans(4096, 4096, 450)) == ErrorCode::kTooLarge);
  CHECK(Read(JpegWithScans(4096, 4096, 100)).ok());
  CHECK(Read(JpegWithScans(64, 64, 450)).ok());
}

FileBytes HostileAsset(const std::string& name) {
  std::ifstream file(IDEFICS_SOURCE_DIR "/tests/assets/hostile/" + name, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

// make_hostile_avif.py wrote the files: a few kilobytes with 64 tiles, or 20 frames, of 16
// megapixels.
TEST_CASE("the frames and tiles of an AVIF share the pixels that the image may cost", "[cost]") {
  for (const char* name : {"large-tiles.avif", "many-frames.avif"}) {
    CAPTURE(name);
    const FileBytes file = HostileAsset(name);
    REQUIRE(file.size() > 1000);
    CHECK(ProcessorSeconds(file) < PlainSeconds() / 2);
    if (kCountsMemory) CHECK(PeakBytes(file) < 32 * kMiB);
    CHECK(CodeOf(file) == ErrorCode::kInvalidInput);
  }
}

TEST_CASE("the segments of a JPEG take time in proportion to their number", "[cost]") {
  const FileBytes file = JpegWithSegments(50'000);
  CHECK(ProcessorSeconds(file) < PlainSeconds() / 2);
  CHECK(Read(file).ok());
}

TEST_CASE("an AVIF with thousands of items is refused before it is searched", "[cost]") {
  const FileBytes file = HostileAsset("many-items.avif");
  REQUIRE(file.size() > 100'000);
  CHECK(ProcessorSeconds(file) < PlainSeconds() / 2);
  if (kCountsMemory) CHECK(PeakBytes(file) < 16 * kMiB);
  CHECK(CodeOf(file) == ErrorCode::kTooLarge);
}

TEST_CASE("an AVIF of tiles is put together", "[cost]") {
  const auto image = Read(HostileAsset("grid.avif"));
  REQUIRE(image.ok());
  CHECK(image->width == 500);
  CHECK(image->height == 500);
  CHECK(image->rgb[0] == 89);
  CHECK(image->rgb[1] == 120);
  CHECK(image->rgb[2] == 199);
}

TEST_CASE("the memory of an image is judged before it is taken", "[cost]") {
  ImageLimits limits;
  limits.max_memory_bytes = 100 * kMiB;
  const auto judge = [&](const FileBytes& file) { return Read(file, limits).status().code(); };
  // 16 megapixels take 96 MiB when they are turned; 80 MiB while several scans are read.
  CHECK(judge(PlainJpeg(4096, 4096, 1)) == ErrorCode::kOk);
  CHECK(judge(JpegWithScans(4096, 4096, 3)) == ErrorCode::kOk);
  CHECK(judge(JpegWithScans(5000, 4096, 3)) == ErrorCode::kTooLarge);
  CHECK(judge(GreyPng(5000, 4096)) == ErrorCode::kTooLarge);
  CHECK(judge(LargeGif(5000, 4096)) == ErrorCode::kTooLarge);
  CHECK(judge(RunLengthBmp(5000, 4096)) == ErrorCode::kTooLarge);
  CHECK(judge(LargePpm(5000, 4096)) == ErrorCode::kTooLarge);
  CHECK(judge(LargeTiff(5120, 4096)) == ErrorCode::kTooLarge);
}

TEST_CASE("no image takes more memory than its price said", "[cost]") {
  struct Case {
    const char* name;
    FileBytes file;
  };
  const Case cases[] = {
      {"JPEG", PlainJpeg(3000, 3000, 1)},
      {"turned JPEG", PlainJpeg(3000, 3000, 6)},
      {"JPEG of scans", JpegWithScans(3000, 3000, 5)},
      {"PNG", GreyPng(3000, 3000)},
      {"narrow PNG", GreyPng(20, 200'000)},
      {"wide PNG", GreyPng(200'000, 20)},
      {"interlaced PNG", InterlacedPng(2000, 2000)},
      {"GIF", LargeGif(3000, 3000)},
      {"BMP", RunLengthBmp(3000, 3000)},
      {"PPM", LargePpm(3000, 3000)},
      {"TIFF", LargeTiff(3072, 3000)},
      {"TIFF of tiles", TiffWithTiles(2, 30 << 20)},
  };
  for (const Case& one : cases) {
    CAPTURE(one.name);
    int64_t price = 0;
    DecodeControl control;
    control.reserve = [&](int64_t bytes) {
      price = bytes;
      return Status::Ok();
    };
    REQUIRE(Read(one.file, {}, control).ok());
    constexpr int64_t kSlack = 8 * kMiB;  // what the libraries and the allocator hold anyway
    if (kCountsMemory) CHECK(PeakBytes(one.file) < price + kSlack);
  }
}

TEST_CASE("whoever lends the memory is asked once, and may refuse", "[cost]") {
  DecodeControl control;
  int64_t asked = 0;
  int times = 0;
  Status answer;
  control.reserve = [&](int64_t bytes) {
    asked = bytes;
    ++times;
    return answer;
  };
  CHECK(Read(PlainJpeg(1000, 1000, 1), {}, control).ok());
  CHECK(times == 1);
  CHECK(asked >= 6'000'000);
  CHECK(asked < 7'000'000);
  answer = Status(ErrorCode::kOverloaded, "no memory now");
  CHECK(Read(PlainJpeg(1000, 1000, 1), {}, control).status().code() == ErrorCode::kOverloaded);
}

TEST_CASE("an image that takes longer than the limit ends with kDeadline", "[cost]") {
  ImageLimits limits;
  limits.max_time = std::chrono::milliseconds(0);
  const auto image = Read(PlainJpeg(4096, 4096, 1), limits);
  REQUIRE_FALSE(image.ok());
  CHECK(image.status().code() == ErrorCode::kDeadline);
}

struct Stopped {
  double after_s = 0;  // processor seconds between the stop and the answer
  Status status;
};

// Stops when the given part of the work is done; again where the reader was faster than the stop.
Stopped StopWithin(const FileBytes& file, double whole_s, double part) {
  Stopped result;
  for (int attempt = 0; attempt < 20 && result.status.ok(); ++attempt) {
    std::stop_source source;
    std::atomic<double> ended_at = 0;
    std::atomic<bool> may_leave = false;  // its clock is read until then
    std::thread reader([&] {
      result.status = Read(file, {}, {source.get_token(), {}}).status();
      ended_at = SecondsOf(CLOCK_THREAD_CPUTIME_ID);
      while (!may_leave) std::this_thread::yield();
    });
    clockid_t clock = 0;
    REQUIRE(pthread_getcpuclockid(reader.native_handle(), &clock) == 0);
    while (ended_at == 0 && SecondsOf(clock) < part * whole_s) {
      std::this_thread::sleep_for(std::chrono::microseconds(200));
    }
    source.request_stop();
    const double stopped_at = SecondsOf(clock);  // not before: this thread may have to wait
    may_leave = true;
    reader.join();
    result.after_s = ended_at - stopped_at;
  }
  return result;
}

TEST_CASE("an image that nobody waits for any more is dropped within milliseconds", "[cost]") {
  struct Case {
    const char* name;
    FileBytes file;
  };
  const Case cases[] = {
      {"JPEG", PlainJpeg(4096, 4096, 1)},
      {"turned JPEG", PlainJpeg(4096, 4096, 6)},
      {"JPEG of scans", JpegWithScans(2048, 2048, 400)},
      {"PNG", GreyPng(4096, 4096)},
      {"interlaced PNG", InterlacedPng(2500, 2500)},
      {"GIF", LargeGif(4096, 4096)},
      {"BMP", RunLengthBmp(4096, 4096)},
      {"PPM", LargePpm(4096, 4096)},
      {"TIFF", LargeTiff(5120, 4096)},
  };
  for (const Case& one : cases) {
    const double whole_s = ProcessorSeconds(one.file);
    for (const double part : {0.4, 0.6}) {
      Stopped stopped = StopWithin(one.file, whole_s, part);
      // Other work on the machine empties this thread's caches: its best of three tries counts.
      for (int i = 0; i < 2 && stopped.after_s >= whole_s / 4; ++i) {
        stopped = StopWithin(one.file, whole_s, part);
      }
      CAPTURE(one.name, part, whole_s, stopped.after_s);
      CHECK(stopped.status.code() == ErrorCode::kCanceled);
      CHECK(stopped.after_s < whole_s / 4);
    }
  }
}

}  // namespace
}  // namespace idefics
