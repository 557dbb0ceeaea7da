// SPDX-License-Identifier: Apache-2.0
// JPEG by libjpeg-turbo with its defaults (accurate integer IDCT, fancy upsampling), as Pillow
// does.
// jpeglib.h needs size_t and FILE declared before it.
// clang-format off
#include <cstddef>
#include <cstdio>
#include <jpeglib.h>
// clang-format on

#include <algorithm>
#include <csetjmp>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "predictor/images/exif.h"
#include "predictor/images/jpeg_segments.h"
#include "predictor/images/raster.h"

namespace idefics {
namespace {

// libjpeg-turbo's own advice: a small file with thousands of scans keeps a core busy for minutes.
constexpr int kMaxScans = 500;

enum class Step { kDone, kStarved, kFailed, kTooManyPasses };

// libjpeg's state. Its callbacks find it through the first members; nothing in it has a destructor,
// because libjpeg reports errors by longjmp.
struct Session {
  jpeg_decompress_struct info;
  jpeg_error_mgr errors;
  jpeg_source_mgr source;
  jpeg_progress_mgr progress;
  const DecodeBudget* budget;
  std::jmp_buf on_error;
  bool too_many_passes;
  char message[JMSG_LENGTH_MAX];
};

Session* SessionOf(j_common_ptr info) { return static_cast<Session*>(info->client_data); }

[[noreturn]] void OnError(j_common_ptr info) {
  info->err->format_message(info, SessionOf(info)->message);
  std::longjmp(SessionOf(info)->on_error, 1);
}

void OnMessage(j_common_ptr) {}

int64_t NumPixels(const jpeg_decompress_struct& info) {
  return int64_t{info.image_width} * info.image_height;
}

// Called for every row of blocks that is read, and for every row of pixels.
void OnProgress(j_common_ptr info) {
  if (info->is_decompressor == 0) return;
  const auto* decompressor = reinterpret_cast<j_decompress_ptr>(info);
  const int num_scans = decompressor->input_scan_number;
  Session* session = SessionOf(info);
  if (num_scans > kMaxScans) {
    std::snprintf(session->message, sizeof(session->message), "more than %d scans", kMaxScans);
  } else if (session->budget->TooManyPasses(NumPixels(*decompressor), num_scans)) {
    session->too_many_passes = true;
  } else if (!session->budget->Interrupted()) {
    return;
  }
  std::longjmp(session->on_error, 1);
}

void SourceNothing(j_decompress_ptr) {}

// All bytes are there from the start: a request for more means that the file is cut off.
boolean SourceFill(j_decompress_ptr) { return FALSE; }

void SourceSkip(j_decompress_ptr info, long count) {  // NOLINT(google-runtime-int): libjpeg's type
  const size_t skipped = std::min(static_cast<size_t>(std::max(count, 0L)),  // NOLINT
                                  info->src->bytes_in_buffer);
  info->src->next_input_byte += skipped;
  info->src->bytes_in_buffer -= skipped;
}

class JpegReader {
 public:
  JpegReader() : session_(std::make_unique<Session>()) {
    std::memset(session_.get(), 0, sizeof(Session));
  }
  ~JpegReader() {
    if (created_) jpeg_destroy_decompress(&session_->info);
  }
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;

  Result<Raster> Read(Bytes file, const DecodeBudget& budget) {
    session_->budget = &budget;
    segments_ = FindJpegSegments(file, budget);
    RETURN_IF_ERROR(StatusOf(ReadHeader(session_.get(), file.data(), file.size(), &created_)));
    jpeg_decompress_struct& info = session_->info;
    RETURN_IF_ERROR(budget.CheckSize(info.image_width, info.image_height));
    const int components = info.num_components;
    if (components != 1 && components != 3 && components != 4) {
      return Unreadable("JPEG", std::to_string(components) + " colour components");
    }
    DecodePrice price{info.image_width, info.image_height, 3, 0};
    if (jpeg_has_multiple_scans(&info) != FALSE) price.extra_bytes += CoefficientBytes(info);
    RETURN_IF_ERROR(budget.Admit(price));
    Raster raster =
        MakeRaster(HoldsSeveralPictures() ? "MPO" : "JPEG", info.image_width, info.image_height, 3);
    raster.orientation = Orientation();
    std::vector<uint8_t> row(static_cast<size_t>(raster.width) * 4);
    RETURN_IF_ERROR(StatusOf(ReadPixels(session_.get(), row.data(), raster.pixels.data())));
    return raster;
  }

 private:
  // Several scans: libjpeg keeps the coefficients of the whole image until the last.
  static int64_t CoefficientBytes(const jpeg_decompress_struct& info) {
    int64_t bytes = 0;
    for (int i = 0; i < info.num_components; ++i) {
      const jpeg_component_info& component = info.comp_info[i];
      bytes += int64_t{component.width_in_blocks} * component.height_in_blocks *
               static_cast<int64_t>(sizeof(JBLOCK));
    }
    return bytes;
  }

  Status StatusOf(Step step) const {
    switch (step) {
      case Step::kDone:
        return Status::Ok();
      case Step::kStarved:
        return Truncated("JPEG");
      case Step::kTooManyPasses:
        return Status::TooLarge(
            "image is " + std::to_string(session_->info.image_width) + "x" +
            std::to_string(session_->info.image_height) + " pixels in more than " +
            std::to_string(session_->info.input_scan_number - 1) + " scans, the limit is " +
            std::to_string(session_->budget->limits().max_pixel_passes) +
            " pixels in all scans: save it with one scan (not progressive)");
      default:
        return Unreadable("JPEG", session_->message);
    }
  }

  // Only trivial objects in the functions that libjpeg may leave by longjmp.
  static Step ReadHeader(Session* session, const uint8_t* data, size_t size, bool* created) {
    jpeg_decompress_struct& info = session->info;
    info.err = jpeg_std_error(&session->errors);
    session->errors.error_exit = OnError;
    session->errors.output_message = OnMessage;
    info.client_data = session;
    if (setjmp(session->on_error) != 0) return Step::kFailed;
    jpeg_create_decompress(&info);
    *created = true;
    session->source.init_source = SourceNothing;
    session->source.term_source = SourceNothing;
    session->source.fill_input_buffer = SourceFill;
    session->source.skip_input_data = SourceSkip;
    session->source.resync_to_restart = jpeg_resync_to_restart;
    session->source.next_input_byte = data;
    session->source.bytes_in_buffer = size;
    info.src = &session->source;
    session->progress.progress_monitor = OnProgress;
    info.progress = &session->progress;
    if (jpeg_read_header(&info, TRUE) != JPEG_HEADER_OK) return Step::kStarved;
    info.out_color_space = info.num_components == 1   ? JCS_GRAYSCALE
                           : info.num_components == 3 ? JCS_RGB
                                                      : JCS_CMYK;
    return Step::kDone;
  }

  // rgb: [height, width, 3]; row: width * 4 bytes of scratch.
  static Step ReadPixels(Session* session, uint8_t* row, uint8_t* rgb) {
    jpeg_decompress_struct& info = session->info;
    if (setjmp(session->on_error) != 0) {
      return session->too_many_passes ? Step::kTooManyPasses : Step::kFailed;
    }
    if (jpeg_start_decompress(&info) == FALSE) return Step::kStarved;
    const size_t row_bytes = static_cast<size_t>(info.output_width) * 3;
    while (info.output_scanline < info.output_height) {
      uint8_t* out = rgb + info.output_scanline * row_bytes;
      JSAMPROW target = info.output_components == 3 ? out : row;
      if (jpeg_read_scanlines(&info, &target, 1) != 1) return Step::kStarved;
      if (info.output_components == 3) continue;
      if (info.output_components == 1) {
        ExpandGrey(row, info.output_width, out);
      } else {
        ExpandInvertedCmyk(row, info.output_width, out);
      }
    }
    return Step::kDone;  // a missing end marker after the last row is forgiven, as in Pillow
  }

  static void ExpandGrey(const uint8_t* grey, size_t count, uint8_t* rgb) {
    for (size_t x = 0; x < count; ++x) std::fill_n(rgb + 3 * x, 3, grey[x]);
  }

  // Pillow takes every four-component JPEG as inverted, the way Adobe writes them.
  static void ExpandInvertedCmyk(uint8_t* row, size_t count, uint8_t* rgb) {
    for (size_t i = 0; i < 4 * count; ++i) row[i] = static_cast<uint8_t>(255 - row[i]);
    for (size_t x = 0; x < count; ++x) CmykToRgb(row + 4 * x, rgb + 3 * x);
  }

  // Calls visit(payload) for each segment of the marker that starts with the prefix.
  template <typename Visitor>
  void ForEachSegment(int marker, std::string_view prefix, Visitor visit) const {
    for (const auto& [segment_marker, data] : segments_) {
      if (segment_marker != marker || data.size() < prefix.size()) continue;
      if (std::memcmp(data.data(), prefix.data(), prefix.size()) != 0) continue;
      visit(data.subspan(prefix.size()));
    }
  }

  int Orientation() const {
    std::vector<uint8_t> exif;  // Pillow joins several EXIF segments and keeps the last XMP packet
    ForEachSegment(JPEG_APP0 + 1, std::string_view("Exif\0\0", 6),
                   [&](Bytes data) { exif.insert(exif.end(), data.begin(), data.end()); });
    std::string xmp;
    ForEachSegment(JPEG_APP0 + 1, std::string_view("http://ns.adobe.com/xap/1.0/\0", 29),
                   [&](Bytes data) { xmp.assign(data.begin(), data.end()); });
    return CombinedOrientation(exif, xmp);
  }

  // A Multi-Picture file with more than one image (its first is read), unless Ultra HDR.
  bool HoldsSeveralPictures() const {
    constexpr uint32_t kNumPicturesTag = 45057;
    bool several = false;
    ForEachSegment(JPEG_APP0 + 2, std::string_view("MPF\0", 4),
                   [&](Bytes data) { several = FirstDirectoryNumber(data, kNumPicturesTag) > 1; });
    bool ultra_hdr = false;
    ForEachSegment(JPEG_APP0 + 1, "", [&](Bytes data) {
      constexpr std::string_view kGainMap = " hdrgm:Version=\"";
      const std::string_view text(reinterpret_cast<const char*>(data.data()), data.size());
      ultra_hdr = ultra_hdr || text.find(kGainMap) != text.npos;
    });
    return several && !ultra_hdr;
  }

  std::vector<JpegSegment> segments_;
  std::unique_ptr<Session> session_;
  bool created_ = false;
};

}  // namespace

Result<Raster> DecodeJpeg(Bytes file, const DecodeBudget& budget) {
  return JpegReader().Read(file, budget);
}

}  // namespace idefics
