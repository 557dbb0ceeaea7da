// SPDX-License-Identifier: Apache-2.0
// What OpenTelemetry's environment variables ask for (docs/operations.md#traces).
#pragma once

#include <chrono>
#include <cstddef>
#include <functional>
#include <string>
#include <utility>
#include <vector>

namespace idefics {

struct TraceOptions {
  // Which traces that begin here are recorded; `by_parent`: others as their caller says.
  struct Sampler {
    bool by_parent = true;
    double ratio = 1;
  };

  std::string url;                   // where spans are posted; "": there are none
  std::vector<std::string> headers;  // of the posts, "NAME: VALUE"
  std::string certificate;           // file of whom TLS trusts; "": whom the system does
  std::chrono::milliseconds post_time{10'000};
  std::vector<std::pair<std::string, std::string>> resource;  // who sends them
  Sampler sampler;
  std::chrono::milliseconds delay{5'000};  // that a span may wait for others
  size_t max_queue = 2048;                 // spans that wait; more are dropped
  size_t max_batch = 512;                  // of one post
  std::vector<std::string> warnings;       // values that were not understood
};

// `get`: std::getenv's work.
TraceOptions TraceOptionsFrom(const std::function<const char*(const char*)>& get);

}  // namespace idefics
