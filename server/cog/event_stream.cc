// SPDX-License-Identifier: Apache-2.0
#include "server/cog/event_stream.h"

#include <utility>

namespace idefics {
namespace {

constexpr auto kPeerCheckTime = std::chrono::milliseconds(50);
constexpr auto kKeepAliveTime = std::chrono::seconds(15);

// Cancels a prediction whose stream is dropped before its end, also when it never began.
class StreamOwner {
 public:
  explicit StreamOwner(std::shared_ptr<Prediction> prediction)
      : prediction_(std::move(prediction)) {}
  ~StreamOwner() {
    if (!finished) prediction_->Cancel();
  }
  StreamOwner(const StreamOwner&) = delete;
  StreamOwner& operator=(const StreamOwner&) = delete;

  bool finished = false;

 private:
  std::shared_ptr<Prediction> prediction_;
};

void WriteEvents(const Prediction& prediction, BodyWriter& writer) {
  size_t next = 0;
  auto last_write = std::chrono::steady_clock::now();
  while (!writer.PeerGone()) {
    for (const PredictionEvent& event : prediction.WaitEvents(&next, kPeerCheckTime)) {
      const std::string data =
          event.data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
      if (!writer.Write("event: " + std::string(event.name) + "\ndata: " + data + "\n\n")) return;
      last_write = std::chrono::steady_clock::now();
      if (std::string_view(event.name) == "completed") return;
    }
    if (std::chrono::steady_clock::now() - last_write >= kKeepAliveTime) {
      if (!writer.Write(": keep-alive\n\n")) return;
      last_write = std::chrono::steady_clock::now();
    }
  }
}

}  // namespace

bool WantsEventStream(const HttpRequest& request) {
  const std::string* accept = request.Header("Accept");
  if (accept == nullptr) return false;
  std::string type;
  bool in_parameters = false;
  for (const char c : *accept + ",") {
    if (c == ',') {
      if (type == "text/event-stream") return true;
      type.clear();
      in_parameters = false;
    } else if (c == ';') {
      in_parameters = true;
    } else if (!in_parameters && c != ' ' && c != '\t') {
      type += c;
    }
  }
  return false;
}

HttpResponse EventStream(std::shared_ptr<Prediction> prediction, bool cancel_when_left) {
  HttpResponse response;
  response.headers = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}};
  const auto owner = cancel_when_left ? std::make_shared<StreamOwner>(prediction) : nullptr;
  response.stream = [prediction = std::move(prediction), owner](BodyWriter& writer) {
    WriteEvents(*prediction, writer);
    if (owner != nullptr) owner->finished = !writer.PeerGone();
  };
  return response;
}

}  // namespace idefics
