// SPDX-License-Identifier: Apache-2.0
// PNG: chunks are walked here (Pillow's rules for checksums, cut-off files and metadata); libpng
// sees only IHDR, PLTE, tRNS and IDAT and does inflation, filters and interlacing.
#include <png.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "predictor/images/exif.h"
#include "predictor/images/png_chunks.h"
#include "predictor/images/raster.h"

namespace idefics {
namespace {

// Serves the chosen chunks to libpng as one stream.
struct PngStream {
  const PngChunks* chunks = nullptr;
  size_t piece = 0;
  size_t offset = 0;
  std::array<char, 120> message = {};
};

struct PngSession {
  png_structp png = nullptr;
  png_infop info = nullptr;
  PngStream stream;
};

[[noreturn]] void OnError(png_structp png, png_const_charp text) {
  auto* stream = static_cast<PngStream*>(png_get_error_ptr(png));
  std::strncpy(stream->message.data(), text, stream->message.size() - 1);
  png_longjmp(png, 1);
}

void OnWarning(png_structp, png_const_charp) {}

void ReadBytes(png_structp png, png_bytep target, size_t count) {
  auto* stream = static_cast<PngStream*>(png_get_io_ptr(png));
  const std::vector<Bytes>& pieces = stream->chunks->pieces;
  while (count > 0) {
    if (stream->piece == pieces.size()) png_error(png, "the file is truncated");
    const Bytes piece = pieces[stream->piece].subspan(stream->offset);
    const size_t copied = std::min(count, piece.size());
    if (copied > 0) std::memcpy(target, piece.data(), copied);
    target += copied;
    count -= copied;
    stream->offset += copied;
    if (copied == piece.size()) {
      ++stream->piece;
      stream->offset = 0;
    }
  }
}

// Only trivial objects in the functions that libpng may leave by longjmp.
bool ReadHeader(PngSession* session) {
  session->png =
      png_create_read_struct(PNG_LIBPNG_VER_STRING, &session->stream, OnError, OnWarning);
  if (session->png == nullptr) return false;
  if (setjmp(png_jmpbuf(session->png)) != 0) return false;
  session->info = png_create_info_struct(session->png);
  if (session->info == nullptr) return false;
  png_set_read_fn(session->png, &session->stream, ReadBytes);
  png_set_crc_action(session->png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
  png_set_user_limits(session->png, 0x7fffffff, 0x7fffffff);
  png_read_info(session->png, session->info);
  png_set_packing(session->png);  // 1, 2, 4 bits: one sample a byte, not scaled
  return true;
}

// False when libpng fails or the budget is interrupted.
bool ReadRow(PngSession* session, uint8_t* row, const DecodeBudget& budget) {
  if (budget.Interrupted()) return false;
  if (setjmp(png_jmpbuf(session->png)) != 0) return false;
  png_read_row(session->png, row, nullptr);
  return true;
}

// The pixels of an image that one pass over the data delivers: all of them, or those of one of the
// seven passes of an interlaced file (PNG 2nd edition, 8.2).
struct Pass {
  uint32_t first_row = 0;
  uint32_t first_column = 0;
  uint32_t row_step = 1;
  uint32_t column_step = 1;
};

constexpr Pass kWhole[] = {{}};
constexpr Pass kAdam7[] = {{0, 0, 8, 8}, {0, 4, 8, 8}, {4, 0, 8, 4}, {0, 2, 4, 4},
                           {2, 0, 4, 2}, {0, 1, 2, 2}, {1, 0, 2, 1}};

class PngReader {
 public:
  explicit PngReader(const PngChunks& chunks) { session_.stream.chunks = &chunks; }
  ~PngReader() { png_destroy_read_struct(&session_.png, &session_.info, nullptr); }
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;

  Result<Raster> Read(const DecodeBudget& budget) {
    if (!ReadHeader(&session_)) return Failure();
    const int64_t width = png_get_image_width(session_.png, session_.info);
    const int64_t height = png_get_image_height(session_.png, session_.info);
    RETURN_IF_ERROR(budget.CheckSize(width, height));
    color_type_ = png_get_color_type(session_.png, session_.info);
    bit_depth_ = png_get_bit_depth(session_.png, session_.info);
    num_samples_ = png_get_channels(session_.png, session_.info);
    ReadPalette();
    const bool has_alpha =
        (color_type_ & PNG_COLOR_MASK_ALPHA) != 0 || palette_has_alpha_ || grey_key_ >= 0;
    const int channels = has_alpha ? 4 : 3;
    // libpng holds two rows, we one, of at most four samples of 16 bits.
    RETURN_IF_ERROR(budget.Admit({width, height, channels, width * 8 * 3}));
    Raster raster = MakeRaster("PNG", width, height, channels);
    if (!ReadPixels(budget, &raster)) return Failure();
    return raster;
  }

 private:
  Status Failure() const {
    const char* message = session_.stream.message.data();
    return Unreadable("PNG", *message == '\0' ? "out of memory" : message);
  }

  void ReadPalette() {
    png_colorp colors = nullptr;
    int num_colors = 0;
    if (png_get_PLTE(session_.png, session_.info, &colors, &num_colors) != 0) {
      for (int i = 0; i < num_colors; ++i) {
        palette_.rgba[i][0] = colors[i].red;
        palette_.rgba[i][1] = colors[i].green;
        palette_.rgba[i][2] = colors[i].blue;
      }
    }
    png_bytep alphas = nullptr;
    int num_alphas = 0;
    png_color_16p key = nullptr;
    if (png_get_tRNS(session_.png, session_.info, &alphas, &num_alphas, &key) == 0) return;
    if (color_type_ == PNG_COLOR_TYPE_PALETTE) {
      palette_has_alpha_ = true;
      for (int i = 0; i < num_alphas; ++i) palette_.rgba[i][3] = alphas[i];
    } else if (color_type_ == PNG_COLOR_TYPE_GRAY) {
      // Pillow compares the low byte of the unscaled key with the sample scaled to 8 bits, except
      // for 1 bit, where any key but 0 means white. An RGB key is ignored by transformers.
      grey_key_ = bit_depth_ == 1 ? (key->gray != 0 ? 255 : 0) : key->gray & 255;
    }
  }

  // Without libpng's own handling of interlaced files, which holds all samples at once.
  bool ReadPixels(const DecodeBudget& budget, Raster* raster) {
    const bool interlaced =
        png_get_interlace_type(session_.png, session_.info) != PNG_INTERLACE_NONE;
    const uint32_t width = static_cast<uint32_t>(raster->width);
    const uint32_t height = static_cast<uint32_t>(raster->height);
    const size_t channels = static_cast<size_t>(raster->channels);
    std::vector<uint8_t> samples(size_t{width} * static_cast<size_t>(num_samples_) *
                                 (bit_depth_ == 16 ? 2 : 1));
    for (const Pass& pass : interlaced ? std::span<const Pass>(kAdam7) : kWhole) {
      if (pass.first_column >= width) continue;
      const size_t count = (width - pass.first_column - 1) / pass.column_step + 1;
      for (uint32_t y = pass.first_row; y < height; y += pass.row_step) {
        if (!ReadRow(&session_, samples.data(), budget)) return false;
        uint8_t* out = raster->pixels.data() + (size_t{y} * width + pass.first_column) * channels;
        Convert(samples.data(), count, channels, pass.column_step * channels, out);
      }
    }
    return true;
  }

  // out: the first of count pixels, out_step bytes apart.
  void Convert(const uint8_t* samples, size_t count, size_t channels, size_t out_step,
               uint8_t* out) const {
    const size_t sample_bytes = bit_depth_ == 16 ? 2 : 1;
    const size_t step = sample_bytes * static_cast<size_t>(num_samples_);
    const bool grey = (color_type_ & PNG_COLOR_MASK_COLOR) == 0;
    for (size_t i = 0; i < count; ++i, samples += step, out += out_step) {
      if (color_type_ == PNG_COLOR_TYPE_PALETTE) {
        std::copy_n(palette_.rgba[*samples], channels, out);
        continue;
      }
      for (size_t c = 0; c < 3; ++c) out[c] = grey ? Grey(samples) : samples[c * sample_bytes];
      if (channels == 4) out[3] = Alpha(samples, sample_bytes, out[0]);
    }
  }

  uint8_t Grey(const uint8_t* sample) const {
    switch (bit_depth_) {
      case 1:
        return static_cast<uint8_t>(*sample * 255);
      case 2:
        return static_cast<uint8_t>(*sample * 85);
      case 4:
        return static_cast<uint8_t>(*sample * 17);
      case 8:
        return *sample;
      default:  // 16 bits: clipped without alpha, the high byte with it
        return num_samples_ == 1 && sample[0] != 0 ? uint8_t{255}
               : num_samples_ == 1                 ? sample[1]
                                                   : sample[0];
    }
  }

  uint8_t Alpha(const uint8_t* samples, size_t sample_bytes, uint8_t grey) const {
    if (grey_key_ >= 0) return grey == grey_key_ ? 0 : 255;
    return samples[sample_bytes * static_cast<size_t>(num_samples_ - 1)];
  }

  PngSession session_;
  Palette palette_;
  int color_type_ = 0;
  int bit_depth_ = 0;
  int num_samples_ = 0;  // per pixel
  bool palette_has_alpha_ = false;
  int grey_key_ = -1;  // 8-bit grey that is transparent, -1 none
};

}  // namespace

Result<Raster> DecodePng(Bytes file, const DecodeBudget& budget) {
  ASSIGN_OR_RETURN(const PngChunks chunks, WalkPngChunks(file, budget));
  ASSIGN_OR_RETURN(Raster raster, PngReader(chunks).Read(budget));
  raster.orientation = CombinedOrientation(chunks.exif, chunks.xmp);
  return raster;
}

}  // namespace idefics
