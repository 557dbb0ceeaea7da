// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/fetch_metrics.h"

#include <vector>

namespace idefics {
namespace {

constexpr std::array kSeconds = {.01, .025, .05, .1, .25, .5, 1., 2.5, 5., 10., 30., 60.};
constexpr std::array kOutcomeNames = {"ok",     "http_error", "timeout", "too_large",
                                      "denied", "network",    "canceled"};

}  // namespace

FetchMetrics::FetchMetrics() : seconds_(Histograms<kNumOutcomes>(kSeconds)) {}

void FetchMetrics::AddTo(MetricsPage& page) const {
  std::vector<MetricsPage::Series> series;
  for (size_t i = 0; i < kNumOutcomes; ++i) {
    series.push_back({{{"outcome", kOutcomeNames[i]}}, seconds_[i]});
  }
  page.AddHistograms({"idefics_image_fetch_seconds"},
                     "Downloads of images, redirects included, by how they ended.", series);
  page.AddCounter({"idefics_image_fetch_bytes"}, "Bytes of images that were downloaded.",
                  bytes_.value());
}

}  // namespace idefics
