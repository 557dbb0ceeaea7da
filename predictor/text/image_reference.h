// SPDX-License-Identifier: Apache-2.0
// Tells whether a string of a prompt stands for an image: a URL or a data URI. Pure; any thread.
#pragma once

#include <string_view>

#include "common/status.h"

namespace idefics {

// transformers' is_url (docs/model.md#what-counts-as-a-url): no U+0020 anywhere, a scheme and a
// non-empty host part, as Python 3.11's urlparse finds them: "User://x" is a URL, "See:http://x" is
// not. Any scheme counts; which ones are fetched is the fetcher's business. Strip spaces off both
// ends first. Fails with kInvalidInput where urlparse raises, also without a scheme ("//[x"):
// unpaired or wrong brackets in the host part, and host characters that compatibility normalisation
// turns into one of / ? # @ : (such as U+2100).
Result<bool> LooksLikeUrl(std::string_view text);

// "data:HEADER,DATA" with a HEADER of at most 1000 bytes without spaces or control characters that
// starts with "image/" or ends with ";base64" (any letter case). So "data: 1, 2, 3" stays text, and
// "data:text/plain;base64,…" is taken for an image that will be refused as such. transformers takes
// all of them as text.
bool LooksLikeDataUri(std::string_view text);

}  // namespace idefics
