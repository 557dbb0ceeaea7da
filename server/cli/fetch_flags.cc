// SPDX-License-Identifier: Apache-2.0
#include "server/cli/fetch_flags.h"

namespace idefics {

FetchOptions FetchOptionsFromFlags(const FlagValues& flags) {
  FetchOptions options;
  options.allow_private = flags.Bool("allow-private-urls");
  options.hosts = HostList(flags.Text("image-hosts"));
  options.max_bytes = static_cast<uint64_t>(flags.Integer("max-image-bytes"));
  options.connect_time = flags.Seconds("connect-timeout");
  options.total_time = flags.Seconds("fetch-timeout");
  options.user_agent = flags.Text("user-agent");
  return options;
}

}  // namespace idefics
