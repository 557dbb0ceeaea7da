// SPDX-License-Identifier: Apache-2.0
#include "server/cli/serve.h"

#include <malloc.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <optional>
#include <thread>
#include <utility>

#include "common/byte_budget.h"
#include "common/log.h"
#include "common/version.h"
#include "server/api/api_keys.h"
#include "server/api/asked_api.h"
#include "server/api/cog/cog_routes.h"
#include "server/api/cog/health.h"
#include "server/api/metrics/metrics_routes.h"
#include "server/api/openai/openai_routes.h"
#include "server/api/probes/invocations.h"
#include "server/api/probes/probe_routes.h"
#include "server/api/replicate/replicate_routes.h"
#include "server/api/tgi/tgi_routes.h"
#include "server/api/vertex/vertex_routes.h"
#include "server/cli/fetch_flags.h"
#include "server/cli/openai_flags.h"
#include "server/cli/signals.h"
#include "server/fetch/otlp_post.h"
#include "server/http/http_server.h"
#include "server/http/request_journal.h"
#include "server/playground/playground_routes.h"
#include "server/trace/tracer.h"

namespace idefics {
namespace {

using std::chrono::milliseconds;
using std::chrono::steady_clock;
using Event = StopSignals::Event;

JobServiceOptions ServiceOptions(const FlagValues& flags, const ByteBudget& memory) {
  JobServiceOptions options;
  // What has ended must not keep out what comes.
  options.max_finished_bytes = std::min<uint64_t>(options.max_finished_bytes, memory.limit() / 4);
  options.max_concurrency = static_cast<int>(flags.Integer("max-concurrency"));
  options.max_queued = static_cast<int>(flags.Integer("queue"));
  options.max_of_client = static_cast<int>(flags.Integer("client-concurrency"));
  options.client_rate = flags.Number("client-rate");
  options.stall_s = flags.Number("stall-timeout");
  options.queue_time = flags.Seconds("queue-timeout");
  options.request_time = flags.Seconds("request-timeout");
  options.replay_capacity = static_cast<size_t>(flags.Integer("stream-history"));
  options.limits.max_images = static_cast<int>(flags.Integer("max-images"));
  return options;
}

WebhookOptions WebhookFlags(const FlagValues& flags, ByteBudget* memory) {
  WebhookOptions options;
  options.user_agent = std::string("coglet/") + kCogVersion + " cog-idefics";
  const std::string& hosts = flags.Text("webhook-hosts");
  if (hosts == "any") options.reach = Reach::kAny;
  if (hosts == "loopback") options.reach = Reach::kPublicAndLoopback;
  options.token_hosts = HostList(flags.Text("webhook-token-hosts"));
  options.memory = memory;
  const char* token = std::getenv("WEBHOOK_AUTH_TOKEN");  // no flag: secrets are not for argv
  if (token != nullptr) options.bearer_token = token;
  return options;
}

CogOptions CogFlags(const FlagValues& flags) {
  CogOptions options;
  if (flags.Text("output") == "stream") options.output = OutputKind::kList;
  options.webhook_interval = flags.Seconds("throttle-interval");
  return options;
}

HttpServerOptions HttpFlags(const FlagValues& flags) {
  HttpServerOptions options;
  options.host = flags.Text("host");
  options.port = static_cast<int>(flags.Integer("port"));
  options.body.max_bytes = static_cast<uint64_t>(flags.Integer("max-body-bytes"));
  options.body.time = flags.Seconds("body-timeout");
  return options;
}

// What was read of files, flags and the environment before a server is made.
struct Settings {
  CorsPolicy cors;
  std::unique_ptr<ApiKeys> keys;
  TraceOptions trace;
};

// The object graph of one server, in the order of dependence.
class Server {
 public:
  Server(const FlagValues& flags, uint64_t memory_bytes, Settings settings,
         JobService::Loader loader, const StopSignals& signals)
      : flags_(flags),
        openai_(OpenAiOptionsFromFlags(flags)),
        cors_(std::move(settings.cors)),
        keys_(std::move(settings.keys)),
        tracer_(settings.trace, MakeOtlpPost(settings.trace)),
        journal_(tracer_, {flags.Bool("access-log"),
                           [this](std::string_view path) { return IsMinor(path); }}),
        memory_(memory_bytes),
        webhooks_(WebhookFlags(flags, &memory_)),
        service_(ServiceOptions(flags, memory_), std::move(loader),
                 std::make_unique<ImageFetcher>(FetchFlags(flags))),
        admission_(service_, webhooks_, CogFlags(flags)),
        cog_routes_(admission_, [&signals] { signals.RequestShutdown(); }),
        replicate_routes_(admission_),
        openai_routes_(service_, openai_),
        tgi_routes_(service_, {openai_.served_models.front(), openai_.max_queued}),
        vertex_routes_(service_, VertexPaths::From(std::getenv)),
        has_playground_(flags.Bool("playground")),
        playground_(flags.Text("playground-dir")),
        probes_(service_, openai_.served_models.front()),
        metrics_routes_(service_, http_metrics_, tracer_, openai_.served_models.front(),
                        flags.Text("metrics-alias") == "vllm",
                        [this](MetricsPage& page) { AddMore(page); }) {
    AddRoutes();
    HttpServerOptions http = HttpFlags(flags);
    http.memory = &memory_;
    http.cors = cors_;
    http.on_refusal = [this](int status) { http_metrics_.Count("OTHER", "", status); };
    http_ = std::make_unique<HttpServer>(http, router_);
    if (has_metrics_port_) {
      http.port = static_cast<int>(flags.Integer("metrics-port"));
      metrics_http_ = std::make_unique<HttpServer>(http, metrics_router_);
    }
  }

  Status Start() {
    RETURN_IF_ERROR(http_->Start());
    LogInfo("Starting coglet server on " + flags_.Text("host") + ":" +
            std::to_string(http_->port()));
    if (metrics_http_) {
      RETURN_IF_ERROR(metrics_http_->Start());
      LogInfo("Metrics on port " + std::to_string(metrics_http_->port()));
    }
    if (!http_->on_loopback() && keys_->empty()) {
      LogWarning("Whoever reaches " + flags_.Text("host") +
                 " may ask, cancel and shut down: there is no authentication. Set --api-key, put a "
                 "gateway before it, or listen on 127.0.0.1 (--host).");
    }
    setup_thread_ = std::jthread([this](std::stop_token stop) { SetUp(stop); });
    return Status::Ok();
  }

  void ReloadKeys() {
    const Status reloaded = keys_->Reload();
    if (reloaded.ok()) {
      LogInfo("SIGHUP: the keys of --api-key-file were read again.");
    } else {
      LogError("SIGHUP: " + reloaded.message() + "; the keys stay as they are.");
    }
  }

  void CheckSetupTime() {
    const milliseconds limit = flags_.Seconds("setup-timeout");
    if (limit.count() > 0 && steady_clock::now() - started_ > limit) {
      constexpr const char* kTimedOut = "worker setup timed out";
      if (service_.setup().Fail(kTimedOut)) LogError(std::string("Setup failed: ") + kTimedOut);
    }
  }

  // glibc keeps what large inputs and answers took, one heap a thread; an idle server gives it
  // back.
  void TrimMemory() {
    constexpr auto kBetween = std::chrono::seconds(2);
    constexpr size_t kKeptBytes = 128 << 20;
    if (service_.queue().used_slots() > 0 || steady_clock::now() - trimmed_ < kBetween) return;
    trimmed_ = steady_clock::now();
    if (mallinfo2().fordblks > kKeptBytes) malloc_trim(0);
  }

  // Ends what has taken too long. A few times a second.
  void EndOverdue() { service_.EndOverdue(); }

  // Blocks until running predictions have ended, at most --drain-delay, --drain-timeout and a
  // little. The port stays open for probes, refusals and whoever asks for a prediction's end.
  void Drain() {
    setup_thread_.request_stop();
    service_.Leave();
    RemoveReadinessFile();
    http_->EndConnections();
    std::this_thread::sleep_for(flags_.Seconds("drain-delay"));
    const milliseconds time = flags_.Seconds("drain-timeout");
    const auto end = steady_clock::now() + time;
    if (!service_.queue().Drain(time)) {
      LogError("Stopped although predictions did not end when they were canceled.");
      std::fflush(nullptr);
      std::_Exit(1);
    }
    constexpr auto kLeast = milliseconds(6000);  // canceled ones still answer, and post their end
    const auto left =
        std::max(kLeast, std::chrono::duration_cast<milliseconds>(end - steady_clock::now()));
    http_->Stop(left);
    if (!webhooks_.Drain(left)) LogWarning("Some webhooks were not delivered before the stop.");
    constexpr auto kSpansTime = milliseconds(3000);
    if (!tracer_.Drain(kSpansTime)) LogWarning("Some spans were not sent before the stop.");
    // A model that is still loading cannot be interrupted, and nothing of it needs to be saved.
    if (!setup_ended_) {
      std::fflush(nullptr);
      std::_Exit(0);
    }
    // A thread of it may never come back, and uses what an orderly end takes away.
    if (service_.health().state == ServiceHealth::State::kBroken) {
      LogError("Stopped with a model that had failed for good; what it holds was left as it is.");
      std::fflush(nullptr);
      std::_Exit(1);
    }
  }

 private:
  void AddRoutes() {
    vertex_routes_.AddTo(router_);
    cog_routes_.AddTo(router_);
    replicate_routes_.AddTo(router_);
    openai_routes_.AddTo(router_);
    tgi_routes_.AddTo(router_);
    if (has_playground_) playground_.AddTo(router_);
    probes_.AddTo(router_);
    AddInvocations(router_);
    metrics_routes_.AddTo(has_metrics_port_ ? metrics_router_ : router_);
    probes_.AddTo(metrics_router_);
    router_.SetJournal(&journal_);
    const auto count = [this](std::string_view method, std::string_view route, int status) {
      http_metrics_.Count(method, route, status);
    };
    router_.SetObserver(count);
    metrics_router_.SetObserver(count);
    router_.SetGuard([this](HttpRequest& request) -> std::optional<HttpResponse> {
      if (auto answer = cors_.Preflight(request)) return answer;
      if (has_playground_) {
        if (auto answer = playground_.Welcome(request)) return answer;
      }
      return CheckKey(request);
    });
    router_.SetFinish([this](const HttpRequest& request, HttpResponse* response) {
      cors_.AddHeaders(request, response);
      http_metrics_.Watch(response);
    });
  }

  // Whoever looks every few seconds.
  bool IsMinor(std::string_view path) const {
    return ProbeRoutes::IsProbe(std::string(path)) || vertex_routes_.IsProbe(path) ||
           path == "/metrics";
  }

  void AddMore(MetricsPage& page) const {
    page.AddGauge({"idefics_http_connections"}, "Open connections.", http_->num_connections());
    fetch_metrics_.AddTo(page);
    webhooks_.AddTo(page);
  }

  FetchOptions FetchFlags(const FlagValues& flags) {
    FetchOptions options = FetchOptionsFromFlags(flags);
    options.memory = &memory_;
    options.metrics = &fetch_metrics_;
    return options;
  }

  std::optional<HttpResponse> CheckKey(HttpRequest& request) {
    // Probes have no keys, and a browser needs the page to be given one.
    const bool open =
        IsMinor(request.path) || (has_playground_ && PlaygroundRoutes::Owns(request.path));
    if (open || keys_->empty()) return std::nullopt;
    auto owner = keys_->OwnerOf(request);
    if (!owner) {
      const auto api = vertex_routes_.IsPrediction(request.path)
                           ? RequestApi::kVertex
                           : AskedApi(request.method, request.path);
      if (api) service_.CountRefusal(*api, RefusalReason::kUnauthorized);
      return KeyRefusal(request);
    }
    request.client = std::move(*owner);
    return std::nullopt;
  }

  void SetUp(const std::stop_token& stop) {
    service_.SetUp(stop);
    if (service_.setup().phase() == SetupState::Phase::kReady) WriteReadinessFile();
    setup_ended_ = true;
  }

  const FlagValues flags_;
  const OpenAiOptions openai_;
  const CorsPolicy cors_;
  const std::unique_ptr<ApiKeys> keys_;
  const steady_clock::time_point started_ = steady_clock::now();
  steady_clock::time_point trimmed_ = started_;
  Tracer tracer_;  // before all that make spans
  const RequestJournal journal_;
  ByteBudget memory_;       // before all that hold shares of it
  WebhookSender webhooks_;  // before the jobs, which wake it
  FetchMetrics fetch_metrics_;
  HttpMetrics http_metrics_;  // before the connections, whose streams it counts
  JobService service_;
  Admission admission_;
  CogRoutes cog_routes_;
  ReplicateRoutes replicate_routes_;
  OpenAiRoutes openai_routes_;
  TgiRoutes tgi_routes_;
  VertexRoutes vertex_routes_;
  const bool has_playground_;
  const PlaygroundRoutes playground_;
  ProbeRoutes probes_;
  const bool has_metrics_port_ = flags_.Integer("metrics-port") > 0;
  MetricsRoutes metrics_routes_;
  Router router_;
  Router metrics_router_;  // of --metrics-port
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<HttpServer> metrics_http_;  // nullptr: /metrics is on the other's port
  std::atomic<bool> setup_ended_{false};
  std::jthread setup_thread_;
};

}  // namespace

int Serve(const FlagValues& flags, uint64_t memory_bytes, JobService::Loader loader) {
  StopSignals signals;
  auto keys = ApiKeys::Load(flags.Text("api-key"), flags.Text("api-key-file"));
  if (!keys.ok()) {
    LogError(keys.status().message());
    return 1;
  }
  auto cors = CorsPolicy::Parse(flags.Text("cors-origins"));
  if (!cors.ok()) {
    LogError(cors.status().message());
    return 1;
  }
  TraceOptions trace = TraceOptionsFrom(std::getenv);
  for (const std::string& warning : trace.warnings) LogWarning(warning);
  Server server(flags, memory_bytes,
                {std::move(cors).value(), std::move(keys).value(), std::move(trace)},
                std::move(loader), signals);
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
    server.EndOverdue();
    if (event == Event::kReload) server.ReloadKeys();
    if (event == Event::kNone || event == Event::kReload) continue;
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
