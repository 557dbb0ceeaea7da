// SPDX-License-Identifier: Apache-2.0
// Names of hosts, as a flag lists them: "example.org,.example.net,[::1]". One that begins with a
// dot stands for every name below it, "*" for every host. Pure.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace idefics {

class HostList {
 public:
  HostList() = default;  // of no host
  explicit HostList(std::string_view text);

  bool empty() const { return names_.empty(); }
  // `host`: as a URL has it, without its port; of any case, perhaps with a dot at its end.
  bool Holds(std::string_view host) const;

 private:
  std::vector<std::string> names_;  // lower case
};

}  // namespace idefics
