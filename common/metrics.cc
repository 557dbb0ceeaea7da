// SPDX-License-Identifier: Apache-2.0
#include "common/metrics.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace idefics {
namespace {

// The shortest that reads back as the same number.
std::string Number(double value) {
  if (std::isnan(value)) return "NaN";
  if (std::isinf(value)) return value > 0 ? "+Inf" : "-Inf";
  std::array<char, 32> text;
  const auto end = std::to_chars(text.data(), text.data() + text.size(), value).ptr;
  return {text.data(), end};
}

// Of a bucket: OpenMetrics wants a number with a point.
std::string Bound(double value) {
  std::string text = Number(value);
  if (text.find_first_of(".eIN") == std::string::npos) text += ".0";
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

}  // namespace

void Histogram::Observe(double value) {
  const auto bucket = std::lower_bound(bounds_.begin(), bounds_.end(), value);
  counts_[static_cast<size_t>(bucket - bounds_.begin())].fetch_add(1, std::memory_order_relaxed);
  sum_.fetch_add(value, std::memory_order_relaxed);
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
                               double value) {
  out_ += name;
  out_ += suffix;
  char separator = '{';
  for (const Labels* some : {&common_, &labels}) {
    for (const auto& [label, text] : *some) {
      out_ += separator;
      separator = ',';
      out_ += label;
      out_ += "=\"";
      AppendEscaped(text, /*quotes=*/true, &out_);
      out_ += '"';
    }
  }
  if (separator == ',') out_ += '}';
  out_ += ' ';
  out_ += Number(value);
  out_ += '\n';
}

void MetricsPage::AddFamily(std::string_view name, Type type, std::string_view help) {
  AppendHead(name, type == Type::kCounter ? "counter" : "gauge", help);
}

void MetricsPage::AddSample(std::string_view name, Type type, const Labels& labels, double value) {
  AppendSample(name, type == Type::kCounter ? "_total" : "", labels, value);
}

void MetricsPage::AddOne(const Name& name, Type type, std::string_view help, double value) {
  for (const std::string_view each : {name.name, name.alias}) {
    if (each.empty()) continue;
    AddFamily(each, type, help);
    AddSample(each, type, {}, value);
  }
}

void MetricsPage::AddHistogram(const Name& name, std::string_view help,
                               const Histogram& histogram) {
  for (const std::string_view each : {name.name, name.alias}) {
    if (!each.empty()) AppendHistogram(each, help, histogram);
  }
}

// _count is the sum of the buckets that stand there, so that it never disagrees with them.
void MetricsPage::AppendHistogram(std::string_view name, std::string_view help,
                                  const Histogram& histogram) {
  AppendHead(name, "histogram", help);
  uint64_t count = 0;
  for (size_t i = 0; i <= histogram.bounds().size(); ++i) {
    count += histogram.count(i);
    const bool above = i == histogram.bounds().size();
    AppendSample(name, "_bucket", {{"le", above ? "+Inf" : Bound(histogram.bounds()[i])}},
                 static_cast<double>(count));
  }
  AppendSample(name, "_sum", {}, histogram.sum());
  AppendSample(name, "_count", {}, static_cast<double>(count));
}

std::string MetricsPage::Finish() {
  if (format_ == Format::kOpenMetrics) out_ += "# EOF\n";
  return std::move(out_);
}

}  // namespace idefics
