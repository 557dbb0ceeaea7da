// SPDX-License-Identifier: Apache-2.0
// Which other origins' pages may use this server: the CORS protocol of the Fetch standard.
// Immutable.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"
#include "server/http/message.h"

namespace idefics {

class CorsPolicy {
 public:
  CorsPolicy() = default;  // none

  // Origins separated by commas, "https://chat.example.org", or "*" for any. kInvalidInput for what
  // is no origin.
  static Result<CorsPolicy> Parse(const std::string& list);

  bool Allows(std::string_view origin) const;

  // The answer to a preflight of an origin that is allowed; nullopt: it is none.
  std::optional<HttpResponse> Preflight(const HttpRequest& request) const;

  // Lets the page of an allowed origin read the answer.
  void AddHeaders(const HttpRequest& request, HttpResponse* response) const;

 private:
  bool any_ = false;
  std::vector<std::string> origins_;  // in lower case
};

}  // namespace idefics
