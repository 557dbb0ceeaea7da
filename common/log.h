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
#include <vector>

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

// While it lives, lines of this thread have these members, too; of several the innermost counts.
// They are asked for when a line is written: most scopes see none. REQUIRES: lives on the stack of
// one thread.
class LogScope {
 public:
  explicit LogScope(std::function<std::vector<LogField>()> fields);
  ~LogScope();
  LogScope(const LogScope&) = delete;
  LogScope& operator=(const LogScope&) = delete;

 private:
  friend std::vector<LogField> FieldsOfScope();

  const std::function<std::vector<LogField>()> fields_;
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
