// SPDX-License-Identifier: Apache-2.0
// WebP by libwebp's animation decoder, the one that Pillow uses for still images too.
#include <webp/decode.h>
#include <webp/demux.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "predictor/images/exif.h"
#include "predictor/images/raster.h"

namespace idefics {
namespace {

struct DemuxerDeleter {
  void operator()(WebPDemuxer* demuxer) const { WebPDemuxDelete(demuxer); }
};
struct DecoderDeleter {
  void operator()(WebPAnimDecoder* decoder) const { WebPAnimDecoderDelete(decoder); }
};

Bytes FindChunk(const WebPDemuxer* demuxer, const char* name) {
  WebPChunkIterator chunk;
  if (WebPDemuxGetChunk(demuxer, name, 1, &chunk) == 0) return {};
  const Bytes bytes(chunk.chunk.bytes, chunk.chunk.size);  // lies in the file itself
  WebPDemuxReleaseChunkIterator(&chunk);
  return bytes;
}

int Orientation(const WebPDemuxer* demuxer) {
  const Bytes xmp = FindChunk(demuxer, "XMP ");
  return CombinedOrientation(
      FindChunk(demuxer, "EXIF"),
      std::string_view(reinterpret_cast<const char*>(xmp.data()), xmp.size()));
}

}  // namespace

Result<Raster> DecodeWebp(Bytes file, const DecodeBudget& budget) {
  const WebPData data{file.data(), file.size()};
  const std::unique_ptr<WebPDemuxer, DemuxerDeleter> demuxer(WebPDemux(&data));
  if (demuxer == nullptr) return Unreadable("WEBP", "it is damaged or truncated");
  const int64_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
  const int64_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
  // The decoder's two canvases and its own pixels, 4 bytes each, beside ours. The library cannot be
  // interrupted: the price is what bounds its time, too.
  RETURN_IF_ERROR(budget.Admit({width, height, 16}));
  WebPBitstreamFeatures features;
  const bool opaque = WebPGetFeatures(file.data(), file.size(), &features) == VP8_STATUS_OK &&
                      features.has_alpha == 0;

  const std::unique_ptr<WebPAnimDecoder, DecoderDeleter> decoder(
      WebPAnimDecoderNew(&data, nullptr));
  uint8_t* canvas = nullptr;  // [height, width, 4], owned by the decoder
  int end_ms = 0;
  if (decoder == nullptr || WebPAnimDecoderGetNext(decoder.get(), &canvas, &end_ms) == 0) {
    return Unreadable("WEBP", "its first frame is damaged or truncated");
  }
  const int channels = opaque ? 3 : 4;
  Raster raster = MakeRaster("WEBP", width, height, channels);
  raster.orientation = Orientation(demuxer.get());
  uint8_t* out = raster.pixels.data();
  for (int64_t y = 0; y < height && !budget.Interrupted(); ++y) {
    for (int64_t x = 0; x < width; ++x, canvas += 4) out = std::copy_n(canvas, channels, out);
  }
  return raster;
}

}  // namespace idefics
