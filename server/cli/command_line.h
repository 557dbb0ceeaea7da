// SPDX-License-Identifier: Apache-2.0
// argv -> what to do. The only place that sees CLI11.
#pragma once

#include <string>
#include <variant>
#include <vector>

#include "common/flags.h"

namespace idefics {

struct CommandLine {
  enum class Command {
    kServe,
    kPredict,
    kPreprocess,
    kInspect,
    kHealth,
    kProbe,
    kPrintOpenApi,
    kPrintFlags
  };

  Command command = Command::kServe;
  FlagValues flags;
  std::vector<std::string> warnings;  // to be logged once logging is set up

  std::vector<std::string> inputs;  // predict: -i NAME=VALUE
  std::string jsonl;                // predict: --jsonl FILE
  std::string output;               // predict: -o FILE; preprocess: --out DIR
  bool details = false;             // predict
  bool retry_failed = false;        // predict --jsonl
  std::vector<std::string> files;   // preprocess
  bool as_url = false;              // preprocess
  std::string bundle;               // inspect
  bool as_json = false;             // inspect
  bool cpu = false;                 // inspect
  std::string url;                  // probe
};

// A text to print and the exit code: 0 for --help and --version, 2 for an error.
struct CommandLineExit {
  std::string text;
  int code = 0;
};

std::variant<CommandLine, CommandLineExit> ParseCommandLine(int argc, const char* const* argv);

}  // namespace idefics
