// SPDX-License-Identifier: Apache-2.0
#include "server/trace/trace_options.h"

#include <algorithm>
#include <charconv>
#include <string_view>
#include <utility>

#include "common/ascii.h"
#include "common/version.h"

namespace idefics {
namespace {

using std::chrono::milliseconds;
using Pairs = std::vector<std::pair<std::string, std::string>>;

std::string_view Trimmed(std::string_view text) {
  const size_t begin = text.find_first_not_of(" \t");
  if (begin == std::string_view::npos) return {};
  return text.substr(begin, text.find_last_not_of(" \t") - begin + 1);
}

// Values are percent-encoded, as W3C Baggage has them.
std::string Decoded(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    unsigned char byte = 0;
    const char* digits = text.data() + i + 1;
    const bool escape = text[i] == '%' && i + 2 < text.size() &&
                        std::from_chars(digits, digits + 2, byte, 16).ptr == digits + 2;
    out += escape ? static_cast<char>(byte) : text[i];
    if (escape) i += 2;
  }
  return out;
}

class Reader {
 public:
  Reader(const std::function<const char*(const char*)>& get, std::vector<std::string>* warnings)
      : get_(get), warnings_(*warnings) {}

  std::string Text(const char* name) const {
    const char* value = get_(name);
    return value == nullptr ? "" : std::string(Trimmed(value));
  }

  // The more special name counts.
  std::string Exporter(const std::string& name) const {
    std::string special = Text(("OTEL_EXPORTER_OTLP_TRACES_" + name).c_str());
    return special.empty() ? Text(("OTEL_EXPORTER_OTLP_" + name).c_str()) : special;
  }

  // `value` stays where the variable is not set, or no number from `least` on.
  template <typename T>
  void Number(const char* name, const std::string& text, T least, T* value) const {
    if (text.empty()) return;
    T read{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), read);
    if (error == std::errc() && end == text.data() + text.size() && read >= least) {
      *value = read;
    } else {
      Warn(name, text);
    }
  }

  // "a=b,c=d".
  Pairs List(const char* name, const std::string& text) const {
    Pairs pairs;
    for (std::string_view rest = text; !rest.empty();) {
      const size_t comma = std::min(rest.find(','), rest.size());
      const std::string_view item = Trimmed(rest.substr(0, comma));
      rest.remove_prefix(std::min(comma + 1, rest.size()));
      const size_t equals = item.find('=');
      if (item.empty()) continue;
      if (equals == std::string_view::npos || equals == 0) {
        Warn(name, std::string(item));
        continue;
      }
      pairs.emplace_back(Trimmed(item.substr(0, equals)),
                         Decoded(Trimmed(item.substr(equals + 1))));
    }
    return pairs;
  }

  void Warn(const std::string& name, const std::string& value) const {
    warnings_.push_back(name + " is not understood and ignored: " + value);
  }

 private:
  const std::function<const char*(const char*)>& get_;
  std::vector<std::string>& warnings_;
};

std::string UrlOf(const Reader& read) {
  if (ToLower(read.Text("OTEL_SDK_DISABLED")) == "true") return "";
  if (read.Text("OTEL_TRACES_EXPORTER") == "none") return "";
  std::string exact = read.Text("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
  if (!exact.empty()) return exact;
  std::string base = read.Text("OTEL_EXPORTER_OTLP_ENDPOINT");
  if (base.empty()) return "";
  if (base.back() != '/') base += '/';
  return base + "v1/traces";
}

TraceOptions::Sampler SamplerOf(const Reader& read) {
  constexpr std::string_view kByParent = "parentbased_";
  const std::string name = read.Text("OTEL_TRACES_SAMPLER");
  TraceOptions::Sampler sampler;
  std::string_view root = name;
  if (name.empty()) return sampler;
  sampler.by_parent = root.starts_with(kByParent);
  if (sampler.by_parent) root.remove_prefix(kByParent.size());
  if (root == "always_off") {
    sampler.ratio = 0;
  } else if (root == "traceidratio") {
    read.Number("OTEL_TRACES_SAMPLER_ARG", read.Text("OTEL_TRACES_SAMPLER_ARG"), 0.0,
                &sampler.ratio);
  } else if (root != "always_on") {
    read.Warn("OTEL_TRACES_SAMPLER", name);
    return {};
  }
  return sampler;
}

Pairs ResourceOf(const Reader& read) {
  constexpr const char* kList = "OTEL_RESOURCE_ATTRIBUTES";
  std::string service = read.Text("OTEL_SERVICE_NAME");
  Pairs resource;
  for (auto& [name, value] : read.List(kList, read.Text(kList))) {
    if (name != "service.name") {
      resource.emplace_back(std::move(name), std::move(value));
    } else if (service.empty()) {
      service = std::move(value);
    }
  }
  resource.emplace_back("service.name", service.empty() ? "cog-idefics" : service);
  resource.emplace_back("service.version", kServerVersion);
  resource.emplace_back("telemetry.sdk.language", "cpp");
  resource.emplace_back("telemetry.sdk.name", "cog-idefics");
  return resource;
}

}  // namespace

TraceOptions TraceOptionsFrom(const std::function<const char*(const char*)>& get) {
  TraceOptions options;
  const Reader read(get, &options.warnings);
  options.url = UrlOf(read);
  if (options.url.empty()) return options;
  const std::string protocol = read.Exporter("PROTOCOL");
  if (!protocol.empty() && protocol != "http/protobuf") {
    options.warnings.push_back(
        "OTEL_EXPORTER_OTLP_PROTOCOL: spans are sent by http/protobuf, not " + protocol);
  }
  for (const auto& [name, value] :
       read.List("OTEL_EXPORTER_OTLP_HEADERS", read.Exporter("HEADERS"))) {
    std::string line = name + ": " + value;
    if (std::any_of(line.begin(), line.end(), [](char c) { return c == '\r' || c == '\n'; })) {
      read.Warn("OTEL_EXPORTER_OTLP_HEADERS", name);
      continue;
    }
    options.headers.push_back(std::move(line));
  }
  options.certificate = read.Exporter("CERTIFICATE");
  int64_t post_ms = options.post_time.count();
  read.Number("OTEL_EXPORTER_OTLP_TIMEOUT", read.Exporter("TIMEOUT"), int64_t{1}, &post_ms);
  options.post_time = milliseconds(post_ms);
  int64_t delay_ms = options.delay.count();
  constexpr const char* kDelay = "OTEL_BSP_SCHEDULE_DELAY";
  read.Number(kDelay, read.Text(kDelay), int64_t{0}, &delay_ms);
  options.delay = milliseconds(delay_ms);
  for (const auto& [name, value] :
       {std::pair("OTEL_BSP_MAX_QUEUE_SIZE", &options.max_queue),
        std::pair("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", &options.max_batch)}) {
    read.Number(name, read.Text(name), size_t{1}, value);
  }
  options.sampler = SamplerOf(read);
  options.resource = ResourceOf(read);
  return options;
}

}  // namespace idefics
