// SPDX-License-Identifier: Apache-2.0
#include "tests/images/hostile_files.h"

#include <zlib.h>

#include <algorithm>
#include <array>
#include <map>

#include "common/check.h"

namespace idefics {
namespace {

// Appends numbers and bytes in the order that a format wants.
class Writer {
 public:
  Writer& Big16(uint32_t value) { return Byte(value >> 8).Byte(value); }
  Writer& Big32(uint32_t value) { return Big16(value >> 16).Big16(value); }
  Writer& Little16(uint32_t value) { return Byte(value).Byte(value >> 8); }
  Writer& Little32(uint32_t value) { return Little16(value).Little16(value >> 16); }
  Writer& Byte(uint32_t value) {
    bytes.push_back(static_cast<uint8_t>(value));
    return *this;
  }
  Writer& Fill(size_t count, uint8_t value) {
    for (size_t i = 0; i < count; ++i) bytes.push_back(value);
    return *this;
  }
  Writer& Text(const std::string& text) {
    for (const char c : text) bytes.push_back(static_cast<uint8_t>(c));
    return *this;
  }
  Writer& Append(const FileBytes& more) {
    for (const uint8_t byte : more) bytes.push_back(byte);
    return *this;
  }

  FileBytes bytes;
};

FileBytes Deflate(const FileBytes& data) {
  uLongf size = compressBound(data.size());
  FileBytes packed(size);
  IDEFICS_CHECK_EQ(compress2(packed.data(), &size, data.data(), data.size(), 9), Z_OK);
  packed.resize(size);
  return packed;
}

FileBytes Chunk(const std::string& name, const FileBytes& data) {
  Writer body;
  body.Text(name).Append(data);
  Writer chunk;
  chunk.Big32(static_cast<uint32_t>(data.size())).Append(body.bytes);
  chunk.Big32(static_cast<uint32_t>(crc32_z(0, body.bytes.data(), body.bytes.size())));
  return chunk.bytes;
}

struct PngParts {
  uint32_t width, height;
  uint32_t bits, color_type, interlaced;
  size_t num_bytes;  // of the rows with their filter bytes, all 0
};

FileBytes Png(const PngParts& parts, const FileBytes& before_data) {
  Writer header;
  header.Big32(parts.width).Big32(parts.height).Byte(parts.bits).Byte(parts.color_type);
  header.Byte(0).Byte(0).Byte(parts.interlaced);
  Writer file;
  file.Text("\x89PNG\r\n\x1a\n").Append(Chunk("IHDR", header.bytes)).Append(before_data);
  file.Append(Chunk("IDAT", Deflate(FileBytes(parts.num_bytes))));
  return file.Append(Chunk("IEND", {})).bytes;
}

// tag -> (type, number of values, the value or its offset); classic, little-endian.
struct TiffField {
  uint16_t type;
  uint32_t count, value;
};

constexpr uint32_t kTiffDataAt = 8;

FileBytes Tiff(const FileBytes& data, const std::map<uint16_t, TiffField>& fields) {
  Writer file;
  file.Text("II").Little16(42).Little32(kTiffDataAt + static_cast<uint32_t>(data.size()));
  file.Append(data).Little16(static_cast<uint32_t>(fields.size()));
  for (const auto& [tag, field] : fields) {
    file.Little16(tag).Little16(field.type).Little32(field.count).Little32(field.value);
  }
  return file.Little32(0).bytes;
}

std::map<uint16_t, TiffField> GreyTiffFields(uint32_t width, uint32_t height) {
  return {{256, {4, 1, width}}, {257, {4, 1, height}}, {258, {3, 1, 8}},
          {259, {3, 1, 1}},     {262, {3, 1, 1}},      {273, {4, 1, kTiffDataAt}},
          {277, {3, 1, 1}},     {278, {4, 1, height}}, {279, {4, 1, width * height}}};
}

Writer& Segment(Writer& file, uint32_t marker, const FileBytes& data) {
  return file.Byte(0xff).Byte(marker).Big16(static_cast<uint32_t>(data.size()) + 2).Append(data);
}

size_t NumBlocks(uint16_t width, uint16_t height) {
  return (size_t{width} + 7) / 8 * ((size_t{height} + 7) / 8);
}

// Up to the first scan. Both Huffman tables have one code, "0": no difference, and ac_symbol.
Writer JpegStart(uint32_t frame_marker, uint16_t width, uint16_t height, uint8_t ac_symbol) {
  Writer file;
  file.Big16(0xffd8);
  Segment(file, 0xdb, Writer().Byte(0).Fill(64, 1).bytes);
  Writer frame;
  frame.Byte(8).Big16(height).Big16(width).Byte(1).Byte(1).Byte(0x11).Byte(0);
  Segment(file, frame_marker, frame.bytes);
  Segment(file, 0xc4, Writer().Byte(0).Byte(1).Fill(15, 0).Byte(0).bytes);
  Segment(file, 0xc4, Writer().Byte(0x10).Byte(1).Fill(15, 0).Byte(ac_symbol).bytes);
  return file;
}

void Scan(Writer& file, uint8_t first, uint8_t last, size_t num_bits) {
  Segment(file, 0xda, {1, 1, 0, first, last, 0});
  file.Fill((num_bits + 7) / 8, 0);
}

}  // namespace

FileBytes GreyPng(uint32_t width, uint32_t height) {
  return Png({width, height, 8, 0, 0, (size_t{width} + 1) * height}, {});
}

FileBytes InterlacedPng(uint32_t width, uint32_t height) {
  constexpr std::array<std::array<uint32_t, 4>, 7> kPasses = {{{0, 0, 8, 8},
                                                               {4, 0, 8, 8},
                                                               {0, 4, 4, 8},
                                                               {2, 0, 4, 4},
                                                               {0, 2, 2, 4},
                                                               {1, 0, 2, 2},
                                                               {0, 1, 1, 2}}};
  size_t num_bytes = 0;
  for (const auto& [x, y, dx, dy] : kPasses) {
    const size_t columns = (width - x + dx - 1) / dx;
    const size_t rows = (height - y + dy - 1) / dy;
    num_bytes += (8 * columns + 1) * rows;
  }
  return Png({width, height, 16, 6, 1, num_bytes}, {});
}

FileBytes PngWithTexts(int count) {
  Writer text;
  text.Text("Raw profile type exif").Big16(0);
  text.Append(Deflate(FileBytes((1 << 20) - 100, 'g')));
  const FileBytes chunk = Chunk("zTXt", text.bytes);
  Writer texts;
  for (int i = 0; i < count; ++i) texts.Append(chunk);
  return Png({8, 8, 8, 0, 0, 72}, texts.bytes);
}

FileBytes TiffWithTiles(uint32_t count, uint32_t tile_bytes) {
  constexpr uint32_t kRows = 16;
  const FileBytes tile = Deflate(FileBytes(tile_bytes));
  Writer data;
  data.Append(tile).Fill(tile.size() % 2, 0);
  const auto offsets_at = kTiffDataAt + static_cast<uint32_t>(data.bytes.size());
  for (uint32_t i = 0; i < count; ++i) data.Little32(kTiffDataAt);
  for (uint32_t i = 0; i < count; ++i) data.Little32(static_cast<uint32_t>(tile.size()));
  auto fields = GreyTiffFields(1, count * kRows);
  for (const int tag : {273, 278, 279}) fields.erase(static_cast<uint16_t>(tag));
  fields[259] = {3, 1, 8};
  fields[322] = {4, 1, tile_bytes / kRows};
  fields[323] = {4, 1, kRows};
  fields[324] = {4, count, offsets_at};
  fields[325] = {4, count, offsets_at + 4 * count};
  return Tiff(data.bytes, fields);
}

FileBytes TiffWithTags(uint16_t count, uint32_t tag_bytes) {
  auto fields = GreyTiffFields(8, 8);
  for (uint16_t i = 0; i < count; ++i) {
    fields[static_cast<uint16_t>(40000 + i)] = {1, tag_bytes, kTiffDataAt};
  }
  return Tiff(FileBytes(tag_bytes), fields);
}

FileBytes TiffWithCompression(uint16_t compression) {
  auto fields = GreyTiffFields(8, 8);
  fields[259] = {3, 1, compression};
  return Tiff(FileBytes(64), fields);
}

FileBytes TiffWithAlphaAmongColors() {
  auto fields = GreyTiffFields(8, 8);
  const FileBytes data = Writer().Little16(8).Little16(8).Little16(8).Fill(192, 200).bytes;
  fields[258] = {3, 3, kTiffDataAt};
  fields[262] = {3, 1, 2};
  fields[273] = {4, 1, kTiffDataAt + 6};
  fields[277] = {3, 1, 3};
  fields[279] = {4, 1, 192};
  fields[338] = {3, 1, 1};
  return Tiff(data, fields);
}

FileBytes LargeTiff(uint32_t width, uint32_t height) {
  constexpr uint32_t kRun = 128;  // a count byte of 129 repeats the next byte so often
  FileBytes data(size_t{2} * (width / kRun) * height, 7);
  for (size_t i = 0; i < data.size(); i += 2) data[i] = 129;
  auto fields = GreyTiffFields(width, height);
  fields[259] = {3, 1, 32773};
  fields[279] = {4, 1, static_cast<uint32_t>(data.size())};
  return Tiff(data, fields);
}

FileBytes JpegWithScans(uint16_t width, uint16_t height, int num_scans) {
  // The symbol 0xe0 and fourteen bits end 16384 blocks or more.
  Writer file = JpegStart(0xc2, width, height, 0xe0);
  Scan(file, 0, 0, NumBlocks(width, height));
  for (int i = 0; i < num_scans; ++i) {
    Scan(file, 1, 63, (NumBlocks(width, height) / 16384 + 1) * 15);
  }
  return file.Big16(0xffd9).bytes;
}

FileBytes PlainJpeg(uint16_t width, uint16_t height, uint8_t orientation) {
  Writer file = JpegStart(0xc0, width, height, 0);
  Writer exif;
  exif.Text("Exif").Big16(0).Text("II").Little16(42).Little32(8);
  exif.Little16(1).Little16(274).Little16(3).Little32(1).Little32(orientation).Little32(0);
  Segment(file, 0xe1, exif.bytes);
  Scan(file, 0, 63, 2 * NumBlocks(width, height));
  return file.Big16(0xffd9).bytes;
}

FileBytes JpegWithSegments(int num_segments) {
  const FileBytes plain = PlainJpeg(8, 8, 6);
  Writer file;
  file.Append({plain.begin(), plain.begin() + 2});
  for (int i = 0; i < num_segments; ++i) Segment(file, 0xe1, {});
  return file.Append({plain.begin() + 2, plain.end()}).bytes;
}

FileBytes LargeGif(uint16_t width, uint16_t height) {
  Writer file;
  file.Text("GIF89a").Little16(width).Little16(height).Byte(0x80).Byte(0).Byte(0);
  file.Fill(6, 9).Byte(0x2c).Little32(0).Little16(width).Little16(height).Byte(0).Byte(7);
  // Codes of 8 bits: clear (128) and 64 pixels, so that the width of a code never grows.
  const size_t num_blocks = (size_t{width} * height + 63) / 64;
  for (size_t i = 0; i < num_blocks; ++i) file.Byte(65).Byte(128).Fill(64, 1);
  return file.Byte(1).Byte(129).Byte(0).Byte(0x3b).bytes;
}

FileBytes LargePpm(uint32_t width, uint32_t height) {
  Writer file;
  file.Text("P5 " + std::to_string(width) + " " + std::to_string(height) + " 255\n");
  return file.Fill(size_t{width} * height, 7).bytes;
}

FileBytes RunLengthBmp(uint32_t width, uint32_t height) {
  Writer file;
  file.Text("BM").Little32(0).Little32(0).Little32(54 + 8);
  file.Little32(40).Little32(width).Little32(height).Little16(1).Little16(8).Little32(1);
  file.Little32(0).Little32(0).Little32(0).Little32(2).Little32(0).Fill(8, 9);
  for (uint32_t y = 0; y < height; ++y) {
    for (uint32_t x = 0; x < width; x += 255) file.Byte(std::min(255U, width - x)).Byte(1);
    file.Little16(0);
  }
  return file.bytes;
}

}  // namespace idefics
