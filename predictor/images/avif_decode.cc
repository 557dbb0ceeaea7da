// SPDX-License-Identifier: Apache-2.0
// AVIF by libavif, with the decoder settings of Pillow's AvifImagePlugin.
#include <avif/avif.h>

#include <algorithm>
#include <memory>
#include <string>
#include <string_view>

#include "predictor/images/avif_source.h"
#include "predictor/images/exif.h"
#include "predictor/images/raster.h"

namespace idefics {
namespace {

struct DecoderDeleter {
  void operator()(avifDecoder* decoder) const { avifDecoderDestroy(decoder); }
};

// The EXIF orientation that says the same as the irot (quarter turns against the clock) and imir
// (mirror axis) boxes; ISO/IEC 23008-12 6.5.10, 6.5.12.
int OrientationOfBoxes(const avifImage& image) {
  const bool mirrored = (image.transformFlags & AVIF_TRANSFORM_IMIR) != 0;
  const int angle = (image.transformFlags & AVIF_TRANSFORM_IROT) != 0 ? image.irot.angle & 3 : 0;
  constexpr int kTurned[] = {1, 8, 3, 6};
  constexpr int kTurnedThenTopBottom[] = {4, 5, 2, 7};
  constexpr int kTurnedThenLeftRight[] = {2, 7, 4, 5};
  if (!mirrored) return kTurned[angle];
#if AVIF_VERSION >= 1000000  // renamed in 1.0
  const int axis = image.imir.axis;
#else
  const int axis = image.imir.mode;
#endif
  return axis == 0 ? kTurnedThenTopBottom[angle] : kTurnedThenLeftRight[angle];
}

// Pillow writes what the boxes say into the EXIF data; only XMP is left to an image without any.
int Orientation(const avifImage& image) {
  const int boxes = OrientationOfBoxes(image);
  const Bytes exif(image.exif.data, image.exif.size);
  if (boxes != 1 || OrientationFromExif(exif) != 0) return boxes;
  return CombinedOrientation(
      {}, std::string_view(reinterpret_cast<const char*>(image.xmp.data), image.xmp.size));
}

Status Failure(avifResult result) { return Unreadable("AVIF", avifResultToString(result)); }

}  // namespace

Result<Raster> DecodeAvif(Bytes file, const DecodeBudget& budget) {
  const std::unique_ptr<avifDecoder, DecoderDeleter> decoder(avifDecoderCreate());
  if (decoder == nullptr) return Status::Internal("libavif cannot create a decoder");
  RETURN_IF_ERROR(CheckAvifBoxes(file));
  decoder->maxThreads = 1;
  decoder->imageCountLimit = 1 << 16;  // frames; a table of them is made, from a few bytes
  decoder->strictFlags &=
      ~static_cast<avifStrictFlags>(AVIF_STRICT_CLAP_VALID | AVIF_STRICT_PIXI_REQUIRED);
  AvifSource source(file, budget, decoder.get());
  avifResult result = avifDecoderParse(decoder.get());
  if (result != AVIF_RESULT_OK) return Failure(result);
  // Two decoded images of up to 4 bytes a pixel (a grid is put together from its tiles), the
  // decoder's own, and ours. The library cannot be interrupted: the price bounds its time, too.
  RETURN_IF_ERROR(budget.Admit({decoder->image->width, decoder->image->height, 16}));
  source.LimitFrames(decoder->image->width, decoder->image->height);
  result = avifDecoderNthImage(decoder.get(), 0);
  if (result != AVIF_RESULT_OK) return Failure(result);

  const avifImage& image = *decoder->image;
  RETURN_IF_ERROR(budget.CheckSize(image.width, image.height));
  const int channels = decoder->alphaPresent ? 4 : 3;
  Raster raster = MakeRaster("AVIF", image.width, image.height, channels);
  raster.orientation = Orientation(image);
  avifRGBImage rgb;
  avifRGBImageSetDefaults(&rgb, &image);
  rgb.depth = 8;
  rgb.format = channels == 4 ? AVIF_RGB_FORMAT_RGBA : AVIF_RGB_FORMAT_RGB;
  rgb.pixels = raster.pixels.data();
  rgb.rowBytes = static_cast<uint32_t>(raster.width * channels);
  result = avifImageYUVToRGB(&image, &rgb);
  if (result != AVIF_RESULT_OK) return Failure(result);
  return raster;
}

}  // namespace idefics
