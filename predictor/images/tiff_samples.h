// SPDX-License-Identifier: Apache-2.0
// Samples of a TIFF, as libtiff delivers them (native byte order, most significant bit first), to
// RGB or RGBA. The accepted layouts and their meaning are the table OPEN_INFO of Pillow's
// TiffImagePlugin. Internal to predictor/images. Stateless; any thread.
#pragma once

#include <cstddef>
#include <cstdint>

#include "predictor/images/raster.h"

namespace idefics {

struct TiffLayout {
  uint16_t photometric = 0;
  uint16_t bits = 0;         // per sample
  uint16_t num_samples = 0;  // per pixel, extra ones included
  uint16_t num_extra = 0;
  uint16_t first_extra = 0;      // 0 unspecified, 1 premultiplied alpha, 2 straight alpha
  uint16_t sample_format = 1;    // 1 unsigned, 2 signed, 3 IEEE float
  bool separate_planes = false;  // only RGB is read so
  Palette palette;
};

Status CheckLayout(const TiffLayout& layout);

// 3 or 4. REQUIRES (also below): CheckLayout is ok.
int ChannelsOf(const TiffLayout& layout);

// count pixels with their samples side by side -> out [count, ChannelsOf].
void StorePixels(const TiffLayout& layout, const uint8_t* in, size_t count, uint8_t* out);

// count samples of one plane -> their channel of out [count, ChannelsOf].
void StorePlane(const TiffLayout& layout, int plane, const uint8_t* in, size_t count, uint8_t* out);

// What needs all planes: premultiplied alpha in separate planes.
void FinishPixels(const TiffLayout& layout, Raster* raster);

}  // namespace idefics
