// SPDX-License-Identifier: Apache-2.0
#include "server/http/request_journal.h"

#include <algorithm>
#include <array>
#include <memory>
#include <optional>
#include <span>
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

// What is told of a request when its answer has ended. Views of the request; a stream outlives it.
struct Entry {
  bool line = false;
  const RequestOrigin& origin;
  std::string_view route;
  std::string_view client;
  std::string_view method;
  std::string_view path;
  std::string_view agent;
  int status = 0;
  Clock::time_point begin{};

  void Tell() const {
    const auto end = Clock::now();
    if (origin.span.sink != nullptr) AddSpan(end);
    if (!line) return;
    const std::array<LogField, 5> fields = {
        {{"method", std::string(method)},
         {"path", std::string(path)},
         {"status", int64_t{status}},
         {"duration", std::chrono::duration<double>(end - begin).count()},
         {"client", std::string(client)}}};
    const LogScope scope([this](LogMembers& members) { AddLogMembers(origin, members); });
    LogWithFields(LogLevel::kInfo, "Answered", fields);
  }

 private:
  void AddSpan(Clock::time_point end) const {
    std::array<SpanAttribute, 6> attributes = {
        {{"http.request.method", method},
         {"http.response.status_code", int64_t{status}},
         {"url.scheme", std::string_view("http")},
         {"idefics.request_id", std::string_view(origin.request_id)}}};
    size_t count = 4;
    if (!route.empty()) attributes[count++] = {"http.route", route};
    if (!agent.empty()) attributes[count++] = {"user_agent.original", agent};
    thread_local std::string name;  // keeps its memory
    name = "HTTP";
    if (!route.empty()) (name = method).append(" ").append(route);
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
    span.attributes = std::span(attributes).first(count);
    span.error = error;
    origin.span.sink->Add(span);
  }
};

// A stream that tells of its end: the last piece, or that its client has left.
class ToldStream final : public BodySource {
 public:
  ToldStream(std::unique_ptr<BodySource> stream, const Entry& entry)
      : stream_(std::move(stream)),
        origin_(entry.origin),
        client_(entry.client),
        method_(entry.method),
        path_(entry.path),
        agent_(entry.agent),
        entry_{entry.line, origin_, entry.route,  client_,    method_,
               path_,      agent_,  entry.status, entry.begin} {}
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
  const RequestOrigin origin_;
  const std::string client_;
  const std::string method_;
  const std::string path_;
  const std::string agent_;
  const Entry entry_;
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
  const bool line = options_.lines && !options_.is_minor(request.path);
  if (request.origin.span.sink == nullptr && !line) return;
  constexpr size_t kMaxAgentBytes = 100;
  const std::string* agent = request.Header("User-Agent");
  std::string_view shown_agent;
  if (agent != nullptr) shown_agent = std::string_view(*agent).substr(0, kMaxAgentBytes);
  const Entry entry{line,           request.origin,   route,
                    request.client, request.method,   request.path,
                    shown_agent,    response->status, request.received};
  if (response->stream == nullptr) return entry.Tell();
  response->stream = std::make_unique<ToldStream>(std::move(response->stream), entry);
}

}  // namespace idefics
