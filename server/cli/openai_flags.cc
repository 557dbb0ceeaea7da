// SPDX-License-Identifier: Apache-2.0
#include "server/cli/openai_flags.h"

#include <filesystem>
#include <sstream>

#include "common/version.h"

namespace idefics {
namespace {

// "/bundles/idefics-9b/" -> "idefics-9b".
std::string LastOfPath(const std::string& path) {
  std::filesystem::path given(path);
  if (!given.has_filename()) given = given.parent_path();
  return given.has_filename() ? given.filename().string() : "idefics";
}

}  // namespace

OpenAiOptions OpenAiOptionsFromFlags(const FlagValues& flags) {
  OpenAiOptions options;
  std::istringstream names(flags.Text("served-model-name"));
  for (std::string name; std::getline(names, name, ',');) options.served_models.push_back(name);
  const bool only_any = options.served_models == std::vector<std::string>{"*"};
  if (options.served_models.empty() || only_any) {
    options.served_models.insert(options.served_models.begin(), LastOfPath(flags.Text("model")));
  }
  options.default_temperature = flags.Number("default-temperature");
  options.default_max_tokens = static_cast<int>(flags.Integer("default-max-tokens"));
  options.max_queued = static_cast<int>(flags.Integer("openai-queue"));
  options.fingerprint = std::string("fp_") + kServerVersion;
  return options;
}

}  // namespace idefics
