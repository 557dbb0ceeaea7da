// SPDX-License-Identifier: Apache-2.0
#include "server/cli/fetch_flags.h"

namespace idefics {

std::chrono::milliseconds Milliseconds(double seconds) {
  return std::chrono::milliseconds(static_cast<int64_t>(seconds * 1000));
}

FetchOptions FetchOptionsFromFlags(const FlagValues& flags) {
  FetchOptions options;
  options.allow_private = flags.Bool("allow-private-urls");
  options.max_bytes = static_cast<uint64_t>(flags.Integer("max-image-bytes"));
  options.connect_time = Milliseconds(flags.Number("connect-timeout"));
  options.total_time = Milliseconds(flags.Number("fetch-timeout"));
  options.user_agent = flags.Text("user-agent");
  return options;
}

}  // namespace idefics
