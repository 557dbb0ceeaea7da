// SPDX-License-Identifier: Apache-2.0
// The first frame of a GIF by giflib, placed on the canvas the way Pillow's GifImagePlugin does.
#include <gif_lib.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "predictor/images/raster.h"

namespace idefics {
namespace {

constexpr int kNoTransparency = -1;

struct GifCloser {
  void operator()(GifFileType* gif) const { DGifCloseFile(gif, nullptr); }
};
using GifHandle = std::unique_ptr<GifFileType, GifCloser>;

int ReadBytes(GifFileType* gif, GifByteType* target, int count) {
  auto* rest = static_cast<Bytes*>(gif->UserData);
  const size_t copied = std::min(static_cast<size_t>(std::max(count, 0)), rest->size());
  if (copied > 0) std::memcpy(target, rest->data(), copied);
  *rest = rest->subspan(copied);
  return static_cast<int>(copied);
}

Status Failure(int error, const Bytes& rest) {
  if (rest.empty()) return Truncated("GIF");
  const char* text = GifErrorString(error);
  return Unreadable("GIF", text == nullptr ? "unknown error" : text);
}

// Skips one extension; a graphic control that marks a transparent index is remembered.
bool ReadExtension(GifFileType* gif, const DecodeBudget& budget, int* transparent) {
  int code = 0;
  GifByteType* block = nullptr;
  if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) return false;
  if (code == GRAPHICS_EXT_FUNC_CODE && block != nullptr && block[0] >= 4 && (block[1] & 1) != 0) {
    *transparent = block[4];
  }
  while (block != nullptr) {
    if (budget.Interrupted()) return false;
    if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) return false;
  }
  return true;
}

// Goes to the first image; its place and palette are in gif->Image afterwards.
Status FindFirstFrame(GifFileType* gif, const Bytes& rest, const DecodeBudget& budget,
                      int* transparent) {
  for (;;) {
    RETURN_IF_ERROR(budget.Check());
    GifRecordType record = UNDEFINED_RECORD_TYPE;
    if (DGifGetRecordType(gif, &record) == GIF_ERROR) return Failure(gif->Error, rest);
    if (record == TERMINATE_RECORD_TYPE) return Unreadable("GIF", "it holds no frame");
    if (record == EXTENSION_RECORD_TYPE && !ReadExtension(gif, budget, transparent)) {
      return Failure(gif->Error, rest);
    }
    if (record != IMAGE_DESC_RECORD_TYPE) continue;
    if (DGifGetImageDesc(gif) == GIF_ERROR) return Failure(gif->Error, rest);
    return Status::Ok();
  }
}

// A missing palette, and one that maps every index to itself, mean a grey image.
Palette ReadPalette(const GifFileType& gif) {
  const ColorMapObject* map = gif.Image.ColorMap != nullptr ? gif.Image.ColorMap : gif.SColorMap;
  Palette palette;
  bool is_ramp = true;
  const int count = map == nullptr ? 0 : std::min(map->ColorCount, 256);
  for (int i = 0; i < count; ++i) {
    const GifColorType& color = map->Colors[i];
    palette.rgba[i][0] = color.Red;
    palette.rgba[i][1] = color.Green;
    palette.rgba[i][2] = color.Blue;
    is_ramp = is_ramp && color.Red == i && color.Green == i && color.Blue == i;
  }
  return is_ramp ? Palette::GreyRamp() : palette;
}

// indices: [canvas_height, canvas_width], the frame's part of it is overwritten.
bool ReadFrame(GifFileType* gif, size_t canvas_width, const DecodeBudget& budget,
               std::vector<uint8_t>* indices) {
  const GifImageDesc& frame = gif->Image;
  const int first_rows[] = {0, 4, 2, 1};
  const int row_steps[] = {8, 8, 4, 2};
  const int num_passes = frame.Interlace ? 4 : 1;
  for (int pass = 0; pass < num_passes; ++pass) {
    const int first = frame.Interlace ? first_rows[pass] : 0;
    const int step = frame.Interlace ? row_steps[pass] : 1;
    for (int y = first; y < frame.Height; y += step) {
      const size_t row = static_cast<size_t>(frame.Top) + static_cast<size_t>(y);
      uint8_t* line = indices->data() + row * canvas_width + static_cast<size_t>(frame.Left);
      if (budget.Interrupted()) return false;
      if (DGifGetLine(gif, line, frame.Width) == GIF_ERROR) return false;
    }
  }
  return true;
}

}  // namespace

Result<Raster> DecodeGif(Bytes file, const DecodeBudget& budget) {
  int error = 0;
  Bytes rest = file;
  const GifHandle gif(DGifOpen(&rest, ReadBytes, &error));
  if (gif == nullptr) return Failure(error, rest);
  RETURN_IF_ERROR(budget.CheckSize(gif->SWidth, gif->SHeight));
  int transparent = kNoTransparency;
  RETURN_IF_ERROR(FindFirstFrame(gif.get(), rest, budget, &transparent));
  const GifImageDesc& frame = gif->Image;
  if (frame.Width <= 0 || frame.Height <= 0) return Unreadable("GIF", "its first frame is empty");
  // A frame that sticks out makes the canvas grow.
  const int width = std::max(gif->SWidth, frame.Left + frame.Width);
  const int height = std::max(gif->SHeight, frame.Top + frame.Height);
  const int channels = transparent == kNoTransparency ? 3 : 4;
  RETURN_IF_ERROR(budget.Admit({width, height, 1 + channels}));  // an index and a colour

  const uint8_t background = static_cast<uint8_t>(std::max(transparent, 0));
  std::vector<uint8_t> indices(static_cast<size_t>(width) * static_cast<size_t>(height),
                               background);
  if (!ReadFrame(gif.get(), static_cast<size_t>(width), budget, &indices)) {
    return Failure(gif->Error, rest);
  }
  Palette palette = ReadPalette(*gif);
  if (transparent != kNoTransparency) palette.rgba[transparent][3] = 0;
  Raster raster = MakeRaster("GIF", width, height, channels);
  uint8_t* out = raster.pixels.data();
  const uint8_t* in = indices.data();
  for (int y = 0; y < height && !budget.Interrupted(); ++y) {
    for (int x = 0; x < width; ++x) out = std::copy_n(palette.rgba[*in++], channels, out);
  }
  return raster;
}

}  // namespace idefics
