// SPDX-License-Identifier: Apache-2.0
// Weights on pages of 2 MiB. A stream of weights meets the end of a page, where a core looks up the
// next one's address, 512 times less often there than in a file's pages of 4 KiB.
#pragma once

#include <cstdint>
#include <filesystem>
#include <stop_token>
#include <thread>
#include <vector>

#include "common/status.h"
#include "weights/safetensors.h"

namespace idefics {

// Whether the system gives such pages to programs that ask. `root`: of the file system, for tests.
bool HasHugePages(const std::filesystem::path& root = "/");

// Copies the tensors, 64 MiB at a time, and lets each copy take the place of the file's pages:
// addresses and bytes stay, so other threads may read them meanwhile, and need no word of it. Less
// than 2 MiB at each end of a file stay as they are; a system without huge pages gives small ones.
// Ends early when asked to. Fails with kOutOfMemory where there is no room for the next copy; those
// before stay. REQUIRES: the tensors lie in mapped files (mapped_file.h).
Status MoveToHugePages(const std::vector<TensorView>& tensors, const std::stop_token& stop);

// Does so on a thread of its own, and logs how that ended. Its destructor ends it early.
class HugePageMover {
 public:
  explicit HugePageMover(std::vector<TensorView> tensors);

 private:
  std::jthread thread_;
};

}  // namespace idefics
