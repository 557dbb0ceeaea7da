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

// Appends fields of messages, to memory that was made to hold them all. What is zero or empty is
// left out, as protobuf 3 has it, but for the fields of a oneof.
class Writer {
 public:
  // At most `max_bytes` are appended.
  Writer(OtlpBytes* out, size_t max_bytes) : out_(*out) {
    const size_t begin = out_.size();
    out_.resize(begin + max_bytes);
    at_ = out_.data() + begin;
  }
  ~Writer() { out_.resize(static_cast<size_t>(at_ - out_.data())); }
  Writer(const Writer&) = delete;
  Writer& operator=(const Writer&) = delete;

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
    Copy(bytes);
  }
  // A collector refuses a whole request for one string that is not UTF-8.
  void Text(uint32_t field, std::string_view text) {
    Bytes(field, IsValidUtf8(text) ? text : kNotUtf8);
  }
  // As they are.
  void Copy(std::string_view bytes) {
    std::memcpy(at_, bytes.data(), bytes.size());
    at_ += bytes.size();
  }
  // A message within the message: all that `write` appends.
  template <typename Write>
  void Part(uint32_t field, Write write) {
    Tag(field, 2);
    char* const length_at = at_++;  // mostly of one byte
    write();
    auto length = static_cast<uint64_t>(at_ - length_at - 1);
    if (length >= 0x80) MakeRoom(length_at + 1, length);
    char* at = length_at;
    for (; length >= 0x80; length >>= 7) *at++ = static_cast<char>(length | 0x80);
    *at = static_cast<char>(length);
  }

  static constexpr std::string_view kNotUtf8 = "(not UTF-8)";

 private:
  // For the further bytes of a length.
  void MakeRoom(char* part, uint64_t length) {
    size_t more = 0;
    for (uint64_t left = length; left >= 0x80; left >>= 7) ++more;
    std::memmove(part + more, part, length);
    at_ += more;
  }
  void Tag(uint32_t field, uint32_t type) { Raw(field << 3 | type); }
  void Raw(uint64_t value) {
    for (; value >= 0x80; value >>= 7) *at_++ = static_cast<char>(value | 0x80);
    *at_++ = static_cast<char>(value);
  }
  template <typename T>
  void Little(T value) {
    static_assert(std::endian::native == std::endian::little);
    std::memcpy(at_, &value, sizeof value);
    at_ += sizeof value;
  }

  OtlpBytes& out_;
  char* at_ = nullptr;
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
  Writer out(spans, MostBytes(span));
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
  size_t bytes = spans.size() + 4 * kFieldBytes;
  for (const auto& [name, value] : resource) bytes += MostBytes(name) + MostBytes(value);
  Writer out(request, bytes);
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
      out.Copy({spans.data(), spans.size()});
    });
  });
}

}  // namespace idefics
