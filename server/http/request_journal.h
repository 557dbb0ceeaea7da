// SPDX-License-Identifier: Apache-2.0
// Gives each request its id and its place in a trace, and tells of its end: a header, a span and,
// where wanted, a log line. Thread safe.
#pragma once

#include <functional>
#include <string_view>
#include <utility>

#include "server/http/message.h"
#include "server/trace/tracer.h"

namespace idefics {

struct JournalOptions {
  bool lines = false;  // one for each answer
  // Requests of which there are too many to be told of, as probes; unless a trace holds them.
  std::function<bool(std::string_view path)> is_minor = [](std::string_view) { return false; };
};

class RequestJournal {
 public:
  // `tracer` must outlive this and all answers.
  RequestJournal(Tracer& tracer, JournalOptions options)
      : tracer_(tracer), options_(std::move(options)) {}

  // Sets the request's origin.
  void Begin(HttpRequest& request) const;

  // Its answer is known, but not yet sent; one that streams ends with its stream. `route`: the
  // pattern, "" where there is none.
  void End(const HttpRequest& request, std::string_view route, HttpResponse* response) const;

 private:
  Tracer& tracer_;
  const JournalOptions options_;
};

}  // namespace idefics
