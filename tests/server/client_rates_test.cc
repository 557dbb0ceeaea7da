// SPDX-License-Identifier: Apache-2.0
#include "server/jobs/client_rates.h"

#include <catch2/catch_test_macros.hpp>

namespace idefics {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr milliseconds kNone{0};

TEST_CASE("a client comes as often at once as a second allows, and then at its pace", "[jobs]") {
  ClientRates rates(4);
  const ClientRates::Clock::time_point begin{seconds(100)};
  for (int i = 0; i < 4; ++i) CHECK(rates.Wait("a", begin) == kNone);
  CHECK(rates.Wait("a", begin) == milliseconds(250));
  CHECK(rates.Wait("a", begin + milliseconds(200)) == milliseconds(50));
  CHECK(rates.Wait("a", begin + milliseconds(250)) == kNone);
  CHECK(rates.Wait("a", begin + milliseconds(250)) == milliseconds(250));
  CHECK(rates.Wait("b", begin) == kNone);
  for (int i = 0; i < 4; ++i) CHECK(rates.Wait("a", begin + seconds(60)) == kNone);
  CHECK(rates.Wait("a", begin + seconds(60)) == milliseconds(250));
}

TEST_CASE("a pace below one a second lets one in at a time", "[jobs]") {
  ClientRates rates(0.1);
  const ClientRates::Clock::time_point begin{seconds(100)};
  CHECK(rates.Wait("a", begin) == kNone);
  CHECK(rates.Wait("a", begin + seconds(1)) == seconds(9));
  CHECK(rates.Wait("a", begin + seconds(10)) == kNone);
}

TEST_CASE("without a limit nobody waits", "[jobs]") {
  ClientRates rates(0);
  for (int i = 0; i < 100; ++i) CHECK(rates.Wait("a", ClientRates::Clock::time_point{}) == kNone);
}

TEST_CASE("beyond its memory newcomers are let in, until somebody has rested", "[jobs]") {
  ClientRates rates(1);
  const ClientRates::Clock::time_point begin{seconds(100)};
  for (size_t i = 0; i < ClientRates::kMaxClients; ++i) rates.Wait(std::to_string(i), begin);
  CHECK(rates.Wait("0", begin) == seconds(1));
  CHECK(rates.Wait("late", begin) == kNone);
  CHECK(rates.Wait("late", begin) == kNone);
  CHECK(rates.Wait("late", begin + seconds(2)) == kNone);
  CHECK(rates.Wait("late", begin + seconds(2)) == seconds(1));
}

}  // namespace
}  // namespace idefics
