// SPDX-License-Identifier: Apache-2.0
// Logging for every layer, without a logging library's header: torch and spdlog cannot meet in one
// translation unit (both bring an fmt). Thread safe.
#pragma once

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

namespace idefics {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warn"/"warning", "error"; anything else is kInfo.
LogLevel ParseLogLevel(std::string_view name);

// console: human-readable lines; otherwise one JSON object a line. Both go to stderr.
// REQUIRES: before the first Log call of any other thread.
void InitLog(LogLevel level, bool console);

// `message` may hold any bytes: control characters are escaped, so no input forges a log line.
void Log(LogLevel level, std::string_view message);

// A member of a log line beside its message. The name must outlive this.
struct LogField {
  std::string_view name;
  std::variant<bool, int64_t, double, std::string> value;  // texts may hold any bytes
};

// The members of a line that is being written.
class LogMembers {
 public:
  explicit LogMembers(std::string* line) : line_(*line) {}
  // The text may hold any bytes.
  void Add(std::string_view name, std::string_view text);

 private:
  std::string& line_;
};

// While it lives, lines of this thread have the members that `add` adds, too; of several scopes the
// innermost counts. It is called when a line is written: most scopes see none. REQUIRES: lives on
// the stack of one thread.
class LogScope {
 public:
  explicit LogScope(std::function<void(LogMembers&)> add);
  ~LogScope();
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

 private:
  friend void AddMembersOfScope(std::string* line);

  const std::function<void(LogMembers&)> add_;
  const LogScope* const outer_;
};

void LogWithFields(LogLevel level, std::string_view message, std::span<const LogField> fields);

// For a library that has its own copy of this state: all lines go to `program`, the LogWithFields
// of the program that loaded it. May be called again, at any time.
using LogFunction = void (*)(LogLevel, std::string_view message, std::span<const LogField> fields);
void LogThrough(LogFunction program);

// The bytes of a line without its time, for a signal's handler to write: it may not format.
std::string LineWithoutTime(LogLevel level, std::string_view message);

inline void LogInfo(std::string_view message) { Log(LogLevel::kInfo, message); }
inline void LogWarning(std::string_view message) { Log(LogLevel::kWarning, message); }
inline void LogError(std::string_view message) { Log(LogLevel::kError, message); }

}  // namespace idefics
