// SPDX-License-Identifier: Apache-2.0
// A file of the playground page. Shared by the program that serves it and the one that embeds it
// (embed.cc). Pure.
#pragma once

#include <span>
#include <string>
#include <string_view>

namespace idefics {

// Plain bytes that live as long as the program.
struct PageFile {
  std::string_view name;  // "app.js"
  std::string_view type;  // its media type
  std::string_view etag;  // of the bytes, with its quotation marks
  std::string_view bytes;
  std::string_view gzip;  // the same compressed; empty where that is no shorter
};

// The page, as the build found it in server/playground/page (the table is generated).
std::span<const PageFile> EmbeddedPage();

// By the name's end: "text/javascript; charset=utf-8". "" where no file of a page ends so.
std::string_view PageFileType(std::string_view name);

// "\"0123…\"": a digest of the bytes.
std::string PageFileTag(std::string_view bytes);

}  // namespace idefics
