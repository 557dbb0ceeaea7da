// SPDX-License-Identifier: Apache-2.0
#include "server/fetch/outbound.h"

#include <sys/socket.h>

#include <cstdlib>

#include "common/ascii.h"

namespace idefics {
namespace {

curl_socket_t OnOpenSocket(void* user, curlsocktype, curl_sockaddr* address) {
  auto& guard = *static_cast<AddressGuard*>(user);
  char* url = nullptr;  // the one that a redirect led to
  curl_easy_getinfo(guard.easy, CURLINFO_EFFECTIVE_URL, &url);
  const bool listed = guard.hosts == nullptr || (url != nullptr && guard.hosts->Holds(HostOf(url)));
  const bool reachable = MayConnect(address->addr, guard.reach);
  guard.unlisted = guard.unlisted || !listed;
  guard.denied = guard.denied || !reachable;
  if (!listed || !reachable) return CURL_SOCKET_BAD;
  return socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

void InitCurlOnce() {
  static const CURLcode once = curl_global_init(CURL_GLOBAL_DEFAULT);
  static_cast<void>(once);
}

// SSL_CERT_FILE and SSL_CERT_DIR, which OpenSSL's other users obey and libcurl does not.
void TrustCertificatesOfEnvironment(CURL* easy) {
  const char* file = std::getenv("SSL_CERT_FILE");
  if (file != nullptr && *file != '\0') curl_easy_setopt(easy, CURLOPT_CAINFO, file);
  const char* folder = std::getenv("SSL_CERT_DIR");
  if (folder != nullptr && *folder != '\0') curl_easy_setopt(easy, CURLOPT_CAPATH, folder);
}

}  // namespace

MultiHandle MakeMulti() {
  InitCurlOnce();
  return MultiHandle(curl_multi_init());
}

void AddHeaderLine(const std::string& line, HeaderLines* lines) {
  lines->reset(curl_slist_append(lines->release(), line.c_str()));
}

std::string HostOf(const std::string& url) {
  const std::unique_ptr<CURLU, void (*)(CURLU*)> parts(curl_url(), curl_url_cleanup);
  char* host = nullptr;
  if (curl_url_set(parts.get(), CURLUPART_URL, url.c_str(), 0) != CURLUE_OK ||
      curl_url_get(parts.get(), CURLUPART_HOST, &host, 0) != CURLUE_OK) {
    return "";
  }
  std::string name = ToLower(host);
  curl_free(host);
  return name;
}

EasyHandle MakeOutbound(const OutboundOptions& options, AddressGuard* guard) {
  InitCurlOnce();
  EasyHandle handle(curl_easy_init());
  CURL* easy = handle.get();
  guard->easy = easy;
  curl_easy_setopt(easy, CURLOPT_URL, options.url.c_str());
  curl_easy_setopt(easy, CURLOPT_USERAGENT, options.user_agent.c_str());
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, OnOpenSocket);
  curl_easy_setopt(easy, CURLOPT_OPENSOCKETDATA, guard);
  curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
  curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
  curl_easy_setopt(easy, CURLOPT_MAXREDIRS, options.max_redirects);
  curl_easy_setopt(easy, CURLOPT_PROXY, "");  // through a proxy only its address would be judged
  curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
  // A transfer that ends before its name is resolved does not wait for the resolver's thread.
  curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
  curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, static_cast<long>(options.total_time.count()));
  TrustCertificatesOfEnvironment(easy);
  return handle;
}

}  // namespace idefics
