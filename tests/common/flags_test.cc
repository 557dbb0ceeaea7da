// SPDX-License-Identifier: Apache-2.0
#include "common/flags.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <cmath>
#include <map>
#include <set>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace idefics {
namespace {

std::map<std::string, std::string> g_environment;

const char* Environment(const char* name) {
  const auto found = g_environment.find(name);
  return found == g_environment.end() ? nullptr : found->second.c_str();
}

Result<FlagValues> Values(std::map<std::string, std::string> environment,
                          std::vector<std::string>* warnings = nullptr) {
  g_environment = std::move(environment);
  return FlagValues::FromEnvironment(Environment, warnings);
}

std::vector<std::string> Words(const char* text, char separator) {
  std::vector<std::string> words;
  std::istringstream in(text);
  for (std::string word; std::getline(in, word, separator);) words.push_back(word);
  return words;
}

TEST_CASE("each flag and each variable of the table is named once", "[flags]") {
  std::set<std::string> names;
  std::set<std::string> variables;
  for (const Flag& flag : AllFlags()) {
    INFO(flag.name);
    CHECK(names.insert(flag.name).second);
    CHECK(std::string(flag.name).find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") ==
          std::string::npos);
    CHECK(FindFlag(flag.name) == &flag);
    CHECK(!Words(flag.environment, ' ').empty());
    for (const std::string& variable : Words(flag.environment, ' ')) {
      INFO(variable);
      CHECK(variables.insert(variable).second);
    }
  }
  CHECK(FindFlag("no-such-flag") == nullptr);
}

TEST_CASE("each row of the table is what its type asks for", "[flags]") {
  for (const Flag& flag : AllFlags()) {
    INFO(flag.name);
    CHECK(flag.commands != 0);
    const std::string help = flag.help;
    CHECK(help.size() > 10);
    CHECK(help.back() == '.');
    const bool number = flag.type == FlagType::kInteger || flag.type == FlagType::kNumber;
    CHECK(number == (flag.minimum < flag.maximum));
    CHECK((flag.type == FlagType::kChoice) == (*flag.choices != '\0'));
  }
}

TEST_CASE("each default may also be given by hand", "[flags]") {
  auto values = Values({});
  REQUIRE(values.ok());
  for (const Flag& flag : AllFlags()) {
    INFO(flag.name);
    CHECK(values->Set(flag.name, flag.default_value).ok());
  }
}

TEST_CASE("each limit is the last value that is taken", "[flags]") {
  auto values = Values({});
  REQUIRE(values.ok());
  for (const Flag& flag : AllFlags()) {
    if (flag.type != FlagType::kInteger) continue;
    INFO(flag.name);
    const auto text = [](double value) { return std::to_string(static_cast<int64_t>(value)); };
    CHECK(values->Set(flag.name, text(flag.minimum)).ok());
    CHECK(values->Integer(flag.name) == static_cast<int64_t>(flag.minimum));
    CHECK(values->Set(flag.name, text(flag.maximum)).ok());
    CHECK(values->Integer(flag.name) == static_cast<int64_t>(flag.maximum));
    CHECK(!values->Set(flag.name, text(flag.minimum - 1)).ok());
    // 2^53 + 1 is no double.
    const double beyond = std::max(flag.maximum + 1, std::nextafter(flag.maximum, HUGE_VAL));
    CHECK(!values->Set(flag.name, text(beyond)).ok());
    CHECK(values->Integer(flag.name) == static_cast<int64_t>(flag.maximum));  // as it was
  }
}

TEST_CASE("what is no number, no whole one, no choice and no yes or no is refused", "[flags]") {
  auto values = Values({});
  REQUIRE(values.ok());
  for (const char* bad : {"", "x", "1x", "1.5", "nan", "inf", "1e400"}) {
    INFO(bad);
    CHECK(!values->Set("port", bad).ok());
  }
  for (const char* bad : {"", "x", "nan", "inf", "-1"}) {
    INFO(bad);
    CHECK(!values->Set("drain-timeout", bad).ok());
  }
  CHECK(values->Set("drain-timeout", "1.5").ok());
  CHECK(values->Number("drain-timeout") == 1.5);
  const Status device = values->Set("device", "tpu");
  CHECK(device.message() ==
        "--device is 'tpu': use auto, cpu, cuda or cuda:N, or several with commas between");
  for (const char* bad :
       {"", ",", "cpu,", "cuda:", "cuda:x", "cuda:-1", "cuda:1234", "auto,cpu", "CPU"}) {
    INFO(bad);
    CHECK(!values->Set("device", bad).ok());
  }
  for (const char* good : {"auto", "cpu", "cuda", "cuda:12", "cuda:0,cuda:2", "cpu,cpu"}) {
    INFO(good);
    CHECK(values->Set("device", good).ok());
  }
  const Status graph = values->Set("graph", "perhaps");
  CHECK(graph.message() == "--graph is 'perhaps': use true or false");
  CHECK(values->Set("port", "70000").message() ==
        "--port is '70000': use a whole number from 0 to 65535");
}

TEST_CASE("a flag without a value is yes; each spelling of yes and no is read", "[flags]") {
  auto values = Values({});
  REQUIRE(values.ok());
  for (const char* no : {"false", "0", "no", "off"}) {
    REQUIRE(values->Set("graph", no).ok());
    CHECK(!values->Bool("graph"));
  }
  for (const char* yes : {"", "true", "1", "yes", "on"}) {
    REQUIRE(values->Set("graph", "false").ok());
    REQUIRE(values->Set("graph", yes).ok());
    CHECK(values->Bool("graph"));
  }
}

TEST_CASE("of a flag's variables the first that is set counts; an empty one is not set",
          "[flags]") {
  CHECK(Values({{"IDEFICS_PORT", "1"}, {"PORT", "2"}})->Integer("port") == 1);
  CHECK(Values({{"IDEFICS_PORT", ""}, {"PORT", "2"}})->Integer("port") == 2);
  CHECK(Values({})->Integer("port") == 5000);
}

TEST_CASE("a bad variable of ours ends the start, one of Cog's is ignored with a warning",
          "[flags]") {
  const auto ours = Values({{"IDEFICS_QUEUE", "many"}});
  REQUIRE(!ours.ok());
  CHECK(ours.status().message() ==
        "environment variable IDEFICS_QUEUE is 'many': use a whole number from 0 to 100000");
  std::vector<std::string> warnings;
  const auto cogs = Values({{"COG_STREAM_HISTORY_CAPACITY", "many"}}, &warnings);
  REQUIRE(cogs.ok());
  CHECK(cogs->Integer("stream-history") == 1024);
  REQUIRE(warnings.size() == 1);
  CHECK(warnings[0].ends_with("it is ignored"));
}

TEST_CASE("the page of flags has a row for each", "[flags]") {
  const std::string page = FlagsMarkdown();
  for (const Flag& flag : AllFlags()) {
    INFO(flag.name);
    CHECK(page.find("| `--" + std::string(flag.name) + "` |") != std::string::npos);
    CHECK(page.find(flag.help) != std::string::npos);
  }
}

}  // namespace
}  // namespace idefics
