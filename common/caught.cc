// SPDX-License-Identifier: Apache-2.0
#include "common/caught.h"

#include <unistd.h>

#include <exception>
#include <string>
#include <string_view>

#include "common/log.h"

namespace idefics {
namespace {

void LogCurrent(const char* what) {
  try {
    throw;
  } catch (const std::exception& e) {
    LogError(std::string(what) + " ended in an exception: " + e.what());
  } catch (...) {
    LogError(std::string(what) + " ended in an exception.");
  }
}

}  // namespace

void LogCaught(const char* what) noexcept {
  try {
    LogCurrent(what);
  } catch (...) {
    constexpr std::string_view kPlain = "error: a thread caught an exception; memory is short\n";
    [[maybe_unused]] const ssize_t n = write(STDERR_FILENO, kPlain.data(), kPlain.size());
  }
}

}  // namespace idefics
