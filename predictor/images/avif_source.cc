// SPDX-License-Identifier: Apache-2.0
#include "predictor/images/avif_source.h"

#include <algorithm>
#include <optional>
#include <string>
#include <string_view>

namespace idefics {
namespace {

// Tiles may share their bytes. What may be read: the file twice and this.
constexpr int64_t kSpareReadBytes = 16 << 20;
// A still image has one frame, another for alpha, up to four of each in layers; the tiles of a grid
// may stick out by half. Large images get less: libavif holds all frames at once.
constexpr int64_t kFramesOfAnImage = 16;
constexpr int64_t kMostPixels = int64_t{1} << 27;
constexpr int64_t kSparePixels = 1 << 22;
constexpr size_t kGridBytes = 12;  // the description of a grid
// A tile of a grid takes 43 bytes of descriptions, a frame of a sequence 4 to 12. An entry of 4
// bytes makes libavif allocate 1.5 KiB.
constexpr size_t kMostItemBytes = 64 << 10;
constexpr size_t kMostTrackBytes = 256 << 10;
constexpr size_t kMostPropertyBytes = 4 << 20;  // colour profiles, mostly

// Numbers from the front of some bytes; an end that comes too early shows in ok().
class BigEndianReader {
 public:
  explicit BigEndianReader(Bytes bytes) : bytes_(bytes) {}

  bool ok() const { return ok_; }
  size_t left() const { return bytes_.size(); }

  uint64_t Number(size_t num_bytes) {
    uint64_t value = 0;
    for (const uint8_t byte : Take(num_bytes)) value = value << 8 | byte;
    return value;
  }

  Bytes Take(size_t num_bytes) {
    ok_ = ok_ && num_bytes <= bytes_.size();
    if (!ok_) return {};
    const Bytes taken = bytes_.first(num_bytes);
    bytes_ = bytes_.subspan(num_bytes);
    return taken;
  }

 private:
  Bytes bytes_;
  bool ok_ = true;
};

// The contents of the first box of the name, or nothing.
Bytes FindBox(Bytes boxes, std::string_view name) {
  BigEndianReader reader(boxes);
  while (reader.left() >= 8) {
    uint64_t size = reader.Number(4);
    const Bytes type = reader.Take(4);
    uint64_t header_bytes = 8;
    if (size == 1) {
      size = reader.Number(8);
      header_bytes = 16;
    }
    if (size == 0) size = header_bytes + reader.left();  // to the end
    if (!reader.ok() || size < header_bytes) break;
    const Bytes contents = reader.Take(static_cast<size_t>(size - header_bytes));
    if (!reader.ok()) break;
    if (std::equal(name.begin(), name.end(), type.begin())) return contents;
  }
  return {};
}

std::optional<uint64_t> TakeLeb128(BigEndianReader* reader) {
  uint64_t value = 0;
  for (int i = 0; i < 8; ++i) {
    const uint64_t byte = reader->Number(1);
    if (!reader->ok()) return std::nullopt;
    value |= (byte & 0x7f) << (7 * i);
    if ((byte & 0x80) == 0) return value;
  }
  return std::nullopt;
}

}  // namespace

int64_t CountAv1Frames(Bytes obus) {
  constexpr uint64_t kFrameHeader = 3;
  constexpr uint64_t kFrame = 6;
  int64_t count = 0;
  BigEndianReader reader(obus);
  while (reader.left() > 0) {
    const uint64_t header = reader.Number(1);
    const uint64_t type = header >> 3 & 15;
    if (type == kFrameHeader || type == kFrame) ++count;
    if ((header & 4) != 0) reader.Take(1);  // extension
    if ((header & 2) == 0) break;           // without a size: to the end
    const auto size = TakeLeb128(&reader);
    if (!size || *size > reader.left()) break;
    reader.Take(static_cast<size_t>(*size));
  }
  return count;
}

namespace {

Status CheckBytes(const char* what, size_t num_bytes, size_t limit) {
  if (num_bytes <= limit) return Status::Ok();
  return Status::TooLarge("the AVIF image has " + std::to_string(num_bytes) + " bytes of " + what +
                          ", the limit is " + std::to_string(limit) +
                          ": save it as one image without tiles");
}

Status CheckItemPlaces(Bytes iloc) {
  BigEndianReader reader(iloc);
  const uint64_t version = reader.Number(1);
  reader.Take(3);  // flags
  const uint64_t sizes = reader.Number(2);
  const size_t offset_bytes = sizes >> 12;
  const size_t length_bytes = sizes >> 8 & 15;
  const size_t base_bytes = sizes >> 4 & 15;
  const size_t index_bytes = version == 0 ? 0 : sizes & 15;
  const size_t id_bytes = version < 2 ? 2 : 4;
  const uint64_t num_items = reader.Number(id_bytes);
  for (uint64_t i = 0; i < num_items && reader.ok(); ++i) {
    reader.Take(id_bytes);
    const bool among_descriptions = version > 0 && (reader.Number(2) & 15) != 0;
    reader.Take(2 + base_bytes);  // which file; start
    const uint64_t num_extents = reader.Number(2);
    for (uint64_t k = 0; k < num_extents && reader.ok(); ++k) {
      reader.Take(index_bytes + offset_bytes);
      const uint64_t length = reader.Number(length_bytes);
      if (num_extents > 1 || (among_descriptions && length > kGridBytes)) {
        return Unreadable("AVIF", "its data lies in several pieces, or among its descriptions");
      }
    }
  }
  return Status::Ok();
}

}  // namespace

Status CheckAvifBoxes(Bytes file) {
  RETURN_IF_ERROR(CheckBytes("tracks", FindBox(file, "moov").size(), kMostTrackBytes));
  Bytes meta = FindBox(file, "meta");
  meta = meta.subspan(std::min<size_t>(4, meta.size()));  // version and flags
  const size_t property_bytes = FindBox(FindBox(meta, "iprp"), "ipco").size();
  RETURN_IF_ERROR(CheckBytes("properties", property_bytes, kMostPropertyBytes));
  RETURN_IF_ERROR(CheckBytes("item descriptions", meta.size() - property_bytes, kMostItemBytes));
  return CheckItemPlaces(FindBox(meta, "iloc"));
}

AvifSource::AvifSource(Bytes file, const DecodeBudget& budget, avifDecoder* decoder)
    : file_(file),
      budget_(budget),
      decoder_(decoder),
      read_left_(2 * static_cast<int64_t>(file.size()) + kSpareReadBytes) {
  io_.read = Read;
  io_.sizeHint = file.size();
  io_.persistent = AVIF_TRUE;
  io_.data = this;
  avifDecoderSetIO(decoder, &io_);
}

avifResult AvifSource::Read(avifIO* io, uint32_t flags, uint64_t offset, size_t size,
                            avifROData* out) {
  auto* source = static_cast<AvifSource*>(io->data);
  if (flags != 0 || offset > source->file_.size()) return AVIF_RESULT_IO_ERROR;
  const Bytes rest = source->file_.subspan(static_cast<size_t>(offset));
  const Bytes read = rest.first(std::min(size, rest.size()));
  source->read_left_ -= static_cast<int64_t>(read.size());
  if (source->read_left_ < 0 || source->budget_.Interrupted()) return AVIF_RESULT_IO_ERROR;
  // The contents of boxes, which are read here too, do not look like OBUs.
  source->num_frames_ += CountAv1Frames(read);
  source->ShareOut();
  *out = {read.data(), read.size()};
  return AVIF_RESULT_OK;
}

void AvifSource::LimitFrames(int64_t width, int64_t height) {
  most_pixels_ = std::min(kFramesOfAnImage * width * height, kMostPixels) + kSparePixels;
  ShareOut();
}

// libavif hands the limit to the codec at the first frame of each tile, when all tiles are read.
void AvifSource::ShareOut() {
  if (most_pixels_ == 0) return;
  const int64_t share = most_pixels_ / std::max<int64_t>(num_frames_, 1);
  decoder_->imageSizeLimit =
      static_cast<uint32_t>(std::clamp<int64_t>(share, 1, AVIF_DEFAULT_IMAGE_SIZE_LIMIT));
}

}  // namespace idefics
