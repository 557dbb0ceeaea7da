// SPDX-License-Identifier: Apache-2.0
#include "server/http/request_journal.h"

#include <algorithm>
#include <memory>
#include <optional>
#include <string>
#include <utility>

#include "common/caught.h"
#include "common/random_id.h"

namespace idefics {
namespace {

using Clock = Span::Clock;

// The caller's own id where it does no harm in a header and a log line.
std::string IdOf(const HttpRequest& request) {
  constexpr size_t kMaxIdBytes = 200;
  const std::string* given = request.Header("X-Request-Id");
  const auto harmless = [](char c) {
    return (c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '.' ||
           c == '_' || c == ':' || c == '-';
  };
  const bool usable = given != nullptr && !given->empty() && given->size() <= kMaxIdBytes &&
                      std::all_of(given->begin(), given->end(), harmless);
  return usable ? *given : "req_" + RandomHex();
}

// What is told of a request when its answer has ended.
struct Entry {
  bool line = false;
  RequestOrigin origin;
  std::string_view route;
  std::string client;
  std::string method;
  std::string path;
  std::string agent;
  int status = 0;
  Clock::time_point begin{};

  void Tell() const {
    const auto end = Clock::now();
    if (origin.span.sink != nullptr) AddSpan(end);
    if (!line) return;
    const std::vector<LogField> fields = {
        {"method", method},
        {"path", path},
        {"status", int64_t{status}},
        {"duration", std::chrono::duration<double>(end - begin).count()},
        {"client", client}};
    const LogScope scope([this] { return LogFieldsOf(origin); });
    LogWithFields(LogLevel::kInfo, "Answered", fields);
  }

 private:
  void AddSpan(Clock::time_point end) const {
    std::vector<SpanAttribute> attributes;
    attributes.reserve(6);
    attributes.assign({{"http.request.method", std::string_view(method)},
                       {"http.response.status_code", int64_t{status}},
                       {"url.scheme", std::string_view("http")},
                       {"idefics.request_id", std::string_view(origin.request_id)}});
    if (!route.empty()) attributes.push_back({"http.route", route});
    if (!agent.empty()) attributes.push_back({"user_agent.original", std::string_view(agent)});
    const std::string name = route.empty() ? "HTTP" : method + " " + std::string(route);
    const std::string error = status >= 500 ? std::to_string(status) : "";
    Span span;
    span.name = name;
    span.kind = Span::Kind::kServer;
    span.context = origin.span.context;
    span.parent = origin.caller;
    span.remote_parent = span.parent != SpanId{};
    span.trace_state = origin.span.trace_state;
    span.begin = begin;
    span.end = end;
    span.attributes = attributes;
    span.error = error;
    origin.span.sink->Add(span);
  }
};

// A stream that tells of its end: the last piece, or that its client has left.
class ToldStream final : public BodySource {
 public:
  ToldStream(std::unique_ptr<BodySource> stream, Entry entry)
      : stream_(std::move(stream)), entry_(std::move(entry)) {}
  ~ToldStream() override {
    try {
      stream_.reset();
      entry_.Tell();
    } catch (...) {
      LogCaught("The end of a stream");
    }
  }
  Piece Next() override { return stream_->Next(); }
  void WhenMore(std::function<void()> stir) override { stream_->WhenMore(std::move(stir)); }
  std::chrono::milliseconds patience() const override { return stream_->patience(); }

 private:
  std::unique_ptr<BodySource> stream_;
  Entry entry_;
};

}  // namespace

void RequestJournal::Begin(HttpRequest& request) const {
  RequestOrigin& origin = request.origin;
  origin.request_id = IdOf(request);
  std::optional<TraceContext> caller;
  if (const std::string* header = request.Header("traceparent")) caller = ParseTraceparent(*header);
  origin.span = tracer_.Enter(caller, !options_.is_minor(request.path));
  if (origin.span.sink == nullptr || !caller) return;
  origin.caller = caller->span_id;
  if (const std::string* state = request.Header("tracestate")) origin.span.trace_state = *state;
}

void RequestJournal::End(const HttpRequest& request, std::string_view route,
                         HttpResponse* response) const {
  response->headers.emplace_back("X-Request-Id", request.origin.request_id);
  Entry entry;
  entry.line = options_.lines && !options_.is_minor(request.path);
  if (request.origin.span.sink == nullptr && !entry.line) return;
  constexpr size_t kMaxAgentBytes = 100;
  const std::string* agent = request.Header("User-Agent");
  if (agent != nullptr) entry.agent = agent->substr(0, kMaxAgentBytes);
  entry.origin = request.origin;
  entry.route = route;
  entry.client = request.client;
  entry.method = request.method;
  entry.path = request.path;
  entry.status = response->status;
  entry.begin = request.received;
  if (response->stream == nullptr) return entry.Tell();
  response->stream = std::make_unique<ToldStream>(std::move(response->stream), std::move(entry));
}

}  // namespace idefics
