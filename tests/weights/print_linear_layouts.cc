// SPDX-License-Identifier: Apache-2.0
// Prints weights/linear_layout.h for the sizes `n k n k …` of the command line, one line for each
// tensor: form, n, k, "weight" or "scale", type, shape. tests/export/test_packing.py compares it
// with the exporter's.
#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "weights/linear_layout.h"

namespace idefics {
namespace {

void Print(const LinearFormat& format, int64_t n, int64_t k, const char* name,
           const StoredTensor& tensor) {
  if (tensor.rank == 0) return;
  const bool plain = std::string_view(format.quantization) == "none";
  std::printf("%s %ld %ld %s %s", plain ? DTypeName(format.dtype) : format.quantization, n, k, name,
              DTypeName(tensor.dtype));
  for (int i = 0; i < tensor.rank; ++i) std::printf(" %ld", tensor.sizes[i]);
  std::printf("\n");
}

}  // namespace
}  // namespace idefics

int main(int count, char** arguments) {
  for (int i = 1; i + 1 < count; i += 2) {
    const int64_t n = std::atol(arguments[i]);
    const int64_t k = std::atol(arguments[i + 1]);
    for (const idefics::LinearFormat& format : idefics::kLinearFormats) {
      const idefics::LinearLayout layout = idefics::LayoutOf(format.form, n, k);
      idefics::Print(format, n, k, "weight", layout.weight);
      idefics::Print(format, n, k, "scale", layout.scale);
    }
  }
  return 0;
}
