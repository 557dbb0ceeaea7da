// SPDX-License-Identifier: Apache-2.0
// A whole file, mapped read-only. The mapping lives as long as the last copy of `owner`.
#pragma once

#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>

#include "common/status.h"

namespace idefics {

struct MappedFile {
  std::span<const uint8_t> bytes;  // empty file: empty, owner null
  std::shared_ptr<const void> owner;
};

// Fails with kInvalidInput where `path` is no readable regular file. A file that is cut short while
// it is mapped ends the process when its lost pages are read (SIGBUS), with status 1 and a log line
// that names the file: bundles are not edited in place. REQUIRES: InitLog was called, if at all.
Result<MappedFile> MapFile(const std::filesystem::path& path);

}  // namespace idefics
