// SPDX-License-Identifier: Apache-2.0
// IDEFICS_CHECK (Catch2 and torch own the name CHECK): ends the process with file, line and both
// values when a programming error is found. What a request, a file or a flag can cause is a Status
// instead.
#pragma once

#include <sstream>
#include <string>

namespace idefics::internal {

[[noreturn]] void CheckFailed(const char* file, int line, const std::string& what);

template <typename A, typename B>
std::string DescribeComparison(const char* text, const A& a, const B& b) {
  std::ostringstream out;
  out << text << " (" << a << " vs. " << b << ")";
  return out.str();
}

}  // namespace idefics::internal

#define IDEFICS_CHECK(condition)                                                        \
  do {                                                                                  \
    if (!(condition)) ::idefics::internal::CheckFailed(__FILE__, __LINE__, #condition); \
  } while (false)

#define IDEFICS_CHECK_OP(op, a, b)                                                       \
  do {                                                                                   \
    const auto& check_a = (a);                                                           \
    const auto& check_b = (b);                                                           \
    if (!(check_a op check_b)) {                                                         \
      ::idefics::internal::CheckFailed(                                                  \
          __FILE__, __LINE__,                                                            \
          ::idefics::internal::DescribeComparison(#a " " #op " " #b, check_a, check_b)); \
    }                                                                                    \
  } while (false)

#define IDEFICS_CHECK_EQ(a, b) IDEFICS_CHECK_OP(==, a, b)
#define IDEFICS_CHECK_LT(a, b) IDEFICS_CHECK_OP(<, a, b)
#define IDEFICS_CHECK_GE(a, b) IDEFICS_CHECK_OP(>=, a, b)
