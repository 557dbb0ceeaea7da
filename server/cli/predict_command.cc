// SPDX-License-Identifier: Apache-2.0
#include "server/cli/predict_command.h"

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "server/api/cog/input_validation.h"
#include "server/api/json_body.h"
#include "server/cli/answer.h"
#include "server/cli/fetch_flags.h"
#include "server/cli/interrupt.h"
#include "server/cli/jsonl_run.h"
#include "server/cli/load_model.h"
#include "server/cli/openai_flags.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr int kNumLogprobs = 5;

int Fail(const std::string& message, int code) {
  std::fprintf(stderr, "idefics-server: %s\n", message.c_str());
  return code;
}

const InputSpec* FindInput(const std::string& name) {
  for (const InputSpec& spec : AllInputs()) {
    if (name == spec.name) return &spec;
  }
  return nullptr;
}

// "@f.jpg" -> "file:/full/path/f.jpg".
std::string FileReference(const std::string& value) {
  if (value.empty() || value.front() != '@') return value;
  return "file:" + std::filesystem::absolute(value.substr(1)).string();
}

Status SetInput(const std::string& name, const std::string& value, json* input) {
  const InputSpec* spec = FindInput(name);
  if (spec == nullptr) {
    return Status::InvalidInput("there is no input '" + name +
                                "': idefics-server predict --help lists them");
  }
  const bool is_text = spec->schema.value("type", "") == "string";
  json parsed = json::parse(value, nullptr, /*allow_exceptions=*/false);
  if (name == "prompt") {
    json& prompt = (*input)["prompt"];
    if (prompt.is_null() && parsed.is_array()) {
      prompt = parsed;
    } else {
      prompt.push_back(FileReference(value));
    }
  } else if (name == "stop" && !parsed.is_array()) {
    (*input)[name].push_back(value);
  } else if (is_text) {
    (*input)[name] = name == "image" ? FileReference(value) : value;
  } else {
    (*input)[name] = parsed.is_discarded() ? json(value) : std::move(parsed);
  }
  return Status::Ok();
}

FetchOptions CommandLineFetch(const FlagValues& flags, const std::filesystem::path& root) {
  FetchOptions options = FetchOptionsFromFlags(flags);
  options.file_root = root;
  return options;
}

AnswerOptions CommandLineAnswer(const CommandLine& command) {
  AnswerOptions options;
  options.limits.max_images = static_cast<int>(command.flags.Integer("max-images"));
  if (command.details) options.num_logprobs = kNumLogprobs;
  return options;
}

int RunOne(const CommandLine& command, const json& input, Predictor& predictor,
           Interrupt& interrupt) {
  ImageFetcher images(CommandLineFetch(command.flags, std::filesystem::current_path()));
  const bool to_terminal = command.output.empty() && !command.details;
  const Answer answer = AnswerInput(input, predictor, images, CommandLineAnswer(command),
                                    interrupt.token(), [&](std::string_view piece) {
                                      if (!to_terminal) return;
                                      std::fwrite(piece.data(), 1, piece.size(), stdout);
                                      std::fflush(stdout);
                                    });
  const Status& status = answer.outcome.status;
  const std::string text = command.details ? JsonBytes(AnswerObject(answer, true)) : answer.output;
  if (to_terminal) {
    if (status.ok() || !answer.output.empty()) std::puts("");
  } else if (command.output.empty()) {
    std::puts(text.c_str());
  } else {
    std::ofstream out(command.output, std::ios::binary);
    out << text << "\n";
    if (!out.flush()) return Fail("the answer cannot be written to '" + command.output + "'", 1);
  }
  if (status.ok()) return 0;
  return Fail(status.message(), interrupt.requested() ? 130 : 1);
}

int RunLines(const CommandLine& command, Predictor& predictor, Interrupt& interrupt) {
  const auto folder = std::filesystem::absolute(command.jsonl).parent_path();
  ImageFetcher images(CommandLineFetch(command.flags, folder));
  JsonlRun run({command.jsonl, command.output, command.details, command.retry_failed}, predictor,
               images, CommandLineAnswer(command), OpenAiOptionsFromFlags(command.flags));
  const Status status = run.Run(interrupt.token());
  if (interrupt.requested()) return Fail("interrupted; the same command goes on from here", 130);
  return status.ok() ? 0 : Fail(status.message(), 1);
}

}  // namespace

Result<json> InputFromArguments(const std::vector<std::string>& arguments) {
  json input = json::object();
  for (const std::string& argument : arguments) {
    const size_t equals = argument.find('=');
    if (equals == std::string::npos) {
      return Status::InvalidInput("-i is '" + argument + "': write -i NAME=VALUE");
    }
    RETURN_IF_ERROR(SetInput(argument.substr(0, equals), argument.substr(equals + 1), &input));
  }
  return input;
}

int RunPredict(const CommandLine& command) {
  json input;
  if (command.jsonl.empty()) {  // judged before the model is loaded
    auto given = InputFromArguments(command.inputs);
    if (!given.ok()) return Fail(given.status().message(), 2);
    ValidatedInput valid = ValidateInput(*given, InputOrigin::kCommandLine);
    if (!valid.errors.empty()) return Fail(ErrorSentence(valid.errors), 2);
    input = std::move(valid.values);
  }
  Interrupt interrupt;
  auto predictor = LoadModel(command.flags);
  if (!predictor.ok()) return Fail(predictor.status().message(), 1);
  interrupt.Arm();
  const int status = command.jsonl.empty() ? RunOne(command, input, **predictor, interrupt)
                                           : RunLines(command, **predictor, interrupt);
  // A thread of the model may never come back, and uses what an orderly end takes away.
  if ((*predictor)->health().broken) {
    std::fflush(nullptr);
    std::_Exit(status);
  }
  return status;
}

}  // namespace idefics
