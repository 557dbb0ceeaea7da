// SPDX-License-Identifier: Apache-2.0
// SafetensorsFile: one *.safetensors file, mapped read-only, its header checked as hostile input.
// Layout: u64 little-endian header length, JSON header, data. Immutable after Open, any thread.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "common/status.h"
#include "weights/dtype.h"

namespace idefics {

// One stored tensor. Copies are cheap; each keeps the mapping alive.
struct TensorView {
  std::string name;  // "decoder.groups.0.layers.0.qkv"
  DType dtype = DType::kF32;
  std::vector<int64_t> shape;      // empty: a scalar
  std::span<const uint8_t> bytes;  // dense, row-major; page cache, not copied
  std::shared_ptr<const void> mapping;
};

class SafetensorsFile {
 public:
  // Fails with kInvalidInput where the file is missing, truncated or its header is malformed: a
  // header over 100 MB, an unknown dtype, a shape that does not fit its offsets, offsets that
  // overlap, leave a gap or leave the file, a name given twice.
  static Result<SafetensorsFile> Open(const std::filesystem::path& path);

  // In the order of their bytes in the file.
  const std::vector<TensorView>& tensors() const { return tensors_; }

 private:
  SafetensorsFile() = default;

  std::vector<TensorView> tensors_;
};

}  // namespace idefics
