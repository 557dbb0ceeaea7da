// SPDX-License-Identifier: Apache-2.0
#include "server/http/sse.h"

#include "server/http/header_list.h"

namespace idefics {

bool WantsEventStream(const std::string* accept) {
  if (accept == nullptr) return false;
  for (const std::string_view range : SplitHeaderList(*accept, ",")) {
    const auto parts = SplitHeaderList(range, ";");
    if (!parts.empty() && parts.front() == "text/event-stream") return true;
  }
  return false;
}

}  // namespace idefics
