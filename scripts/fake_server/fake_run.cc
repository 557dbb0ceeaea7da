// SPDX-License-Identifier: Apache-2.0
#include "scripts/fake_server/fake_run.h"

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include "common/mutex.h"
#include "predictor/images/decode.h"

namespace idefics {
namespace {

using nlohmann::json;
using std::chrono::duration;
using std::chrono::steady_clock;

constexpr double kMaxSeconds = 3600;
constexpr size_t kMaxPieces = 1'000'000;
constexpr size_t kMaxBigBytes = 100 << 20;

size_t Count(const std::string& text, size_t limit) {
  return std::min<size_t>(std::strtoull(text.c_str(), nullptr, 10), limit);
}

// "N,REST", or "N".
std::pair<size_t, std::string> CountAndRest(const std::string& value) {
  const size_t comma = value.find(',');
  return {Count(value.substr(0, comma), kMaxPieces),
          comma == std::string::npos ? "" : value.substr(comma + 1)};
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

struct ImageSize {
  int64_t width = 0;
  int64_t height = 0;
};

// A dialogue's last question: "User: a\nAssistant: b\nUser: c\nAssistant:" -> "c". A text that is
// no dialogue stays as it is.
std::string LastQuestion(const std::string& text) {
  constexpr std::string_view kUser = "User:";
  const size_t user = text.rfind(kUser);
  if (user == std::string::npos) return text;
  const size_t begin = user + kUser.size() + (text.compare(user + kUser.size(), 1, " ") == 0);
  const size_t end = text.find(kEndOfUtteranceLiteral, begin);
  return text.substr(begin, end == std::string::npos ? end : end - begin);
}

// What the client wrote: `text`, the texts of `prompt`, or what a chat asks last.
std::string TextOf(const GenerateRequest& request) {
  if (request.token_defaults == TokenDefaults::kQuestion) {
    constexpr size_t kPrefixBytes = sizeof("User: ") - 1;
    return std::get<PromptText>(request.prompt.front()).text.substr(kPrefixBytes);
  }
  std::string text;
  for (const PromptPiece& piece : request.prompt) {
    if (const auto* part = std::get_if<PromptText>(&piece)) text += part->text;
  }
  return request.token_defaults == TokenDefaults::kNone ? LastQuestion(text) : text;
}

std::optional<MetricValue> ParseMetric(const std::string& text) {
  const json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_boolean()) return value.get<bool>();
  if (value.is_number_integer()) return value.get<int64_t>();
  if (value.is_number()) return value.get<double>();
  if (value.is_string()) return value.get<std::string>();
  return std::nullopt;
}

// One run of the directives. One thread.
class FakeRun {
 public:
  FakeRun(const GenerateRequest& request, std::vector<ImageSize> images, GenerateObserver& observer,
          std::stop_token stop)
      : request_(request),
        images_(std::move(images)),
        observer_(observer),
        stop_(std::move(stop)) {}

  Status Run() {
    for (const Directive& directive : ParseDirectives(TextOf(request_), &payload_)) {
      RETURN_IF_ERROR(Obey(directive));
      if (stop_.stop_requested()) return Canceled();
    }
    return Emit();
  }

 private:
  Status Obey(const Directive& directive) {
    const auto& [name, value] = directive;
    if (Note(directive)) return Status::Ok();
    if (name == "sleep") return FakeSleep(FakeSeconds(value), stop_) ? Status::Ok() : Canceled();
    if (name == "block") {
      std::this_thread::sleep_for(duration<double>(FakeSeconds(value)));
    } else if (name == "spin") {
      const auto end = steady_clock::now() + duration<double>(FakeSeconds(value));
      while (steady_clock::now() < end && !stop_.stop_requested()) {
      }
    } else if (name == "log") {
      observer_.OnLog(LogSource::kStdout, value + "\n");
    } else if (name == "err") {
      observer_.OnLog(LogSource::kStderr, value + "\n");
    } else if (name == "logs") {
      return WriteLogs(value);
    } else if (name == "metric") {
      return RecordMetric(value);
    } else if (name == "fail") {
      return Status::InvalidInput(value);
    } else if (name == "crash") {
      return Status(ErrorCode::kNotReady,
                    "The engine crashed and cannot go on: restart the server.");
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
      delay_s_ = FakeSeconds(value);
    } else if (name == "fail_after") {
      std::tie(fail_after_, fail_text_) = CountAndRest(value);
    } else if (name == "hold") {
      const auto [pieces, file] = CountAndRest(value);
      holds_[pieces] = file;
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
    const auto [lines, pause] = CountAndRest(value);
    const double pause_s = FakeSeconds(pause);
    for (size_t i = 0; i < lines; ++i) {
      observer_.OnLog(LogSource::kStdout, "line " + std::to_string(i) + "\n");
      if (pause_s > 0 && !FakeSleep(pause_s, stop_)) return Canceled();
    }
    return Status::Ok();
  }

  Status RecordMetric(const std::string& value) {
    const size_t colon = value.find(':');
    if (colon == std::string::npos) return Status::InvalidInput("metric needs NAME:JSON");
    const auto parsed = ParseMetric(value.substr(colon + 1));
    if (!parsed) return Status::InvalidInput("metric needs NAME:JSON");
    observer_.OnMetric({value.substr(0, colon), *parsed});
    return Status::Ok();
  }

  // All inputs as the engine got them, the images as their sizes.
  std::string Echo() const {
    const SamplingParams& sampling = request_.sampling;
    json echo = {{"text", TextOf(request_)},
                 {"max_new_tokens", sampling.max_new_tokens},
                 {"min_new_tokens", sampling.min_new_tokens},
                 {"repetition_penalty", sampling.repetition_penalty},
                 {"decoding_strategy", sampling.do_sample ? "Top P Sampling" : "Greedy"},
                 {"temperature", sampling.temperature},
                 {"top_p", sampling.top_p},
                 {"top_k", sampling.top_k},
                 {"min_p", sampling.min_p},
                 {"typical_p", sampling.typical_p},
                 {"no_repeat_ngram_size", sampling.no_repeat_ngram_size},
                 {"num_beams", sampling.num_beams},
                 {"length_penalty", sampling.length_penalty},
                 {"stop", sampling.stop},
                 {"bad_words_ids", sampling.bad_words_ids},
                 {"eos_token_id", sampling.eos_token_ids},
                 {"add_end_of_utterance_token", request_.add_end_of_utterance}};
    if (sampling.seed) echo["seed"] = *sampling.seed;
    if (!images_.empty()) {
      echo["image_width"] = images_.front().width;
      echo["image_height"] = images_.front().height;
    }
    return echo.dump();
  }

  void Show(const std::string& text) {
    TextPiece piece;
    piece.text = text;
    observer_.OnText(piece);
  }

  // `pieces` are out.
  Status Hold(size_t pieces) const {
    const auto found = holds_.find(pieces);
    return found == holds_.end() || FakeHold(found->second, stop_) ? Status::Ok() : Canceled();
  }

  Status Emit() {
    const size_t count = chunks_.value_or(1);
    for (size_t i = 0; i < count; ++i) {
      RETURN_IF_ERROR(Hold(i));
      if (fail_after_ && i >= *fail_after_) return Status::InvalidInput(fail_text_);
      if (delay_s_ > 0 && !FakeSleep(delay_s_, stop_)) return Canceled();
      if (stop_.stop_requested()) return Canceled();
      if (chunk_log_) observer_.OnLog(LogSource::kStdout, "chunk " + std::to_string(i) + "\n");
      if (!chunk_metric_.empty()) observer_.OnMetric({chunk_metric_, static_cast<int64_t>(i)});
      if (big_) {
        Show(std::string(*big_, 'x'));
      } else if (echo_) {
        Show(Echo());
      } else {
        Show(chunks_ ? payload_ + "-" + std::to_string(i) : payload_);
      }
    }
    RETURN_IF_ERROR(Hold(count));
    if (fail_after_ && *fail_after_ >= count) return Status::InvalidInput(fail_text_);
    return Status::Ok();
  }

  const GenerateRequest& request_;
  const std::vector<ImageSize> images_;
  GenerateObserver& observer_;
  const std::stop_token stop_;
  std::string payload_;
  std::optional<size_t> chunks_;
  std::optional<size_t> big_;
  std::optional<size_t> fail_after_;
  std::string fail_text_;
  std::map<size_t, std::string> holds_;  // pieces that are out: the file that lets it go on
  std::string chunk_metric_;
  double delay_s_ = 0;
  bool echo_ = false;
  bool chunk_log_ = false;
};

Result<std::vector<ImageSize>> DecodeImages(const GenerateRequest& request) {
  std::vector<ImageSize> sizes;
  for (const PromptPiece& piece : request.prompt) {
    const auto* image = std::get_if<PromptImage>(&piece);
    if (image == nullptr) continue;
    const Result<DecodedImage> decoded = DecodeImage(*image->file, image->policy, ImageLimits());
    if (!decoded.ok()) return decoded.status().WithItem(static_cast<int>(sizes.size()));
    sizes.push_back({decoded->rgb.width, decoded->rgb.height});
  }
  return sizes;
}

}  // namespace

double FakeSeconds(const std::string& text) {
  const double value = std::strtod(text.c_str(), nullptr);
  return value > 0 && value < kMaxSeconds ? value : value > 0 ? kMaxSeconds : 0;
}

bool FakeSleep(double seconds, const std::stop_token& stop) {
  Mutex mutex;
  StoppableCondVar changed;
  MutexLock lock(mutex);
  changed.WaitFor(lock, stop, duration<double>(seconds), [] { return false; });
  return !stop.stop_requested();
}

bool FakeHold(const std::string& path, const std::stop_token& stop) {
  constexpr double kLookEveryS = 0.005;
  while (!std::filesystem::exists(path)) {
    if (!FakeSleep(kLookEveryS, stop)) return false;
  }
  return true;
}

Status RunDirectives(const GenerateRequest& request, const std::stop_token& stop,
                     GenerateObserver& observer) {
  ASSIGN_OR_RETURN(std::vector<ImageSize> images, DecodeImages(request));
  return FakeRun(request, std::move(images), observer, stop).Run();
}

}  // namespace idefics
