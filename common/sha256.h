// SPDX-License-Identifier: Apache-2.0
// SHA-256 of bytes, as 64 lower-case hex digits. OpenSSL's libcrypto does the work.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string>

namespace idefics {

// A running digest; one thread at a time.
class Sha256 {
 public:
  Sha256();
  ~Sha256();
  Sha256(const Sha256&) = delete;
  Sha256& operator=(const Sha256&) = delete;

  void Update(std::span<const uint8_t> bytes);
  // Hex digest. REQUIRES: called once; no Update after it.
  std::string Finish();

 private:
  struct Context;
  std::unique_ptr<Context> context_;
};

std::string Sha256Hex(std::span<const uint8_t> bytes);

}  // namespace idefics
