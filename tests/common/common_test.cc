// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <string>

#include "common/log.h"
#include "common/sha256.h"
#include "common/status.h"

namespace idefics {
namespace {

Result<int> Half(int n) {
  if (n % 2 != 0) return Status::InvalidInput(std::to_string(n) + " is odd");
  return n / 2;
}

Status Quarter(int n, int* out) {
  ASSIGN_OR_RETURN(const int half, Half(n));
  ASSIGN_OR_RETURN(*out, Half(half));
  return Status::Ok();
}

TEST_CASE("a failure leaves a function with its code and message", "[status]") {
  int out = 0;
  CHECK(Quarter(12, &out).ok());
  CHECK(out == 3);
  const Status status = Quarter(6, &out);
  CHECK(status.code() == ErrorCode::kInvalidInput);
  CHECK(status.WithPrefix("input").message() == "input: 3 is odd");
}

TEST_CASE("sha256 gives the published digest", "[sha256]") {
  const std::string text = "abc";  // FIPS 180-2, appendix B.1
  Sha256 digest;
  digest.Update({reinterpret_cast<const uint8_t*>(text.data()), 1});
  digest.Update({reinterpret_cast<const uint8_t*>(text.data()) + 1, 2});
  CHECK(digest.Finish() == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

}  // namespace
}  // namespace idefics
