// SPDX-License-Identifier: Apache-2.0
// The sums of predictor/ops/cuda/peer_sum.cuh with a thread for each rank's GPU. A preset with
// ThreadSanitizer sees every access that the protocol does not order.
#include "predictor/ops/cuda/peer_sum.cuh"

#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <memory>
#include <random>
#include <thread>
#include <vector>

namespace idefics::host_cuda {
namespace {

constexpr int kPackFloats = kPeerPackBytes / static_cast<int>(sizeof(float));

struct alignas(kPeerPackBytes) Floats {
  float at[kPackFloats];
};

// What each rank gives for sum `number`: of magnitudes between which f32 rounds.
std::vector<Floats> Part(int rank, int number, int64_t packs) {
  std::minstd_rand random(static_cast<unsigned>(rank * 1000 + number + 1));
  std::vector<Floats> part(static_cast<size_t>(packs));
  for (Floats& pack : part) {
    for (float& value : pack.at) {
      value = static_cast<float>(static_cast<int>(random() % 2001) - 1000) *
              (random() % 2 == 0 ? 1.0f : 1e-5f);
    }
  }
  return part;
}

// In the order of the ranks.
std::vector<Floats> Expected(int ranks, int number, int64_t packs) {
  std::vector<Floats> sum = Part(0, number, packs);
  for (int rank = 1; rank < ranks; ++rank) {
    const std::vector<Floats> part = Part(rank, number, packs);
    for (size_t at = 0; at < part.size(); ++at) {
      for (int i = 0; i < kPackFloats; ++i) sum[at].at[i] += part[at].at[i];
    }
  }
  return sum;
}

// As PeerSumKernel, with the blocks one after another and loops in the place of threads.
void RunSum(const PeerSum& a) {
  const auto slices = static_cast<int>((a.packs + kPeerThreads - 1) / kPeerThreads);
  for (int slice = 0; slice < slices; ++slice) {
    uint32_t& sums = a.inboxes[a.rank]->sums[slice];
    const uint32_t sum = sums + 1;
    for (int t = 0; t < kPeerThreads; ++t) SendPart(a, slice, t, sum);
    for (int t = 0; t < kPeerThreads; ++t) Announce(a, slice, t, sum);
    for (int t = 0; t < kPeerThreads; ++t) AwaitPart(a, slice, t, sum);
    for (int t = 0; t < kPeerThreads; ++t) AddParts<float>(a, slice, t, sum);
    sums = sum;
  }
}

struct Inboxes {
  std::vector<std::unique_ptr<PeerInbox>> own;

  explicit Inboxes(int ranks, uint32_t sums_before = 0) {
    for (int rank = 0; rank < ranks; ++rank) {
      PeerInbox& inbox = *own.emplace_back(std::make_unique<PeerInbox>());
      for (uint32_t& sums : inbox.sums) sums = sums_before;
      for (auto& peer : inbox.arrived) {
        for (uint32_t& arrived : peer) arrived = sums_before;
      }
    }
  }

  PeerSum Sum(int rank, const std::vector<Floats>& x, std::vector<Floats>* out) const {
    PeerSum sum{.x = x.data(),
                .out = out->data(),
                .packs = static_cast<int64_t>(x.size()),
                .rank = rank,
                .ranks = static_cast<int>(own.size()),
                .patience_ns = 0,
                .inboxes = {}};
    for (size_t peer = 0; peer < own.size(); ++peer) sum.inboxes[peer] = own[peer].get();
    return sum;
  }
};

// Makes sums of these sizes on every rank at once; how many came out otherwise.
int WrongSums(const Inboxes& inboxes, const std::vector<int64_t>& sizes) {
  const auto ranks = static_cast<int>(inboxes.own.size());
  std::vector<int> wrong(inboxes.own.size());
  std::vector<std::thread> threads;
  for (int rank = 0; rank < ranks; ++rank) {
    threads.emplace_back([&, rank] {
      for (size_t number = 0; number < sizes.size(); ++number) {
        const auto at = static_cast<int>(number);
        const std::vector<Floats> x = Part(rank, at, sizes[number]);
        std::vector<Floats> out(x.size());
        RunSum(inboxes.Sum(rank, x, &out));
        const std::vector<Floats> expected = Expected(ranks, at, sizes[number]);
        const size_t bytes = out.size() * sizeof(Floats);
        wrong[static_cast<size_t>(rank)] += std::memcmp(out.data(), expected.data(), bytes) != 0;
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  int all = 0;
  for (const int count : wrong) all += count;
  return all;
}

// Sums of one slice, of several and of part of one, in an order without pattern.
std::vector<int64_t> MixedSizes(int count) {
  std::minstd_rand random(5);
  std::vector<int64_t> sizes;
  for (int i = 0; i < count; ++i) {
    sizes.push_back(random() % 3 == 0 ? 1
                                      : 1 + static_cast<int64_t>(random() % (5 * kPeerThreads)));
  }
  return sizes;
}

TEST_CASE("every rank gets the sum in the order of the ranks, bit for bit, time after time",
          "[peer_sum]") {
  for (const int ranks : {1, 2, 3, 8}) {
    INFO(ranks << " ranks");
    CHECK(WrongSums(Inboxes(ranks), MixedSizes(60)) == 0);
  }
}

TEST_CASE("a sum may have as many slices as an inbox", "[peer_sum]") {
  const int64_t most = int64_t{kMaxSlices} * kPeerThreads;
  CHECK(WrongSums(Inboxes(2), {most, 1, most, most - 1, most}) == 0);
}

TEST_CASE("the count of sums may pass the end of its 32 bits", "[peer_sum]") {
  CHECK(WrongSums(Inboxes(2, /*sums_before=*/UINT32_MAX - 3), MixedSizes(10)) == 0);
}

TEST_CASE("a rank that waits longer than it may says so", "[peer_sum]") {
  const Inboxes inboxes(2);
  const std::vector<Floats> x(3);
  std::vector<Floats> out(3);
  PeerSum sum = inboxes.Sum(0, x, &out);
  sum.patience_ns = 1;
  RunSum(sum);
  CHECK(inboxes.own[0]->gave_up == 1);
}

}  // namespace
}  // namespace idefics::host_cuda
