// SPDX-License-Identifier: Apache-2.0
// TIFF by libtiff, which undoes compression, fill order, byte order and planes; the samples become
// colours here by the rules of Pillow's TiffImagePlugin. First image of the file only.
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

// A directory may point to the same bytes from thousands of tags or tiles. What libtiff may read
// for the tags: the file twice and this.
constexpr int64_t kSpareReadBytes = 16 << 20;
// A tile may stick out of the image, but tiles much larger than it are an attack.
constexpr int64_t kSpareBlockBytes = 64 << 20;

// A strip may hold the whole image, and libtiff stops nowhere within it: larger ones are read row
// by row, which makes Deflate a fifth slower.
constexpr int64_t kMostStripBytes = 16 << 20;

// What libtiff reads from, and its first complaint.
struct TiffFile {
  Bytes bytes;
  const DecodeBudget& budget;
  int64_t read_left;  // bytes
  uint64_t at = 0;
  char message[160] = {};
};

TiffFile* FileOf(thandle_t handle) { return static_cast<TiffFile*>(handle); }

tmsize_t ReadBytes(thandle_t handle, void* target, tmsize_t count) {
  TiffFile* file = FileOf(handle);
  if (count <= 0 || file->at >= file->bytes.size()) return 0;
  const uint64_t left = file->bytes.size() - file->at;
  const size_t copied = std::min<uint64_t>(static_cast<uint64_t>(count), left);
  file->read_left -= static_cast<int64_t>(copied);
  if (file->read_left < 0 || file->budget.Interrupted()) {
    std::snprintf(file->message, sizeof(file->message), "it uses the same bytes too often");
    return 0;
  }
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

// The compressions of TIFF 6.0 and its supplements. libtiff knows more, which nobody needs here.
Status CheckCompression(uint16_t compression) {
  constexpr uint16_t kKnown[] = {
      COMPRESSION_NONE,          COMPRESSION_CCITTRLE,  COMPRESSION_CCITTRLEW,
      COMPRESSION_CCITTFAX3,     COMPRESSION_CCITTFAX4, COMPRESSION_LZW,
      COMPRESSION_OJPEG,         COMPRESSION_JPEG,      COMPRESSION_PACKBITS,
      COMPRESSION_ADOBE_DEFLATE, COMPRESSION_DEFLATE};
  if (std::find(std::begin(kKnown), std::end(kKnown), compression) != std::end(kKnown)) {
    return Status::Ok();
  }
  return Status::InvalidInput("the TIFF image is compressed by a method that is not supported (" +
                              std::to_string(compression) +
                              "): save it with LZW, Deflate, PackBits, JPEG or no compression");
}

class TiffReader {
 public:
  TiffReader(TIFF* tiff, TiffFile* file) : tiff_(tiff), file_(file), budget_(file->budget) {}

  Result<Raster> Read() {
    width_ = Field(tiff_, TIFFTAG_IMAGEWIDTH, 0);
    height_ = Field(tiff_, TIFFTAG_IMAGELENGTH, 0);
    RETURN_IF_ERROR(budget_.CheckSize(width_, height_));
    layout_ = ReadLayout(tiff_);
    const uint16_t compression = ShortField(tiff_, TIFFTAG_COMPRESSION);
    RETURN_IF_ERROR(CheckCompression(compression));
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
    return Unreadable("TIFF", file_->message[0] == '\0' ? "its data is damaged" : file_->message);
  }

  // Judges the blocks (tiles, strips, rows) before any is read: one may not be larger than the
  // spare bytes, all of them not larger than the image and the spare bytes. Sets block_width_ and
  // block_height_; libtiff may read as much as they hold.
  Status AdmitBlocks(int64_t block_width, int64_t block_height, int64_t block_bytes,
                     int64_t pixel_bytes) {
    const int64_t bits = int64_t{width_} * layout_.num_samples * layout_.bits;
    const int64_t most_bytes = (bits + 7) / 8 * height_ + kSpareBlockBytes;
    if (block_width <= 0 || block_height <= 0 || block_bytes <= 0) {
      return Unreadable("TIFF", "its strips or tiles have impossible sizes");
    }
    const int64_t num_planes = layout_.separate_planes ? layout_.num_samples : 1;
    const int64_t num_blocks =
        ((width_ - 1) / block_width + 1) * ((height_ - 1) / block_height + 1) * num_planes;
    if (block_bytes > kSpareBlockBytes || block_bytes > most_bytes / num_blocks) {
      return Status::TooLarge("the TIFF image consists of " + std::to_string(num_blocks) +
                              " strips or tiles of " + std::to_string(block_bytes) +
                              " bytes, the limit is " + std::to_string(kSpareBlockBytes) +
                              " bytes for one and " + std::to_string(most_bytes) +
                              " for all: save it with smaller ones");
    }
    RETURN_IF_ERROR(budget_.Admit({width_, height_, pixel_bytes, 2 * block_bytes}));
    block_bytes_ = static_cast<size_t>(block_bytes);
    block_width_ = static_cast<uint32_t>(block_width);
    block_height_ = static_cast<uint32_t>(block_height);
    file_->read_left += num_blocks * block_bytes + kSpareReadBytes;
    return Status::Ok();
  }

  Status AdmitTiles(int64_t pixel_bytes) {
    return AdmitBlocks(Field(tiff_, TIFFTAG_TILEWIDTH, 0), Field(tiff_, TIFFTAG_TILELENGTH, 0),
                       TIFFTileSize(tiff_), pixel_bytes);
  }

  Status AdmitStrips(int64_t pixel_bytes) {
    const uint32_t rows = std::min(Field(tiff_, TIFFTAG_ROWSPERSTRIP, height_), height_);
    return AdmitBlocks(width_, rows, TIFFStripSize(tiff_), pixel_bytes);
  }

  Result<Raster> ReadSamples() {
    const bool tiled = TIFFIsTiled(tiff_) != 0;
    const int64_t row_bytes = tiled ? TIFFTileRowSize(tiff_) : TIFFScanlineSize(tiff_);
    const int channels = ChannelsOf(layout_);
    if (tiled) {
      RETURN_IF_ERROR(AdmitTiles(channels));
    } else if (TIFFStripSize(tiff_) <= kMostStripBytes) {
      RETURN_IF_ERROR(AdmitStrips(channels));
    } else {
      by_rows_ = true;
      RETURN_IF_ERROR(AdmitBlocks(width_, 1, row_bytes, channels));
    }
    const int64_t samples_in_row =
        int64_t{block_width_} * (layout_.separate_planes ? 1 : layout_.num_samples);
    if (row_bytes < (samples_in_row * layout_.bits + 7) / 8) {
      return Unreadable("TIFF", "its strips or tiles have impossible sizes");
    }
    row_bytes_ = static_cast<size_t>(row_bytes);
    block_.resize(std::max(row_bytes_ * block_height_, block_bytes_));
    Raster raster = MakeRaster("TIFF", width_, height_, channels);
    const uint16_t num_planes = layout_.separate_planes ? layout_.num_samples : uint16_t{1};
    for (uint16_t plane = 0; plane < num_planes; ++plane) {
      for (uint32_t y = 0; y < height_; y += block_height_) {
        for (uint32_t x = 0; x < width_; x += block_width_) {
          if (budget_.Interrupted() || !ReadBlock(tiled, x, y, plane)) return Failure();
          StoreBlock(x, y, plane, &raster);
        }
      }
    }
    FinishPixels(layout_, &raster);
    return raster;
  }

  bool ReadBlock(bool tiled, uint32_t x, uint32_t y, uint16_t plane) {
    if (tiled) return TIFFReadTile(tiff_, block_.data(), x, y, 0, plane) >= 0;
    if (by_rows_) return TIFFReadScanline(tiff_, block_.data(), y, plane) >= 0;
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

  // Subsampled YCbCr that is not JPEG: libtiff's own conversion, as Pillow does. It ends between
  // strips or tiles when the budget is interrupted, because ReadBytes then fails.
  Result<Raster> ReadByLibtiff() {
    constexpr int64_t kPixelBytes = 4 + 3;  // libtiff's and ours
    RETURN_IF_ERROR(TIFFIsTiled(tiff_) != 0 ? AdmitTiles(kPixelBytes) : AdmitStrips(kPixelBytes));
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
  TiffFile* file_;
  const DecodeBudget& budget_;
  uint32_t width_ = 0;
  uint32_t height_ = 0;
  uint32_t block_width_ = 0;  // of a strip or tile, in pixels
  uint32_t block_height_ = 0;
  size_t block_bytes_ = 0;
  size_t row_bytes_ = 0;  // of a strip or tile
  bool by_rows_ = false;
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

Result<Raster> DecodeTiff(Bytes bytes, const DecodeBudget& budget) {
  const auto size = static_cast<int64_t>(bytes.size());
  TiffFile file{bytes, budget, 2 * size + kSpareReadBytes};
  // The largest block that libtiff may want: a strip that holds the whole file.
  const TiffHandle tiff = Open(&file, size + 2 * kSpareBlockBytes);
  if (tiff == nullptr) {
    return Unreadable("TIFF", file.message[0] == '\0' ? "it is damaged" : file.message);
  }
  ASSIGN_OR_RETURN(Raster raster, TiffReader(tiff.get(), &file).Read());
  raster.orientation = Orientation(tiff.get());
  raster.orients_itself = true;
  return raster;
}

}  // namespace idefics
