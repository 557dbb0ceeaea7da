// SPDX-License-Identifier: Apache-2.0
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <csignal>
#include <cstdio>
#include <future>
#include <memory>
#include <set>
#include <stdexcept>
#include <string>
#include <thread>
#include <utility>

#include "common/ascii.h"
#include "common/byte_budget.h"
#include "common/check.h"
#include "common/sha256.h"
#include "common/status.h"
#include "common/worker_pool.h"

namespace idefics {
namespace {

Result<int> HalfOf(int n) {
  if (n % 2 != 0) return Status::InvalidInput(std::to_string(n) + " is odd");
  return n / 2;
}

Status Quarter(int n, int* out) {
  ASSIGN_OR_RETURN(const int half, HalfOf(n));
  ASSIGN_OR_RETURN(*out, HalfOf(half));
  return Status::Ok();
}

TEST_CASE("a failure leaves a function with its code and message", "[status]") {
  int out = 0;
  CHECK(Quarter(12, &out).ok());
  CHECK(out == 3);
  const Status status = Quarter(6, &out);
  CHECK(status.code() == ErrorCode::kInvalidInput);
  CHECK(status.WithPrefix("input").message() == "input: 3 is odd");
  CHECK(status.WithPrefix("input").code() == ErrorCode::kInvalidInput);
  CHECK(Status::Ok().WithPrefix("input").ok());
  CHECK(Status::Ok().WithPrefix("input").message().empty());
}

TEST_CASE("each error code has a name of its own", "[status]") {
  std::set<std::string> names;
  for (int code = 0; code <= static_cast<int>(ErrorCode::kInternal); ++code) {
    const std::string name = ErrorCodeName(static_cast<ErrorCode>(code));
    INFO(name);
    CHECK(names.insert(name).second);
    CHECK(name.find_first_not_of("abcdefghijklmnopqrstuvwxyz_") == std::string::npos);
    CHECK(name != "unknown");
  }
}

TEST_CASE("a result hands over a value that can only be moved", "[status]") {
  Result<std::unique_ptr<int>> result(std::make_unique<int>(7));
  REQUIRE(result.ok());
  CHECK(**result == 7);
  const std::unique_ptr<int> taken = std::move(result).value();
  CHECK(*taken == 7);
}

std::string Sha256OfText(const std::string& text) {
  return Sha256Hex({reinterpret_cast<const uint8_t*>(text.data()), text.size()});
}

TEST_CASE("sha256 gives the published digests", "[sha256]") {
  // FIPS 180-2, appendix B; the empty one and the million are in NIST's test vectors.
  CHECK(Sha256OfText("abc") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  CHECK(Sha256OfText("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq") ==
        "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  CHECK(Sha256OfText("") == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  CHECK(Sha256OfText(std::string(1'000'000, 'a')) ==
        "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST_CASE("sha256 of pieces is that of the whole", "[sha256]") {
  const std::string text(1000, 'x');
  for (const size_t piece : {size_t{1}, size_t{63}, size_t{64}, size_t{65}, size_t{999}}) {
    Sha256 digest;
    for (size_t at = 0; at < text.size(); at += piece) {
      digest.Update(
          {reinterpret_cast<const uint8_t*>(text.data()) + at, std::min(piece, text.size() - at)});
    }
    digest.Update({});
    CHECK(digest.Finish() == Sha256OfText(text));
  }
}

// What a process that runs `end` leaves on stderr; `*signal` is what ended it, 0 for none.
template <typename End>
std::string LastWords(End end, int* signal) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  const pid_t child = fork();
  if (child == 0) {
    std::signal(SIGABRT, SIG_DFL);  // Catch2 reports it otherwise
    dup2(ends[1], STDERR_FILENO);
    end();
    _exit(0);
  }
  close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t size = 0; (size = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<size_t>(size));
  }
  close(ends[0]);
  int status = 0;
  REQUIRE(waitpid(child, &status, 0) == child);
  *signal = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
  return text;
}

TEST_CASE("a check that fails ends the process and names place and values", "[check]") {
  int signal = 0;
  const int two = 2;
  CHECK(LastWords([&] { IDEFICS_CHECK_EQ(two + 1, 4); }, &signal).find("common_test.cc:") !=
        std::string::npos);
  CHECK(signal == SIGABRT);
  CHECK(LastWords([&] { IDEFICS_CHECK_EQ(two + 1, 4); }, &signal).find("two + 1 == 4 (3 vs. 4)") !=
        std::string::npos);
  CHECK(LastWords([&] { IDEFICS_CHECK(two > 2); }, &signal).find("two > 2") != std::string::npos);
  CHECK(LastWords([] { (void)Result<int>(Status::InvalidInput("no")).value(); }, &signal)
            .find("ok()") != std::string::npos);
  CHECK(LastWords([&] { IDEFICS_CHECK_LT(two, 3); }, &signal).empty());
  CHECK(signal == 0);
}

TEST_CASE("a pool's threads outlive what their jobs throw", "[common]") {
  std::atomic<int> num_run{0};
  {
    WorkerPool pool(1, 1);
    for (int i = 0; i < 3; ++i) {
      REQUIRE(pool.Run([&num_run] {
        ++num_run;
        throw std::runtime_error("thrown by a test");
      }));
      while (num_run <= i) std::this_thread::yield();
    }
    REQUIRE(pool.Run([&num_run] {
      ++num_run;
      throw 5;
    }));
  }
  CHECK(num_run == 4);
}

TEST_CASE("a pool gives a job to the thread that became idle last", "[common]") {
  WorkerPool pool(2, 2);
  std::array<std::promise<std::thread::id>, 2> ran;
  std::array<std::promise<void>, 2> may_end;
  for (size_t i = 0; i < 2; ++i) {
    REQUIRE(pool.Run([&ran, &may_end, i] {
      ran[i].set_value(std::this_thread::get_id());
      may_end[i].get_future().wait();
    }));
  }
  const std::thread::id first = ran[0].get_future().get();
  const std::thread::id last = ran[1].get_future().get();
  REQUIRE(first != last);
  may_end[0].set_value();
  while (pool.num_idle() < 1) std::this_thread::yield();
  may_end[1].set_value();
  for (int i = 0; i < 10; ++i) {
    while (pool.num_idle() < 2) std::this_thread::yield();
    std::promise<std::thread::id> again;
    REQUIRE(pool.Run([&again] { again.set_value(std::this_thread::get_id()); }));
    CHECK(again.get_future().get() == last);
  }
}

TEST_CASE("text is handled as bytes, whatever the locale", "[common]") {
  CHECK(ToLower("AbZ@[\xC3\x84") == "abz@[\xC3\x84");
  CHECK(StripSpaces("  a b\t ") == "a b\t");
  CHECK(StripSpaces("   ").empty());
  CHECK(HexDigit('9') == 9);
  CHECK(HexDigit('f') == 15);
  CHECK(HexDigit('A') == 10);
  CHECK(HexDigit('g') == -1);
  CHECK(PercentDecode("%41%zz+%4") == "A%zz+%4");
  CHECK(PercentDecode("%") == "%");
}

TEST_CASE("shares of a budget count until they are gone", "[common]") {
  ByteBudget budget(100);
  ByteBudget::Share first(&budget);
  CHECK(first.Grow(60));
  {
    ByteBudget::Share second(&budget);
    CHECK(second.Fits(40));
    CHECK_FALSE(second.Fits(41));
    CHECK_FALSE(second.Grow(41));
    CHECK(second.Grow(40));
    CHECK_FALSE(second.Grow(1));
    CHECK_FALSE(second.Grow(~uint64_t{0}));
    CHECK(budget.used() == 100);
  }
  CHECK(budget.used() == 60);
  ByteBudget::Share moved = std::move(first);
  CHECK(moved.num_bytes() == 60);
  CHECK(moved.GrowTo(50));
  CHECK(budget.used() == 60);
  moved.ShrinkTo(10);
  moved.ShrinkTo(20);
  CHECK(budget.used() == 10);
  moved = ByteBudget::Share();
  CHECK(budget.used() == 0);
  CHECK(moved.Grow(~uint64_t{0} / 2));  // of no budget
}

}  // namespace
}  // namespace idefics
