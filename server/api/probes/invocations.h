// SPDX-License-Identifier: Apache-2.0
// SageMaker's one inference route: POST /invocations goes to the route that its body is written
// for. Thread safe.
#pragma once

#include "server/http/router.h"

namespace idefics {

// "messages" in a body: /v1/chat/completions; "prompt": /v1/completions; else /predictions, whose
// refusals say what a body needs. Those routes are looked up in `router`, which must outlive this.
void AddInvocations(Router& router);

}  // namespace idefics
