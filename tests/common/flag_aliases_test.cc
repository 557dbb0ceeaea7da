// SPDX-License-Identifier: Apache-2.0
#include <catch2/catch_test_macros.hpp>
#include <cstring>
#include <map>
#include <string>

#include "common/flags.h"

namespace idefics {
namespace {

std::map<std::string, std::string> environment;

const char* Variable(const char* name) {
  const auto found = environment.find(name);
  return found == environment.end() ? nullptr : found->second.c_str();
}

FlagValues Values() {
  std::vector<std::string> warnings;
  auto values = FlagValues::FromEnvironment(Variable, &warnings);
  REQUIRE(values.ok());
  return std::move(values).value();
}

// The value as text, whatever its type.
std::string ValueOf(const FlagValues& values, const char* name) {
  switch (FindFlag(name)->type) {
    case FlagType::kInteger:
      return std::to_string(values.Integer(name));
    case FlagType::kBool:
      return values.Bool(name) ? "true" : "false";
    default:
      return values.Text(name);
  }
}

std::string AnotherValue(const Flag& flag) {
  if (flag.type == FlagType::kDevices) return "cpu,cpu";
  return flag.type == FlagType::kInteger ? "17" : "false";
}

TEST_CASE("an earlier name of a flag sets the same value as its name now", "[flags]") {
  CHECK(AllFlagAliases().size() == 5);
  for (const FlagAlias& alias : AllFlagAliases()) {
    INFO(alias.name);
    environment.clear();
    REQUIRE(FindFlag(alias.flag) != nullptr);
    CHECK(FindFlag(alias.name) == FindFlag(alias.flag));
    const Flag& flag = *FindFlag(alias.flag);
    const std::string value = AnotherValue(flag);
    CHECK(ValueOf(Values(), alias.flag) != value);
    SECTION(std::string("on the command line, ") + alias.name) {
      FlagValues by_new_name = Values();
      FlagValues by_old_name = Values();
      REQUIRE(by_new_name.Set(alias.flag, value).ok());
      REQUIRE(by_old_name.Set(alias.name, value).ok());
      CHECK(ValueOf(by_new_name, alias.flag) == value);
      CHECK(ValueOf(by_old_name, alias.flag) == value);
      CHECK(ValueOf(by_old_name, alias.name) == value);
    }
    SECTION(std::string("in the environment, ") + alias.environment) {
      environment[alias.environment] = value;
      CHECK(ValueOf(Values(), alias.flag) == value);
      environment[flag.environment] = flag.default_value;  // its own variable comes first
      CHECK(ValueOf(Values(), alias.flag) == flag.default_value);
    }
  }
  environment.clear();
}

TEST_CASE("earlier names of flags are not shown", "[flags]") {
  const std::string page = FlagsMarkdown();
  for (const FlagAlias& alias : AllFlagAliases()) {
    CHECK(page.find("--" + std::string(alias.name) + "`") == std::string::npos);
    CHECK(page.find(alias.environment) == std::string::npos);
    CHECK(page.find("--" + std::string(alias.flag) + "`") != std::string::npos);
    for (const Flag& flag : AllFlags()) CHECK(std::strcmp(flag.name, alias.name) != 0);
  }
}

TEST_CASE("a bad value names what was written", "[flags]") {
  CHECK(Values().Set("max-batch", "-1").message() ==
        "--max-batch is '-1': use a whole number from 0 to 4096");
  environment["IDEFICS_MAX_BATCH"] = "none";
  std::vector<std::string> warnings;
  const auto refused = FlagValues::FromEnvironment(Variable, &warnings);
  REQUIRE_FALSE(refused.ok());
  CHECK(refused.status().message().find("IDEFICS_MAX_BATCH is 'none'") != std::string::npos);
  environment.clear();
}

TEST_CASE("the links that Kubernetes makes of a service are no flags", "[flags]") {
  environment["IDEFICS_PORT"] = "tcp://10.0.0.1:80";
  std::vector<std::string> warnings;
  const auto values = FlagValues::FromEnvironment(Variable, &warnings);
  REQUIRE(values.ok());
  CHECK(values->Integer("port") == 5000);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].find("IDEFICS_PORT is 'tcp://10.0.0.1:80'") != std::string::npos);
  environment.clear();
}

TEST_CASE("limits are written in their shortest form", "[flags]") {
  const std::string page = FlagsMarkdown();
  CHECK(page.find("0.1 … 3600") != std::string::npos);
  CHECK(page.find("0 … 100000 ") != std::string::npos);
  CHECK(page.find("1 … 9007199254740992") != std::string::npos);
}

}  // namespace
}  // namespace idefics
