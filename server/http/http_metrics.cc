// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_metrics.h"

#include <algorithm>
#include <array>

namespace idefics {

void HttpMetrics::Count(std::string_view method, std::string_view route, int status) {
  constexpr std::array<std::string_view, 7> kKnown = {"GET",    "HEAD",  "POST",   "PUT",
                                                      "DELETE", "PATCH", "OPTIONS"};
  const bool is_known = std::find(kKnown.begin(), kKnown.end(), method) != kKnown.end();
  const MutexLock lock(mutex_);
  ++counts_[{std::string(is_known ? method : "OTHER"), std::string(route.empty() ? "other" : route),
             status}];
}

void HttpMetrics::AddTo(MetricsPage& page) const {
  using Type = MetricsPage::Type;
  constexpr const char* kName = "idefics_http_requests";
  page.AddFamily(kName, Type::kCounter, "Answers of routes.");
  const MutexLock lock(mutex_);
  for (const auto& [key, count] : counts_) {
    const auto& [method, route, status] = key;
    page.AddSample(kName, Type::kCounter,
                   {{"method", method}, {"route", route}, {"code", std::to_string(status)}},
                   static_cast<double>(count));
  }
}

}  // namespace idefics
