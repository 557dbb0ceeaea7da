// SPDX-License-Identifier: Apache-2.0
// Ids that nobody can guess. Any thread.
#pragma once

#include <span>
#include <string>

namespace idefics {

// At most 256 bytes.
void FillRandom(std::span<unsigned char> bytes);

// The same where nobody tries to guess: of a generator of the thread's own, without system calls.
void FillUnique(std::span<unsigned char> bytes);

// Lower-case hex digits, two a byte.
std::string ToHex(std::span<const unsigned char> bytes);
void WriteHex(std::span<const unsigned char> bytes, char* digits);

// 128 random bits as 32 hex digits.
std::string RandomHex();

}  // namespace idefics
