// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/client_rates.h"

#include <algorithm>
#include <cmath>

namespace idefics {
namespace {

ClientRates::Clock::duration Seconds(double seconds) {
  return std::chrono::duration_cast<ClientRates::Clock::duration>(
      std::chrono::duration<double>(seconds));
}

}  // namespace

ClientRates::ClientRates(double per_second)
    : interval_(per_second > 0 ? Seconds(1 / per_second) : Clock::duration::zero()),
      slack_(interval_ * static_cast<int>(std::max(1.0, std::floor(per_second)) - 1)) {}

ClientRates::Clock::duration ClientRates::Wait(const std::string& client, Clock::time_point now) {
  if (interval_ == Clock::duration::zero()) return interval_;
  if (rested_at_.size() >= look_again_at_) ForgetRested(now);
  const auto known = rested_at_.find(client);
  if (known == rested_at_.end() && rested_at_.size() >= kMaxClients) return Clock::duration::zero();
  const auto rested_at = known == rested_at_.end() ? now : std::max(now, known->second);
  if (rested_at - now > slack_) return rested_at - now - slack_;
  rested_at_[client] = rested_at + interval_;
  return Clock::duration::zero();
}

void ClientRates::ForgetRested(Clock::time_point now) {
  std::erase_if(rested_at_, [now](const auto& client) { return client.second <= now; });
  look_again_at_ = std::min(kMaxClients, std::max<size_t>(1024, 2 * rested_at_.size()));
}

}  // namespace idefics
