// SPDX-License-Identifier: Apache-2.0
// Which URLs and addresses a request may make this server fetch (SSRF guard). The address counts,
// not the text: it is judged when a socket is about to be connected, at every redirect. Pure; any
// thread.
#pragma once

#include <sys/socket.h>

#include <string>

#include "common/status.h"

namespace idefics {

// http or https, a host, no user:password, no control characters. kForbiddenUrl otherwise.
Status CheckUrl(const std::string& url);

// Which addresses may be connected; metadata addresses never.
enum class Reach { kPublic, kPublicAndLoopback, kAny };

bool MayConnect(const sockaddr& address, Reach reach);

// False for loopback, private, link-local, metadata, multicast and reserved addresses, also when an
// IPv4 one is wrapped in IPv6 (mapped, NAT64, 6to4).
bool IsPublicAddress(const sockaddr& address);

// An address under which clouds give credentials and the like to whoever asks from inside: never
// connected, whatever the flags say.
bool IsMetadataAddress(const sockaddr& address);

// At most 100 bytes of it, for a message.
std::string ShownUrl(const std::string& url);

}  // namespace idefics
