// SPDX-License-Identifier: Apache-2.0
// libFuzzer target of the walk over a PNG's chunks: the pieces for libpng lie in the file, in
// order.
#include "common/check.h"
#include "predictor/images/exif.h"
#include "predictor/images/png_chunks.h"
#include "tests/fuzz/repair.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace idefics;
  constexpr size_t kSignatureBytes = 8;
  if (size < kSignatureBytes) return 0;
  const auto chunks = WalkPngChunks({data, size}, DecodeBudget({}));
  if (!chunks.ok()) return 0;
  const uint8_t* last = data;
  for (const Bytes piece : chunks->pieces) {
    if (piece.data() < data || piece.data() > data + size) continue;  // one of the new ones
    IDEFICS_CHECK(piece.data() >= last && piece.size() <= size - (piece.data() - data));
    last = piece.data() + piece.size();
  }
  const int orientation = CombinedOrientation(chunks->exif, chunks->xmp);
  IDEFICS_CHECK(orientation >= 1 && orientation <= 8);
  return 0;
}

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

// NOLINTNEXTLINE(readability-identifier-naming): libFuzzer's name
extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* data, size_t size, size_t max_size,
                                          unsigned int seed) {
  size = LLVMFuzzerMutate(data, size, max_size);
  if (seed % 16 != 0) idefics::RepairPng(data, size);
  return size;
}
