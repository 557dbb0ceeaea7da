// SPDX-License-Identifier: Apache-2.0
// What every outgoing connection has in common: which addresses it may reach, whom its TLS trusts,
// no proxies, http and https only. Private to server/fetch: the only header there that shows
// libcurl. A handle belongs to one thread at a time.
#pragma once

#include <curl/curl.h>

#include <chrono>
#include <memory>
#include <string>

namespace idefics {

struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using EasyHandle = std::unique_ptr<CURL, EasyDeleter>;

struct MultiDeleter {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
using MultiHandle = std::unique_ptr<CURLM, MultiDeleter>;

// Judges each address that is about to be connected, at every redirect (url_policy.h).
struct AddressGuard {
  bool allow_private = false;
  bool denied = false;  // set where an address was refused
};

// Initialises libcurl once.
MultiHandle MakeMulti();

struct OutboundOptions {
  std::string url;
  std::string user_agent;
  long max_redirects = 0;
  std::chrono::milliseconds total_time{0};  // 0: no limit
};

// `guard` must outlive the handle.
EasyHandle MakeOutbound(const OutboundOptions& options, AddressGuard* guard);

}  // namespace idefics
