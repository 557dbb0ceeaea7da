// SPDX-License-Identifier: Apache-2.0
// A weight file's header. The first two bytes of the input say how much of the rest is data; an
// even number takes the header's length from what is left, an odd one takes it from the input.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <string>

#include "common/check.h"
#include "weights/safetensors.h"

namespace {

std::string FileBytes(const uint8_t* data, size_t size) {
  const size_t number = data[0] | size_t{data[1]} << 8;
  const std::string rest(reinterpret_cast<const char*>(data) + 2, size - 2);
  if (number % 2 == 1) return rest;
  const size_t header_bytes = rest.size() - std::min(rest.size(), number / 2);
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes += static_cast<char>(header_bytes >> (8 * i));
  return bytes + rest;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const int file = memfd_create("weights", 0);
  static const std::string path = "/proc/self/fd/" + std::to_string(file);
  if (size < 2) return 0;
  const std::string bytes = FileBytes(data, size);
  const auto count = static_cast<ssize_t>(bytes.size());
  IDEFICS_CHECK(ftruncate(file, count) == 0 &&
                pwrite(file, bytes.data(), bytes.size(), 0) == count);
  const auto opened = idefics::SafetensorsFile::Open(path);
  if (!opened.ok()) return 0;
  size_t total = 0;
  for (const idefics::TensorView& tensor : opened->tensors()) {
    const size_t numbers =
        std::accumulate(tensor.shape.begin(), tensor.shape.end(), size_t{1}, std::multiplies<>());
    IDEFICS_CHECK_EQ(tensor.bytes.size(), numbers * idefics::DTypeSize(tensor.dtype));
    total += tensor.bytes.size();
    // Every byte is there to be read.
    volatile uint8_t sum = 0;
    for (const uint8_t byte : tensor.bytes) sum = sum + byte;
  }
  IDEFICS_CHECK(total + 8 <= bytes.size());
  return 0;
}
