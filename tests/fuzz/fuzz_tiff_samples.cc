// SPDX-License-Identifier: Apache-2.0
// libFuzzer target of the TIFF samples: a layout in the first bytes, samples behind them. Every
// accepted layout reads and writes exactly what its sizes say.
#include <vector>

#include "common/check.h"
#include "predictor/images/tiff_samples.h"

namespace idefics {
namespace {

constexpr size_t kLayoutBytes = 8;

TiffLayout ReadLayout(const uint8_t* data) {
  TiffLayout layout;
  layout.photometric = data[0] % 8;
  layout.bits = data[1];
  layout.num_samples = data[2] % 8;
  layout.num_extra = data[3] % 4;
  layout.first_extra = data[4] == 255 ? uint16_t{999} : uint16_t{data[4]};
  layout.sample_format = data[5] % 5;
  layout.separate_planes = (data[6] & 1) != 0;
  return layout;
}

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace idefics;
  if (size < kLayoutBytes) return 0;
  const TiffLayout layout = ReadLayout(data);
  if (!CheckLayout(layout).ok()) return 0;
  const size_t num_samples = layout.separate_planes ? 1 : layout.num_samples;
  const size_t count = (size - kLayoutBytes) * 8 / (num_samples * layout.bits);
  // Of the right size to the byte, so that AddressSanitizer sees a step beyond.
  const size_t in_bytes = (count * num_samples * layout.bits + 7) / 8;
  const std::vector<uint8_t> in(data + kLayoutBytes, data + kLayoutBytes + in_bytes);
  Raster raster = MakeRaster("TIFF", static_cast<int64_t>(count), 1, ChannelsOf(layout));
  if (layout.separate_planes) {
    for (int plane = 0; plane < layout.num_samples; ++plane) {
      StorePlane(layout, plane, in.data(), count, raster.pixels.data());
    }
  } else {
    StorePixels(layout, in.data(), count, raster.pixels.data());
  }
  FinishPixels(layout, &raster);
  return 0;
}
