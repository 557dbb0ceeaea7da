// SPDX-License-Identifier: Apache-2.0
// Server-sent events of predictions (cog-contract.md 3.3). Thread safe.
#pragma once

#include <atomic>
#include <memory>

#include "server/cog/registry.h"
#include "server/http/message.h"

namespace idefics {

// `text/event-stream` among the types of Accept; "*/*" is not enough. Case-sensitive, as coglet.
bool WantsEventStream(const HttpRequest& request);

class EventStreams {
 public:
  explicit EventStreams(Registry& registry) : registry_(registry) {}

  // A place among the streams that may be open at once, held until it is destroyed; nullptr: all
  // are taken.
  using Place = std::shared_ptr<void>;
  Place TakePlace();

  // `from_start`: all events (the request that created the prediction); else the history as far as
  // it is kept, then what follows. The last stream to go cancels a prediction that a stream
  // created. REQUIRES: `place` is not null.
  HttpResponse Open(const std::shared_ptr<Prediction>& prediction, bool from_start, HttpPeer& peer,
                    Place place);

  // The answer where there is no place.
  static HttpResponse TooMany();

 private:
  Registry& registry_;
  const std::shared_ptr<std::atomic<int>> open_ = std::make_shared<std::atomic<int>>(0);
};

}  // namespace idefics
