// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/http_probe.h"

#include "server/fetch/outbound.h"

namespace idefics {
namespace {

size_t OnBytes(char* bytes, size_t, size_t count, void* user) {
  constexpr size_t kMostBytes = 65536;
  auto& body = *static_cast<std::string*>(user);
  if (body.size() + count > kMostBytes) return 0;
  body.append(bytes, count);
  return count;
}

}  // namespace

Result<std::string> Probe(const std::string& url, std::chrono::milliseconds time) {
  AddressGuard guard{.reach = Reach::kAny};
  const EasyHandle easy = MakeOutbound({url, "cog-idefics", 0, time}, &guard);
  std::string body;
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, OnBytes);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &body);
  curl_easy_setopt(easy.get(), CURLOPT_FAILONERROR, 1L);
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) {
    return Status(ErrorCode::kFetchFailed, url + ": " + curl_easy_strerror(code));
  }
  return body;
}

}  // namespace idefics
