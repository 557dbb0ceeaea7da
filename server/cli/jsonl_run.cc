// SPDX-License-Identifier: Apache-2.0
#include "server/cli/jsonl_run.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <nlohmann/json.hpp>
#include <thread>

#include "server/api/cog/input_validation.h"
#include "server/cli/batch_line.h"

namespace idefics {
namespace {

using nlohmann::json;

bool IsBlank(const std::string& line) {
  return line.find_first_not_of(" \t\r") == std::string::npos;
}

std::string Reason() { return std::strerror(errno); }

// The client's own name of a line, of its answer too.
std::string IdOf(const json& object) {
  const auto found = object.find(IsBatchLine(object) ? "custom_id" : "id");
  return found == object.end() ? "" : found->dump();
}

bool Failed(const json& answer) {
  return IsBatchLine(answer) ? BatchRowFailed(answer) : answer["status"] == "failed";
}

}  // namespace

JsonlRun::JsonlRun(JsonlPaths paths, Predictor& predictor, ImageSource& images,
                   AnswerOptions options, OpenAiOptions openai)
    : paths_(std::move(paths)),
      predictor_(predictor),
      images_(images),
      options_(options),
      openai_(std::move(openai)) {}

Status JsonlRun::CountLines() {
  std::ifstream in(paths_.input, std::ios::binary);
  if (!in) return Status::InvalidInput("'" + paths_.input + "' cannot be read: " + Reason());
  for (std::string line; std::getline(in, line);) num_lines_ += IsBlank(line) ? 0 : 1;
  return Status::Ok();
}

// What an earlier run has written; a last line without its end is cut off.
Status JsonlRun::ReadJournal() {
  std::ifstream in(paths_.output, std::ios::binary);
  if (!in) return Status::Ok();
  uint64_t good_bytes = 0;
  for (std::string line; std::getline(in, line);) {
    if (in.eof()) break;  // no newline: torn
    const json object = json::parse(line, nullptr, /*allow_exceptions=*/false);
    const bool ours = object.is_object() && object.contains("line") &&
                      object["line"].is_number_unsigned() &&
                      (object.contains("status") || IsBatchLine(object));
    if (!ours) {
      return Status::InvalidInput("'" + paths_.output +
                                  "' holds a line that this command did not write: choose another "
                                  "file with -o, or remove it");
    }
    const auto number = object["line"].get<uint64_t>();
    in_order_ = in_order_ && number > last_written_;
    last_written_ = number;
    if (paths_.retry_failed && Failed(object)) {
      done_.erase(number);
      in_order_ = false;  // the sorting keeps the last answer of a line
    } else {
      done_[number] = IdOf(object);
    }
    good_bytes += line.size() + 1;
  }
  in.close();
  std::error_code error;
  if (std::filesystem::file_size(paths_.output, error) != good_bytes) {
    std::filesystem::resize_file(paths_.output, good_bytes, error);
  }
  if (!error) return Status::Ok();
  return Status::InvalidInput("'" + paths_.output + "' cannot be changed: " + error.message());
}

Status JsonlRun::OpenFiles() {
  std::error_code ignored;
  if (std::filesystem::equivalent(paths_.input, paths_.output, ignored)) {
    return Status::InvalidInput("-o is the input file itself: choose another");
  }
  RETURN_IF_ERROR(CountLines());
  RETURN_IF_ERROR(ReadJournal());
  in_.open(paths_.input, std::ios::binary);
  out_.open(paths_.output, std::ios::binary | std::ios::app);
  if (!out_) return Status::InvalidInput("'" + paths_.output + "' cannot be written: " + Reason());
  return Status::Ok();
}

// The next line that has no answer yet. False: there is none, or the run has failed.
bool JsonlRun::NextLine(std::string* text, uint64_t* number) {
  const MutexLock lock(mutex_);
  while (status_.ok() && std::getline(in_, *text)) {
    *number = ++next_line_;
    if (IsBlank(*text)) continue;
    const auto done = done_.find(*number);
    if (done == done_.end()) return true;
    const json input = json::parse(*text, nullptr, /*allow_exceptions=*/false);
    if (IdOf(input.is_object() ? input : json::object()) != done->second) {
      status_ = Status::InvalidInput("'" + paths_.output + "' belongs to another input: line " +
                                     std::to_string(*number) + " has another id there");
      return false;
    }
    progress_->Advance(1);
  }
  return false;
}

json JsonlRun::AnswerInputLine(json input, const std::stop_token& stop) {
  Answer answer;
  json id;
  if (!input.is_object()) {
    answer.outcome.status = Status::InvalidInput("the line is no JSON object");
  } else {
    if (input.contains("id")) id = std::move(input["id"]);
    input.erase("id");
    const ValidatedInput valid = ValidateInput(input, InputOrigin::kCommandLine);
    if (valid.errors.empty()) {
      answer =
          AnswerInput(valid.values, predictor_, images_, options_, stop, [](std::string_view) {});
    } else {
      answer.outcome.status = Status::InvalidInput(ErrorSentence(valid.errors));
    }
  }
  json object = AnswerObject(answer, paths_.details);
  if (!id.is_null()) object["id"] = std::move(id);
  return object;
}

std::optional<json> JsonlRun::AnswerLine(const std::string& text, const std::stop_token& stop) {
  json input = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (IsBatchLine(input) && predictor_.tokenizer() != nullptr) {
    return AnswerBatchLine(input, {predictor_, images_, options_.limits, openai_}, stop);
  }
  json answer = AnswerInputLine(std::move(input), stop);
  if (answer["status"] == "canceled") return std::nullopt;
  return answer;
}

void JsonlRun::Write(const json& answer) {
  const std::string line = answer.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
  const MutexLock lock(mutex_);
  const auto number = answer["line"].get<uint64_t>();
  in_order_ = in_order_ && number > last_written_;
  last_written_ = number;
  num_failed_ += Failed(answer) ? 1 : 0;
  if (!out_.write(line.data(), static_cast<std::streamsize>(line.size())).flush() && status_.ok()) {
    status_ = Status::InvalidInput("'" + paths_.output + "' cannot be written: " + Reason());
  }
  progress_->Advance(1);
}

void JsonlRun::Work(const std::stop_token& stop) {
  std::string text;
  uint64_t number = 0;
  while (!stop.stop_requested() && NextLine(&text, &number)) {
    std::optional<json> answer = AnswerLine(text, stop);
    if (!answer) return;  // the next run makes it
    (*answer)["line"] = number;
    Write(*answer);
  }
}

// Rewrites the output by line number, beside it first, so that no stop loses it.
Status JsonlRun::SortOutput() const {
  std::map<uint64_t, std::pair<uint64_t, uint64_t>> places;  // line number -> offset, size
  std::ifstream in(paths_.output, std::ios::binary);
  uint64_t offset = 0;
  for (std::string line; std::getline(in, line); offset += line.size() + 1) {
    const auto number = json::parse(line, nullptr, false).value("line", uint64_t{0});
    places[number] = {offset, line.size() + 1};
  }
  in.clear();
  const std::string sorted = paths_.output + ".sorted";
  std::ofstream out(sorted, std::ios::binary | std::ios::trunc);
  std::string bytes;
  for (const auto& [number, place] : places) {
    bytes.resize(place.second);
    in.seekg(static_cast<std::streamoff>(place.first));
    in.read(bytes.data(), static_cast<std::streamsize>(bytes.size()));
    out.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
  }
  out.close();
  std::error_code error;
  if (in && out) std::filesystem::rename(sorted, paths_.output, error);
  if (in && out && !error) return Status::Ok();
  std::filesystem::remove(sorted, error);
  return Status::InvalidInput("'" + paths_.output +
                              "' holds every answer but could not be put in input order");
}

Status JsonlRun::Run(std::stop_token stop) {
  RETURN_IF_ERROR(OpenFiles());
  progress_ = std::make_unique<Progress>("predict", num_lines_, "lines");
  const int num_threads = std::clamp(predictor_.info().max_concurrency, 1, 256);
  {
    std::vector<std::jthread> threads;
    for (int i = 0; i < num_threads; ++i) threads.emplace_back([&] { Work(stop); });
  }
  progress_.reset();
  out_.close();
  RETURN_IF_ERROR(status_);
  if (stop.stop_requested()) return Status(ErrorCode::kCanceled, "interrupted");
  if (num_failed_ > 0) {
    std::fprintf(stderr, "%llu of %llu lines failed; their \"error\" says why.\n",
                 static_cast<unsigned long long>(num_failed_),
                 static_cast<unsigned long long>(num_lines_));
  }
  return in_order_ ? Status::Ok() : SortOutput();
}

}  // namespace idefics
