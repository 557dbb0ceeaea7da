// SPDX-License-Identifier: Apache-2.0
#include "server/api/asked_api.h"

#include <algorithm>
#include <array>

namespace idefics {

std::optional<RequestApi> AskedApi(std::string_view method, std::string_view path) {
  struct Asked {
    std::string_view method;
    std::string_view path;
    RequestApi api;
  };
  constexpr std::array kKnown = {
      Asked{"POST", "/predictions", RequestApi::kCog},
      Asked{"POST", "/invocations", RequestApi::kCog},
      Asked{"POST", "/v1/predictions", RequestApi::kReplicate},
      Asked{"POST", "/v1/chat/completions", RequestApi::kOpenAi},
      Asked{"POST", "/v1/completions", RequestApi::kOpenAi},
      Asked{"POST", "/v1/responses", RequestApi::kOpenAi},
      Asked{"POST", "/generate", RequestApi::kTgi},
      Asked{"POST", "/generate_stream", RequestApi::kTgi},
      Asked{"POST", "/", RequestApi::kTgi},
  };
  const auto* const known = std::find_if(kKnown.begin(), kKnown.end(), [&](const Asked& asked) {
    return asked.method == method && asked.path == path;
  });
  if (known != kKnown.end()) return known->api;
  if (method == "PUT" && path.starts_with("/predictions/")) return RequestApi::kCog;
  if (method == "POST" && path.starts_with("/v1/models/") && path.ends_with("/predictions")) {
    return RequestApi::kReplicate;
  }
  return std::nullopt;
}

}  // namespace idefics
