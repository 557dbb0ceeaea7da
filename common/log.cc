// SPDX-License-Identifier: Apache-2.0
#include "common/log.h"

#include <spdlog/sinks/base_sink.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <cmath>
#include <cstdio>
#include <memory>
#include <mutex>
#include <utility>

#include "common/check.h"
#include "common/log_hold.h"

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

constexpr std::array<bool, 256> kIsPlain = [] {
  std::array<bool, 256> plain{};
  for (size_t c = 0x20; c < plain.size(); ++c) plain[c] = c != '"' && c != '\\' && c != 0x7f;
  return plain;
}();

void AppendEscaped(std::string_view text, std::string* out) {
  while (!text.empty()) {
    size_t plain = 0;
    while (plain < text.size() && kIsPlain[static_cast<unsigned char>(text[plain])]) ++plain;
    out->append(text, 0, plain);
    text.remove_prefix(plain);
    if (text.empty()) return;
    const char c = text.front();
    text.remove_prefix(1);
    if (c == '"' || c == '\\') {
      *out += '\\';
      *out += c;
    } else {
      std::array<char, 8> escape;
      std::snprintf(escape.data(), escape.size(), "\\u%04x", static_cast<unsigned>(c));
      *out += escape.data();
    }
  }
}

constexpr const char* kConsolePattern = "%Y-%m-%dT%H:%M:%S.%e %^%l%$ %v";
constexpr const char* kJsonPattern = R"({"timestamp":"%Y-%m-%dT%H:%M:%S.%f%z",%v})";

// A JSON value. JSON has no infinities and no NaN: they are null.
void AppendValue(const LogField& field, std::string* out) {
  if (const auto* text = std::get_if<std::string>(&field.value)) {
    *out += '"';
    AppendEscaped(*text, out);
    *out += '"';
    return;
  }
  if (const auto* flag = std::get_if<bool>(&field.value)) {
    *out += *flag ? "true" : "false";
    return;
  }
  std::array<char, 32> digits;
  const auto append = [&](auto number) {
    const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
    out->append(digits.data(), end);
  };
  if (const auto* whole = std::get_if<int64_t>(&field.value)) return append(*whole);
  const double number = std::get<double>(field.value);
  if (std::isfinite(number)) {
    append(number);
  } else {
    *out += "null";
  }
}

// Appends "a":1,"b":"x", behind an opening brace or other members.
void AppendMembers(std::span<const LogField> fields, std::string* out) {
  for (const LogField& field : fields) {
    *out += out->back() == '{' ? "\"" : ",\"";
    AppendEscaped(field.name, out);
    *out += "\":";
    AppendValue(field, out);
  }
}

thread_local const LogScope* t_scope = nullptr;
thread_local int t_holds = 0;     // LogHolds of this thread
thread_local std::string t_held;  // lines that wait for the next one

// stderr, a write for each line or for several that were held. Its lock keeps lines whole.
class StderrSink final : public spdlog::sinks::base_sink<std::mutex> {
 public:
  void WriteHeld() {
    if (t_held.empty()) return;
    const std::lock_guard<std::mutex> lock(mutex_);
    Write();
  }

 protected:
  void sink_it_(const spdlog::details::log_msg& message) override {
    spdlog::memory_buf_t line;
    formatter_->format(message, line);
    t_held.append(line.data(), line.size());
    if (t_holds == 0 || message.level >= spdlog::level::warn) Write();
  }
  void flush_() override {}

 private:
  static void Write() {
    std::fwrite(t_held.data(), 1, t_held.size(), stderr);  // which has no buffer
    t_held.clear();
  }
};

const std::shared_ptr<StderrSink>& Sink() {
  static const auto sink = std::make_shared<StderrSink>();
  return sink;
}

// Set once by InitLog, before other threads.
bool g_console = true;

std::atomic<LogFunction> g_program = nullptr;  // of LogThrough

// Of a JSON line, after its time.
void AppendHead(LogLevel level, std::string_view message, std::string* out) {
  const auto [name, severity] = NamesOf(level);
  for (const char* part : {"\"level\":\"", name, "\",\"severity\":\"", severity,
                           "\",\"target\":\"cog_idefics\",\"message\":\""}) {
    *out += part;
  }
  AppendEscaped(message, out);
  *out += '"';
}

spdlog::logger& Logger() {
  static const auto logger = [] {
    auto made = std::make_shared<spdlog::logger>("idefics", Sink());
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
  g_console = console;
  Logger().set_pattern(console ? kConsolePattern : kJsonPattern);
}

std::vector<LogField> FieldsOfScope() {
  if (t_scope == nullptr) return {};
  return t_scope->fields_();
}

LogScope::LogScope(std::function<std::vector<LogField>()> fields)
    : fields_(std::move(fields)), outer_(t_scope) {
  t_scope = this;
}

LogScope::~LogScope() {
  t_scope = outer_;
  if (outer_ == nullptr) Sink()->WriteHeld();
}

LogHold::LogHold() {
  IDEFICS_CHECK(t_scope != nullptr);
  ++t_holds;
}

LogHold::~LogHold() { --t_holds; }

void Log(LogLevel level, std::string_view message) { LogWithFields(level, message, {}); }

void LogThrough(LogFunction program) { g_program = program; }

void LogWithFields(LogLevel level, std::string_view message, std::span<const LogField> fields) {
  if (const LogFunction program = g_program) return program(level, message, fields);
  if (!Logger().should_log(ToSpdlog(level))) return;
  const std::vector<LogField> more = FieldsOfScope();
  thread_local std::string line;  // keeps its memory
  line.clear();
  if (g_console) {
    AppendEscaped(message, &line);
    const bool has_members = !fields.empty() || !more.empty();
    if (has_members) line += " {";
    AppendMembers(fields, &line);
    AppendMembers(more, &line);
    if (has_members) line += '}';
  } else {
    AppendHead(level, message, &line);
    AppendMembers(fields, &line);
    AppendMembers(more, &line);
  }
  Logger().log(ToSpdlog(level), spdlog::string_view_t(line));
}

std::string LineWithoutTime(LogLevel level, std::string_view message) {
  std::string line;
  if (g_console) {
    AppendEscaped(message, &line);
  } else {
    line += '{';
    AppendHead(level, message, &line);
    line += '}';
  }
  return line + '\n';
}

}  // namespace idefics
