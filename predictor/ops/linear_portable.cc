// SPDX-License-Identifier: Apache-2.0
// Plain C++ for any CPU; the compiler may vectorise over the eight lanes.
#include "predictor/ops/linear_tile.h"

namespace idefics {
namespace {

constexpr int64_t kLanes = 8;

struct Lanes {
  float value[kLanes] = {};
};

template <typename T>
struct Plain {
  using Element = T;
  using Operand = Lanes;
  using Sum = Lanes;
  static constexpr int64_t kStep = kLanes;
  static constexpr int kTileM = 2;
  static constexpr int kTileN = 2;

  static float Widen(float value) { return value; }
  static float Widen(uint16_t bits) { return WidenBf16(bits); }
  static T Narrow(float value) {
    if constexpr (sizeof(T) == sizeof(float)) {
      return value;
    } else {
      return NarrowBf16(value);
    }
  }
  static Operand LoadTail(const T* p, int64_t count) {
    Operand operand;
    for (int64_t i = 0; i < count; ++i) operand.value[i] = Widen(p[i]);
    return operand;
  }
  static Operand Load(const T* p) { return LoadTail(p, kLanes); }
  static void MultiplyAdd(Sum& sum, const Operand& x, const Operand& w) {
    for (int64_t i = 0; i < kLanes; ++i) sum.value[i] += x.value[i] * w.value[i];
  }
  static float Total(const Sum& sum) {
    float total = 0;
    for (const float value : sum.value) total += value;
    return total;
  }
};

}  // namespace

const LinearKernels* LinearKernelsPortable() {
  static constexpr LinearKernels kKernels = {"portable", LinearTiles<Plain<float>>::Run,
                                             LinearTiles<Plain<uint16_t>>::Run};
  return &kKernels;
}

}  // namespace idefics
