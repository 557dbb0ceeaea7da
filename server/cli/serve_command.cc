// SPDX-License-Identifier: Apache-2.0
#include "server/cli/serve_command.h"

#include <malloc.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <thread>

#include "common/log.h"
#include "server/cli/load_model.h"
#include "server/cli/signals.h"
#include "server/cog/cog_routes.h"
#include "server/cog/fake_backend.h"
#include "server/cog/model_backend.h"
#include "server/cog/replicate_routes.h"
#include "server/http/http_server.h"

namespace idefics {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Event = StopSignals::Event;

milliseconds Milliseconds(double seconds) {
  return milliseconds(static_cast<int64_t>(seconds * 1000));
}

std::unique_ptr<Backend> MakeBackend(const FlagValues& flags) {
  auto images = std::make_unique<ImageFetcher>(FetchOptionsFromFlags(flags));
  if (flags.Text("engine") == "fake") {
    return std::make_unique<FakeBackend>(FakeOptionsFromEnvironment(), std::move(images));
  }
  AnswerOptions options;
  options.max_images = static_cast<int>(flags.Integer("max-images"));
  return std::make_unique<ModelBackend>([flags] { return LoadModel(flags); }, std::move(images),
                                        options, flags.Number("stall-timeout"));
}

WebhookOptions WebhookFlags(const FlagValues& flags) {
  WebhookOptions options;
  options.interval = Milliseconds(flags.Number("throttle-interval"));
  options.allow_private = flags.Text("webhook-hosts") == "any";
  const char* token = std::getenv("WEBHOOK_AUTH_TOKEN");  // no flag: secrets are not for argv
  if (token != nullptr) options.bearer_token = token;
  return options;
}

AdmissionOptions AdmissionFlags(const FlagValues& flags) {
  AdmissionOptions options;
  if (flags.Text("output") == "stream") options.output = OutputKind::kStream;
  options.stream_history = static_cast<size_t>(flags.Integer("stream-history"));
  return options;
}

HttpServerOptions HttpOptions(const FlagValues& flags) {
  HttpServerOptions options;
  options.host = flags.Text("host");
  options.port = static_cast<int>(flags.Integer("port"));
  options.body.max_bytes = static_cast<uint64_t>(flags.Integer("max-body-bytes"));
  options.body.time = Milliseconds(flags.Number("body-timeout"));
  return options;
}

// The object graph of one server, in the order of dependence.
class CogServer {
 public:
  CogServer(const FlagValues& flags, const StopSignals& signals)
      : flags_(flags),
        backend_(MakeBackend(flags)),
        webhooks_(WebhookFlags(flags)),
        registry_(static_cast<int>(flags.Integer("queue"))),
        runner_(*backend_, registry_),
        admission_({*backend_, registry_, runner_, setup_, webhooks_,
                    [&signals] { signals.RequestShutdown(); }},
                   AdmissionFlags(flags)),
        routes_(admission_),
        replicate_routes_(admission_) {
    routes_.AddTo(router_);
    replicate_routes_.AddTo(router_);
    http_ = std::make_unique<HttpServer>(HttpOptions(flags), router_);
  }

  Status Start() {
    RETURN_IF_ERROR(http_->Start());
    LogInfo("Starting coglet server on " + flags_.Text("host") + ":" +
            std::to_string(http_->port()));
    setup_thread_ = std::jthread([this](std::stop_token stop) { SetUp(stop); });
    return Status::Ok();
  }

  void CheckSetupTime() {
    const double limit_s = flags_.Number("setup-timeout");
    if (limit_s > 0 && steady_clock::now() - started_ > Milliseconds(limit_s)) {
      setup_.Fail("worker setup timed out");
    }
  }

  // glibc keeps what large inputs and answers took, one heap a thread; an idle server gives it
  // back.
  void TrimMemory() {
    constexpr auto kBetween = std::chrono::seconds(2);
    constexpr size_t kKeptBytes = 128 << 20;
    if (registry_.used_slots() > 0 || steady_clock::now() - trimmed_ < kBetween) return;
    trimmed_ = steady_clock::now();
    if (mallinfo2().fordblks > kKeptBytes) malloc_trim(0);
  }

  // Blocks until running predictions have ended, at most --drain-timeout and a little.
  void Drain() {
    setup_thread_.request_stop();
    const milliseconds time = Milliseconds(flags_.Number("drain-timeout"));
    std::thread close([&] {
      if (registry_.Close(time)) return;
      LogError("Stopped although predictions did not end when they were canceled.");
      std::fflush(nullptr);
      std::_Exit(1);
    });
    constexpr auto kAnswerTime = std::chrono::seconds(6);  // canceled ones still answer
    http_->Stop(time + kAnswerTime);
    close.join();
    if (!webhooks_.Drain(time)) LogWarning("Some webhooks were not delivered before the stop.");
    // A model that is still loading cannot be interrupted, and nothing of it needs to be saved.
    if (!setup_ended_) {
      std::fflush(nullptr);
      std::_Exit(0);
    }
  }

 private:
  void SetUp(const std::stop_token& stop) {
    const Status status = backend_->Setup(stop);
    if (status.ok()) {
      const int64_t wanted = flags_.Integer("max-concurrency");
      registry_.SetMaxSlots(wanted > 0 ? static_cast<int>(wanted) : backend_->max_concurrency());
      setup_.Succeed("Server ready\n");
      if (setup_.phase() == SetupState::Phase::kReady) LogInfo("Server ready");
    } else if (!stop.stop_requested()) {
      setup_.Fail(status.message());
    }
    setup_ended_ = true;
  }

  const FlagValues flags_;
  const steady_clock::time_point started_ = steady_clock::now();
  steady_clock::time_point trimmed_ = started_;
  std::unique_ptr<Backend> backend_;
  WebhookSender webhooks_;
  Registry registry_;
  SetupState setup_;
  Runner runner_;
  Admission admission_;
  CogRoutes routes_;
  ReplicateRoutes replicate_routes_;
  Router router_;
  std::unique_ptr<HttpServer> http_;
  std::atomic<bool> setup_ended_{false};
  std::jthread setup_thread_;
};

}  // namespace

int RunServe(const CommandLine& command) {
  const FlagValues& flags = command.flags;
  if (flags.Text("engine") == "model" && flags.Text("model").empty()) {
    std::fputs(
        "idefics-server: no model is named: give a bundle with --model (scripts/export.sh makes "
        "one).\n",
        stderr);
    return 2;
  }
  StopSignals signals;
  CogServer server(flags, signals);
  const Status started = server.Start();
  if (!started.ok()) {
    LogError(started.message());
    return 1;
  }
  constexpr auto kTick = milliseconds(200);
  for (;;) {
    const Event event = signals.Wait(kTick);
    server.CheckSetupTime();
    server.TrimMemory();
    if (event == Event::kNone) continue;
    if (event == Event::kTerminate && flags.Bool("await-explicit-shutdown")) {
      LogInfo("SIGTERM is ignored: --await-explicit-shutdown waits for POST /shutdown.");
      continue;
    }
    break;
  }
  LogInfo("Stopping: running predictions may end.");
  std::atomic<bool> drained{false};
  std::thread drain([&] {
    server.Drain();
    drained = true;
  });
  while (!drained) {
    const Event event = signals.Wait(milliseconds(20));
    if (event == Event::kTerminate || event == Event::kInterrupt) {
      LogWarning("Stopped by a second signal before the running predictions ended.");
      std::_Exit(1);
    }
  }
  drain.join();
  return 0;
}

}  // namespace idefics
