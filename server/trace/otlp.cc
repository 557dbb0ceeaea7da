// SPDX-License-Identifier: Apache-2.0
#include "server/trace/otlp.h"

#include <bit>
#include <cstdint>
#include <string_view>

#include "common/utf8.h"
#include "common/version.h"

namespace idefics {
namespace {

// Appends fields of one message. What is zero or empty is left out, as protobuf 3 has it.
class Message {
 public:
  void Varint(uint32_t field, uint64_t value) {
    if (value == 0) return;
    Tag(field, 0);
    Raw(value);
  }
  void Fixed64(uint32_t field, uint64_t value) {
    if (value == 0) return;
    Tag(field, 1);
    Little(value, 8);
  }
  void Fixed32(uint32_t field, uint32_t value) {
    if (value == 0) return;
    Tag(field, 5);
    Little(value, 4);
  }
  void Bytes(uint32_t field, std::string_view bytes) {
    if (!bytes.empty()) Part(field, bytes);
  }
  // Also an empty one: of a oneof, or an element of a list.
  void Part(uint32_t field, std::string_view bytes) {
    Tag(field, 2);
    Raw(bytes.size());
    out_ += bytes;
  }
  // Of a oneof: a zero counts.
  void Choice(uint32_t field, uint64_t value) {
    Tag(field, 0);
    Raw(value);
  }
  void Choice(uint32_t field, double value) {
    Tag(field, 1);
    Little(std::bit_cast<uint64_t>(value), 8);
  }
  const std::string& bytes() const { return out_; }

 private:
  void Tag(uint32_t field, uint32_t type) { Raw(field << 3 | type); }
  void Raw(uint64_t value) {
    for (; value >= 0x80; value >>= 7) out_ += static_cast<char>(value | 0x80);
    out_ += static_cast<char>(value);
  }
  void Little(uint64_t value, int num_bytes) {
    for (int i = 0; i < num_bytes; ++i) out_ += static_cast<char>(value >> (8 * i));
  }

  std::string out_;
};

// A collector refuses a whole request for one string that is not UTF-8.
std::string Text(const std::string& text) {
  return IsValidUtf8(text) ? text : std::string("(not UTF-8)");
}

struct AnyValue {
  Message& out;
  void operator()(bool value) const { out.Choice(2, static_cast<uint64_t>(value)); }
  void operator()(int64_t value) const { out.Choice(3, static_cast<uint64_t>(value)); }
  void operator()(double value) const { out.Choice(4, value); }
  void operator()(const std::string& value) const { out.Part(1, Text(value)); }
  void operator()(const std::vector<std::string>& values) const {
    Message array;
    for (const std::string& value : values) {
      Message item;
      AnyValue{item}(value);
      array.Part(1, item.bytes());
    }
    out.Part(5, array.bytes());
  }
};

void AddAttributes(uint32_t field, const std::vector<SpanAttribute>& attributes, Message* out) {
  for (const SpanAttribute& attribute : attributes) {
    Message value;
    std::visit(AnyValue{value}, attribute.value);
    Message pair;
    pair.Bytes(1, attribute.name);
    pair.Part(2, value.bytes());
    out->Part(field, pair.bytes());
  }
}

template <size_t kSize>
std::string_view View(const std::array<unsigned char, kSize>& id) {
  return {reinterpret_cast<const char*>(id.data()), id.size()};
}

std::string SpanBytes(const Span& span, std::chrono::nanoseconds wall_offset) {
  constexpr uint32_t kRemoteKnown = 0x100;
  constexpr uint32_t kIsRemote = 0x200;
  constexpr uint64_t kError = 2;
  const auto wall = [wall_offset](Span::Clock::time_point time) {
    const auto since = time.time_since_epoch() + wall_offset;
    return static_cast<uint64_t>(std::chrono::nanoseconds(since).count());
  };
  Message out;
  out.Bytes(1, View(span.context.trace_id));
  out.Bytes(2, View(span.context.span_id));
  out.Bytes(3, Text(span.trace_state));
  if (span.parent != SpanId{}) out.Bytes(4, View(span.parent));
  out.Bytes(5, Text(span.name));
  out.Varint(6, static_cast<uint64_t>(span.kind));
  out.Fixed64(7, wall(span.begin));
  out.Fixed64(8, wall(span.end));
  AddAttributes(9, span.attributes, &out);
  if (!span.error.empty()) {
    AddAttributes(9, {{"error.type", span.error}}, &out);
    Message status;
    status.Varint(3, kError);
    out.Part(15, status.bytes());
  }
  out.Fixed32(
      16, (span.context.sampled ? 1U : 0U) | kRemoteKnown | (span.remote_parent ? kIsRemote : 0U));
  return out.bytes();
}

}  // namespace

std::string OtlpRequest(std::span<const Span> spans, const std::vector<SpanAttribute>& resource,
                        std::chrono::nanoseconds wall_offset) {
  Message about;
  AddAttributes(1, resource, &about);
  Message scope;
  scope.Bytes(1, "cog-idefics");
  scope.Bytes(2, kServerVersion);
  Message scope_spans;
  scope_spans.Part(1, scope.bytes());
  for (const Span& span : spans) scope_spans.Part(2, SpanBytes(span, wall_offset));
  Message resource_spans;
  resource_spans.Part(1, about.bytes());
  resource_spans.Part(2, scope_spans.bytes());
  Message request;
  request.Part(1, resource_spans.bytes());
  return request.bytes();
}

}  // namespace idefics
