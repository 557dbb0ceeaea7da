// SPDX-License-Identifier: Apache-2.0
// TIFF by libtiff, which undoes compression, fill order, byte order and planes; the samples become
// colours here by the rules of Pillow's TiffImagePlugin. First picture of the file only.
#include <tiffio.h>

#include <algorithm>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "predictor/images/exif.h"
#include "predictor/images/orientation.h"
#include "predictor/images/raster.h"
#include "predictor/images/tiff_samples.h"

namespace idefics {
namespace {

// What libtiff reads from, and its first complaint.
struct TiffFile {
  Bytes bytes;
  uint64_t at = 0;
  char message[160] = {};
};

TiffFile* FileOf(thandle_t handle) { return static_cast<TiffFile*>(handle); }

tmsize_t ReadBytes(thandle_t handle, void* target, tmsize_t count) {
  TiffFile* file = FileOf(handle);
  if (count <= 0 || file->at >= file->bytes.size()) return 0;
  const uint64_t left = file->bytes.size() - file->at;
  const size_t copied = std::min<uint64_t>(static_cast<uint64_t>(count), left);
  std::memcpy(target, file->bytes.data() + file->at, copied);
  file->at += copied;
  return static_cast<tmsize_t>(copied);
}

tmsize_t WriteNothing(thandle_t, void*, tmsize_t) { return 0; }

toff_t Seek(thandle_t handle, toff_t offset, int whence) {
  TiffFile* file = FileOf(handle);
  const uint64_t base = whence == SEEK_SET ? 0 : whence == SEEK_CUR ? file->at : file->bytes.size();
  return file->at = base + offset;
}

int Close(thandle_t) { return 0; }
toff_t Size(thandle_t handle) { return FileOf(handle)->bytes.size(); }

int OnError(TIFF*, void* user_data, const char*, const char* format, std::va_list arguments) {
  auto* file = static_cast<TiffFile*>(user_data);
  if (file->message[0] == '\0') {
    std::vsnprintf(file->message, sizeof(file->message), format, arguments);
  }
  return 1;
}

int OnWarning(TIFF*, void*, const char*, const char*, std::va_list) { return 1; }

struct TiffCloser {
  void operator()(TIFF* tiff) const { TIFFClose(tiff); }
};
using TiffHandle = std::unique_ptr<TIFF, TiffCloser>;

TiffHandle Open(TiffFile* file, int64_t max_alloc_bytes) {
  TIFFOpenOptions* options = TIFFOpenOptionsAlloc();
  TIFFOpenOptionsSetErrorHandlerExtR(options, OnError, file);
  TIFFOpenOptionsSetWarningHandlerExtR(options, OnWarning, file);
  TIFFOpenOptionsSetMaxSingleMemAlloc(options, max_alloc_bytes);
  // "m": no memory mapping, libtiff reads through ReadBytes.
  TiffHandle tiff(TIFFClientOpenExt("image", "rm", file, ReadBytes, WriteNothing, Seek, Close, Size,
                                    nullptr, nullptr, options));
  TIFFOpenOptionsFree(options);
  return tiff;
}

uint32_t Field(TIFF* tiff, uint32_t tag, uint32_t fallback) {
  uint32_t value = 0;
  return TIFFGetField(tiff, tag, &value) == 1 ? value : fallback;
}

uint16_t ShortField(TIFF* tiff, uint32_t tag) {
  uint16_t value = 0;
  return TIFFGetFieldDefaulted(tiff, tag, &value) == 1 ? value : uint16_t{0};
}

TiffLayout ReadLayout(TIFF* tiff) {
  TiffLayout layout;
  layout.photometric = ShortField(tiff, TIFFTAG_PHOTOMETRIC);
  layout.bits = ShortField(tiff, TIFFTAG_BITSPERSAMPLE);
  layout.num_samples = ShortField(tiff, TIFFTAG_SAMPLESPERPIXEL);
  layout.sample_format = ShortField(tiff, TIFFTAG_SAMPLEFORMAT);
  layout.separate_planes =
      layout.num_samples > 1 && ShortField(tiff, TIFFTAG_PLANARCONFIG) == PLANARCONFIG_SEPARATE;
  uint16_t num_extra = 0;
  uint16_t* extra = nullptr;
  if (TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &num_extra, &extra) == 1) {
    layout.num_extra = num_extra;
    layout.first_extra = num_extra > 0 ? extra[0] : uint16_t{0};
  }
  uint16_t* maps[3] = {};
  if (layout.photometric == PHOTOMETRIC_PALETTE && layout.bits <= 8 &&
      TIFFGetField(tiff, TIFFTAG_COLORMAP, &maps[0], &maps[1], &maps[2]) == 1) {
    for (int i = 0; i < 1 << layout.bits; ++i) {
      for (int c = 0; c < 3; ++c) {
        layout.palette.rgba[i][c] = static_cast<uint8_t>(maps[c][i] >> 8);
      }
    }
  }
  return layout;
}

class TiffReader {
 public:
  TiffReader(TIFF* tiff, const TiffFile& file) : tiff_(tiff), file_(file) {}

  Result<Raster> Read(const ImageLimits& limits) {
    width_ = Field(tiff_, TIFFTAG_IMAGEWIDTH, 0);
    height_ = Field(tiff_, TIFFTAG_IMAGELENGTH, 0);
    RETURN_IF_ERROR(CheckSize(width_, height_, limits));
    layout_ = ReadLayout(tiff_);
    const uint16_t compression = ShortField(tiff_, TIFFTAG_COMPRESSION);
    if (compression == COMPRESSION_OJPEG) return ReadByLibtiff();
    if (layout_.photometric == PHOTOMETRIC_YCBCR && layout_.num_samples >= 3) {
      if (compression != COMPRESSION_JPEG || layout_.separate_planes) return ReadByLibtiff();
      TIFFSetField(tiff_, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
      layout_.photometric = PHOTOMETRIC_RGB;
    }
    RETURN_IF_ERROR(CheckLayout(layout_));
    return ReadSamples();
  }

 private:
  Status Failure() const {
    return Unreadable("TIFF", file_.message[0] == '\0' ? "its data is damaged" : file_.message);
  }

  Result<Raster> ReadSamples() {
    const bool tiled = TIFFIsTiled(tiff_) != 0;
    block_width_ = tiled ? Field(tiff_, TIFFTAG_TILEWIDTH, 0) : width_;
    block_height_ = tiled ? Field(tiff_, TIFFTAG_TILELENGTH, 0)
                          : std::min(Field(tiff_, TIFFTAG_ROWSPERSTRIP, height_), height_);
    const int64_t block_bytes = tiled ? TIFFTileSize(tiff_) : TIFFStripSize(tiff_);
    const int64_t row_bytes = tiled ? TIFFTileRowSize(tiff_) : TIFFScanlineSize(tiff_);
    const int64_t samples_in_row =
        int64_t{block_width_} * (layout_.separate_planes ? 1 : layout_.num_samples);
    // A tile may stick out, but a tile much larger than the picture is an attack on the memory.
    constexpr int64_t kMaxSpareBytes = 64 << 20;
    const int64_t picture_bytes = int64_t{width_} * height_ * layout_.num_samples * 4;
    if (block_width_ == 0 || block_height_ == 0 || row_bytes <= 0 || block_bytes <= 0 ||
        row_bytes < (samples_in_row * layout_.bits + 7) / 8 ||
        block_bytes > picture_bytes + kMaxSpareBytes) {
      return Unreadable("TIFF", "its strips or tiles have impossible sizes");
    }
    row_bytes_ = static_cast<size_t>(row_bytes);
    block_.resize(static_cast<size_t>(std::max(block_bytes, row_bytes * block_height_)));
    Raster raster = MakeRaster("TIFF", width_, height_, ChannelsOf(layout_));
    const uint16_t num_planes = layout_.separate_planes ? layout_.num_samples : uint16_t{1};
    for (uint16_t plane = 0; plane < num_planes; ++plane) {
      for (uint32_t y = 0; y < height_; y += block_height_) {
        for (uint32_t x = 0; x < width_; x += block_width_) {
          if (!ReadBlock(tiled, x, y, plane)) return Failure();
          StoreBlock(x, y, plane, &raster);
        }
      }
    }
    FinishPixels(layout_, &raster);
    return raster;
  }

  bool ReadBlock(bool tiled, uint32_t x, uint32_t y, uint16_t plane) {
    if (tiled) return TIFFReadTile(tiff_, block_.data(), x, y, 0, plane) >= 0;
    const uint32_t strip = TIFFComputeStrip(tiff_, y, plane);
    return TIFFReadEncodedStrip(tiff_, strip, block_.data(), -1) >= 0;
  }

  void StoreBlock(uint32_t x, uint32_t y, uint16_t plane, Raster* raster) const {
    const uint32_t rows = std::min(block_height_, height_ - y);
    const uint32_t columns = std::min(block_width_, width_ - x);
    const size_t channels = static_cast<size_t>(raster->channels);
    for (uint32_t row = 0; row < rows; ++row) {
      uint8_t* out = raster->pixels.data() + (size_t{y + row} * width_ + x) * channels;
      const uint8_t* in = block_.data() + row * row_bytes_;
      if (layout_.separate_planes) {
        StorePlane(layout_, plane, in, columns, out);
      } else {
        StorePixels(layout_, in, columns, out);
      }
    }
  }

  // Subsampled YCbCr that is not JPEG: libtiff's own conversion, as Pillow does.
  Result<Raster> ReadByLibtiff() {
    std::vector<uint32_t> abgr(size_t{width_} * height_);
    char message[1024] = {};
    if (TIFFRGBAImageOK(tiff_, message) == 0 ||
        TIFFReadRGBAImageOriented(tiff_, width_, height_, abgr.data(), ORIENTATION_TOPLEFT, 1) ==
            0) {
      return message[0] == '\0' ? Failure() : Unreadable("TIFF", message);
    }
    Raster raster = MakeRaster("TIFF", width_, height_, 3);
    uint8_t* out = raster.pixels.data();
    for (const uint32_t pixel : abgr) {
      *out++ = static_cast<uint8_t>(TIFFGetR(pixel));
      *out++ = static_cast<uint8_t>(TIFFGetG(pixel));
      *out++ = static_cast<uint8_t>(TIFFGetB(pixel));
    }
    return raster;
  }

  TIFF* tiff_;
  const TiffFile& file_;
  uint32_t width_ = 0;
  uint32_t height_ = 0;
  uint32_t block_width_ = 0;  // of a strip or tile, in pixels
  uint32_t block_height_ = 0;
  size_t row_bytes_ = 0;  // of a strip or tile
  TiffLayout layout_;
  std::vector<uint8_t> block_;
};

int Orientation(TIFF* tiff) {
  uint16_t orientation = 0;
  if (TIFFGetField(tiff, TIFFTAG_ORIENTATION, &orientation) == 1) return orientation;
  uint32_t size = 0;
  void* packet = nullptr;
  if (TIFFGetField(tiff, TIFFTAG_XMLPACKET, &size, &packet) != 1) return 1;
  return CombinedOrientation({}, std::string_view(static_cast<const char*>(packet), size));
}

}  // namespace

Result<Raster> DecodeTiff(Bytes bytes, const ImageLimits& limits) {
  TiffFile file{bytes};
  // The largest block that libtiff may want: all samples of a picture at the limit.
  const TiffHandle tiff = Open(&file, limits.max_pixels * 8 + (64 << 20));
  if (tiff == nullptr) {
    return Unreadable("TIFF", file.message[0] == '\0' ? "it is damaged" : file.message);
  }
  ASSIGN_OR_RETURN(Raster raster, TiffReader(tiff.get(), file).Read(limits));
  raster.orientation = Orientation(tiff.get());
  raster.orients_itself = true;
  return raster;
}

}  // namespace idefics
