// SPDX-License-Identifier: Apache-2.0
// What a browser tells of the page that makes a request: a page of somebody else must not use this
// server through the browser of somebody who can reach it. Programs send none of these headers.
// Pure.
#pragma once

#include <optional>

#include "server/http/cors.h"
#include "server/http/request_head.h"

namespace idefics {

// 403 for a request that changes something (all but GET, HEAD and OPTIONS) with an Origin other
// than the Host, or with Sec-Fetch-Site cross-site or same-site. On a `loopback` address also for a
// Host that somebody's name server could have pointed here (DNS rebinding): allowed are addresses,
// names without a dot, and those under localhost.
// Origins that `cors` allows are no strangers.
std::optional<HeadError> CheckCaller(const RequestHead& head, bool loopback,
                                     const CorsPolicy& cors = {});

}  // namespace idefics
