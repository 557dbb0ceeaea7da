// SPDX-License-Identifier: Apache-2.0
// Numbers that a server counts about itself, and the page that shows them: Prometheus' text format
// 0.0.4 and OpenMetrics 1.0. Counting takes an atomic or two and no lock, but for an exemplar; any
// thread. A page is built by one thread, from what each counter holds at that moment.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "common/mutex.h"

namespace idefics {

class Counter {
 public:
  void Add(uint64_t count = 1) { value_.fetch_add(count, std::memory_order_relaxed); }
  uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

// Values by buckets with fixed upper bounds.
class Histogram {
 public:
  // `bounds`: ascending; must outlive this (a constant). The bucket above all of them is added.
  explicit Histogram(std::span<const double> bounds)
      : bounds_(bounds), counts_(std::make_unique<std::atomic<uint64_t>[]>(bounds.size() + 1)) {}

  using TraceId = std::array<unsigned char, 16>;

  // One of the values of a bucket, and the trace that it belongs to.
  struct Exemplar {
    TraceId trace_id{};
    double value = 0;
    std::chrono::system_clock::time_point at{};
  };

  // `trace_id`: of the trace that shows how it came about; nullptr: there is none.
  void Observe(double value, const TraceId* trace_id = nullptr) IDEFICS_EXCLUDES(mutex_);

  std::span<const double> bounds() const { return bounds_; }
  // Of bucket `i` alone; bounds().size(): above all.
  uint64_t count(size_t i) const { return counts_[i].load(std::memory_order_relaxed); }
  double sum() const { return sum_.load(std::memory_order_relaxed); }
  // One of the last second of each bucket in which there was one; empty where there never was.
  std::vector<std::optional<Exemplar>> exemplars() const IDEFICS_EXCLUDES(mutex_);

 private:
  const std::span<const double> bounds_;
  const std::unique_ptr<std::atomic<uint64_t>[]> counts_;
  std::atomic<double> sum_{0};
  mutable Mutex mutex_;
  std::vector<std::optional<Exemplar>> exemplars_ IDEFICS_GUARDED_BY(mutex_);
};

// Of one family, whose label has as many values.
template <size_t kCount>
std::array<Histogram, kCount> Histograms(std::span<const double> bounds) {
  return [&]<size_t... kIndex>(std::index_sequence<kIndex...>)->std::array<Histogram, kCount> {
    return {((void)kIndex, Histogram(bounds))...};
  }
  (std::make_index_sequence<kCount>());
}

class MetricsPage {
 public:
  enum class Format { kText, kOpenMetrics };
  enum class Type { kCounter, kGauge };
  using Labels = std::vector<std::pair<std::string_view, std::string>>;

  // What a family is called here, and where others look for the same numbers; "" is nowhere.
  struct Name {
    std::string_view name;  // of a counter without "_total"
    std::string_view alias = "";
  };

  // One of the histograms of a family; all have the same bounds.
  struct Series {
    Labels labels;
    const Histogram& histogram;
  };

  // Every sample carries `common`. `aliases`: whether families stand under their aliases, too.
  MetricsPage(Format format, const Labels& common, bool aliases = true);

  void AddCounter(const Name& name, std::string_view help, uint64_t value) {
    AddOne(name, Type::kCounter, help, static_cast<double>(value));
  }
  void AddGauge(const Name& name, std::string_view help, double value) {
    AddOne(name, Type::kGauge, help, value);
  }
  void AddHistogram(const Name& name, std::string_view help, const Histogram& histogram) {
    const Series series{{}, histogram};
    AddHistograms(name, help, {&series, 1});
  }
  // Under the alias stands their sum.
  void AddHistograms(const Name& name, std::string_view help, std::span<const Series> series);

  // A family of several samples: AddFamily, then its samples. Where it is one for others alone,
  // only if has_aliases().
  bool has_aliases() const { return aliases_; }
  void AddFamily(std::string_view name, Type type, std::string_view help);
  void AddSample(std::string_view name, Type type, const Labels& labels, double value);

  std::string Finish();

 private:
  struct Values;

  void AddOne(const Name& name, Type type, std::string_view help, double value);
  void AppendHead(std::string_view name, std::string_view type, std::string_view help);
  void AppendSample(std::string_view name, std::string_view suffix, const Labels& labels,
                    double value, const Histogram::Exemplar* exemplar = nullptr);
  void AppendHistogram(std::string_view name, const Labels& labels, const Values& values);

  const Format format_;
  const bool aliases_;
  std::string common_;  // a="b",c="d"
  std::string out_;
};

}  // namespace idefics
