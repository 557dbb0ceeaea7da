// SPDX-License-Identifier: Apache-2.0
// The socket that a server accepts on. Start-up only.
#pragma once

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

}  // namespace idefics
