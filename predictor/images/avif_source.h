// SPDX-License-Identifier: Apache-2.0
// What libavif reads an AVIF from. libavif decodes every frame and every tile that a file names
// before it compares one with the size of the image, and none of this can be interrupted: some
// kilobytes can name thousands of frames as large as they please. So the frames are counted while
// libavif reads them, and share the pixels that the image may cost. Internal to predictor/images.
#pragma once

#include <avif/avif.h>

#include <cstdint>

#include "predictor/images/raster.h"

namespace idefics {

// Judges the boxes that describe the image, before libavif sees them: kTooLarge where they are so
// large that its searches through lists of them take long (their time grows with the square);
// kInvalidInput for what the counting cannot see: items in several pieces, or items larger than the
// description of a grid among the descriptions (ISO/IEC 14496-12, 8.11.3: iloc).
Status CheckAvifBoxes(Bytes file);

class AvifSource {
 public:
  // Keeps a pointer to each; the decoder reads from this as long as it lives.
  AvifSource(Bytes file, const DecodeBudget& budget, avifDecoder* decoder);
  ~AvifSource() { avifDecoderSetIO(decoder_, nullptr); }
  AvifSource(const AvifSource&) = delete;
  AvifSource& operator=(const AvifSource&) = delete;

  // To be called when the file is parsed: all frames together may have so many pixels as an image
  // of this size may cost.
  void LimitFrames(int64_t width, int64_t height);

 private:
  static avifResult Read(avifIO* io, uint32_t flags, uint64_t offset, size_t size, avifROData* out);
  void ShareOut();

  avifIO io_ = {};
  Bytes file_;
  const DecodeBudget& budget_;
  avifDecoder* decoder_;
  int64_t read_left_;  // bytes
  int64_t num_frames_ = 0;
  int64_t most_pixels_ = 0;  // of all frames; 0: not yet known
};

// Frames in a sequence of OBUs (AV1 specification, 5.3).
int64_t CountAv1Frames(Bytes obus);

}  // namespace idefics
