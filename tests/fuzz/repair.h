// SPDX-License-Identifier: Apache-2.0
// Mends what a random change breaks in a file, so that the change reaches the code behind the
// check.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

namespace idefics {

// Writes what files of the kind ("jpeg", "png", ...) begin with, so that they stay of the kind.
void RepairMagic(std::string_view kind, uint8_t* data, size_t size);

// Writes the signature of a PNG and the right checksum behind every whole chunk.
void RepairPng(uint8_t* data, size_t size);

// Writes "RIFF", the length that the file has, and "WEBP".
void RepairWebp(uint8_t* data, size_t size);

}  // namespace idefics
