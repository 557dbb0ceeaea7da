// SPDX-License-Identifier: Apache-2.0
// Plain C++ for any CPU; the compiler may vectorize over the lanes.
#include "predictor/ops/cpu/linear_loops.h"

namespace idefics {
namespace {

constexpr int kPortableLanes = 16;

template <typename T>
struct Lanes {
  T value[kPortableLanes];
};

struct Portable {
  using Floats = Lanes<float>;
  using Ints = Lanes<int32_t>;
  static constexpr int kLanes = kPortableLanes;
  static constexpr bool kByteDot = true;
  static constexpr bool kSignedDot = false;
  static constexpr bool kWideBlocks = false;
  static constexpr bool kRowPairs = false;
  static constexpr bool kStreamHints = false;
  static constexpr int kMaxRows = 2;
  static constexpr int kBlockRows = 2;
  static constexpr int64_t kFloatBlockSteps = 256;
  static constexpr int Vectors(int) { return 1; }

  // The vector whose lane i is make(i).
  template <typename T, typename Make>
  static Lanes<T> MakeVector(const Make& make) {
    Lanes<T> result;
    for (int i = 0; i < kLanes; ++i) result.value[i] = make(i);
    return result;
  }
  static float AsFloat(uint32_t bits) { return __builtin_bit_cast(float, bits); }

  static Floats Load(const float* p) {
    return MakeVector<float>([p](int i) { return p[i]; });
  }
  static void Store(float* p, const Floats& value) {
    for (int i = 0; i < kLanes; ++i) p[i] = value.value[i];
  }
  static Floats ZeroFloats() { return SetFloat(0); }
  static Floats SetFloat(float value) {
    return MakeVector<float>([value](int) { return value; });
  }
  static Ints SetInt(int32_t value) {
    return MakeVector<int32_t>([value](int) { return value; });
  }
  static Floats ToFloats(const Ints& a) {
    return MakeVector<float>([&a](int i) { return static_cast<float>(a.value[i]); });
  }
  static Floats MultiplyAdd(const Floats& a, const Floats& b, const Floats& c) {
    return MakeVector<float>([&](int i) { return a.value[i] * b.value[i] + c.value[i]; });
  }
  static Floats Multiply(const Floats& a, const Floats& b) {
    return MakeVector<float>([&](int i) { return a.value[i] * b.value[i]; });
  }
  static Floats WidenBf16(const uint16_t* p) {
    return MakeVector<float>([p](int i) { return AsFloat(static_cast<uint32_t>(p[i]) << 16); });
  }
  static Ints LoadWords(const uint32_t* p) {
    return MakeVector<int32_t>([p](int i) { return static_cast<int32_t>(p[i]); });
  }
  static Ints BroadcastWord(const uint32_t* p) { return SetInt(static_cast<int32_t>(*p)); }
  static void DotF32(Floats& sum, const Ints& w, const Ints& x) {
    for (int i = 0; i < kLanes; ++i) {
      sum.value[i] +=
          AsFloat(static_cast<uint32_t>(w.value[i])) * AsFloat(static_cast<uint32_t>(x.value[i]));
    }
  }
  static void DotBf16(Floats& sum, const Ints& w, const Ints& x) {
    for (int i = 0; i < kLanes; ++i) {
      const auto a = static_cast<uint32_t>(w.value[i]);
      const auto b = static_cast<uint32_t>(x.value[i]);
      sum.value[i] += AsFloat(a << 16) * AsFloat(b << 16);
      sum.value[i] += AsFloat(a & 0xffff0000) * AsFloat(b & 0xffff0000);
    }
  }
  static void DotU8S8(Ints& sum, const Ints& w, const Ints& x) {
    for (int i = 0; i < kLanes; ++i) {
      for (int shift = 0; shift < 32; shift += 8) {
        sum.value[i] += ((w.value[i] >> shift) & 0xff) *
                        static_cast<int8_t>(static_cast<uint32_t>(x.value[i]) >> shift);
      }
    }
  }
  static Ints LowNibbles(const Ints& w) {
    return MakeVector<int32_t>([&w](int i) { return w.value[i] & 0x0f0f0f0f; });
  }
  static Ints HighNibbles(const Ints& w) {
    return MakeVector<int32_t>([&w](int i) {
      return static_cast<int32_t>((static_cast<uint32_t>(w.value[i]) >> 4) & 0x0f0f0f0f);
    });
  }
};

}  // namespace

const LinearKernels* LinearKernelsPortable() {
  static constexpr LinearKernels kKernels = {"portable",
                                             kF32Kernel<Portable>,
                                             kBf16Kernel<Portable>,
                                             kInt8Kernel<Portable>,
                                             kInt4Kernel<Portable>,
                                             /*int8_takes_shorts=*/false};
  return &kKernels;
}

}  // namespace idefics
