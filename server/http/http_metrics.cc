// SPDX-License-Identifier: Apache-2.0
#include "server/http/http_metrics.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string>
#include <utility>

namespace idefics {
namespace {

class CountedStream final : public BodySource {
 public:
  CountedStream(std::unique_ptr<BodySource> stream, std::atomic<int>& count)
      : stream_(std::move(stream)), count_(count) {
    ++count_;
  }
  ~CountedStream() override { --count_; }
  Piece Next() override { return stream_->Next(); }
  void WhenMore(std::function<void()> stir) override { stream_->WhenMore(std::move(stir)); }
  std::chrono::milliseconds patience() const override { return stream_->patience(); }

 private:
  const std::unique_ptr<BodySource> stream_;
  std::atomic<int>& count_;
};

}  // namespace

void HttpMetrics::Watch(HttpResponse* response) {
  if (response->stream == nullptr) return;
  response->stream = std::make_unique<CountedStream>(std::move(response->stream), num_streams_);
}

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
  page.AddGauge({"idefics_event_streams"}, "Answers that stream now.", num_streams_);
  page.AddFamily(kName, Type::kCounter, "Answers, by route.");
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
