// SPDX-License-Identifier: Apache-2.0
#include "server/cli/serve_command.h"

#include <cstdio>

#include "server/cli/load_model.h"
#include "server/cli/memory_budget.h"
#include "server/cli/serve.h"

namespace idefics {

int RunServe(const CommandLine& command) {
  const FlagValues& flags = command.flags;
  if (flags.Text("model").empty()) {
    std::fprintf(stderr, "idefics-server: %s.\n", kNoModel);
    return 2;
  }
  const MemoryBudget memory = DivideMemory(flags.Integer("memory-budget"));
  return Serve(flags, memory.requests, [flags, images = memory.images](const std::stop_token&) {
    return LoadModel(flags, static_cast<int64_t>(images));
  });
}

}  // namespace idefics
