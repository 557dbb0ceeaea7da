// SPDX-License-Identifier: Apache-2.0
// Where the time of a decode step of one request goes, on a CPU.
//   decode_step BUNDLE [STEPS [THREADS]]
// Steps take turns. In one, every linear is followed by a pure read of another weight of its shape,
// by the same threads, over the same pages, a run for each: a product's share of the read speed
// that was there at once after it. In the other nothing is between: what the operators take.
// Virtual CPUs move: on one chiplet they share its link to the memory and pass a cache line
// quickly, on two each has a link of its own. So steps are told apart by the time of a line's way
// to the other thread and back, where there are two threads. Prints tables in Markdown; GB is 10^9
// bytes.
#include <ATen/Parallel.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <functional>
#include <iostream>
#include <list>
#include <map>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "predictor/model/torch_runner.h"
#include "predictor/ops/cpu/worker_threads.h"
#include "scripts/bench/reading.h"
#include "weights/bundle.h"

namespace idefics {
namespace {

using Clock = std::chrono::steady_clock;
using Seconds = std::chrono::duration<double>;
using Words = std::span<const uint64_t>;

constexpr int64_t kContext = 64;
constexpr int64_t kKvTokens = 1024;
constexpr int kRoundTrips = 100;
constexpr std::chrono::milliseconds kStillTime{1500};  // a piece moves in a tenth of it

double SecondsSince(Clock::time_point begin) { return Seconds(Clock::now() - begin).count(); }

// Bytes a second of all threads together, without what one waits for another.
double ReadSpeed(Words words) {
  static std::atomic<uint64_t> sink{0};
  const auto threads = static_cast<size_t>(at::get_num_threads());
  std::vector<double> speeds(threads);
  std::atomic<size_t> began{0};
  const auto read = [&](int thread) {
    const auto i = static_cast<size_t>(thread);
    for (++began; began < threads;) {
    }
    const size_t first = words.size() * i / threads;
    const size_t count = words.size() * (i + 1) / threads - first;
    const auto begin = Clock::now();
    sink += SumOf(words.subspan(first, count));
    speeds[i] = static_cast<double>(count * sizeof(uint64_t)) / SecondsSince(begin);
  };
  WorkerThreads::OfThisThread().Run(at::get_num_threads(), std::ref(read));
  return std::accumulate(speeds.begin(), speeds.end(), 0.0);
}

// One operator of a step.
struct Call {
  std::string name;  // of a linear with its shape
  Words weight;      // of a linear
  double bytes = 0;  // with scales
  Clock::time_point begin;
  double seconds = 0;
  double read_seconds = 0;  // for as many bytes
};

// What libtorch's observer sees; it takes functions, so this is one object.
struct Recorder {
  bool reads = false;
  int depth = 0;
  int allocations = 0;
  std::vector<Call> calls;
  std::list<Words> used;  // weights in the order of their last use
} recorder;

Call CallOf(const at::RecordFunction& function) {
  Call call;
  call.name = function.name();
  if (!call.name.starts_with("idefics::linear")) return call;
  // The interpreter's whole stack, of which the last ones are the operator's.
  const auto inputs = function.inputs().slice(function.inputs().size() - function.num_inputs());
  const at::Tensor& weight = inputs[1].toTensor();
  call.weight = {static_cast<const uint64_t*>(weight.const_data_ptr()),
                 weight.nbytes() / sizeof(uint64_t)};
  for (const c10::IValue& input : inputs.slice(1)) {
    if (input.isTensor()) call.bytes += static_cast<double>(input.toTensor().nbytes());
  }
  call.name = call.name.substr(std::strlen("idefics::")) + " " +
              std::to_string(inputs.back().toInt()) + " × " +
              std::to_string(inputs[0].toTensor().size(-1));
  return call;
}

std::unique_ptr<at::ObserverContext> Began(const at::RecordFunction& function) {
  if (recorder.depth++ == 0) {
    recorder.calls.push_back(CallOf(function));
    recorder.calls.back().begin = Clock::now();
  }
  if (std::string_view(function.name()).starts_with("aten::empty")) ++recorder.allocations;
  return nullptr;
}

// Notes that the call used its weight, and reads another one of similar size, or larger: the one
// that was used the longest time ago, so no cache holds it.
void ReadAnother(Call* call) {
  std::list<Words>& used = recorder.used;
  used.remove_if([&](Words other) { return other.data() == call->weight.data(); });
  used.push_back(call->weight);
  if (!recorder.reads) return;
  const auto oldest = std::find_if(used.begin(), used.end(), [&](Words other) {
    return other.size() >= call->weight.size() / 2;
  });
  call->read_seconds = call->bytes / ReadSpeed(*oldest);
  used.splice(used.end(), used, oldest);
}

void Ended(const at::RecordFunction&, at::ObserverContext*) {
  if (--recorder.depth > 0) return;
  Call& call = recorder.calls.back();
  call.seconds = SecondsSince(call.begin);
  if (!call.weight.empty()) ReadAnother(&call);
}

// A cache line's way to the other thread and back. REQUIRES: two threads.
double RoundTrip() {
  struct alignas(128) Line {
    std::atomic<int> turn{0};
  };
  Line there, back;
  double seconds = 0;
  WorkerThreads::OfThisThread().Run(2, [&](int thread) {
    Line& mine = thread == 0 ? there : back;
    Line& other = thread == 0 ? back : there;
    const auto await = [&](int turn) {
      while (other.turn.load(std::memory_order_acquire) < turn) {
      }
    };
    mine.turn = thread == 0 ? 0 : 1;
    if (thread == 0) await(1);  // it is awake
    const auto begin = Clock::now();
    for (int turn = 2; turn < kRoundTrips + 2; ++turn) {
      if (thread == 0) mine.turn.store(turn, std::memory_order_release);
      await(turn);
      if (thread == 1) mine.turn.store(turn, std::memory_order_release);
    }
    if (thread == 0) seconds = SecondsSince(begin) / kRoundTrips;
  });
  return seconds;
}

// Where two threads run, by the longest round trip that a place has: measured on a Zen 4, there are
// gaps of a factor of two and more between them.
std::string Place() {
  static constexpr std::pair<double, const char*> kPlaces[] = {
      {70e-9, "on one core"}, {250e-9, "on one chiplet"}, {5e-6, "on two chiplets"}};
  if (at::get_num_threads() != 2) return "anywhere";
  const double seconds = RoundTrip();
  for (const auto& [longest, place] : kPlaces) {
    if (seconds < longest) return place;
  }
  return "not running at one time";
}

// Median and quartiles.
std::string Spread(std::vector<double> values, int digits) {
  std::sort(values.begin(), values.end());
  const auto at = [&](double part) {
    return values[static_cast<size_t>(part * static_cast<double>(values.size() - 1))];
  };
  char text[64];
  std::snprintf(text, sizeof text, "%.*f (%.*f–%.*f)", digits, at(0.5), digits, at(0.25), digits,
                at(0.75));
  return text;
}

struct LinearFigures {
  std::vector<double> product, read, share;  // GB/s, GB/s, of the read speed
};

struct StepFigures {
  std::vector<double> seconds, share;  // of the whole step, of the read speed of the step before
  std::map<std::string, std::vector<double>> seconds_by_kind;
  std::vector<double> outside;  // of the operators
};

struct Figures {
  std::map<std::string, LinearFigures> linears;
  StepFigures steps;
};

class Bench {
 public:
  Status Load(const char* path, int threads) {
    ASSIGN_OR_RETURN(const Bundle bundle, Bundle::Open(path, {}));
    TorchRunnerOptions options;
    options.device = "cpu";
    options.num_threads = threads;
    options.kv_tokens = kKvTokens;
    options.image_cache_slots = 1;
    ASSIGN_OR_RETURN(runner_, MakeTorchRunner(bundle, options));
    const int64_t side = runner_->limits().image_size;
    RETURN_IF_ERROR(runner_->EncodeImage(std::vector<float>(3 * side * side), 0));
    const std::vector<int32_t> prompt(kContext, 1);
    const std::vector<int32_t> slots(kContext, 0);
    StepRow row;
    row.tokens = prompt;
    row.image_slots = slots;
    return Run(row);
  }

  // The token after the prompt, always the same one.
  Status Decode() {
    const int32_t token = 1;
    const int32_t slot = 0;
    StepRow row;
    row.tokens = std::span(&token, 1);
    row.image_slots = std::span(&slot, 1);
    row.position = kContext;
    return Run(row);
  }

 private:
  Status Run(const StepRow& row) {
    RETURN_IF_ERROR(runner_->StartStep(std::span(&row, 1)));
    StepOutput output;
    return runner_->FinishStep(&output);
  }

  std::unique_ptr<ModelRunner> runner_;
};

double AllReadSeconds() {
  double sum = 0;
  for (const Call& call : recorder.calls) sum += call.read_seconds;
  return sum;
}

void NoteLinears(Figures* figures) {
  for (const Call& call : recorder.calls) {
    if (call.weight.empty()) continue;
    const double gigabytes = call.bytes / 1e9;
    LinearFigures& linear = figures->linears[call.name];
    linear.product.push_back(gigabytes / call.seconds);
    linear.read.push_back(gigabytes / call.read_seconds);
    linear.share.push_back(call.read_seconds / call.seconds);
  }
}

void NoteStep(double seconds, double read_seconds, StepFigures* steps) {
  std::map<std::string, double> by_kind;
  double inside = 0;
  for (const Call& call : recorder.calls) {
    by_kind[call.weight.empty() ? call.name : "linears"] += call.seconds;
    inside += call.seconds;
  }
  for (const auto& [kind, sum] : by_kind) steps->seconds_by_kind[kind].push_back(sum);
  steps->outside.push_back(seconds - inside);
  steps->seconds.push_back(seconds);
  steps->share.push_back(read_seconds / seconds);
}

// A step with reads and one without, which count where the threads stayed where they were.
Status Turn(Bench* bench, std::map<std::string, Figures>* figures) {
  const std::string place = Place();
  recorder.reads = true;
  recorder.calls.clear();
  RETURN_IF_ERROR(bench->Decode());
  const double read_seconds = AllReadSeconds();
  const std::string between = Place();
  if (between == place) NoteLinears(&(*figures)[place]);
  recorder.reads = false;
  recorder.calls.clear();
  recorder.allocations = 0;
  const auto begin = Clock::now();
  RETURN_IF_ERROR(bench->Decode());
  const double seconds = SecondsSince(begin);
  if (between == place && Place() == place)
    NoteStep(seconds, read_seconds, &(*figures)[place].steps);
  return Status::Ok();
}

void Print(const std::string& place, const Figures& figures) {
  const StepFigures& steps = figures.steps;
  std::printf("\nThreads %s, %zu steps\n\n", place.c_str(), steps.seconds.size());
  std::printf("| linear, n × k | product, GB/s | read, GB/s | share |\n|---|---|---|---|\n");
  for (const auto& [name, linear] : figures.linears) {
    std::printf("| %s | %s | %s | %s |\n", name.c_str(), Spread(linear.product, 1).c_str(),
                Spread(linear.read, 1).c_str(), Spread(linear.share, 3).c_str());
  }
  if (steps.seconds.empty()) return;
  std::printf("\n| part of a step | ms |\n|---|---|\n");
  const auto row = [](const std::string& name, std::vector<double> seconds) {
    for (double& value : seconds) value *= 1000;
    std::printf("| %s | %s |\n", name.c_str(), Spread(std::move(seconds), 3).c_str());
  };
  for (const auto& [kind, seconds] : steps.seconds_by_kind) row(kind, seconds);
  row("between operators", steps.outside);
  row("whole step", steps.seconds);
  std::printf("\nof the read speed: %s\n", Spread(steps.share, 3).c_str());
}

long HugeKilobytes() {
  std::ifstream file("/proc/self/smaps_rollup");
  for (std::string line; std::getline(file, line);) {
    if (line.starts_with("AnonHugePages:")) return std::strtol(line.c_str() + 14, nullptr, 10);
  }
  return 0;
}

Status Main(const char* path, int steps, int threads) {
  Bench bench;
  RETURN_IF_ERROR(bench.Load(path, threads));
  for (long before = -1, now = 0; now != before; std::this_thread::sleep_for(kStillTime)) {
    before = now;
    now = HugeKilobytes();
  }
  at::addGlobalCallback(at::RecordFunctionCallback(Began, Ended)
                            .needsInputs(true)
                            .scopes({at::RecordScope::FUNCTION}));
  RETURN_IF_ERROR(bench.Decode());  // every weight has been used
  std::map<std::string, Figures> figures;
  for (int step = 0; step < steps; ++step) RETURN_IF_ERROR(Turn(&bench, &figures));
  std::printf("%s: %d threads, %.2f GB on huge pages\n", path, at::get_num_threads(),
              static_cast<double>(HugeKilobytes()) * 1024 / 1e9);
  std::printf("%d tensors made in a step\n", recorder.allocations);
  for (const auto& [place, of_place] : figures) Print(place, of_place);
  return Status::Ok();
}

}  // namespace
}  // namespace idefics

int main(int argc, char** argv) {
  if (argc < 2) {
    std::cerr << "usage: decode_step BUNDLE [STEPS [THREADS]]\n";
    return 2;
  }
  const idefics::Status status =
      idefics::Main(argv[1], argc > 2 ? std::atoi(argv[2]) : 20, argc > 3 ? std::atoi(argv[3]) : 0);
  if (!status.ok()) std::cerr << "decode_step: " << status.message() << "\n";
  return status.ok() ? 0 : 1;
}
