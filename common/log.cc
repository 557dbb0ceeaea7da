// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <array>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <utility>

namespace idefics {
namespace {

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

// As coglet writes `level` and as Replicate reads `severity`.
struct LevelNames {
  const char* level;
  const char* severity;
};

LevelNames NamesOf(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return {"DEBUG", "DEBUG"};
    case LogLevel::kInfo:
      return {"INFO", "INFO"};
    case LogLevel::kWarning:
      return {"WARN", "WARNING"};
    case LogLevel::kError:
      return {"ERROR", "ERROR"};
  }
  return {"INFO", "INFO"};
}

std::string Escaped(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (const char c : text) {
    if (c == '"' || c == '\\') {
      out += '\\';
      out += c;
    } else if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) {
      char escape[8];
      std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(c));
      out += escape;
    } else {
      out += c;
    }
  }
  return out;
}

constexpr const char* kConsolePattern = "%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v";
constexpr const char* kJsonPattern = R"({"timestamp":"%Y-%m-%dT%H:%M:%S.%f%z",%v})";

// A JSON value. JSON has no infinities and no NaN: they are null.
std::string Shown(const LogField& field) {
  if (const auto* text = std::get_if<std::string>(&field.value)) {
    return '"' + Escaped(*text) + '"';
  }
  if (const auto* flag = std::get_if<bool>(&field.value)) return *flag ? "true" : "false";
  if (const auto* whole = std::get_if<int64_t>(&field.value)) return std::to_string(*whole);
  const double number = std::get<double>(field.value);
  if (!std::isfinite(number)) return "null";
  std::array<char, 32> digits;
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  return {digits.data(), end};
}

// Appends "a":1,"b":"x".
void AppendMembers(std::span<const LogField> fields, std::string* out) {
  for (const LogField& field : fields) {
    *out += (out->empty() ? "\"" : ",\"") + Escaped(field.name) + "\":" + Shown(field);
  }
}

thread_local const LogScope* t_scope = nullptr;

// Set once by InitLog, before other threads.
bool g_console = true;

// Of a JSON line, after its time.
std::string JsonMembers(LogLevel level, std::string_view message, const std::string& fields) {
  const auto [name, severity] = NamesOf(level);
  return std::string("\"level\":\"") + name + "\",\"severity\":\"" + severity +
         "\",\"target\":\"cog_idefics\",\"message\":\"" + Escaped(message) + '"' +
         (fields.empty() ? "" : ",") + fields;
}

spdlog::logger& Logger() {
  static const auto logger = [] {
    auto made = spdlog::stderr_logger_mt("idefics");
    made->set_pattern(kConsolePattern);
    return made;
  }();
  return *logger;
}

}  // namespace

LogLevel ParseLogLevel(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warn" || name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

void InitLog(LogLevel level, bool console) {
  Logger().set_level(ToSpdlog(level));
  Logger().flush_on(spdlog::level::warn);
  g_console = console;
  Logger().set_pattern(console ? kConsolePattern : kJsonPattern);
}

std::span<const LogField> FieldsOfScope() {
  if (t_scope == nullptr) return {};
  return t_scope->fields_;
}

LogScope::LogScope(std::vector<LogField> fields) : fields_(std::move(fields)), outer_(t_scope) {
  t_scope = this;
}

LogScope::~LogScope() { t_scope = outer_; }

void Log(LogLevel level, std::string_view message) { LogWithFields(level, message, {}); }

void LogWithFields(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  std::string members;
  AppendMembers(fields, &members);
  AppendMembers(FieldsOfScope(), &members);
  if (g_console) {
    Logger().log(ToSpdlog(level), "{}{}", Escaped(message),
                 members.empty() ? "" : " {" + members + "}");
  } else {
    Logger().log(ToSpdlog(level), "{}", JsonMembers(level, message, members));
  }
}

std::string LineWithoutTime(LogLevel level, std::string_view message) {
  return g_console ? Escaped(message) + "\n" : "{" + JsonMembers(level, message, "") + "}\n";
}

}  // namespace idefics
