// SPDX-License-Identifier: Apache-2.0
#include "server/cog/fake_backend.h"

#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "predictor/images/decode.h"
#include "server/cog/input_adapter.h"

namespace idefics {
namespace {

using nlohmann::json;
using std::chrono::duration;
using std::chrono::steady_clock;

constexpr double kMaxSeconds = 3600;
constexpr size_t kMaxPieces = 1'000'000;
constexpr size_t kMaxBigBytes = 100 << 20;
constexpr const char* kCrashed = "The engine crashed and cannot go on: restart the server.";

double Seconds(const std::string& text) {
  const double value = std::strtod(text.c_str(), nullptr);
  return value > 0 && value < kMaxSeconds ? value : value > 0 ? kMaxSeconds : 0;
}

size_t Count(const std::string& text, size_t limit) {
  return std::min<size_t>(std::strtoull(text.c_str(), nullptr, 10), limit);
}

// False: canceled.
bool Sleep(double seconds, std::stop_token stop) {
  std::mutex mutex;
  std::condition_variable_any changed;
  std::unique_lock lock(mutex);
  changed.wait_for(lock, stop, duration<double>(seconds), [] { return false; });
  return !stop.stop_requested();
}

Status Canceled() { return {ErrorCode::kCanceled, "canceled"}; }

struct Directive {
  std::string name;
  std::string value;
};

// "[a=1][b]rest" -> {a=1, b}; `*payload` = "rest".
std::vector<Directive> ParseDirectives(const std::string& text, std::string* payload) {
  std::vector<Directive> found;
  size_t at = 0;
  while (at < text.size() && text[at] == '[') {
    const size_t name_end = text.find_first_not_of("abcdefghijklmnopqrstuvwxyz_", at + 1);
    if (name_end == std::string::npos || name_end == at + 1) break;
    size_t end = name_end;
    std::string value;
    if (text[name_end] == '=') {
      end = text.find(']', name_end);
      if (end == std::string::npos) break;
      value = text.substr(name_end + 1, end - name_end - 1);
    } else if (text[name_end] != ']') {
      break;
    }
    found.push_back({text.substr(at + 1, name_end - at - 1), std::move(value)});
    at = end + 1;
  }
  *payload = text.substr(at);
  return found;
}

struct DecodedInput {
  std::string text;
  std::vector<std::pair<int64_t, int64_t>> image_sizes;  // (width, height)
};

// One run of the directives. One thread.
class FakeRun {
 public:
  FakeRun(const json& input, DecodedInput decoded, PredictionSink& sink, std::stop_token stop)
      : input_(input), decoded_(std::move(decoded)), sink_(sink), stop_(std::move(stop)) {}

  Status Run() {
    for (const Directive& directive : ParseDirectives(decoded_.text, &payload_)) {
      RETURN_IF_ERROR(Obey(directive));
      if (stop_.stop_requested()) return Canceled();
    }
    return Emit();
  }

 private:
  Status Obey(const Directive& directive) {
    const auto& [name, value] = directive;
    if (Note(directive)) return Status::Ok();
    if (name == "sleep") return Sleep(Seconds(value), stop_) ? Status::Ok() : Canceled();
    if (name == "block") {
      std::this_thread::sleep_for(duration<double>(Seconds(value)));
    } else if (name == "spin") {
      const auto end = steady_clock::now() + duration<double>(Seconds(value));
      while (steady_clock::now() < end && !stop_.stop_requested()) {
      }
    } else if (name == "log") {
      sink_.Log("stdout", value + "\n");
    } else if (name == "err") {
      sink_.Log("stderr", value + "\n");
    } else if (name == "logs") {
      return WriteLogs(value);
    } else if (name == "metric") {
      return RecordMetric(value);
    } else if (name == "fail") {
      return Status::InvalidInput(value);
    } else if (name == "crash") {
      return Status(ErrorCode::kNotReady, kCrashed);
    } else {
      return Status::InvalidInput("unknown directive " + name);
    }
    return Status::Ok();
  }

  // Settings for Emit.
  bool Note(const Directive& directive) {
    const auto& [name, value] = directive;
    if (name == "chunks") {
      chunks_ = Count(value, kMaxPieces);
    } else if (name == "big") {
      big_ = Count(value, kMaxBigBytes);
    } else if (name == "echo") {
      echo_ = true;
    } else if (name == "delay") {
      delay_s_ = Seconds(value);
    } else if (name == "fail_after") {
      const size_t comma = value.find(',');
      fail_after_ = Count(value.substr(0, comma), kMaxPieces);
      fail_text_ = comma == std::string::npos ? "" : value.substr(comma + 1);
    } else if (name == "chunk_log") {
      chunk_log_ = true;
    } else if (name == "chunk_metric") {
      chunk_metric_ = value;
    } else {
      return false;
    }
    return true;
  }

  Status WriteLogs(const std::string& value) {
    const size_t comma = value.find(',');
    const double pause_s = comma == std::string::npos ? 0 : Seconds(value.substr(comma + 1));
    const size_t lines = Count(value.substr(0, comma), kMaxPieces);
    for (size_t i = 0; i < lines; ++i) {
      sink_.Log("stdout", "line " + std::to_string(i) + "\n");
      if (pause_s > 0 && !Sleep(pause_s, stop_)) return Canceled();
    }
    return Status::Ok();
  }

  Status RecordMetric(const std::string& value) {
    const size_t colon = value.find(':');
    if (colon == std::string::npos) return Status::InvalidInput("metric needs NAME:JSON");
    json parsed = json::parse(value.substr(colon + 1), nullptr, /*allow_exceptions=*/false);
    if (parsed.is_discarded()) return Status::InvalidInput("metric needs NAME:JSON");
    sink_.Metric(value.substr(0, colon), std::move(parsed));
    return Status::Ok();
  }

  std::string Echo() const {
    json echo = input_;
    echo.erase("image");
    if (!decoded_.image_sizes.empty()) {
      echo["image_width"] = decoded_.image_sizes.front().first;
      echo["image_height"] = decoded_.image_sizes.front().second;
    }
    return echo.dump();
  }

  Status Emit() {
    const size_t count = chunks_.value_or(1);
    for (size_t i = 0; i < count; ++i) {
      if (fail_after_ && i >= *fail_after_) return Status::InvalidInput(fail_text_);
      if (delay_s_ > 0 && !Sleep(delay_s_, stop_)) return Canceled();
      if (stop_.stop_requested()) return Canceled();
      if (chunk_log_) sink_.Log("stdout", "chunk " + std::to_string(i) + "\n");
      if (!chunk_metric_.empty()) sink_.Metric(chunk_metric_, i);
      if (big_) {
        sink_.Output(std::string(*big_, 'x'));
      } else if (echo_) {
        sink_.Output(Echo());
      } else {
        sink_.Output(chunks_ ? payload_ + "-" + std::to_string(i) : payload_);
      }
    }
    if (fail_after_ && *fail_after_ >= count) return Status::InvalidInput(fail_text_);
    return Status::Ok();
  }

  const json& input_;
  DecodedInput decoded_;
  PredictionSink& sink_;
  const std::stop_token stop_;
  std::string payload_;
  std::optional<size_t> chunks_;
  std::optional<size_t> big_;
  std::optional<size_t> fail_after_;
  std::string fail_text_;
  std::string chunk_metric_;
  double delay_s_ = 0;
  bool echo_ = false;
  bool chunk_log_ = false;
};

// The same planning, fetching and decoding as the model's, without its vocabulary limits.
Result<DecodedInput> Decode(const json& input, ImageSource& images, const std::stop_token& stop) {
  ModelInfo info;
  info.vocab_size = 1 << 30;
  constexpr int kMaxImages = 64;
  ASSIGN_OR_RETURN(const PlannedRequest plan,
                   PlanRequest(input, info, InputOrigin::kHttp, kMaxImages));
  DecodedInput decoded;
  if (!plan.images.empty()) {
    ASSIGN_OR_RETURN(const std::vector<ImageBytes> files, images.Fetch(plan.images, stop));
    for (const ImageBytes& file : files) {
      ASSIGN_OR_RETURN(const DecodedImage image,
                       DecodeImage(*file, OpenMode::kPillowObject, ImageLimits()));
      decoded.image_sizes.emplace_back(image.rgb.width, image.rgb.height);
    }
  }
  if (input.contains("text")) {
    decoded.text = input["text"];
    return decoded;
  }
  for (const PromptPart& part : plan.request.prompt) decoded.text += part.text;
  return decoded;
}

}  // namespace

FakeOptions FakeOptionsFromEnvironment() {
  const auto read = [](const char* name) {
    const char* value = std::getenv(name);
    return std::string(value == nullptr ? "" : value);
  };
  FakeOptions options;
  options.setup_delay_s = Seconds(read("FAKE_SETUP_DELAY"));
  options.setup_fail = read("FAKE_SETUP_FAIL");
  options.health = read("FAKE_HEALTH");
  return options;
}

FakeBackend::FakeBackend(FakeOptions options, std::unique_ptr<ImageSource> images)
    : options_(std::move(options)), images_(std::move(images)) {}

Status FakeBackend::Setup(std::stop_token stop) {
  if (!Sleep(options_.setup_delay_s, stop) && options_.setup_delay_s > 0) return Canceled();
  if (!options_.setup_fail.empty()) return Status::InvalidInput(options_.setup_fail);
  return Status::Ok();
}

Status FakeBackend::Run(const json& input, PredictionSink& sink, std::stop_token stop) {
  ASSIGN_OR_RETURN(DecodedInput decoded, Decode(input, *images_, stop));
  const Status status = FakeRun(input, std::move(decoded), sink, stop).Run();
  if (status.code() == ErrorCode::kNotReady) crashed_ = true;
  return status;
}

BackendHealth FakeBackend::Health() const {
  using State = BackendHealth::State;
  const std::string prefix = "Healthcheck failed: ";
  if (crashed_) return {State::kDefunct, kCrashed};
  if (options_.health == "false") {
    return {State::kUnhealthy, prefix + "user-defined healthcheck returned False"};
  }
  if (options_.health == "raise") {
    return {State::kUnhealthy, prefix + "RuntimeError: gpu is on fire"};
  }
  if (options_.health == "hang") {
    // The hook itself would hang; what is shown is its outcome (cog-contract.md 1.3).
    return {State::kUnhealthy, prefix + "user-defined healthcheck timed out after 5.0 seconds"};
  }
  return {};
}

}  // namespace idefics
