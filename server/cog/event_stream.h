// SPDX-License-Identifier: Apache-2.0
// Server-sent events of a prediction (cog-contract.md 3.3).
#pragma once

#include <memory>

#include "server/cog/prediction.h"
#include "server/http/message.h"

namespace idefics {

// `text/event-stream` among the types of Accept; "*/*" is not enough. Case-sensitive, as coglet.
bool WantsEventStream(const HttpRequest& request);

// All events from the first on, then the live ones, until "completed". `cancel_when_left`: the
// stream that created the prediction; when its client goes, so does the prediction.
HttpResponse EventStream(std::shared_ptr<Prediction> prediction, bool cancel_when_left);

}  // namespace idefics
