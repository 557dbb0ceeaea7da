// SPDX-License-Identifier: Apache-2.0
// The socket that a server accepts on, and who comes to it.
#pragma once

#include <sys/socket.h>

#include <string>

#include "common/status.h"

namespace idefics {

// The soft limit of descriptors is often 1024; the hard one is what is really allowed.
void RaiseDescriptorLimit();

// A listening, non-blocking socket; the caller closes it. `port` 0: any free one. Two servers
// cannot share a port. kInvalidInput: the address is not to be had.
Result<int> Listen(const std::string& host, int port);

int BoundPort(int fd);
bool IsBoundToLoopback(int fd);

// Whose connection it is: an IPv4 address, or the network of an IPv6 one (/64: whoever has one such
// address has them all). Behind a proxy it is the proxy's.
std::string PeerName(const sockaddr_storage& peer);

}  // namespace idefics
