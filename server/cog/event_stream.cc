// SPDX-License-Identifier: Apache-2.0
#include "server/cog/event_stream.h"

#include <algorithm>
#include <utility>

namespace idefics {
namespace {

using std::chrono::duration_cast;
using std::chrono::milliseconds;
using std::chrono::steady_clock;

constexpr milliseconds kKeepAliveTime{15'000};

constexpr int kMaxStreams = 1024;

// One stream of a prediction. When its client leaves and it is the last one, it cancels what a
// stream created, also when it never began.
class Watcher {
 public:
  Watcher(Registry& registry, std::shared_ptr<Prediction> prediction)
      : registry_(registry), prediction_(std::move(prediction)) {
    prediction_->AddWatcher();
  }
  ~Watcher() {
    const bool last = prediction_->RemoveWatcher();
    if (last && client_left && prediction_->request().from_stream) registry_.Cancel(prediction_);
  }
  Watcher(const Watcher&) = delete;
  Watcher& operator=(const Watcher&) = delete;

  const Prediction& prediction() const { return *prediction_; }

  bool client_left = true;  // false: the stream came to an end of its own, "completed" or "lagged"

 private:
  Registry& registry_;
  std::shared_ptr<Prediction> prediction_;
};

void AppendEvent(std::string_view name, const nlohmann::json& data, std::string* out) {
  *out += "event: ";
  *out += name;
  *out += "\ndata: ";
  *out += data.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  *out += "\n\n";
}

std::string LostEvents(const char* what, size_t skipped) {
  std::string out;
  AppendEvent("error", {{"error", what}, {"skipped", skipped}}, &out);
  return out;
}

// The events of a batch as one write: a burst of tokens is one packet. True: it was the last.
bool AppendEvents(const EventBatch& batch, std::string* out) {
  for (const PredictionEvent& event : batch.events) AppendEvent(event.name, event.data, out);
  if (batch.skipped > 0) {
    *out += LostEvents("SSE stream lagged; events were dropped", batch.skipped);
    return true;
  }
  return !batch.events.empty() && std::string_view(batch.events.back().name) == "completed";
}

// True: to an end; false: the client left.
bool WriteEvents(const Prediction& prediction, size_t next, BodyWriter& writer) {
  auto last_write = steady_clock::now();
  while (!writer.PeerGone()) {
    const auto silence = duration_cast<milliseconds>(steady_clock::now() - last_write);
    std::string bytes;
    const bool last = AppendEvents(
        prediction.WaitEvents(&next, std::max(kKeepAliveTime - silence, milliseconds(0))), &bytes);
    if (bytes.empty() && steady_clock::now() - last_write >= kKeepAliveTime) {
      bytes = ": keep-alive\n\n";
    }
    if (bytes.empty()) continue;
    if (!writer.Write(bytes)) return false;
    if (last) return true;
    last_write = steady_clock::now();
  }
  return false;
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

EventStreams::Place EventStreams::TakePlace() {
  if (open_->fetch_add(1) >= kMaxStreams) {
    --*open_;
    return nullptr;
  }
  return {open_.get(), [open = open_](void*) { --*open; }};
}

HttpResponse EventStreams::TooMany() {
  return HttpResponse::Json(429, R"({"error":"Too many stream subscribers"})");
}

HttpResponse EventStreams::Open(const std::shared_ptr<Prediction>& prediction, bool from_start,
                                HttpPeer& peer, Place place) {
  HttpResponse response;
  response.headers = {{"Content-Type", "text/event-stream"}, {"Cache-Control", "no-cache"}};
  size_t skipped = 0;
  const size_t first = from_start ? 0 : prediction->FirstReplayed(&skipped);
  if (skipped > 0) {
    response.stream = [skipped](BodyWriter& writer) {
      writer.Write(LostEvents("SSE stream replay truncated; events were dropped", skipped));
    };
    return response;
  }
  peer.WhenGone([prediction] { prediction->WakeWatchers(); });
  auto watcher = std::make_shared<Watcher>(registry_, prediction);
  response.stream = [watcher = std::move(watcher), first,
                     place = std::move(place)](BodyWriter& writer) {
    watcher->client_left = !WriteEvents(watcher->prediction(), first, writer);
  };
  return response;
}

}  // namespace idefics
