// SPDX-License-Identifier: Apache-2.0
#include "server/trace/otlp.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>

#include "common/utf8.h"
#include "common/version.h"

namespace idefics {
namespace {

// Writes fields of messages, the last one first, so that a message is there when its length is
// asked for. What is zero or empty is left out, as protobuf 3 has it, but for the fields of a
// oneof.
class Writer {
 public:
  // Behind what is written. REQUIRES: enough memory in front of it.
  explicit Writer(char* end) : at_(end) {}

  // Where the first of what was written stands.
  const char* at() const { return at_; }

  void Varint(uint32_t field, uint64_t value) {
    Raw(value);
    Tag(field, 0);
  }
  void Fixed64(uint32_t field, uint64_t value) {
    Little(value);
    Tag(field, 1);
  }
  void Fixed32(uint32_t field, uint32_t value) {
    Little(value);
    Tag(field, 5);
  }
  void Bytes(uint32_t field, std::string_view bytes) {
    at_ -= bytes.size();
    std::memcpy(at_, bytes.data(), bytes.size());
    Raw(bytes.size());
    Tag(field, 2);
  }
  // A collector refuses a whole request for one string that is not UTF-8.
  void Text(uint32_t field, std::string_view text) {
    Bytes(field, IsValidUtf8(text) ? text : kNotUtf8);
  }
  // A message within the message: all that `write` writes, and `num_bytes` that stand behind it.
  template <typename Write>
  void Part(uint32_t field, Write write, size_t num_bytes = 0) {
    const char* const end = at_ + num_bytes;
    write();
    Raw(static_cast<uint64_t>(end - at_));
    Tag(field, 2);
  }

  static constexpr std::string_view kNotUtf8 = "(not UTF-8)";

 private:
  void Tag(uint32_t field, uint32_t type) { Raw(field << 3 | type); }
  void Raw(uint64_t value) {
    at_ -= value < 0x80 ? 1 : (std::bit_width(value) + 6) / 7;
    char* at = at_;
    for (; value >= 0x80; value >>= 7) *at++ = static_cast<char>(value | 0x80);
    *at = static_cast<char>(value);
  }
  template <typename T>
  void Little(T value) {
    static_assert(std::endian::native == std::endian::little);
    at_ -= sizeof value;
    std::memcpy(at_, &value, sizeof value);
  }

  char* at_;
};

// What tags and lengths of a field, and of the messages around it, take at most; a number, too.
constexpr size_t kFieldBytes = 64;

size_t MostBytes(std::string_view text) {
  return kFieldBytes + std::max(text.size(), Writer::kNotUtf8.size());
}

size_t MostBytes(const SpanAttribute& attribute) {
  size_t bytes = MostBytes(attribute.name);
  if (const auto* text = std::get_if<std::string_view>(&attribute.value)) bytes += MostBytes(*text);
  const auto* texts = std::get_if<std::span<const std::string_view>>(&attribute.value);
  if (texts == nullptr) return bytes;
  for (const std::string_view text : *texts) bytes += MostBytes(text);
  return bytes;
}

size_t MostBytes(const Span& span) {
  constexpr size_t kIdsAndTimes = 4 * kFieldBytes;
  size_t bytes = kIdsAndTimes + MostBytes(span.name) + MostBytes(span.trace_state) +
                 MostBytes(span.error) + 2 * kFieldBytes;
  for (const SpanAttribute& attribute : span.attributes) bytes += MostBytes(attribute);
  return bytes;
}

// AnyValue
struct ValueWriter {
  Writer& out;
  void operator()(bool value) const { out.Varint(2, static_cast<uint64_t>(value)); }
  void operator()(int64_t value) const { out.Varint(3, static_cast<uint64_t>(value)); }
  void operator()(double value) const { out.Fixed64(4, std::bit_cast<uint64_t>(value)); }
  void operator()(std::string_view value) const { out.Text(1, value); }
  void operator()(std::span<const std::string_view> values) const {
    out.Part(5, [&] {
      std::for_each(values.rbegin(), values.rend(),
                    [this](std::string_view value) { out.Part(1, [&] { out.Text(1, value); }); });
    });
  }
};

// KeyValue
void AddAttribute(uint32_t field, const SpanAttribute& attribute, Writer& out) {
  out.Part(field, [&] {
    out.Part(2, [&] { std::visit(ValueWriter{out}, attribute.value); });
    out.Bytes(1, attribute.name);
  });
}

template <size_t kSize>
std::string_view View(const std::array<unsigned char, kSize>& id) {
  return {reinterpret_cast<const char*>(id.data()), id.size()};
}

}  // namespace

std::span<const char> WriteOtlpSpan(const Span& span, std::chrono::nanoseconds wall_offset,
                                    OtlpBytes* memory) {
  constexpr uint32_t kSpans = 2;  // of ScopeSpans
  constexpr uint32_t kRemoteKnown = 0x100;
  constexpr uint32_t kIsRemote = 0x200;
  constexpr uint64_t kError = 2;
  const auto wall = [wall_offset](Span::Clock::time_point time) {
    const auto since = time.time_since_epoch() + wall_offset;
    return static_cast<uint64_t>(std::chrono::nanoseconds(since).count());
  };
  const size_t most = MostBytes(span);
  if (memory->size() < most) memory->resize(most);
  char* const end = memory->data() + memory->size();
  Writer out(end);
  out.Part(kSpans, [&] {
    const uint32_t sampled = span.context.sampled ? 1 : 0;
    out.Fixed32(16, sampled | kRemoteKnown | (span.remote_parent ? kIsRemote : 0));
    if (!span.error.empty()) {
      out.Part(15, [&] { out.Varint(3, kError); });
      AddAttribute(9, {"error.type", span.error}, out);
    }
    std::for_each(span.attributes.rbegin(), span.attributes.rend(),
                  [&out](const SpanAttribute& attribute) { AddAttribute(9, attribute, out); });
    out.Fixed64(8, wall(span.end));
    out.Fixed64(7, wall(span.begin));
    out.Varint(6, static_cast<uint64_t>(span.kind));
    out.Text(5, span.name);
    if (span.parent != SpanId{}) out.Bytes(4, View(span.parent));
    if (!span.trace_state.empty()) out.Text(3, span.trace_state);
    out.Bytes(2, View(span.context.span_id));
    out.Bytes(1, View(span.context.trace_id));
  });
  return {out.at(), end};
}

size_t OtlpHeadBytes(const OtlpResource& resource) {
  size_t bytes = 4 * kFieldBytes + MostBytes(kServerVersion);
  for (const auto& [name, value] : resource) bytes += MostBytes(name) + MostBytes(value);
  return bytes;
}

std::span<const char> WriteOtlpHead(const OtlpResource& resource, size_t head_bytes,
                                    OtlpBytes* request) {
  char* const end = request->data() + request->size();
  const size_t num_span_bytes = request->size() - head_bytes;
  Writer out(request->data() + head_bytes);
  const auto write = [&] {
    out.Part(
        2,
        [&] {
          out.Part(1, [&] {
            out.Text(2, kServerVersion);
            out.Text(1, "cog-idefics");
          });
        },
        num_span_bytes);
    out.Part(1, [&] {
      std::for_each(resource.rbegin(), resource.rend(), [&out](const auto& item) {
        AddAttribute(1, {item.first, std::string_view(item.second)}, out);
      });
    });
  };
  out.Part(1, write, num_span_bytes);
  return {out.at(), end};
}

}  // namespace idefics
