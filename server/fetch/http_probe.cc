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

Result<ProbeAnswer> Probe(const std::string& url, std::chrono::milliseconds time) {
  AddressGuard guard{.reach = Reach::kAny};
  const EasyHandle easy = MakeOutbound({url, "cog-idefics", 0, time}, &guard);
  ProbeAnswer answer;
  curl_easy_setopt(easy.get(), CURLOPT_WRITEFUNCTION, OnBytes);
  curl_easy_setopt(easy.get(), CURLOPT_WRITEDATA, &answer.body);
  const CURLcode code = curl_easy_perform(easy.get());
  if (code != CURLE_OK) {
    return Status(ErrorCode::kFetchFailed, url + ": " + curl_easy_strerror(code));
  }
  curl_easy_getinfo(easy.get(), CURLINFO_RESPONSE_CODE, &answer.status);
  return answer;
}

}  // namespace idefics
