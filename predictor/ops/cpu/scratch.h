// SPDX-License-Identifier: Apache-2.0
// Memory of the CPU's operators: for what they compute on the way, and for results.
#pragma once

#include <ATen/EmptyTensor.h>
#include <ATen/core/Tensor.h>

#include <cstddef>
#include <memory>
#include <new>
#include <type_traits>
#include <vector>

namespace idefics {

// Arrays on cache lines, not initialized, until it goes. What a decode step needs is memory that
// the thread keeps, since malloc gathers what it has free at each large block: that was 1.5 % of a
// step. One at a time in a thread, which alone calls it. Throws std::bad_alloc.
class Scratch {
 public:
  static constexpr size_t kKept = size_t{1} << 20;  // bytes

  Scratch() {
    thread_local const Memory kept = Make(kKept);
    kept_ = kept.get();
  }
  Scratch(const Scratch&) = delete;
  Scratch& operator=(const Scratch&) = delete;

  template <typename T>
  T* Take(size_t count) {
    static_assert(std::is_trivial_v<T>);
    const size_t bytes = (count * sizeof(T) + kLine - 1) / kLine * kLine;
    if (bytes > kKept - used_) return reinterpret_cast<T*>(own_.emplace_back(Make(bytes)).get());
    used_ += bytes;
    return reinterpret_cast<T*>(kept_ + used_ - bytes);
  }

 private:
  static constexpr size_t kLine = 64;
  struct Deleter {
    void operator()(std::byte* memory) const {
      ::operator delete (memory, std::align_val_t{kLine});
    }
  };
  using Memory = std::unique_ptr<std::byte, Deleter>;
  static Memory Make(size_t bytes) {
    return Memory(static_cast<std::byte*>(::operator new (bytes, std::align_val_t{kLine})));
  }

  std::byte* kept_;
  size_t used_ = 0;
  std::vector<Memory> own_;
};

// A result: as at::empty for `like`'s options, but without the dispatcher, whose code no cache
// holds any more after a linear.
inline at::Tensor Uninitialized(at::IntArrayRef sizes, const at::Tensor& like) {
  return at::Tensor(at::detail::empty_cpu(sizes, like.options()));
}

}  // namespace idefics
