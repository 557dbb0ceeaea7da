// SPDX-License-Identifier: Apache-2.0
// The parts of a divided linear, and their sum.
#include "weights/cut_tensor.h"

#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>
#include <thread>

#include "predictor/model/reducers.h"
#include "predictor/ops/packed_weight.h"
#include "tests/model/packed_linears.h"
#include "weights/device_copies.h"

namespace idefics::test {
namespace {

constexpr LinearSize kSize{200, 384};

struct Stored {
  const char* form;
  at::Tensor weight, scale;
  at::Tensor (*unpack)(const at::Tensor& weight, const at::Tensor& scale, int64_t n, int64_t k);
};

at::Tensor Unscaled(const at::Tensor& weight, const at::Tensor& /*scale*/, int64_t n, int64_t k) {
  return UnpackWeight(weight, n, k);
}

std::vector<Stored> AllForms() {
  const at::Tensor w = at::randn({kSize.n, kSize.k});
  const Quantized int8 = RandomInt8(kSize);
  const Quantized int4 = RandomInt4(kSize);
  return {{"f32", Tiled(w, 1).squeeze(3), {}, Unscaled},
          {"bf16", Tiled(w.to(at::kBFloat16), 2), {}, Unscaled},
          {"int8", int8.weight, int8.scale, DequantizeInt8},
          {"int4", int4.weight, int4.scale, DequantizeInt4}};
}

at::Tensor Part(const Stored& stored, const LinearShard& shard, int64_t n, int64_t k) {
  const at::Tensor scale = stored.scale.defined() ? CutScale(stored.scale, shard) : at::Tensor();
  const at::Tensor weight = CutWeight(stored.weight, shard);
  CHECK(weight.is_contiguous());
  return stored.unpack(weight, scale, n, k);
}

TEST_CASE("columns of a stored weight are those of W, at the bounds of tiles and between them",
          "[ranks]") {
  for (const Stored& stored : AllForms()) {
    CAPTURE(stored.form);
    const at::Tensor w = stored.unpack(stored.weight, stored.scale, kSize.n, kSize.k);
    const auto expect = [&](const std::vector<Run>& runs) {
      std::vector<at::Tensor> rows;
      int64_t n = 0;
      for (const Run& run : runs) {
        rows.push_back(w.narrow(0, run.begin, run.count));
        n += run.count;
      }
      CHECK(Part(stored, {runs, {}, 0}, n, kSize.k).equal(at::cat(rows)));
    };
    expect({{64, 128}});
    expect({{0, 64}, {128, 64}});
    expect({{3, 50}, {70, 96}, {199, 1}});
  }
}

TEST_CASE("inputs of a stored weight are those of W", "[ranks]") {
  for (const Stored& stored : AllForms()) {
    CAPTURE(stored.form);
    const at::Tensor w = stored.unpack(stored.weight, stored.scale, kSize.n, kSize.k);
    for (const Run inputs : {Run{0, 128}, Run{128, 256}, Run{256, 128}}) {
      CHECK(Part(stored, {{}, inputs, kSize.k}, kSize.n, inputs.count)
                .equal(w.narrow(1, inputs.begin, inputs.count)));
    }
  }
}

TEST_CASE("tensors arrive on a device as they were added, whole and cut", "[ranks]") {
  DeviceCopies copies(at::kCPU);
  const Stored stored = AllForms()[1];
  const LinearShard shard{{{3, 50}, {70, 96}}, {}, 0};
  for (int turn = 0; turn < 2; ++turn) {
    std::vector<at::Tensor> expected;
    for (const at::Tensor& tensor : {at::randn({3, 5}), at::randint(255, {40'000'000}, at::kByte),
                                     at::randn({}), at::empty({0, 4}), stored.weight}) {
      copies.Add(expected.emplace_back(tensor));
    }
    copies.AddMade(stored.weight.nbytes(), [&] { return CutWeight(stored.weight, shard); });
    expected.push_back(CutWeight(stored.weight, shard));
    uint64_t bytes = stored.weight.nbytes();  // of what is cut, as stored
    for (size_t i = 0; i < 5; ++i) bytes += expected[i].nbytes();
    uint64_t copied = 0;
    const std::vector<at::Tensor> there = copies.Run([&](uint64_t now) { copied += now; });
    REQUIRE(there.size() == expected.size());
    for (size_t i = 0; i < there.size(); ++i) {
      CHECK(at::equal(there[i], expected[i]));
      CHECK((there[i].numel() == 0 || there[i].data_ptr() != expected[i].data_ptr()));
    }
    CHECK(copied == bytes);
  }
}

// What each of the ranks gets for its tensor.
std::vector<at::Tensor> SumOnRanks(const std::vector<at::Tensor>& parts) {
  RankGroup group(static_cast<int>(parts.size()), std::chrono::minutes(1));
  std::vector<at::Tensor> sums(parts.size());
  std::vector<std::thread> threads;
  for (size_t rank = 0; rank < parts.size(); ++rank) {
    threads.emplace_back([&, rank] {
      const auto reducer = MakeCpuReducer(&group, static_cast<int>(rank));
      const UseReducer use(reducer.get());
      for (int turn = 0; turn < 20; ++turn) sums[rank] = AllReduce(parts[rank] * (turn + 1));
    });
  }
  for (std::thread& thread : threads) thread.join();
  return sums;
}

TEST_CASE("ranks add in their order, in f32, and have the same bits", "[ranks]") {
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf}) {
    for (const int ranks : {2, 3, 4}) {
      std::vector<at::Tensor> parts;
      for (int rank = 0; rank < ranks; ++rank) parts.push_back(at::randn({5, 70}).to(type));
      at::Tensor expected = at::zeros({5, 70});
      for (const at::Tensor& part : parts) expected = expected + (part * 20).to(at::kFloat);
      for (const at::Tensor& sum : SumOnRanks(parts)) CHECK(sum.equal(expected.to(type)));
    }
  }
}

TEST_CASE("without ranks a sum is what is given to it", "[ranks]") {
  const at::Tensor x = at::randn({3, 4});
  CHECK(AllReduce(x).is_same(x));
}

}  // namespace
}  // namespace idefics::test
