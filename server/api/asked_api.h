// SPDX-License-Identifier: Apache-2.0
// Which API a request for a prediction is of, before a route has it. Pure.
#pragma once

#include <optional>
#include <string_view>

#include "server/jobs/request_api.h"

namespace idefics {

// By its method and path alone; nothing: it asks for no prediction. Vertex AI's path is the
// platform's choice, and not known here.
std::optional<RequestApi> AskedApi(std::string_view method, std::string_view path);

}  // namespace idefics
