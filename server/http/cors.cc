// SPDX-License-Identifier: Apache-2.0
#include "server/http/cors.h"

#include <algorithm>

#include "common/ascii.h"
#include "server/http/header_list.h"

namespace idefics {

Result<CorsPolicy> CorsPolicy::Parse(const std::string& list) {
  CorsPolicy policy;
  for (const std::string_view item : SplitHeaderList(list, ",")) {
    const std::string origin = ToLower(item);
    if (origin == "*") {
      policy.any_ = true;
      continue;
    }
    const size_t scheme = origin.find("://");
    const bool has_path =
        scheme != std::string::npos && origin.find('/', scheme + 3) != origin.npos;
    if (scheme == std::string::npos || scheme == 0 || scheme + 3 == origin.size() || has_path) {
      return Status::InvalidInput("--cors-origins holds '" + origin +
                                  "', which is no origin such as https://chat.example.org");
    }
    policy.origins_.push_back(origin);
  }
  return policy;
}

bool CorsPolicy::Allows(std::string_view origin) const {
  if (any_) return true;
  return std::find(origins_.begin(), origins_.end(), ToLower(origin)) != origins_.end();
}

std::optional<HttpResponse> CorsPolicy::Preflight(const HttpRequest& request) const {
  const std::string* origin = request.Header("Origin");
  const bool is_preflight = request.method == "OPTIONS" && origin != nullptr &&
                            request.Header("Access-Control-Request-Method") != nullptr;
  if (!is_preflight || !Allows(*origin)) return std::nullopt;
  HttpResponse response = HttpResponse::Empty(204);
  response.headers = {
      {"Access-Control-Allow-Methods", "GET, POST, PUT"},
      {"Access-Control-Allow-Headers", "Authorization, Content-Type, X-Api-Key, X-Request-Id"},
      {"Access-Control-Max-Age", "600"}};
  return response;
}

void CorsPolicy::AddHeaders(const HttpRequest& request, HttpResponse* response) const {
  const std::string* origin = request.Header("Origin");
  if (origin == nullptr || !Allows(*origin)) return;
  response->headers.emplace_back("Access-Control-Allow-Origin", *origin);
  response->headers.emplace_back("Access-Control-Expose-Headers", "x-request-id, Retry-After");
  response->headers.emplace_back("Vary", "Origin");
}

}  // namespace idefics
