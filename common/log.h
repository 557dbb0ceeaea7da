// SPDX-License-Identifier: Apache-2.0
// Logging for every layer, without a logging library's header: torch and spdlog cannot meet in one
// translation unit (both bring an fmt). Thread safe.
#pragma once

#include <string>
#include <string_view>

namespace idefics {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// "debug", "info", "warn"/"warning", "error"; anything else is kInfo.
LogLevel ParseLogLevel(std::string_view name);

// console: human-readable lines; otherwise one JSON object a line. Both go to stderr.
// REQUIRES: before the first Log call of any other thread.
void InitLog(LogLevel level, bool console);

// `message` may hold any bytes: control characters are escaped, so no input forges a log line.
void Log(LogLevel level, std::string_view message);

// One line with more members: `fields` is the text of a JSON object, written by a JSON library.
void LogWithFields(LogLevel level, std::string_view message, std::string_view fields);

inline void LogInfo(std::string_view message) { Log(LogLevel::kInfo, message); }
inline void LogWarning(std::string_view message) { Log(LogLevel::kWarning, message); }
inline void LogError(std::string_view message) { Log(LogLevel::kError, message); }

}  // namespace idefics
