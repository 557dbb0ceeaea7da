// SPDX-License-Identifier: Apache-2.0
#include "server/http/router.h"

#include <exception>

#include "common/ascii.h"
#include "common/log.h"
#include "common/utf8.h"
#include "server/http/request_head.h"

namespace idefics {
namespace {

// "/predictions/x" -> {"predictions", "x"}; "/" -> {""}.
std::vector<std::string> Split(std::string_view path) {
  std::vector<std::string> segments;
  path.remove_prefix(path.empty() ? 0 : 1);
  for (;;) {
    const size_t slash = path.find('/');
    segments.emplace_back(path.substr(0, slash));
    if (slash == std::string_view::npos) return segments;
    path.remove_prefix(slash + 1);
  }
}

bool IsParameter(const std::string& segment) { return !segment.empty() && segment.front() == '{'; }

bool Matches(const std::vector<std::string>& pattern, const std::vector<std::string>& segments) {
  if (pattern.size() != segments.size()) return false;
  for (size_t i = 0; i < pattern.size(); ++i) {
    if (IsParameter(pattern[i]) ? segments[i].empty() : pattern[i] != segments[i]) return false;
  }
  return true;
}

}  // namespace

void Router::Add(std::string method, const std::string& pattern, HttpHandler handler, Lane lane) {
  entries_.push_back({std::move(method), pattern, Split(pattern), std::move(handler), lane});
}

Router::Lane Router::LaneOf(std::string_view method, std::string_view path) const {
  if (method == "GET" || method == "HEAD") return Lane::kQuick;
  const std::vector<std::string> segments = Split(path);
  for (const Entry& entry : entries_) {
    if (entry.method == method && Matches(entry.segments, segments)) return entry.lane;
  }
  return Lane::kPlain;
}

HttpResponse Router::Error(const HttpRequest& request, int status) const {
  for (const ErrorWriter& writer : error_writers_) {
    if (auto response = writer(request, status)) return std::move(*response);
  }
  if (status != 500) return HttpResponse::Empty(status);
  return HttpResponse::Json(500, R"({"detail":"Internal Server Error"})");
}

HttpResponse Router::Route(HttpRequest& request) const {
  if (journal_ != nullptr) journal_->Begin(request);
  const LogScope scope([&](LogMembers& members) { AddLogMembers(request.origin, members); });
  std::string_view route;
  HttpResponse response = Answer(request, &route);
  if (journal_ != nullptr) journal_->End(request, route, &response);
  if (observer_) observer_(request.method, route, response.status);
  if (finish_) finish_(request, &response);
  return response;
}

HttpResponse Router::Answer(HttpRequest& request, std::string_view* route) const {
  if (guard_) {
    if (auto refused = guard_(request)) return std::move(*refused);
  }
  return Find(request, route);
}

// `*route`: the pattern of the path, also where it has no such method.
HttpResponse Router::Find(HttpRequest& request, std::string_view* route) const {
  const std::vector<std::string> segments = Split(request.path);
  const std::string method = request.method == "HEAD" ? "GET" : request.method;
  std::string allow;
  for (const Entry& entry : entries_) {
    if (!Matches(entry.segments, segments)) continue;
    *route = entry.pattern;
    if (entry.method != method) {
      if (!allow.empty()) allow += ',';
      allow += entry.method == "GET" ? "GET,HEAD" : entry.method;
      continue;
    }
    for (size_t i = 0; i < segments.size(); ++i) {
      if (!IsParameter(entry.segments[i])) continue;
      std::string value = PercentDecode(segments[i]);
      if (!IsValidUtf8(value)) {
        const std::string name = entry.segments[i].substr(1, entry.segments[i].size() - 2);
        return HttpResponse::Text(400, "Invalid URL: Invalid UTF-8 in `" + name + "`");
      }
      request.path_parameters.push_back(std::move(value));
    }
    try {
      return entry.handler(request);
    } catch (const std::exception& e) {
      LogError(std::string("A request ended in an exception: ") + e.what());
      return Error(request, 500);
    }
  }
  if (allow.empty()) return Error(request, 404);
  HttpResponse response = Error(request, 405);
  response.headers.emplace_back("Allow", allow);
  return response;
}

}  // namespace idefics
