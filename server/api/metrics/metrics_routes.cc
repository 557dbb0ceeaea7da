// SPDX-License-Identifier: Apache-2.0
#include "server/api/metrics/metrics_routes.h"

#include <sys/resource.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "common/version.h"

namespace idefics {
namespace {

using Format = MetricsPage::Format;
using Type = MetricsPage::Type;

const auto kStarted = std::chrono::system_clock::now();

double Seconds(const timeval& time) {
  return static_cast<double>(time.tv_sec) + static_cast<double>(time.tv_usec) / 1e6;
}

// Prometheus' standard names.
void AddProcess(MetricsPage& page) {
  rusage used{};
  getrusage(RUSAGE_SELF, &used);
  page.AddFamily("process_cpu_seconds", Type::kCounter, "CPU time, of user and system.");
  page.AddSample("process_cpu_seconds", Type::kCounter, {},
                 Seconds(used.ru_utime) + Seconds(used.ru_stime));
  std::ifstream statm("/proc/self/statm");
  double pages = 0;
  double resident = 0;
  statm >> pages >> resident;
  const auto page_bytes = static_cast<double>(sysconf(_SC_PAGESIZE));
  page.AddGauge({"process_virtual_memory_bytes"}, "Virtual memory.", pages * page_bytes);
  page.AddGauge({"process_resident_memory_bytes"}, "Resident memory.", resident * page_bytes);
  std::error_code error;
  double open = 0;
  for (auto it = std::filesystem::directory_iterator("/proc/self/fd", error);
       !error && it != std::filesystem::directory_iterator(); it.increment(error)) {
    ++open;
  }
  page.AddGauge({"process_open_fds"}, "Open descriptors.", open);
  rlimit limit{};
  getrlimit(RLIMIT_NOFILE, &limit);
  page.AddGauge({"process_max_fds"}, "Descriptors that may be open.",
                static_cast<double>(limit.rlim_cur));
  page.AddGauge({"process_start_time_seconds"}, "Start, in seconds since 1970.",
                std::chrono::duration<double>(kStarted.time_since_epoch()).count());
}

// The names are those of /health-check, where that has one.
const char* StateName(const JobService& service, ServiceState::Stage stage) {
  using Stage = ServiceState::Stage;
  switch (stage) {
    case Stage::kLoading:
      return "starting";
    case Stage::kServing:
      return "ready";
    case Stage::kStalled:
      return "stalled";
    case Stage::kLeaving:
      return "draining";
    case Stage::kFailed:
      break;
  }
  return service.setup().phase() == SetupState::Phase::kReady ? "defunct" : "failed";
}

void AddState(const JobService& service, MetricsPage& page) {
  const ServiceState state = service.state();
  const std::string_view now = StateName(service, state.stage);
  page.AddGauge({"idefics_ready"}, "1 where /readyz is 200.", state.is_ready() ? 1 : 0);
  page.AddFamily("idefics_server_state", Type::kGauge, "1 for the state that it is in.");
  for (const char* name : {"starting", "ready", "stalled", "draining", "failed", "defunct"}) {
    page.AddSample("idefics_server_state", Type::kGauge, {{"state", name}}, now == name ? 1 : 0);
  }
  const SetupState::View setup = service.setup().view();
  if (setup.phase == SetupState::Phase::kReady) {
    const std::chrono::duration<double> took = *setup.completed_at - setup.started_at;
    page.AddGauge({"idefics_model_load_seconds"}, "From the start to READY.", took.count());
  }
}

// IDEFICS_REVISION: of the source, as the image sets it.
void AddBuild(MetricsPage& page) {
  const char* revision = std::getenv("IDEFICS_REVISION");
  page.AddFamily("idefics_build_info", Type::kGauge, "Which program this is.");
  page.AddSample("idefics_build_info", Type::kGauge,
                 {{"version", kServerVersion},
                  {"revision", revision == nullptr ? "unknown" : revision},
                  {"cog_version", kCogVersion},
                  {"torch", kTorchVersion},
                  {"cuda", kCudaVersion}},
                 1);
}

void AddModel(const ModelForm& form, MetricsPage& page) {
  page.AddFamily("idefics_model_info", Type::kGauge, "What was loaded.");
  page.AddSample("idefics_model_info", Type::kGauge,
                 {{"weights", form.weights},
                  {"dtype", form.dtype},
                  {"device", form.device},
                  {"format", std::to_string(form.bundle_format)}},
                 1);
}

void AddEngine(const PredictorStats& stats, MetricsPage& page) {
  const auto ratio = [](int64_t part, int64_t whole) {
    return whole == 0 ? 0.0 : static_cast<double>(part) / static_cast<double>(whole);
  };
  page.AddGauge({"idefics_kv_cache_usage_ratio", "vllm:kv_cache_usage_perc"},
                "Slots of the KV cache that running requests hold.",
                ratio(stats.kv_tokens_used, stats.kv_tokens));
  page.AddGauge({"idefics_kv_cache_capacity_tokens"}, "Slots of the KV cache.",
                static_cast<double>(stats.kv_tokens));
  page.AddGauge({"idefics_batch_capacity_rows"}, "Sequences that the engine runs at once.",
                stats.max_running);
  page.AddGauge({"idefics_prefix_cache_tokens"}, "Slots that are kept for prompts to come.",
                static_cast<double>(stats.kv_tokens_cached));
  page.AddGauge({"idefics_image_cache_capacity_entries"}, "Images that may be kept encoded.",
                static_cast<double>(stats.image_slots));
  page.AddCounter({"idefics_image_cache_queries", "vllm:mm_cache_queries"},
                  "Images that the engine was given.",
                  static_cast<uint64_t>(stats.image_hits + stats.image_misses));
  page.AddCounter({"idefics_image_cache_hits", "vllm:mm_cache_hits"},
                  "Of these: images that were encoded already.",
                  static_cast<uint64_t>(stats.image_hits));
  page.AddCounter({"idefics_engine_steps"}, "Steps of the engine.",
                  static_cast<uint64_t>(stats.steps));
  page.AddCounter({"idefics_preemptions", "vllm:num_preemptions"},
                  "Running requests that gave their place to others for a while.",
                  static_cast<uint64_t>(stats.preemptions));
}

void AddMeters(const EngineMeters& meters, MetricsPage& page) {
  page.AddCounter({"idefics_prompt_tokens", "vllm:prompt_tokens"},
                  "Tokens of prompts that have run, those of the prefix cache included.",
                  meters.prompt_tokens.value());
  page.AddCounter({"idefics_generation_tokens", "vllm:generation_tokens"}, "New tokens.",
                  meters.generation_tokens.value());
  constexpr const char* kEntries = "idefics_image_cache_entries";
  page.AddFamily(kEntries, Type::kGauge, "Images that are kept encoded, by whether one sees them.");
  page.AddSample(kEntries, Type::kGauge, {{"state", "pinned"}},
                 static_cast<double>(meters.images_pinned));
  page.AddSample(kEntries, Type::kGauge, {{"state", "cached"}},
                 static_cast<double>(meters.images_cached));
  page.AddHistogram({"idefics_inter_token_latency_seconds", "vllm:inter_token_latency_seconds"},
                    "Between new tokens of one request.", meters.inter_token_s);
  page.AddHistogram({"idefics_engine_step_tokens", "vllm:iteration_tokens_total"},
                    "Tokens of a step, of prompts and new ones.", meters.step_tokens);
  page.AddHistogram({"idefics_engine_step_seconds"}, "A step, from its start to its results.",
                    meters.step_s);
}

void AddTraces(const Tracer& tracer, MetricsPage& page) {
  constexpr const char* kName = "idefics_trace_spans";
  page.AddFamily(kName, Type::kCounter, "Spans by what became of them.");
  for (const auto& [outcome, count] :
       {std::pair("exported", tracer.exported()), std::pair("dropped", tracer.dropped())}) {
    page.AddSample(kName, Type::kCounter, {{"outcome", outcome}}, static_cast<double>(count));
  }
}

}  // namespace

void MetricsRoutes::AddTo(Router& router) {
  router.Add("GET", "/metrics", [this](HttpRequest& request) {
    const std::string* accept = request.Header("Accept");
    const bool open =
        accept != nullptr && accept->find("application/openmetrics-text") != std::string::npos;
    HttpResponse response =
        HttpResponse::Text(200, Page(open ? Format::kOpenMetrics : Format::kText));
    response.headers = {
        {"Content-Type", open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
                              : "text/plain; version=0.0.4; charset=utf-8"}};
    return response;
  });
}

// Running: those that the engine has, or, where it has none (the fake one), those with a slot.
std::string MetricsRoutes::Page(Format format) const {
  MetricsPage page(format, {{"model_name", model_}}, aliases_);
  const bool loaded = service_.setup().phase() == SetupState::Phase::kReady;
  const PredictorStats stats = loaded ? service_.predictor().stats() : PredictorStats();
  const JobQueue& queue = service_.queue();
  const int with_slot = queue.used_slots();
  const int running = stats.kv_tokens > 0 ? stats.running : with_slot;
  page.AddGauge({"idefics_requests_running", "vllm:num_requests_running"},
                "Requests with a place in the engine.", running);
  page.AddGauge({"idefics_requests_waiting", "vllm:num_requests_waiting"},
                "Accepted requests without one: for a slot, for their images, for the engine.",
                queue.num_queued() + std::max(0, with_slot - running));
  constexpr const char* kStages = "idefics_requests_waiting_by_stage";
  page.AddFamily(kStages, Type::kGauge, "The same by what they wait for.");
  const int in_engine = std::min(stats.waiting, std::max(0, with_slot - running));
  for (const auto& [stage, count] :
       {std::pair("slot", queue.num_queued()), std::pair("engine", in_engine),
        std::pair("prepare", std::max(0, with_slot - running - in_engine))}) {
    page.AddSample(kStages, Type::kGauge, {{"stage", stage}}, count);
  }
  page.AddGauge({"idefics_slots"}, "Requests that may run at once.", queue.max_slots());
  AddState(service_, page);
  AddBuild(page);
  if (loaded) AddModel(service_.predictor().info().form, page);
  AddEngine(stats, page);
  static const EngineMeters kNone;  // the families are there from the first page on
  const EngineMeters* meters = loaded ? service_.predictor().meters() : nullptr;
  AddMeters(meters != nullptr ? *meters : kNone, page);
  service_.metrics().AddTo(page);
  http_.AddTo(page);
  more_(page);
  AddTraces(tracer_, page);
  AddProcess(page);
  return page.Finish();
}

}  // namespace idefics
