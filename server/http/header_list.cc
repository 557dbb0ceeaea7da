// SPDX-License-Identifier: Apache-2.0
#include "server/http/header_list.h"

#include <algorithm>

namespace idefics {
namespace {

constexpr std::string_view kBlank = " \t";

}  // namespace

std::vector<std::string_view> SplitHeaderList(std::string_view value, std::string_view separators) {
  std::vector<std::string_view> items;
  while (!value.empty()) {
    const size_t end = std::min(value.find_first_of(separators), value.size());
    const std::string_view item = value.substr(0, end);
    const size_t begin = item.find_first_not_of(kBlank);
    if (begin != std::string_view::npos) {
      items.push_back(item.substr(begin, item.find_last_not_of(kBlank) - begin + 1));
    }
    value.remove_prefix(std::min(end + 1, value.size()));
  }
  return items;
}

}  // namespace idefics
