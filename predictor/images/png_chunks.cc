// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/png_chunks.h"

#include <zlib.h>

#include <algorithm>
#include <string_view>
#include <utility>

#include "common/ascii.h"

namespace idefics {
namespace {

constexpr size_t kSignatureBytes = 8;
constexpr size_t kHeaderBytes = 8;         // length 4, name 4
constexpr size_t kMaxTextBytes = 1 << 20;  // of an inflated text chunk, as in Pillow
constexpr uint8_t kZeroCrc[4] = {};
constexpr uint8_t kEnd[12] = {0, 0, 0, 0, 'I', 'E', 'N', 'D', 0xae, 0x42, 0x60, 0x82};

std::string_view Text(Bytes bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

// Takes the bytes before the next zero off the front of rest, and the zero.
std::string_view TakeString(std::string_view* rest) {
  const size_t end = std::min(rest->find('\0'), rest->size());
  const std::string_view head = rest->substr(0, end);
  rest->remove_prefix(std::min(end + 1, rest->size()));
  return head;
}

// Empty when the data is damaged or larger than kMaxTextBytes.
std::string Inflate(std::string_view packed) {
  std::string text(kMaxTextBytes, '\0');
  uLongf size = text.size();
  const auto* data = reinterpret_cast<const Bytef*>(packed.data());
  if (uncompress(reinterpret_cast<Bytef*>(text.data()), &size, data, packed.size()) != Z_OK) {
    return {};
  }
  text.resize(size);
  return text;
}

// ImageMagick's form: "\nexif\n  LENGTH\nHEX...\nHEX...\n".
std::vector<uint8_t> RawProfile(std::string_view text) {
  for (int line = 0; line < 3; ++line) {
    const size_t end = text.find('\n');
    if (end == text.npos) return {};
    text.remove_prefix(end + 1);
  }
  std::vector<uint8_t> bytes;
  int high = -1;
  for (const char c : text) {
    const int digit = HexDigit(c);
    if (digit < 0) continue;
    if (high >= 0) bytes.push_back(static_cast<uint8_t>(high << 4 | digit));
    high = high >= 0 ? -1 : digit;
  }
  return bytes;
}

// A text that may hold metadata. Only the last of a kind counts, as in Pillow, so that only that
// one is ever inflated, however many there are.
struct PackedText {
  std::string_view bytes;
  bool packed = false;

  std::string Unpack() const { return packed ? Inflate(bytes) : std::string(bytes); }
};

struct Metadata {
  Bytes exif;              // of eXIf
  PackedText raw_profile;  // of tEXt or zTXt "Raw profile type exif"
  PackedText xmp;
};

void FindInternationalText(std::string_view rest, Metadata* found) {
  if (TakeString(&rest) != "XML:com.adobe.xmp" || rest.size() < 2) return;
  const bool packed = rest[0] != 0;
  if (packed && rest[1] != 0) return;
  rest.remove_prefix(2);
  TakeString(&rest);  // language
  TakeString(&rest);  // translated keyword
  found->xmp = {rest, packed};
}

void FindMetadata(std::string_view name, Bytes data, Metadata* found) {
  std::string_view rest = Text(data);
  if (name == "eXIf") {
    found->exif = data;
  } else if (name == "iTXt") {
    FindInternationalText(rest, found);
  } else if ((name == "tEXt" || name == "zTXt") && TakeString(&rest) == "Raw profile type exif") {
    const bool packed = name == "zTXt";
    if (packed) rest.remove_prefix(std::min<size_t>(1, rest.size()));  // method
    found->raw_profile = {rest, packed};
  }
}

void ReadMetadata(const Metadata& found, PngChunks* chunks) {
  chunks->exif = found.exif.empty() ? RawProfile(found.raw_profile.Unpack())
                                    : std::vector<uint8_t>(found.exif.begin(), found.exif.end());
  chunks->xmp = found.xmp.Unpack();
}

bool IsName(Bytes name) {
  return std::all_of(name.begin(), name.end(),
                     [](uint8_t c) { return std::isalnum(c) != 0 || c == '_'; });
}

bool IsForDecoder(std::string_view name) {
  return name == "IHDR" || name == "PLTE" || name == "tRNS" || name == "IDAT";
}

// Chunks one behind the other become one piece, so that millions of tiny ones take no memory.
void AppendChunk(Bytes chunk, PngChunks* chunks) {
  Bytes& last = chunks->pieces.back();
  if (last.data() + last.size() == chunk.data()) {
    last = {last.data(), last.size() + chunk.size()};
  } else {
    chunks->pieces.push_back(chunk);
  }
}

// The last bytes of a cut-off IDAT, under a header with their real number.
void AppendCutData(Bytes data, PngChunks* chunks) {
  const auto size = static_cast<uint32_t>(data.size());
  chunks->cut_header = std::make_unique<std::array<uint8_t, 8>>(std::array<uint8_t, 8>{
      static_cast<uint8_t>(size >> 24), static_cast<uint8_t>(size >> 16),
      static_cast<uint8_t>(size >> 8), static_cast<uint8_t>(size), 'I', 'D', 'A', 'T'});
  chunks->pieces.emplace_back(*chunks->cut_header);
  chunks->pieces.push_back(data);
  chunks->pieces.emplace_back(kZeroCrc);
}

}  // namespace

Result<PngChunks> WalkPngChunks(Bytes file, const DecodeBudget& budget) {
  PngChunks chunks;
  Metadata found;
  chunks.pieces.push_back(file.first(kSignatureBytes));
  bool saw_data = false;
  bool data_ended = false;
  for (size_t at = kSignatureBytes;;) {
    if (file.size() - at < kHeaderBytes) break;
    RETURN_IF_ERROR(budget.Check());
    const size_t length = ReadU32Be(file.data() + at);
    const Bytes name_bytes = file.subspan(at + 4, 4);
    const std::string_view name = Text(name_bytes);
    const Bytes rest = file.subspan(at + kHeaderBytes);
    if (!IsName(name_bytes)) {
      if (saw_data) break;
      return Unreadable("PNG", "a chunk has no valid name");
    }
    if (name == "IEND") break;
    const bool is_data = name == "IDAT";
    if (rest.size() < length + 4 || length > 0x7fffffff) {  // cut off in the data or its checksum
      if (is_data && !data_ended) {
        AppendCutData(rest.first(std::min(length, rest.size())), &chunks);
        saw_data = true;
      }
      break;
    }
    const Bytes data = rest.first(length);
    saw_data = saw_data || is_data;
    data_ended = data_ended || (saw_data && !is_data);
    if (!saw_data) {
      const uLong crc = crc32_z(0, file.data() + at + 4, length + 4);
      if (crc != ReadU32Be(rest.data() + length)) {
        return Unreadable("PNG", "the checksum of chunk " + std::string(name) + " is wrong");
      }
    }
    FindMetadata(name, data, &found);
    if (IsForDecoder(name) && !data_ended) {
      AppendChunk(file.subspan(at, kHeaderBytes + length + 4), &chunks);
    }
    at += kHeaderBytes + length + 4;
  }
  if (!saw_data) return Truncated("PNG");
  ReadMetadata(found, &chunks);
  chunks.pieces.emplace_back(kEnd);
  return chunks;
}

}  // namespace idefics
