// SPDX-License-Identifier: Apache-2.0
// The sum over the ranks of a model that is divided among several devices: what
// idefics::all_reduce does on the calling thread.
#pragma once

#include <ATen/core/Tensor.h>

namespace idefics {

// One rank's end of the sum. Used by that rank's thread.
class Reducer {
 public:
  virtual ~Reducer() = default;

  // The sum of what all ranks give for this call, the same bits on each. x: contiguous, alike on
  // all ranks. Throws c10::Error where another rank failed or does not come.
  virtual at::Tensor Sum(const at::Tensor& x) = 0;
};

// While it lives, idefics::all_reduce on this thread is reducer.Sum. Without one it is its
// argument: a model on one device.
class UseReducer {
 public:
  explicit UseReducer(Reducer* reducer);
  ~UseReducer();
  UseReducer(const UseReducer&) = delete;
  UseReducer& operator=(const UseReducer&) = delete;

 private:
  Reducer* const previous_;
};

at::Tensor AllReduce(const at::Tensor& x);

}  // namespace idefics
