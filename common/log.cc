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
#include <cstring>
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

// Bytes from its front on that need no escape; most texts are plain, which eight at a time show.
size_t NumPlain(std::string_view text) {
  constexpr uint64_t kEach = 0x0101010101010101;
  const auto some_below = [](uint64_t bytes, uint64_t limit) {  // limit <= 0x80
    return ((bytes - kEach * limit) & ~bytes & kEach * 0x80) != 0;
  };
  size_t plain = 0;
  for (uint64_t word = 0; plain + sizeof word <= text.size(); plain += sizeof word) {
    std::memcpy(&word, text.data() + plain, sizeof word);
    const auto some = [&](char c) {
      return some_below(word ^ kEach * static_cast<uint64_t>(c), 1);
    };
    if (some_below(word, 0x20) || some('"') || some('\\') || some('\x7f')) break;
  }
  while (plain < text.size() && kIsPlain[static_cast<unsigned char>(text[plain])]) ++plain;
  return plain;
}

void AppendEscaped(std::string_view text, std::string* out) {
  while (!text.empty()) {
    const size_t plain = NumPlain(text);
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

void AppendText(std::string_view text, std::string* out) {
  *out += '"';
  AppendEscaped(text, out);
  *out += '"';
}

// A JSON value. JSON has no infinities and no NaN: they are null.
void AppendValue(const LogField& field, std::string* out) {
  if (const auto* text = std::get_if<std::string>(&field.value)) return AppendText(*text, out);
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

// "a": or ,"a": behind an opening brace or other members.
void AppendName(std::string_view name, std::string* out) {
  *out += out->back() == '{' ? "\"" : ",\"";
  AppendEscaped(name, out);
  *out += "\":";
}

void AppendMembers(std::span<const LogField> fields, std::string* out) {
  for (const LogField& field : fields) {
    AppendName(field.name, out);
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

void LogMembers::Add(std::string_view name, std::string_view text) {
  AppendName(name, &line_);
  AppendText(text, &line_);
}

void AddMembersOfScope(std::string* line) {
  if (t_scope == nullptr) return;
  LogMembers members(line);
  t_scope->add_(members);
}

LogScope::LogScope(std::function<void(LogMembers&)> add) : add_(std::move(add)), outer_(t_scope) {
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
  thread_local std::string line;  // keeps its memory
  line.clear();
  if (g_console) {
    AppendEscaped(message, &line);
    const size_t bare = line.size();
    line += " {";
    AppendMembers(fields, &line);
    AddMembersOfScope(&line);
    if (line.back() == '{') {
      line.resize(bare);
    } else {
      line += '}';
    }
  } else {
    AppendHead(level, message, &line);
    AppendMembers(fields, &line);
    AddMembersOfScope(&line);
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
