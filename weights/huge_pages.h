// SPDX-License-Identifier: Apache-2.0
// Weights on pages of 2 MiB. A stream of weights meets the end of a page, where a core looks up the
// next one's address, 512 times less often there than in a file's pages of 4 KiB.
#pragma once

#include <filesystem>
#include <vector>

#include "common/status.h"
#include "weights/safetensors.h"

namespace idefics {

// Whether the system gives such pages to programs that ask. `root`: of the file system, for tests.
bool HasHugePages(const std::filesystem::path& root = "/");

// The tensors in memory of their own, in their order, each at a cache line; a system without huge
// pages gives small ones. `num_threads` copy, with a bar on stderr; what they have read counts no
// longer as this process's memory. Fails with kOutOfMemory. REQUIRES: they lie in mapped files.
Result<std::vector<TensorView>> CopyToHugePages(const std::vector<TensorView>& tensors,
                                                int num_threads);

}  // namespace idefics
