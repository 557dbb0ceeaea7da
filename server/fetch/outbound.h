// SPDX-License-Identifier: Apache-2.0
// What every outgoing connection has in common: which addresses it may reach, whom its TLS trusts,
// no proxies, http and https only. Private to server/fetch: the only header there that shows
// libcurl. A handle belongs to one thread at a time.
#pragma once

#include <curl/curl.h>

#include <chrono>
#include <memory>
#include <string>

#include "server/fetch/host_list.h"
#include "server/fetch/url_policy.h"

namespace idefics {

struct EasyDeleter {
  void operator()(CURL* easy) const { curl_easy_cleanup(easy); }
};
using EasyHandle = std::unique_ptr<CURL, EasyDeleter>;

struct MultiDeleter {
  void operator()(CURLM* multi) const { curl_multi_cleanup(multi); }
};
using MultiHandle = std::unique_ptr<CURLM, MultiDeleter>;

struct HeaderLinesDeleter {
  void operator()(curl_slist* lines) const { curl_slist_free_all(lines); }
};
using HeaderLines = std::unique_ptr<curl_slist, HeaderLinesDeleter>;

void AddHeaderLine(const std::string& line, HeaderLines* lines);

// Judges each address that is about to be connected, and the host in whose name it is, at every
// redirect.
struct AddressGuard {
  Reach reach = Reach::kPublic;
  const HostList* hosts = nullptr;  // set: no other ones
  bool denied = false;              // set where an address was refused
  bool unlisted = false;            // set where a host was
  CURL* easy = nullptr;             // set by MakeOutbound
};

// The host of a URL as libcurl reads it, and so as it is connected: lower case, IPv6 in brackets,
// IPv4 as four numbers. "" where there is none.
std::string HostOf(const std::string& url);

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
