// SPDX-License-Identifier: Apache-2.0
// Which route answers a path and a method. Built before the server starts, read-only afterwards.
#pragma once

#include <string>
#include <vector>

#include "server/http/message.h"

namespace idefics {

class Router {
 public:
  // `pattern`: literal segments and {names}, e.g. "/predictions/{id}/cancel"; a {name} stands for
  // exactly one non-empty segment. GET routes also answer HEAD.
  void Add(std::string method, const std::string& pattern, HttpHandler handler);

  // 404 with an empty body for an unknown path, 405 with Allow for a known one; 400 for an escape
  // in the path that is not UTF-8. An exception in a route becomes a 500 and a log line.
  HttpResponse Route(HttpRequest& request) const;

 private:
  struct Entry {
    std::string method;
    std::vector<std::string> segments;
    HttpHandler handler;
  };
  std::vector<Entry> entries_;
};

}  // namespace idefics
