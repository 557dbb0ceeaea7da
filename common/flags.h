// SPDX-License-Identifier: Apache-2.0
// The one table of flags. The command line (server/cli/command_line), the environment, --help and
// docs/flags.md come from it. Values are set before other threads start and read-only afterwards.
#pragma once

#include <chrono>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "common/status.h"

namespace idefics {

enum class FlagType { kString, kInteger, kNumber, kBool, kChoice, kDevices };

// Which subcommands take a flag; values are bits.
enum FlagCommand : unsigned {
  kServe = 1,
  kPredict = 2,
  kHealth = 4,
};

struct Flag {
  const char* name;         // "--max-body-bytes" is "max-body-bytes"
  const char* environment;  // variables, read in this order, separated by a space
  FlagType type;
  const char* default_value;
  double minimum;  // of kInteger and kNumber
  double maximum;
  const char* choices;  // of kChoice, separated by '|'
  unsigned commands;
  const char* help;  // one sentence
};

// An earlier name of a flag: it still works, but --help and docs/flags.md do not show it.
struct FlagAlias {
  const char* name;         // "max-batch"
  const char* environment;  // read where none of the flag's own variables is set
  const char* flag;         // its name now
};

std::span<const Flag> AllFlags();
std::span<const FlagAlias> AllFlagAliases();
// By name or alias; null where there is none.
const Flag* FindFlag(std::string_view name);

class FlagValues {
 public:
  using Environment = const char* (*)(const char* name);

  // Defaults, overridden by the environment. A variable of ours (IDEFICS_*) with a bad value is an
  // error; one of Cog's own is then ignored and named in `warnings`, as coglet does.
  static Result<FlagValues> FromEnvironment(Environment environment,
                                            std::vector<std::string>* warnings);

  // REQUIRES: the flag is in the table. Error: the value is not of its type or outside its limits.
  Status Set(std::string_view name, const std::string& value);

  // REQUIRES (all): the flag, by name or alias, is in the table and of that type.
  const std::string& Text(std::string_view name) const;  // kString, kChoice, kDevices
  int64_t Integer(std::string_view name) const;
  double Number(std::string_view name) const;
  bool Bool(std::string_view name) const;
  std::chrono::milliseconds Seconds(std::string_view name) const;  // a kNumber of seconds

 private:
  std::map<std::string, std::string, std::less<>> values_;
};

// The table as a page: what docs/flags.md holds.
std::string FlagsMarkdown();

}  // namespace idefics
