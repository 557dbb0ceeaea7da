// SPDX-License-Identifier: Apache-2.0
// The operators register themselves with torch when their library is loaded (schema.cc).
#pragma once

namespace idefics {

// Does nothing but be referred to: linkers that work "as needed" (Debian's and Ubuntu's) drop a
// shared library that no code of the program refers to.
void UseOperators();

}  // namespace idefics
