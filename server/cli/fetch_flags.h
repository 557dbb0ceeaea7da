// SPDX-License-Identifier: Apache-2.0
// Flags -> how images are fetched, for every command that fetches some.
#pragma once

#include "common/flags.h"
#include "server/fetch/image_fetcher.h"

namespace idefics {

FetchOptions FetchOptionsFromFlags(const FlagValues& flags);

}  // namespace idefics
