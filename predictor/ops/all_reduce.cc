// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/all_reduce.h"

#include <utility>

namespace idefics {
namespace {

thread_local Reducer* reducer = nullptr;

}  // namespace

UseReducer::UseReducer(Reducer* mine) : previous_(std::exchange(reducer, mine)) {}
UseReducer::~UseReducer() { reducer = previous_; }

at::Tensor AllReduce(const at::Tensor& x) {
  return reducer == nullptr ? x : reducer->Sum(x.contiguous());
}

}  // namespace idefics
