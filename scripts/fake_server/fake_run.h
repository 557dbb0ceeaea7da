// SPDX-License-Identifier: Apache-2.0
// One run of the fake engine's directives.
#pragma once

#include <stop_token>
#include <string>

#include "predictor/predictor.h"

namespace idefics {

// Seconds as a directive or a variable says them; bounded, 0 for nonsense.
double FakeSeconds(const std::string& text);

// False: stopped.
bool FakeSleep(double seconds, const std::stop_token& stop);

// Until there is a file of that name. False: stopped.
bool FakeHold(const std::string& path, const std::stop_token& stop);

// Decodes the images, obeys the directives that the text begins with, and shows the pieces.
// kNotReady: it has crashed and cannot go on.
Status RunDirectives(const GenerateRequest& request, const std::stop_token& stop,
                     GenerateObserver& observer);

}  // namespace idefics
