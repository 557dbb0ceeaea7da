// SPDX-License-Identifier: Apache-2.0
// The operators register themselves with torch when their library is loaded (schema.cc).
#pragma once

namespace idefics {

// Does nothing but be referred to: linkers that work "as needed" (Debian's and Ubuntu's) drop a
// shared library that no code of the program refers to.
void UseOperators();

// From now on all operators but the linears are the plain ATen ones of reference.h, on every
// device: what the fused ones are measured against. Not thread safe; before a model is loaded.
void UseReferenceOperators();

}  // namespace idefics
