// SPDX-License-Identifier: Apache-2.0
// Every version of the idefics:: operators against the reference, over random ragged steps.
#include <ATen/ATen.h>

#include <catch2/catch_test_macros.hpp>
#include <string>
#include <vector>

#include "tests/model/operators.h"
#include "tests/model/ragged_step.h"

namespace idefics::test {
namespace {

constexpr uint64_t kSeed = 20261121;
constexpr double kEps = 1e-6;
const at::ScalarType kTypes[] = {at::kFloat, at::kBFloat16, at::kHalf};

std::vector<Operators> FastOperators() { return {RegisteredOperators(), HostCudaOperators()}; }

void CheckClose(const at::Tensor& mine, const at::Tensor& truth) {
  const Difference difference = Compare(mine, truth);
  INFO(difference.text);
  CHECK(difference.largest <= 1);
}

// Calls run(step) for every step shape and element type, with the caches in that type and in 8 bit.
template <typename Run>
void ForEachStep(const Run& run) {
  for (const StepShape& shape : StepShapes()) {
    for (const at::ScalarType type : kTypes) {
      INFO(shape.name << ", " << at::toString(type));
      const RaggedStep step = MakeStep(shape, type, kSeed);
      run(step);
      INFO("the caches in 8 bit");
      run(step.InInt8());
    }
  }
}

at::Tensor Attend(const Operators& operators, const RaggedStep& step) {
  return operators.attend(step.q, step.k_cache, step.v_cache, step.row_starts, step.kv_starts,
                          step.kv_lengths);
}

at::Tensor AttendImage(const Operators& operators, const RaggedStep& step) {
  return operators.attend_image(step.q, step.image_k, step.image_v, step.image_slots);
}

at::Tensor RopeWrite(const Operators& operators, const RaggedStep& step) {
  return operators.rope_write(step.qkv, step.cos, step.sin, step.kv_slots, step.k_cache,
                              step.v_cache);
}

TEST_CASE("every rms_norm agrees with the reference", "[ops]") {
  for (const int64_t size : {16, 20, 128, 1000, 1024, 1536, 4097}) {
    for (const at::ScalarType type : kTypes) {
      const at::Tensor x = Random({5, 3, size}, type, kSeed) * 3;
      const at::Tensor weight = Random({size}, type, kSeed + 1);
      const at::Tensor truth = ReferenceOperators().rms_norm(x, weight, kEps);
      for (const Operators& operators : FastOperators()) {
        INFO(operators.name << ", size " << size << ", " << at::toString(type));
        CheckClose(operators.rms_norm(x, weight, kEps), truth);
      }
    }
  }
}

TEST_CASE("rms_norm takes rows that do not lie one behind the other", "[ops]") {
  const at::Tensor x = Random({2, 3, 4, 32}, at::kFloat, kSeed).permute({1, 0, 2, 3});
  const at::Tensor weight = Random({32}, at::kFloat, kSeed + 1);
  const at::Tensor truth = ReferenceOperators().rms_norm(x, weight, kEps);
  for (const Operators& operators : FastOperators()) {
    INFO(operators.name);
    CheckClose(operators.rms_norm(x, weight, kEps), truth);
  }
}

// 16-bit rows of equal numbers have an exact mean of squares, so that every bit is decided by the
// roundings: docs/model.md#rmsnorm rounds the normalised value, then the product.
TEST_CASE("rms_norm in 16 bit rounds twice", "[ops]") {
  for (const at::ScalarType type : {at::kBFloat16, at::kHalf}) {
    const at::Tensor x = at::full({1, 64}, 1.5, at::TensorOptions().dtype(type));
    const at::Tensor weight = Random({64}, type, kSeed);
    const at::Tensor normal = at::full({64}, 1.5 / std::sqrt(2.25 + 0.05)).to(type);
    const at::Tensor twice = (weight.to(at::kFloat) * normal.to(at::kFloat)).to(type);
    const at::Tensor once = (weight.to(at::kFloat) * (1.5 / std::sqrt(2.25 + 0.05))).to(type);
    REQUIRE_FALSE(at::equal(once, twice));
    for (const Operators& operators :
         {ReferenceOperators(), RegisteredOperators(), HostCudaOperators()}) {
      INFO(operators.name << ", " << at::toString(type));
      CHECK(at::equal(operators.rms_norm(x, weight, 0.05).flatten(), twice));
    }
  }
}

TEST_CASE("every add_norm agrees with the reference", "[ops]") {
  for (const int64_t size : {16, 20, 128, 1000, 1536, 4097}) {
    for (const at::ScalarType type : kTypes) {
      const at::Tensor x = Random({5, size}, type, kSeed) * 3;
      const at::Tensor y = Random({5, size}, type, kSeed + 1);
      const at::Tensor weight = Random({size}, type, kSeed + 2);
      for (const std::optional<at::Tensor>& gate :
           {std::optional<at::Tensor>(), std::optional(Random({1}, type, kSeed + 3)),
            std::optional(Random({size}, type, kSeed + 4))}) {
        const auto [sum, normal] = ReferenceOperators().add_norm(x, y, gate, weight, kEps);
        for (const Operators& operators : FastOperators()) {
          INFO(operators.name << ", size " << size << ", " << at::toString(type) << ", gates "
                              << (gate ? gate->numel() : 0));
          const auto [my_sum, my_normal] = operators.add_norm(x, y, gate, weight, kEps);
          // The product is rounded, then the sum.
          if (type != at::kFloat) CHECK(at::equal(my_sum, sum));
          CheckClose(my_sum, sum);
          CheckClose(my_normal, normal);
        }
      }
    }
  }
}

TEST_CASE("add_norm leaves what it cannot read as rows to the reference", "[ops]") {
  const at::Tensor x = Random({3, 32}, at::kFloat, kSeed);
  const at::Tensor y = Random({32, 3}, at::kFloat, kSeed + 1).t();  // not contiguous
  const at::Tensor weight = Random({32}, at::kFloat, kSeed + 2);
  const at::Tensor gates = Random({3, 1}, at::kFloat, kSeed + 3);  // one a row
  const auto [sum, normal] = ReferenceOperators().add_norm(x, y, gates, weight, kEps);
  for (const Operators& operators : FastOperators()) {
    INFO(operators.name);
    const auto [my_sum, my_normal] = operators.add_norm(x, y, gates, weight, kEps);
    CheckClose(my_sum, sum);
    CheckClose(my_normal, normal);
  }
}

TEST_CASE("every rope_write agrees with the reference and leaves other slots alone", "[ops]") {
  ForEachStep([](const RaggedStep& step) {
    const RaggedStep reference = step.To(at::kCPU);
    const at::Tensor truth = RopeWrite(ReferenceOperators(), reference);
    REQUIRE_FALSE(at::equal(reference.k_cache, step.k_cache));
    for (const Operators& operators : FastOperators()) {
      INFO(operators.name);
      const RaggedStep mine = step.To(at::kCPU);
      CheckClose(RopeWrite(operators, mine), truth);
      CheckClose(mine.Keys(), reference.Keys());
      CHECK(at::equal(mine.v_cache, reference.v_cache));
    }
  });
}

TEST_CASE("the CPU rope_write is the reference bit by bit", "[ops]") {
  ForEachStep([](const RaggedStep& step) {
    const RaggedStep reference = step.To(at::kCPU);
    const RaggedStep mine = step.To(at::kCPU);
    CHECK(at::equal(RopeWrite(RegisteredOperators(), mine),
                    RopeWrite(ReferenceOperators(), reference)));
    CHECK(at::equal(mine.k_cache, reference.k_cache));
  });
}

TEST_CASE("a cache in 8 bit holds what the other would, to half a code", "[ops]") {
  for (const StepShape& shape : StepShapes()) {
    for (const at::ScalarType type : kTypes) {
      const RaggedStep exact = MakeStep(shape, type, kSeed);
      const RaggedStep coded = exact.InInt8();
      const at::Tensor q = RopeWrite(RegisteredOperators(), exact);
      CHECK(at::equal(RopeWrite(RegisteredOperators(), coded), q));
      const auto check = [](const at::Tensor& stored, const at::Tensor& numbers) {
        const at::Tensor wide = numbers.to(at::kFloat);
        const at::Tensor code = wide.abs().amax(-1, /*keepdim=*/true) / 127;
        CHECK(((stored - wide).abs() <= code * 0.5001).all().item<bool>());
      };
      INFO(shape.name << ", " << at::toString(type));
      check(coded.Keys(), exact.k_cache);
      check(coded.Values(), exact.v_cache);
    }
  }
}

TEST_CASE("zeros stay zeros in 8 bit, and what is not finite stays seen", "[ops]") {
  const StepShape shape{"one token", {1}, {0}, 2, 16, 8};
  for (const Operators& operators :
       {ReferenceOperators(), RegisteredOperators(), HostCudaOperators()}) {
    for (const float number : {0.0f, INFINITY, -INFINITY, NAN}) {
      INFO(operators.name << ", " << number);
      RaggedStep step = MakeStep(shape, at::kFloat, kSeed).InInt8();
      const int64_t slot = step.kv_slots.item<int32_t>();
      step.qkv.zero_();
      step.qkv[0][2 * 32 + 16 + 3] = number;  // v of the second head
      RopeWrite(operators, step);
      CHECK(step.Keys()[slot].eq(0).all().item<bool>());
      const at::Tensor values = step.Values()[slot];
      CHECK(values[0].eq(0).all().item<bool>());
      CHECK(values[1].isnan().all().item<bool>() == (number != 0));
    }
  }
}

TEST_CASE("every attend agrees with the reference", "[ops]") {
  ForEachStep([](const RaggedStep& step) {
    const at::Tensor truth = Attend(ReferenceOperators(), step);
    for (const Operators& operators : FastOperators()) {
      INFO(operators.name);
      CheckClose(Attend(operators, step), truth);
    }
  });
}

TEST_CASE("attend may split the keys of a row over blocks", "[ops]") {
  SetHostProcessors(132);
  for (const StepShape& shape :
       {StepShape{"long decode rows", {1, 1, 1}, {700, 130, 5}, 2, 64, 8},
        StepShape{"short rows beside a prompt", {1, 40, 3, 4}, {700, 0, 300, 2}, 2, 64, 8}}) {
    for (const at::ScalarType type : kTypes) {
      const RaggedStep step = MakeStep(shape, type, kSeed);
      for (const RaggedStep& stored : {step, step.InInt8()}) {
        CheckClose(Attend(HostCudaOperators(), stored), Attend(ReferenceOperators(), stored));
      }
    }
  }
  SetHostProcessors(1);
}

TEST_CASE("every attend_image agrees with the reference and is zero without an image", "[ops]") {
  ForEachStep([](const RaggedStep& step) {
    const at::Tensor truth = AttendImage(ReferenceOperators(), step);
    const at::Tensor blind = step.image_slots.lt(0);
    for (const Operators& operators : FastOperators()) {
      INFO(operators.name);
      const at::Tensor mine = AttendImage(operators, step);
      CheckClose(mine, truth);
      CHECK(mine.index({blind}).eq(0).all().item<bool>());
    }
  });
}

TEST_CASE("every swiglu agrees with the reference", "[ops]") {
  for (const int64_t size : {8, 21, 1032, 2752}) {
    for (const at::ScalarType type : kTypes) {
      const at::Tensor gate_up = Random({5, 2 * size}, type, kSeed) * 4;
      const at::Tensor truth = ReferenceOperators().swiglu(gate_up);
      for (const Operators& operators : FastOperators()) {
        INFO(operators.name << ", size " << size << ", " << at::toString(type));
        CheckClose(operators.swiglu(gate_up), truth);
      }
    }
  }
}

// Row `row` of the step as a step of its own; the caches stay whole.
RaggedStep RowAlone(const RaggedStep& step, int64_t row) {
  const int64_t first = step.row_starts[row].item<int32_t>();
  const int64_t count = step.row_starts[row + 1].item<int32_t>() - first;
  RaggedStep alone = step.To(at::kCPU);
  for (at::Tensor* tensor :
       {&alone.qkv, &alone.q, &alone.cos, &alone.sin, &alone.kv_slots, &alone.image_slots}) {
    *tensor = tensor->narrow(0, first, count).clone();
  }
  alone.row_starts = at::tensor({0, static_cast<int>(count)}, at::kInt);
  alone.kv_starts = step.kv_starts.narrow(0, row, 1).clone();
  alone.kv_lengths = step.kv_lengths.narrow(0, row, 1).clone();
  return alone;
}

TEST_CASE("on the CPU a row's result is the same alone and among others, bit by bit", "[ops]") {
  const Operators cpu = RegisteredOperators();
  ForEachStep([&](const RaggedStep& step) {
    const RaggedStep together = step.To(at::kCPU);
    const at::Tensor weight = Random({step.qkv.size(1)}, step.qkv.scalar_type(), kSeed + 9);
    const at::Tensor normal = cpu.rms_norm(step.qkv, weight, kEps);
    const at::Tensor gated = cpu.swiglu(step.qkv);
    const at::Tensor turned = RopeWrite(cpu, together);
    const at::Tensor mixed = Attend(cpu, step);
    const at::Tensor seen = AttendImage(cpu, step);
    for (int64_t row = 0; row < step.kv_starts.size(0); ++row) {
      const RaggedStep alone = RowAlone(step, row);
      const int64_t first = step.row_starts[row].item<int32_t>();
      const auto same = [&](const at::Tensor& mine, const at::Tensor& whole) {
        return at::equal(mine, whole.narrow(0, first, mine.size(0)));
      };
      CHECK(same(cpu.rms_norm(alone.qkv, weight, kEps), normal));
      CHECK(same(cpu.swiglu(alone.qkv), gated));
      CHECK(same(Attend(cpu, alone), mixed));
      CHECK(same(AttendImage(cpu, alone), seen));
      CHECK(same(RopeWrite(cpu, alone), turned));
      const at::Tensor slots = alone.kv_slots.to(at::kLong);
      CHECK(
          at::equal(alone.k_cache.index_select(0, slots), together.k_cache.index_select(0, slots)));
    }
  });
}

// The attention of tokens `first` … `first + count - 1` of a step of one row, as a piece of their
// own.
at::Tensor AttendPiece(const RaggedStep& step, int64_t first, int64_t count) {
  RaggedStep piece = step;
  piece.q = step.q.narrow(0, first, count).clone();
  piece.row_starts = at::tensor({0, static_cast<int>(count)}, at::kInt);
  piece.kv_lengths = step.kv_lengths.clone();
  piece.kv_lengths.select(1, 1).sub_(static_cast<int>(step.q.size(0) - first - count));
  return Attend(RegisteredOperators(), piece);
}

TEST_CASE("on the CPU a prompt's result does not depend on its pieces, bit by bit", "[ops]") {
  const StepShape shape{"a long prompt after a prefix", {100}, {137}, 3, 24, 8, {70}};
  for (const at::ScalarType type : {at::kFloat, at::kBFloat16, at::kHalf, at::kChar}) {
    const RaggedStep step = type == at::kChar ? MakeStep(shape, at::kBFloat16, kSeed).InInt8()
                                              : MakeStep(shape, type, kSeed);
    const at::Tensor whole = Attend(RegisteredOperators(), step);
    CheckClose(whole, Attend(ReferenceOperators(), step));
    for (const int64_t size : {1, 3, 16, 33}) {
      INFO("pieces of " << size << ", " << at::toString(type));
      for (int64_t first = 0; first + size <= 100; first += size) {
        CHECK(at::equal(AttendPiece(step, first, size), whole.narrow(0, first, size)));
      }
    }
  }
}

// A missing barrier makes a kernel depend on which thread goes first.
TEST_CASE("the CUDA kernels compute the same bits in whatever order threads run", "[ops]") {
  const Operators cuda = HostCudaOperators();
  const auto run = [&](const RaggedStep& from, bool backward) {
    SetScheduleBackward(backward);
    const RaggedStep step = from.To(at::kCPU);
    const at::Tensor x = Random({3, 2048}, step.q.scalar_type(), kSeed);
    const auto [sum, normal] = cuda.add_norm(x, x, x[1], x[0], kEps);
    std::vector<at::Tensor> results{cuda.rms_norm(x, x[0], kEps),
                                    sum,
                                    normal,
                                    cuda.swiglu(x),
                                    RopeWrite(cuda, step),
                                    Attend(cuda, step),
                                    AttendImage(cuda, step),
                                    step.k_cache,
                                    step.v_cache};
    SetScheduleBackward(false);
    return results;
  };
  SetHostProcessors(8);
  ForEachStep([&](const RaggedStep& step) {
    const auto forward = run(step, false);
    const auto backward = run(step, true);
    for (size_t i = 0; i < forward.size(); ++i) CHECK(at::equal(forward[i], backward[i]));
  });
  SetHostProcessors(1);
}

TEST_CASE("tensors that a kernel cannot read are refused with a sentence", "[ops]") {
  const RaggedStep step = MakeStep(StepShapes()[2], at::kFloat, kSeed);
  RaggedStep wrong;
  for (const Operators& operators : FastOperators()) {
    INFO(operators.name);
    wrong = step.To(at::kCPU);
    wrong.kv_starts = wrong.kv_starts.to(at::kLong);
    CHECK_THROWS_AS(Attend(operators, wrong), c10::Error);
    wrong = step.To(at::kCPU);
    wrong.kv_lengths = wrong.kv_lengths.select(1, 1).contiguous();
    CHECK_THROWS_AS(Attend(operators, wrong), c10::Error);
    wrong = step.To(at::kCPU);
    wrong.image_slots = wrong.image_slots.narrow(0, 0, 1);
    CHECK_THROWS_AS(AttendImage(operators, wrong), c10::Error);
    wrong = step.To(at::kCPU);
    wrong.v_cache = wrong.v_cache.to(at::kHalf);
    CHECK_THROWS_AS(Attend(operators, wrong), c10::Error);
    wrong = step.InInt8();
    wrong.k_cache = wrong.k_cache.narrow(1, 0, wrong.k_cache.size(1) - 4).contiguous();
    CHECK_THROWS_AS(Attend(operators, wrong), c10::Error);
    CHECK_THROWS_AS(RopeWrite(operators, wrong), c10::Error);
    wrong = step.InInt8();
    wrong.v_cache = step.v_cache;
    CHECK_THROWS_AS(Attend(operators, wrong), c10::Error);
    CHECK_THROWS_AS(RopeWrite(operators, wrong), c10::Error);
  }
  CHECK_THROWS_AS(RopeWrite(HostCudaOperators(), wrong), c10::Error);
  CHECK_THROWS_AS(RopeWrite(RegisteredOperators(), wrong), c10::Error);
  CHECK_THROWS_AS(HostCudaOperators().swiglu(at::zeros({2, 8}, at::kDouble)), c10::Error);
}

}  // namespace
}  // namespace idefics::test
