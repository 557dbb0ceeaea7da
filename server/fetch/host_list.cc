// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/host_list.h"

#include <algorithm>

#include "common/ascii.h"

namespace idefics {
namespace {

std::string Canonical(std::string_view host) {
  std::string name = ToLower(host);
  if (name.size() > 1 && name.ends_with('.')) name.pop_back();
  return name;
}

}  // namespace

HostList::HostList(std::string_view text) {
  while (!text.empty()) {
    const size_t comma = std::min(text.find(','), text.size());
    const std::string_view name = StripSpaces(text.substr(0, comma));
    if (!name.empty()) names_.push_back(Canonical(name));
    text.remove_prefix(std::min(comma + 1, text.size()));
  }
}

bool HostList::Holds(std::string_view host) const {
  const std::string name = Canonical(host);
  return std::ranges::any_of(names_, [&](const std::string& listed) {
    if (!listed.starts_with('.')) return listed == "*" || listed == name;
    return name.size() > listed.size() && name.ends_with(listed);
  });
}

}  // namespace idefics
