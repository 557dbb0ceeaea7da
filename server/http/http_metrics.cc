// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_metrics.h"

#include <algorithm>
#include <array>
#include <string>

namespace idefics {

void HttpMetrics::Count(std::string_view method, std::string_view route, int status) {
  constexpr std::array<std::string_view, 7> kKnown = {"GET",    "HEAD",  "POST",   "PUT",
                                                      "DELETE", "PATCH", "OPTIONS"};
  const auto known = std::find(kKnown.begin(), kKnown.end(), method);
  const MutexLock lock(mutex_);
  ++counts_[{known == kKnown.end() ? "OTHER" : *known, route.empty() ? "other" : route, status}];
}

void HttpMetrics::AddTo(MetricsPage& page) const {
  using Type = MetricsPage::Type;
  constexpr const char* kName = "idefics_http_requests";
  page.AddFamily(kName, Type::kCounter, "Answers of routes.");
  const MutexLock lock(mutex_);
  for (const auto& [key, count] : counts_) {
    const auto& [method, route, status] = key;
    page.AddSample(kName, Type::kCounter,
                   {{"method", std::string(method)},
                    {"route", std::string(route)},
                    {"code", std::to_string(status)}},
                   static_cast<double>(count));
  }
}

}  // namespace idefics
