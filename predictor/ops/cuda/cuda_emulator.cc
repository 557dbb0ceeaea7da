// SPDX-License-Identifier: Apache-2.0
#include "predictor/ops/cuda/cuda_emulator.h"

#include <setjmp.h>
#include <ucontext.h>

#include <array>
#include <cstdint>
#include <memory>
#include <stdexcept>
#include <vector>

namespace idefics::host_cuda {
namespace {

constexpr size_t kStackBytes = 128 * 1024;
constexpr unsigned kWarpLanes = 32;
constexpr unsigned kMaxThreads = 1024;

struct Barrier {
  unsigned members = 0;
  unsigned arrived = 0;
  uint64_t round = 0;
};

struct Copy {
  void* to;
  const void* from;
};

struct Warp {
  Barrier barrier;
  std::array<uint64_t, kWarpLanes> places{};
};

// ucontext gives a fiber its stack. Later switches use _setjmp and _longjmp, which, unlike
// swapcontext, make no system call.
struct Fiber {
  ucontext_t first_turn{};
  jmp_buf resume{};
  bool started = false;
  const Barrier* waits_at = nullptr;
  uint64_t waits_for_round = 0;
  bool done = false;
  std::vector<std::vector<Copy>> copies{{}};  // groups that are not made yet; the last one is open
};

// One block of threads.
class Block {
 public:
  Block(unsigned threads, const std::function<void()>& kernel);

  // Runs all threads of block blockIdx to their end.
  void Run();

  void Wait(Barrier& barrier) {
    if (++barrier.arrived == barrier.members) {
      barrier.arrived = 0;
      ++barrier.round;
      return;
    }
    Fiber& self = fibers_[running_];
    self.waits_at = &barrier;
    self.waits_for_round = barrier.round + 1;
    EndTurn(self);
  }

  Barrier& block_barrier() { return block_barrier_; }
  std::vector<std::vector<Copy>>& copies() { return fibers_[running_].copies; }
  Warp& warp() { return warps_[running_ / kWarpLanes]; }

 private:
  static void Enter();
  static void Prepare(ucontext_t& first_turn, char* stack);

  bool TakeTurn(unsigned index);
  void Resume(Fiber& fiber);
  void EndTurn(Fiber& fiber);

  const std::function<void()>& kernel_;
  std::vector<Fiber> fibers_;
  std::vector<Warp> warps_;
  Barrier block_barrier_;
  jmp_buf scheduler_{};
  unsigned running_ = 0;
};

Block* current_block = nullptr;

// Stacks are kept from grid to grid: new memory would cost more than most kernels.
char* StackOf(size_t fiber) {
  static std::vector<std::unique_ptr<char[]>> stacks(kMaxThreads);
  if (!stacks[fiber]) stacks[fiber] = std::make_unique_for_overwrite<char[]>(kStackBytes);
  return stacks[fiber].get();
}

Block::Block(unsigned threads, const std::function<void()>& kernel)
    : kernel_(kernel), fibers_(threads), warps_(threads / kWarpLanes) {
  for (size_t i = 0; i < fibers_.size(); ++i) Prepare(fibers_[i].first_turn, StackOf(i));
}

void Block::Prepare(ucontext_t& first_turn, char* stack) {
  getcontext(&first_turn);
  first_turn.uc_stack.ss_sp = stack;
  first_turn.uc_stack.ss_size = kStackBytes;
  makecontext(&first_turn, &Block::Enter, 0);
}

// A fiber runs one thread of each block, block after block.
void Block::Enter() {
  Block& block = *current_block;
  Fiber& self = block.fibers_[block.running_];
  while (true) {
    block.kernel_();
    self.done = true;
    block.EndTurn(self);
  }
}

void Block::Resume(Fiber& fiber) {
  if (_setjmp(scheduler_) != 0) return;
  if (fiber.started) _longjmp(fiber.resume, 1);
  fiber.started = true;
  setcontext(&fiber.first_turn);
}

void Block::EndTurn(Fiber& fiber) {
  if (_setjmp(fiber.resume) == 0) _longjmp(scheduler_, 1);
}

// Returns whether the fiber could move on.
bool Block::TakeTurn(unsigned index) {
  Fiber& fiber = fibers_[index];
  if (fiber.done) return false;
  if (fiber.waits_at != nullptr && fiber.waits_at->round < fiber.waits_for_round) return false;
  fiber.waits_at = nullptr;
  running_ = index;
  threadIdx = {index, 0, 0};
  Resume(fiber);
  return true;
}

void Block::Run() {
  const auto threads = static_cast<unsigned>(fibers_.size());
  block_barrier_ = {.members = threads};
  for (Warp& warp : warps_) warp.barrier = {.members = kWarpLanes};
  for (Fiber& fiber : fibers_) {
    fiber.done = false;
    fiber.waits_at = nullptr;
    fiber.copies.assign(1, {});
  }
  bool moved = true;
  while (moved) {
    moved = false;
    for (unsigned i = 0; i < threads; ++i) {
      moved |= TakeTurn(schedule_order == ScheduleOrder::kForward ? i : threads - 1 - i);
    }
  }
  for (const Fiber& fiber : fibers_) {
    if (!fiber.done) {
      throw std::logic_error("a thread waits at a barrier or shuffle that others never reach");
    }
  }
}

}  // namespace

void RunBlocks(dim3 grid, unsigned threads, const std::function<void()>& kernel) {
  if (threads == 0 || threads > kMaxThreads || threads % kWarpLanes != 0) {
    throw std::logic_error("a block needs 32 to 1024 threads, a multiple of 32");
  }
  gridDim = grid;
  blockDim = {threads, 1, 1};
  Block block(threads, kernel);
  current_block = &block;
  const uint64_t blocks = uint64_t{grid.x} * grid.y * grid.z;
  for (uint64_t i = 0; i < blocks; ++i) {
    const uint64_t turn = schedule_order == ScheduleOrder::kForward ? i : blocks - 1 - i;
    blockIdx = {static_cast<unsigned>(turn % grid.x), static_cast<unsigned>(turn / grid.x % grid.y),
                static_cast<unsigned>(turn / grid.x / grid.y)};
    block.Run();
  }
  current_block = nullptr;
}

void __syncthreads() { current_block->Wait(current_block->block_barrier()); }

void __syncwarp() { WarpBarrier(); }

void CopyAsync(void* to, const void* from) { current_block->copies().back().push_back({to, from}); }

void CommitAsyncCopies() { current_block->copies().emplace_back(); }

void WaitForAsyncCopies(size_t but) {
  auto& groups = current_block->copies();
  while (groups.size() - 1 > but) {
    for (const Copy& copy : groups.front()) std::memcpy(copy.to, copy.from, 16);
    groups.erase(groups.begin());
  }
}

void* WarpPlace(unsigned lane) { return &current_block->warp().places[lane]; }

void WarpBarrier() { current_block->Wait(current_block->warp().barrier); }

}  // namespace idefics::host_cuda
