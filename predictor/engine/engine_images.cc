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

// Encodes a part of the images that were begun, or begins with the next ones.
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
  const std::vector<WantedImage> begun = BegunImages(wanted);
  const bool begin = begun.empty();
  EncodePart(begin ? NextImages(std::move(wanted)) : begun, begin, /*wait=*/!can_run);
}

// Of the images that are being encoded, those that are still wanted, each once.
std::vector<Engine::WantedImage> Engine::BegunImages(const std::vector<WantedImage>& wanted) const {
  std::vector<WantedImage> begun;
  for (const Encoding& encoding : encoding_) {
    const auto found = std::find_if(wanted.begin(), wanted.end(), [&](const WantedImage& image) {
      return image.slot() == encoding.slot && image.image().sha256 == encoding.sha256;
    });
    if (found != wanted.end()) begun.push_back(*found);
  }
  return begun;
}

// As many as are encoded together, in turn of their clients.
std::vector<Engine::WantedImage> Engine::NextImages(std::vector<WantedImage> wanted) {
  const bool alone = images_alone_ > 0;
  if (alone) --images_alone_;
  const size_t most = alone ? 1 : static_cast<size_t>(limits_.max_image_batch);
  std::vector<WantedImage> batch;
  while (!wanted.empty() && batch.size() < most) {
    batch.push_back(NextImage(wanted));
    const int32_t slot = batch.back().slot();
    std::erase_if(wanted, [slot](const WantedImage& image) { return image.slot() == slot; });
  }
  return batch;
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

Status Engine::BeginImages(const std::vector<WantedImage>& batch) {
  std::vector<ImageInput> inputs;
  encoding_.clear();
  for (const WantedImage& wanted : batch) {
    wanted.active->handle->NoteEncodeBegin();
    encoding_.push_back({wanted.image().sha256, wanted.slot()});
    inputs.push_back({wanted.image().pixels, wanted.slot()});
  }
  return runner_->BeginImages(inputs);
}

void Engine::EncodePart(const std::vector<WantedImage>& batch, bool begin, bool wait) {
  const Status status = begin ? BeginImages(batch) : Status::Ok();
  const Result<bool> done = status.ok() ? runner_->ContinueImages(wait) : status;
  if (done.ok() && !*done) return;
  const bool several = encoding_.size() > 1;
  encoding_.clear();
  if (!done.ok() && several) {
    images_alone_ = batch.size();  // whose fault it was shows when they are encoded alone
    return;
  }
  for (const WantedImage& wanted : batch) {
    images_.SetEncoded(wanted.slot(), done.ok());
    wanted.active->handle->NoteEncodeEnd();
    if (!done.ok()) Finish(*wanted.active, done.status());
  }
}

}  // namespace idefics
