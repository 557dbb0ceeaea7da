// SPDX-License-Identifier: Apache-2.0
// The images of running prompts: which have a slot of the image cache, and which one is encoded
// next.
#include <algorithm>
#include <set>
#include <string>

#include "predictor/engine/engine.h"

namespace idefics {

// Pins the images that the prompt's next tokens see, in their order, while there are slots. False:
// there is none for the first.
bool Engine::PinImages(ActiveRequest& active) {
  bool first = true;
  for (size_t i = 0; i < active.images.size(); ++i) {
    ImageUse& image = active.images[i];
    if (!active.Needs(i)) continue;
    if (image.slot < 0) {
      const auto slot = images_.Pin(active.request.images[i].sha256);
      if (!slot) return !first;
      image.slot = *slot;
    }
    first = false;
  }
  return true;
}

// Those that no further token sees.
void Engine::UnpinImages(ActiveRequest& active) {
  for (size_t i = 0; i < active.images.size(); ++i) {
    ImageUse& image = active.images[i];
    if (image.slot < 0 || active.Needs(i)) continue;
    images_.Unpin(image.slot);
    image.slot = -1;
  }
}

// Prompt tokens up to the first one whose image is not encoded.
int64_t Engine::ReadyTokens(const ActiveRequest& active) const {
  auto ready = static_cast<int64_t>(active.request.tokens.size());
  for (size_t i = 0; i < active.images.size(); ++i) {
    const ImageUse& image = active.images[i];
    if (!active.Needs(i) || (image.slot >= 0 && images_.encoded(image.slot))) continue;
    ready = std::min(ready, std::max(image.begin, active.prompt_done));
  }
  return ready;
}

// Encodes a part of an image: of the one that was begun, else of the next client's first one.
void Engine::ContinueImages() {
  std::vector<WantedImage> wanted;
  bool can_run = !in_flight_.empty();
  for (ActiveRequest& active : active_) {
    can_run = can_run || !active.sequences.empty();
    if (!active.runs_prompt()) continue;
    (void)PinImages(active);
    can_run = can_run || ReadyTokens(active) > active.prompt_done;
    for (size_t i = 0; i < active.images.size(); ++i) {
      const int32_t slot = active.images[i].slot;
      if (slot >= 0 && !images_.encoded(slot)) wanted.push_back({&active, i});
    }
  }
  if (wanted.empty()) return;
  const auto begun = std::find_if(wanted.begin(), wanted.end(),
                                  [this](const WantedImage& image) { return IsBegun(image); });
  const bool goes_on = begun != wanted.end();
  EncodePart(goes_on ? *begun : NextImage(wanted), /*begin=*/!goes_on, /*wait=*/!can_run);
}

bool Engine::IsBegun(const WantedImage& wanted) const {
  return encoding_.slot == wanted.active->images[wanted.index].slot &&
         encoding_.sha256 == wanted.active->request.images[wanted.index].sha256;
}

// The first one of the client whose turn it is.
Engine::WantedImage Engine::NextImage(const std::vector<WantedImage>& wanted) {
  std::set<std::string> clients;
  for (const WantedImage& image : wanted) {
    const std::string& client = image.active->request.client;
    if (clients.insert(client).second) image_turns_.Join(client);
  }
  image_turns_.LeaveUnless([&](const std::string& client) { return clients.contains(client); });
  const auto last_turn = [this](const WantedImage& image) {
    return image_turns_.LastOf(image.active->request.client);
  };
  const WantedImage next = *std::min_element(
      wanted.begin(), wanted.end(),
      [&](const WantedImage& a, const WantedImage& b) { return last_turn(a) < last_turn(b); });
  image_turns_.Take(next.active->request.client);
  return next;
}

void Engine::EncodePart(const WantedImage& wanted, bool begin, bool wait) {
  const EngineImage& image = wanted.active->request.images[wanted.index];
  const int32_t slot = wanted.active->images[wanted.index].slot;
  Status status;
  if (begin) {
    encoding_ = {image.sha256, slot};
    status = runner_->BeginImage(image.pixels, slot);
  }
  const Result<bool> done = status.ok() ? runner_->ContinueImage(wait) : status;
  if (done.ok() && !*done) return;
  encoding_ = {};
  images_.SetEncoded(slot, done.ok());
  if (!done.ok()) Finish(*wanted.active, done.status());
}

}  // namespace idefics
