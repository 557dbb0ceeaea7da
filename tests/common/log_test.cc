// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <catch2/catch_test_macros.hpp>
#include <cstdio>
#include <limits>
#include <string>
#include <vector>

#include "common/log_hold.h"

namespace idefics {
namespace {

// What `write` puts on stderr, through a pipe: at most 64 KiB.
template <typename Write>
std::string Captured(Write write) {
  std::array<int, 2> ends{};
  REQUIRE(pipe(ends.data()) == 0);
  std::fflush(stderr);
  const int before = dup(STDERR_FILENO);
  dup2(ends[1], STDERR_FILENO);
  write();
  std::fflush(stderr);
  dup2(before, STDERR_FILENO);
  close(before);
  close(ends[1]);
  std::string text;
  std::array<char, 4096> buffer{};
  for (ssize_t size = 0; (size = read(ends[0], buffer.data(), buffer.size())) > 0;) {
    text.append(buffer.data(), static_cast<size_t>(size));
  }
  close(ends[0]);
  return text;
}

// The line after its time, which `{"timestamp":"…",` or the first word hold.
std::string WithoutTime(const std::string& line, const char* end_of_time) {
  const size_t at = line.find(end_of_time);
  REQUIRE(at != std::string::npos);
  return line.substr(at + std::string(end_of_time).size());
}

TEST_CASE("levels are known by name, and anything else is info", "[log]") {
  CHECK(ParseLogLevel("debug") == LogLevel::kDebug);
  CHECK(ParseLogLevel("warn") == LogLevel::kWarning);
  CHECK(ParseLogLevel("warning") == LogLevel::kWarning);
  CHECK(ParseLogLevel("error") == LogLevel::kError);
  CHECK(ParseLogLevel("info") == LogLevel::kInfo);
  CHECK(ParseLogLevel("") == LogLevel::kInfo);
}

TEST_CASE("a message cannot forge a line or a member", "[log]") {
  const std::string hostile = std::string("a\n\"b\"\\c\r\x7f\x1b[0m\0d", 15);
  InitLog(LogLevel::kInfo, /*console=*/false);
  const std::string json = Captured([&] { LogInfo(hostile); });
  CHECK(WithoutTime(json, "\",") ==
        "\"level\":\"INFO\",\"severity\":\"INFO\",\"target\":\"cog_idefics\","
        "\"message\":\"a\\u000a\\\"b\\\"\\\\c\\u000d\\u007f\\u001b[0m\\u0000d\"}\n");
  InitLog(LogLevel::kInfo, /*console=*/true);
  const std::string console = Captured([&] { LogInfo(hostile); });
  CHECK(WithoutTime(console, " ") ==
        "info a\\u000a\\\"b\\\"\\\\c\\u000d\\u007f\\u001b[0m\\u0000d\n");
}

TEST_CASE("letters beyond ASCII and braces stand as they are", "[log]") {
  InitLog(LogLevel::kInfo, /*console=*/false);
  const std::string json = Captured([] { LogInfo("é 🙂 {} %d {0}"); });
  CHECK(json.find("\"message\":\"é 🙂 {} %d {0}\"") != std::string::npos);
  InitLog(LogLevel::kInfo, /*console=*/true);
}

TEST_CASE("fields join the line's object as JSON values; none add nothing", "[log]") {
  const std::vector<LogField> fields = {{"id", std::string("a\"\nb")},
                                        {"n", int64_t{1}},
                                        {"s", 0.25},
                                        {"nan", std::numeric_limits<double>::quiet_NaN()},
                                        {"ok", true}};
  InitLog(LogLevel::kInfo, /*console=*/false);
  const std::string with = Captured([&] { LogWithFields(LogLevel::kWarning, "m", fields); });
  CHECK(WithoutTime(with, "\"message\":") ==
        "\"m\",\"id\":\"a\\\"\\u000ab\",\"n\":1,\"s\":0.25,\"nan\":null,\"ok\":true}\n");
  CHECK(with.find("\"level\":\"WARN\",\"severity\":\"WARNING\"") != std::string::npos);
  const std::string without = Captured([] { LogWithFields(LogLevel::kError, "m", {}); });
  CHECK(WithoutTime(without, "\"message\":") == "\"m\"}\n");
  InitLog(LogLevel::kInfo, /*console=*/true);
  const LogField one{"n", int64_t{1}};
  const std::string console =
      Captured([&] { LogWithFields(LogLevel::kError, "m", std::span(&one, 1)); });
  CHECK(WithoutTime(console, " ") == "error m {\"n\":1}\n");
}

TEST_CASE("lines below the level are not written", "[log]") {
  InitLog(LogLevel::kWarning, /*console=*/false);
  const std::string lines = Captured([] {
    Log(LogLevel::kDebug, "one");
    LogInfo("two");
    LogWarning("three");
    LogError("four");
  });
  CHECK(lines.find("one") == std::string::npos);
  CHECK(lines.find("two") == std::string::npos);
  CHECK(lines.find("three") != std::string::npos);
  CHECK(lines.find("four") != std::string::npos);
  InitLog(LogLevel::kInfo, /*console=*/true);
}

TEST_CASE("a held line is written with the next one, with a warning, or when its scope ends",
          "[log]") {
  InitLog(LogLevel::kInfo, /*console=*/true);
  const auto lines = [](const std::string& text) {
    return std::count(text.begin(), text.end(), '\n');
  };
  const auto log_held = [](const char* message) {
    const LogHold hold;
    LogInfo(message);
  };
  std::string text = Captured([&] {
    const LogScope scope([](LogMembers&) {});
    CHECK(Captured([&] { log_held("first"); }).empty());
    const std::string both = Captured([] { LogInfo("second"); });
    CHECK(lines(both) == 2);
    CHECK(both.find("first") < both.find("second"));
    log_held("third");
    {
      const LogScope inner([](LogMembers&) {});
    }
    log_held("fourth");
  });
  CHECK(lines(text) == 2);
  text = Captured([&] {
    const LogScope scope([](LogMembers&) {});
    const LogHold held;
    LogInfo("first");
    CHECK(lines(Captured([] { LogWarning("second"); })) == 2);
  });
  CHECK(text.empty());
}

}  // namespace
}  // namespace idefics
