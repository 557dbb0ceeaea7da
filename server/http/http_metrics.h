// SPDX-License-Identifier: Apache-2.0
// Answers by method, route and status, and event streams, for the metrics page. A route is its
// pattern, never a path: clients cannot make series. Thread safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <string_view>
#include <tuple>

#include "common/metrics.h"
#include "common/mutex.h"
#include "server/http/message.h"

namespace idefics {

class HttpMetrics {
 public:
  // `route`: the pattern, which must outlive this, or "" where there is none.
  void Count(std::string_view method, std::string_view route, int status) IDEFICS_EXCLUDES(mutex_);

  // An answer that streams is counted until its stream ends, which must be before this does.
  void Watch(HttpResponse* response);

  void AddTo(MetricsPage& page) const IDEFICS_EXCLUDES(mutex_);

 private:
  std::atomic<int> num_streams_{0};
  mutable Mutex mutex_;
  std::map<std::tuple<std::string_view, std::string_view, int>, uint64_t> counts_
      IDEFICS_GUARDED_BY(mutex_);
};

}  // namespace idefics
