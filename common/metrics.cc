// SPDX-License-Identifier: Apache-2.0
#include "common/metrics.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>

#include "common/random_id.h"

namespace idefics {
namespace {

// The shortest that reads back as the same number. `point`: with one, as OpenMetrics wants it of
// bounds.
void AppendNumber(double value, bool point, std::string* out) {
  if (std::isnan(value)) {
    *out += "NaN";
  } else if (std::isinf(value)) {
    *out += value > 0 ? "+Inf" : "-Inf";
  } else {
    std::array<char, 32> text;
    const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
    const std::string_view digits(text.data(), static_cast<size_t>(end - text.data()));
    *out += digits;
    if (point && digits.find_first_of(".e") == std::string_view::npos) *out += ".0";
  }
}

std::string Bound(double value) {
  std::string text;
  AppendNumber(value, /*point=*/true, &text);
  return text;
}

void AppendEscaped(std::string_view text, bool quotes, std::string* out) {
  for (const char c : text) {
    if (c == '\\') {
      *out += "\\\\";
    } else if (c == '\n') {
      *out += "\\n";
    } else if (c == '"' && quotes) {
      *out += "\\\"";
    } else {
      *out += c;
    }
  }
}

void AppendLabels(const MetricsPage::Labels& labels, std::string* out) {
  for (const auto& [label, text] : labels) {
    if (!out->empty() && out->back() != '{') *out += ',';
    *out += label;
    *out += "=\"";
    AppendEscaped(text, /*quotes=*/true, out);
    *out += '"';
  }
}

}  // namespace

// What histograms of the same bounds hold, added up.
struct MetricsPage::Values {
  std::span<const double> bounds;
  std::vector<uint64_t> counts = std::vector<uint64_t>(bounds.size() + 1);
  double sum = 0;
  std::vector<std::optional<Histogram::Exemplar>> exemplars =
      std::vector<std::optional<Histogram::Exemplar>>(bounds.size() + 1);

  void Add(const Values& more) {
    for (size_t i = 0; i < counts.size(); ++i) {
      counts[i] += more.counts[i];
      if (more.exemplars[i]) exemplars[i] = more.exemplars[i];
    }
    sum += more.sum;
  }
};

void Histogram::Observe(double value, const TraceId* trace_id) {
  const auto bound = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  const auto bucket = static_cast<size_t>(bound - bounds_.begin());
  counts_[bucket].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
  if (trace_id == nullptr) return;
  constexpr auto kLeastAge = std::chrono::seconds(1);  // nobody looks more often
  const auto now = std::chrono::system_clock::now();
  const MutexLock lock(mutex_);
  exemplars_.resize(bounds_.size() + 1);
  std::optional<Exemplar>& last = exemplars_[bucket];
  if (!last || now - last->at >= kLeastAge) last = {*trace_id, value, now};
}

std::vector<std::optional<Histogram::Exemplar>> Histogram::exemplars() const {
  const MutexLock lock(mutex_);
  return exemplars_;
}

MetricsPage::MetricsPage(Format format, const Labels& common, bool aliases)
    : format_(format), aliases_(aliases) {
  constexpr size_t kUsualBytes = 96 << 10;
  out_.reserve(kUsualBytes);
  AppendLabels(common, &common_);
}

void MetricsPage::AppendHead(std::string_view name, std::string_view type, std::string_view help) {
  // The text format calls a counter by its samples' name.
  const bool total = type == "counter" && format_ == Format::kText;
  for (const auto& [keyword, value] : {std::pair{"HELP", help}, std::pair{"TYPE", type}}) {
    out_ += "# ";
    out_ += keyword;
    out_ += ' ';
    out_ += name;
    out_ += total ? "_total " : " ";
    AppendEscaped(value, /*quotes=*/format_ == Format::kOpenMetrics, &out_);
    out_ += '\n';
  }
}

void MetricsPage::AppendSample(std::string_view name, std::string_view suffix, const Labels& labels,
                               double value, const Histogram::Exemplar* exemplar) {
  out_ += name;
  out_ += suffix;
  if (!common_.empty() || !labels.empty()) {
    out_ += '{';
    out_ += common_;
    AppendLabels(labels, &out_);
    out_ += '}';
  }
  out_ += ' ';
  AppendNumber(value, /*point=*/false, &out_);
  if (exemplar != nullptr) {
    out_ += " # {trace_id=\"";
    out_ += ToHex(exemplar->trace_id);
    out_ += "\"} ";
    AppendNumber(exemplar->value, /*point=*/false, &out_);
    out_ += ' ';
    const std::chrono::duration<double> at = exemplar->at.time_since_epoch();
    AppendNumber(at.count(), /*point=*/false, &out_);
  }
  out_ += '\n';
}

void MetricsPage::AddFamily(std::string_view name, Type type, std::string_view help) {
  AppendHead(name, type == Type::kCounter ? "counter" : "gauge", help);
}

void MetricsPage::AddSample(std::string_view name, Type type, const Labels& labels, double value) {
  AppendSample(name, type == Type::kCounter ? "_total" : "", labels, value);
}

void MetricsPage::AddOne(const Name& name, Type type, std::string_view help, double value) {
  for (const std::string_view each : {name.name, aliases_ ? name.alias : ""}) {
    if (each.empty()) continue;
    AddFamily(each, type, help);
    AddSample(each, type, {}, value);
  }
}

// Only OpenMetrics knows exemplars.
void MetricsPage::AddHistograms(const Name& name, std::string_view help,
                                std::span<const Series> series) {
  const bool with_exemplars = format_ == Format::kOpenMetrics;
  Values all{series.front().histogram.bounds()};
  if (!name.name.empty()) AppendHead(name.name, "histogram", help);
  for (const auto& [labels, histogram] : series) {
    Values own{histogram.bounds()};
    for (size_t i = 0; i < own.counts.size(); ++i) own.counts[i] = histogram.count(i);
    own.sum = histogram.sum();
    if (with_exemplars) own.exemplars = histogram.exemplars();
    own.exemplars.resize(own.counts.size());
    if (!name.name.empty()) AppendHistogram(name.name, labels, own);
    all.Add(own);
  }
  if (name.alias.empty() || !aliases_) return;
  AppendHead(name.alias, "histogram", help);
  AppendHistogram(name.alias, {}, all);
}

// _count is the sum of the buckets that stand there, so that it never disagrees with them.
void MetricsPage::AppendHistogram(std::string_view name, const Labels& labels,
                                  const Values& values) {
  Labels of_bucket = labels;
  std::string& bound = of_bucket.emplace_back("le", "").second;
  uint64_t count = 0;
  for (size_t i = 0; i < values.counts.size(); ++i) {
    count += values.counts[i];
    bound = i == values.bounds.size() ? "+Inf" : Bound(values.bounds[i]);
    AppendSample(name, "_bucket", of_bucket, static_cast<double>(count),
                 values.exemplars[i] ? &*values.exemplars[i] : nullptr);
  }
  AppendSample(name, "_sum", labels, values.sum);
  AppendSample(name, "_count", labels, static_cast<double>(count));
}

std::string MetricsPage::Finish() {
  if (format_ == Format::kOpenMetrics) out_ += "# EOF\n";
  return std::move(out_);
}

}  // namespace idefics
