// SPDX-License-Identifier: Apache-2.0
// idefics-fake-server: the server with the fake engine instead of a model, for tests of everything
// around the model. Takes what `idefics-server serve` takes; the words "serve" and "--engine fake"
// may stand there too.
#include <cstdio>
#include <cstring>
#include <variant>
#include <vector>

#include "common/log.h"
#include "scripts/fake_server/fake_predictor.h"
#include "server/cli/command_line.h"
#include "server/cli/memory_budget.h"
#include "server/cli/serve.h"

namespace idefics {
namespace {

// argv for ParseCommandLine: "serve" in front, without "--engine fake".
std::vector<const char*> ServeArguments(int argc, const char* const* argv) {
  std::vector<const char*> arguments = {argv[0], "serve"};
  for (int i = 1; i < argc; ++i) {
    const char* argument = argv[i];
    if (std::strcmp(argument, "serve") == 0 || std::strcmp(argument, "--engine=fake") == 0) {
      continue;
    }
    if (std::strcmp(argument, "--engine") == 0 && i + 1 < argc &&
        std::strcmp(argv[i + 1], "fake") == 0) {
      ++i;
      continue;
    }
    arguments.push_back(argument);
  }
  return arguments;
}

int Run(const CommandLine& command) {
  InitLog(ParseLogLevel(command.flags.Text("log-level")),
          command.flags.Text("log-format") == "console");
  for (const std::string& warning : command.warnings) LogWarning(warning);
  return Serve(command.flags, DivideMemory(command.flags.Integer("memory-budget")).requests,
               [options = FakeOptionsFromEnvironment()](const std::stop_token& stop) {
                 return LoadFake(options, stop);
               });
}

}  // namespace
}  // namespace idefics

int main(int argc, char** argv) {
  using namespace idefics;
  const auto arguments = ServeArguments(argc, argv);
  const auto parsed = ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
  if (const auto* end = std::get_if<CommandLineExit>(&parsed)) {
    std::fputs(end->text.c_str(), end->code == 0 ? stdout : stderr);
    return end->code;
  }
  return Run(std::get<CommandLine>(parsed));
}
