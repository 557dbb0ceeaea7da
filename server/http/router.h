// SPDX-License-Identifier: Apache-2.0
// Which route answers a path and a method. Built before the server starts, read-only afterwards.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "server/http/message.h"
#include "server/http/request_journal.h"

namespace idefics {

class Router {
 public:
  // Who runs a route. kBody: it needs its body, and one that is short is read before a thread is
  // taken. kQuick: also that, and it never stands behind routes that are not quick.
  enum class Lane { kPlain, kBody, kQuick };

  // `pattern`: literal segments and {names}, e.g. "/predictions/{id}/cancel"; a {name} stands for
  // exactly one non-empty segment. GET routes also answer HEAD.
  void Add(std::string method, const std::string& pattern, HttpHandler handler,
           Lane lane = Lane::kPlain);

  // Says the router's own refusals (404, 405, 500) in the words of the API that has the path.
  // nullopt: it has not.
  using ErrorWriter = std::function<std::optional<HttpResponse>(const HttpRequest&, int status)>;
  void AddErrors(ErrorWriter writer) { error_writers_.push_back(std::move(writer)); }

  // Asked before each route; what it returns is the answer. It may set the request's client.
  using Guard = std::function<std::optional<HttpResponse>(HttpRequest&)>;
  void SetGuard(Guard guard) { guard_ = std::move(guard); }

  // Sees every answer before it is sent.
  using Finish = std::function<void(const HttpRequest&, HttpResponse*)>;
  void SetFinish(Finish finish) { finish_ = std::move(finish); }

  // Told of every request, and of every answer before the observer. nullptr: nobody is.
  void SetJournal(const RequestJournal* journal) { journal_ = journal; }

  // Told of every answer: "" is no route's.
  using Observer = std::function<void(std::string_view method, std::string_view route, int status)>;
  void SetObserver(Observer observer) { observer_ = std::move(observer); }

  // kPlain where there is no such route; GET and HEAD are quick in each.
  Lane LaneOf(std::string_view method, std::string_view path) const;

  // 404 for an unknown path, 405 with Allow for a known one, with empty bodies where no API has
  // words of its own; 400 for an escape in the path that is not UTF-8. An exception in a route
  // becomes a 500 and a log line.
  HttpResponse Route(HttpRequest& request) const;

  // For a route that gives its request to another one: as Route, without guard and finish, which
  // have their turn already.
  HttpResponse Again(HttpRequest& request) const {
    std::string_view route;
    return Find(request, &route);
  }

 private:
  struct Entry {
    std::string method;
    std::string pattern;
    std::vector<std::string> segments;
    HttpHandler handler;
    Lane lane = Lane::kPlain;
  };

  HttpResponse Answer(HttpRequest& request, std::string_view* route) const;
  HttpResponse Find(HttpRequest& request, std::string_view* route) const;
  HttpResponse Error(const HttpRequest& request, int status) const;

  std::vector<Entry> entries_;
  std::vector<ErrorWriter> error_writers_;
  Guard guard_;
  Finish finish_;
  const RequestJournal* journal_ = nullptr;
  Observer observer_;
};

}  // namespace idefics
