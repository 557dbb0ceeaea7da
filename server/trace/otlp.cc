// SPDX-License-Identifier: Apache-2.0
#include "server/trace/otlp.h"

#include <array>
#include <bit>
#include <cstdint>

#include "common/utf8.h"
#include "common/version.h"

namespace idefics {
namespace {

// Appends fields of messages. What is zero or empty is left out, as protobuf 3 has it, but for the
// fields of a oneof.
class Writer {
 public:
  explicit Writer(OtlpBytes* out) : out_(*out) {}

  void Varint(uint32_t field, uint64_t value) {
    Tag(field, 0);
    Raw(value);
  }
  void Fixed64(uint32_t field, uint64_t value) {
    Tag(field, 1);
    Little(value);
  }
  void Fixed32(uint32_t field, uint32_t value) {
    Tag(field, 5);
    Little(value);
  }
  void Bytes(uint32_t field, std::string_view bytes) {
    Tag(field, 2);
    Raw(bytes.size());
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }
  // A collector refuses a whole request for one string that is not UTF-8.
  void Text(uint32_t field, std::string_view text) {
    Bytes(field, IsValidUtf8(text) ? text : "(not UTF-8)");
  }
  // A message within the message: all that `write` appends.
  template <typename Write>
  void Part(uint32_t field, Write write) {
    Tag(field, 2);
    const size_t begin = out_.size();
    out_.push_back(0);  // its length: mostly of one byte
    write();
    uint64_t length = out_.size() - begin - 1;
    size_t at = begin;
    for (; length >= 0x80; length >>= 7) {
      out_[at] = static_cast<char>(length | 0x80);
      out_.insert(out_.begin() + static_cast<ptrdiff_t>(++at), 0);
    }
    out_[at] = static_cast<char>(length);
  }

 private:
  void Tag(uint32_t field, uint32_t type) { Raw(field << 3 | type); }
  void Raw(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_.push_back(static_cast<char>(value | 0x80));
    out_.push_back(static_cast<char>(value));
  }
  template <typename T>
  void Little(T value) {
    static_assert(std::endian::native == std::endian::little);
    const auto bytes = std::bit_cast<std::array<char, sizeof value>>(value);
    out_.insert(out_.end(), bytes.begin(), bytes.end());
  }

  OtlpBytes& out_;
};

// AnyValue
struct ValueWriter {
  Writer& out;
  void operator()(bool value) const { out.Varint(2, static_cast<uint64_t>(value)); }
  void operator()(int64_t value) const { out.Varint(3, static_cast<uint64_t>(value)); }
  void operator()(double value) const { out.Fixed64(4, std::bit_cast<uint64_t>(value)); }
  void operator()(std::string_view value) const { out.Text(1, value); }
  void operator()(std::span<const std::string_view> values) const {
    out.Part(5, [&] {
      for (const std::string_view value : values) out.Part(1, [&] { out.Text(1, value); });
    });
  }
};

// KeyValue
void AddAttribute(uint32_t field, const SpanAttribute& attribute, Writer& out) {
  out.Part(field, [&] {
    out.Bytes(1, attribute.name);
    out.Part(2, [&] { std::visit(ValueWriter{out}, attribute.value); });
  });
}

template <size_t kSize>
std::string_view View(const std::array<unsigned char, kSize>& id) {
  return {reinterpret_cast<const char*>(id.data()), id.size()};
}

}  // namespace

void AppendOtlpSpan(const Span& span, std::chrono::nanoseconds wall_offset, OtlpBytes* spans) {
  constexpr uint32_t kSpans = 2;  // of ScopeSpans
  constexpr uint32_t kRemoteKnown = 0x100;
  constexpr uint32_t kIsRemote = 0x200;
  constexpr uint64_t kError = 2;
  const auto wall = [wall_offset](Span::Clock::time_point time) {
    const auto since = time.time_since_epoch() + wall_offset;
    return static_cast<uint64_t>(std::chrono::nanoseconds(since).count());
  };
  Writer out(spans);
  out.Part(kSpans, [&] {
    out.Bytes(1, View(span.context.trace_id));
    out.Bytes(2, View(span.context.span_id));
    if (!span.trace_state.empty()) out.Text(3, span.trace_state);
    if (span.parent != SpanId{}) out.Bytes(4, View(span.parent));
    out.Text(5, span.name);
    out.Varint(6, static_cast<uint64_t>(span.kind));
    out.Fixed64(7, wall(span.begin));
    out.Fixed64(8, wall(span.end));
    for (const SpanAttribute& attribute : span.attributes) AddAttribute(9, attribute, out);
    if (!span.error.empty()) {
      AddAttribute(9, {"error.type", span.error}, out);
      out.Part(15, [&] { out.Varint(3, kError); });
    }
    const uint32_t sampled = span.context.sampled ? 1 : 0;
    out.Fixed32(16, sampled | kRemoteKnown | (span.remote_parent ? kIsRemote : 0));
  });
}

void AppendOtlpRequest(std::span<const char> spans,
                       const std::vector<std::pair<std::string, std::string>>& resource,
                       OtlpBytes* request) {
  Writer out(request);
  out.Part(1, [&] {
    out.Part(1, [&] {
      for (const auto& [name, value] : resource) {
        AddAttribute(1, {name, std::string_view(value)}, out);
      }
    });
    out.Part(2, [&] {
      out.Part(1, [&] {
        out.Text(1, "cog-idefics");
        out.Text(2, kServerVersion);
      });
      request->insert(request->end(), spans.begin(), spans.end());
    });
  });
}

}  // namespace idefics
