// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <cstdio>
#include <iostream>
#include <nlohmann/json.hpp>
#include <variant>

#include "common/log.h"
#include "server/api/cog/openapi.h"
#include "server/cli/command_line.h"
#include "server/cli/cpu_report.h"
#include "server/cli/health_command.h"
#include "server/cli/inspect_command.h"
#include "server/cli/predict_command.h"
#include "server/cli/preprocess_command.h"
#include "server/cli/serve_command.h"

namespace idefics {
namespace {

PreprocessOptions PreprocessFlags(const CommandLine& command) {
  PreprocessOptions options;
  options.as_url = command.as_url;
  options.out_dir = command.output;
  return options;
}

InspectOptions InspectFlags(const CommandLine& command) {
  InspectOptions options;
  options.path = command.bundle;
  options.json = command.as_json;
  const int64_t kv_tokens = command.flags.Integer("kv-tokens");
  const int64_t max_tokens =
      command.flags.Integer("max-num-seqs") * command.flags.Integer("max-sequence-tokens");
  if (kv_tokens + max_tokens > 0) options.kv_tokens = kv_tokens > 0 ? kv_tokens : max_tokens;
  if (command.flags.Text("kv-dtype") == "int8") options.kv_dtype = KvDType::kInt8;
  const int64_t image_slots = command.flags.Integer("image-cache-slots");
  if (image_slots > 0) options.image_cache_slots = image_slots;
  return options;
}

int Run(const CommandLine& command) {
  switch (command.command) {
    case CommandLine::Command::kServe:
      return RunServe(command);
    case CommandLine::Command::kPredict:
      return RunPredict(command);
    case CommandLine::Command::kPreprocess:
      return RunPreprocess(command.files, PreprocessFlags(command), std::cout);
    case CommandLine::Command::kInspect:
      if (command.cpu) return PrintCpuReport(std::cout, std::cerr);
      return RunInspect(InspectFlags(command), std::cout, std::cerr);
    case CommandLine::Command::kHealth:
      return RunHealth(command.flags);
    case CommandLine::Command::kProbe:
      return RunProbe(command.flags, command.url);
    case CommandLine::Command::kPrintOpenApi:
      std::puts(OpenApiDocument(command.flags.Text("output") == "stream" ? OutputKind::kList
                                                                         : OutputKind::kString)
                    .dump()
                    .c_str());
      return 0;
    case CommandLine::Command::kPrintFlags:
      std::fputs(FlagsMarkdown().c_str(), stdout);
      return 0;
  }
  return 2;
}

}  // namespace
}  // namespace idefics

int main(int argc, char** argv) {
  using namespace idefics;
  auto parsed = ParseCommandLine(argc, argv);
  if (const auto* end = std::get_if<CommandLineExit>(&parsed)) {
    std::fputs(end->text.c_str(), end->code == 0 ? stdout : stderr);
    return end->code;
  }
  const auto& command = std::get<CommandLine>(parsed);
  // Only a server's lines are read by machines; the others share the terminal with their output.
  const bool serves = command.command == CommandLine::Command::kServe;
  const LogLevel level = ParseLogLevel(command.flags.Text("log-level"));
  InitLog(serves || level == LogLevel::kDebug ? level : std::max(level, LogLevel::kWarning),
          !serves || command.flags.Text("log-format") == "console");
  for (const std::string& warning : command.warnings) LogWarning(warning);
  return Run(command);
}
