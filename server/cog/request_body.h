// SPDX-License-Identifier: Apache-2.0
// The body of POST and PUT /predictions -> PredictionRequest, with coglet's statuses for what is
// wrong (cog-contract.md 1.5, 2.1, 11).
#pragma once

#include <variant>

#include "server/cog/prediction.h"
#include "server/http/message.h"

namespace idefics {

// Reads and parses the body. `input` is not validated here. The second: the answer to give instead.
std::variant<PredictionRequest, HttpResponse> ReadPredictionRequest(HttpRequest& request);

// "pred_" and hexadecimal digits; distinct within the process.
std::string NewPredictionId();

}  // namespace idefics
