// SPDX-License-Identifier: Apache-2.0
// A job's events as posts to its webhook (docs/cog-api.md#webhooks): a cursor on the event log.
// Output and logs are coalesced: a post holds everything so far. Only "completed" is tried again.
#pragma once

#include <chrono>
#include <memory>

#include "server/fetch/webhook_sender.h"
#include "server/jobs/job.h"

namespace idefics {

// nullptr: the request named no webhook, or wants no events. `interval`: between two posts,
// "completed" excepted.
std::unique_ptr<WebhookSource> MakeWebhook(std::shared_ptr<Job> job,
                                           std::chrono::milliseconds interval);

}  // namespace idefics
