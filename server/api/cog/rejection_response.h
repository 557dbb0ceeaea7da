// SPDX-License-Identifier: Apache-2.0
// Refusals in Cog's words (docs/cog-api.md#statuses). Pure.
#pragma once

#include <string>

#include "server/http/message.h"
#include "server/jobs/rejection.h"

namespace idefics {

int CogStatus(Rejection::Kind kind);

// What is said where the fields are not at fault.
std::string CogSentence(const Rejection& rejection);

HttpResponse CogResponse(const Rejection& rejection);

// 503 for a prediction that ended before it had a slot.
HttpResponse CogOverloaded(const std::string& sentence);

// Where another try may help.
void AddRetryAfter(const Rejection& rejection, HttpResponse* response);

}  // namespace idefics
