// SPDX-License-Identifier: Apache-2.0
#include "server/playground/page_file.h"

#include "common/sha256.h"

namespace idefics {
namespace {

struct Ending {
  std::string_view end;
  std::string_view type;
};

constexpr Ending kEndings[] = {
    {".html", "text/html; charset=utf-8"},
    {".css", "text/css; charset=utf-8"},
    {".js", "text/javascript; charset=utf-8"},
    {".json", "application/json"},
    {".svg", "image/svg+xml"},
    {".webp", "image/webp"},
};

}  // namespace

std::string_view PageFileType(std::string_view name) {
  for (const Ending& ending : kEndings) {
    if (name.ends_with(ending.end)) return ending.type;
  }
  return "";
}

std::string PageFileTag(std::string_view bytes) {
  constexpr size_t kDigits = 32;
  const std::string digest =
      Sha256Hex({reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size()});
  return "\"" + digest.substr(0, kDigits) + "\"";
}

}  // namespace idefics
