// SPDX-License-Identifier: Apache-2.0
#include "common/sha256.h"

#include <openssl/evp.h>

#include <array>

#include "common/check.h"

namespace idefics {

struct Sha256::Context {
  EVP_MD_CTX* digest = EVP_MD_CTX_new();
  ~Context() { EVP_MD_CTX_free(digest); }
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {
  IDEFICS_CHECK_EQ(EVP_DigestInit_ex(context_->digest, EVP_sha256(), nullptr), 1);
}

Sha256::~Sha256() = default;

void Sha256::Update(std::span<const uint8_t> bytes) {
  IDEFICS_CHECK_EQ(EVP_DigestUpdate(context_->digest, bytes.data(), bytes.size()), 1);
}

std::string Sha256::Finish() {
  std::array<unsigned char, 32> raw{};
  unsigned int size = 0;
  IDEFICS_CHECK_EQ(EVP_DigestFinal_ex(context_->digest, raw.data(), &size), 1);
  static constexpr char kHex[] = "0123456789abcdef";
  std::string hex;
  hex.reserve(2 * size);
  for (unsigned int i = 0; i < size; ++i) {
    hex += kHex[raw[i] >> 4];
    hex += kHex[raw[i] & 15];
  }
  return hex;
}

std::string Sha256Hex(std::span<const uint8_t> bytes) {
  Sha256 digest;
  digest.Update(bytes);
  return digest.Finish();
}

}  // namespace idefics
