// SPDX-License-Identifier: Apache-2.0
#include "server/cli/command_line.h"

#include <catch2/catch_test_macros.hpp>
#include <catch2/matchers/catch_matchers_string.hpp>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "predictor/images/decode_memory.h"
#include "server/cli/cpu_report.h"
#include "server/cli/memory_budget.h"
#include "server/cli/predict_command.h"

namespace idefics {
namespace {

std::variant<CommandLine, CommandLineExit> Parse(std::vector<const char*> arguments) {
  arguments.insert(arguments.begin(), "idefics-server");
  return ParseCommandLine(static_cast<int>(arguments.size()), arguments.data());
}

// The sentence of an error; "" where there is none.
std::string Error(std::vector<const char*> arguments) {
  const auto parsed = Parse(std::move(arguments));
  const auto* end = std::get_if<CommandLineExit>(&parsed);
  if (end == nullptr) return "";
  CHECK(end->code == 2);
  return end->text;
}

CommandLine Good(std::vector<const char*> arguments) {
  auto parsed = Parse(std::move(arguments));
  REQUIRE(std::holds_alternative<CommandLine>(parsed));
  return std::get<CommandLine>(parsed);
}

// Sets a variable for one test.
class Variable {
 public:
  Variable(const char* name, const char* value) : name_(name) { setenv(name, value, 1); }
  ~Variable() { unsetenv(name_); }
  Variable(const Variable&) = delete;
  Variable& operator=(const Variable&) = delete;

 private:
  const char* name_;
};

TEST_CASE("the command line outranks the environment, which outranks the default", "[cli]") {
  CHECK(Good({"serve"}).flags.Integer("port") == 5000);
  const Variable port("PORT", "8080");
  CHECK(Good({"serve"}).flags.Integer("port") == 8080);
  CHECK(Good({"serve", "--port", "9"}).flags.Integer("port") == 9);
  CHECK(Good({"serve", "--port", "9", "--port", "10"}).flags.Integer("port") == 10);
  const Variable ours("IDEFICS_PORT", "8081");
  CHECK(Good({"serve"}).flags.Integer("port") == 8081);
}

TEST_CASE("a bool flag may stand alone or take a value in both spellings", "[cli]") {
  const char* name = "await-explicit-shutdown";
  CHECK_FALSE(Good({"serve"}).flags.Bool(name));
  CHECK(Good({"serve", "--await-explicit-shutdown"}).flags.Bool(name));
  CHECK(Good({"serve", "--await-explicit-shutdown", "true"}).flags.Bool(name));
  CHECK(Good({"serve", "--await-explicit-shutdown=true", "--port", "1"}).flags.Bool(name));
  CHECK_FALSE(Good({"serve", "--allow-private-urls=false"}).flags.Bool("allow-private-urls"));
  CHECK_FALSE(Good({"serve", "--allow-private-urls", "false"}).flags.Bool("allow-private-urls"));
}

TEST_CASE("--no- and the name of a bool flag is false; of another flag it is unknown", "[cli]") {
  CHECK(Good({"serve"}).flags.Bool("graph"));
  CHECK_FALSE(Good({"serve", "--no-graph"}).flags.Bool("graph"));
  CHECK_FALSE(Good({"serve", "--no-custom-ops", "--port", "9"}).flags.Bool("custom-ops"));
  CHECK_FALSE(Good({"serve", "--no-fused", "--port", "9"}).flags.Bool("custom-ops"));
  CHECK(Good({"serve", "--max-batch", "3"}).flags.Integer("max-num-seqs") == 3);
  CHECK(Error({"serve", "--no-port"}).find("--no-port") != std::string::npos);
  CHECK(Error({"serve", "--no-graph=true"}).find("--no-graph") != std::string::npos);
}

TEST_CASE("a bad flag is one sentence with the value and the limits", "[cli]") {
  CHECK(Error({"serve", "--port", "70000"})
            .find("--port is '70000': use a whole number from 0 to 65535") != std::string::npos);
  CHECK(Error({"serve", "--port", "5.5"}).find("whole number") != std::string::npos);
  CHECK(Error({"serve", "--device", "tpu"}).find("use auto, cpu, cuda or cuda:N") !=
        std::string::npos);
  CHECK_FALSE(Error({}).empty());
  CHECK(Error({"predict"}).find("-i NAME=VALUE or --jsonl") != std::string::npos);
  CHECK(Error({"predict", "--jsonl", "x"}).find("needs -o") != std::string::npos);
}

TEST_CASE("an argument that nothing takes is told with what was likely meant", "[cli]") {
  using Catch::Matchers::ContainsSubstring;
  CHECK_THAT(Error({"serve", "--port", "1", "--no-such-flag", "--nor-this", "x"}),
             ContainsSubstring("there is no flag --no-such-flag (see"));
  CHECK_THAT(Error({"serve", "--max-num-seq=4"}),
             ContainsSubstring("there is no flag --max-num-seq; did you mean --max-num-seqs?"));
  CHECK_THAT(Error({"serve", "--model-dir", "x"}), ContainsSubstring("did you mean --model?"));
  CHECK_THAT(Error({"preprocess", "x.png", "--model", "x"}),
             ContainsSubstring("there is no flag --model (see"));
  CHECK_THAT(Error({"--model", "x"}), ContainsSubstring("idefics-server serve --model"));
  CHECK_THAT(Error({"serv"}), ContainsSubstring("there is no command serv; did you mean serve?"));
  CHECK_THAT(Error({"bake"}), ContainsSubstring("there is no command bake (see"));
  CHECK_THAT(Error({"serve", "x"}), ContainsSubstring("serve takes no argument 'x'"));
}

TEST_CASE("inspect takes a bundle or --cpu, and one of them", "[cli]") {
  CHECK(Good({"inspect", "--cpu"}).cpu);
  CHECK(Good({"inspect", "folder"}).bundle == "folder");
  const char* const sentence =
      "idefics-server: inspect needs either a bundle folder or --cpu (see idefics-server "
      "--help).\n";
  CHECK(Error({"inspect"}) == sentence);
  CHECK(Error({"inspect", "folder", "--cpu"}) == sentence);
}

TEST_CASE("inspect --cpu says which kernels run; a name of none is one sentence", "[cli]") {
  std::ostringstream out, err;
  {
    const Variable portable("IDEFICS_CPU", "portable");
    CHECK(PrintCpuReport(out, err) == 0);
  }
  CHECK(out.str().starts_with("linears: portable kernels (as IDEFICS_CPU asks; the best is "));
  CHECK(out.str().find("\n* portable") != std::string::npos);
  const Variable unknown("IDEFICS_CPU", "z80");
  CHECK(PrintCpuReport(out, err) == 1);
  CHECK(err.str().starts_with("idefics-server: IDEFICS_CPU=z80 is no instruction set"));
}

TEST_CASE("Cog's own variables with a bad value are ignored with a warning", "[cli]") {
  const Variable timeout("COG_SETUP_TIMEOUT", "abc");
  const CommandLine command = Good({"serve"});
  CHECK(command.flags.Number("setup-timeout") == 0);
  CHECK(command.warnings.size() == 1);
  const Variable port("PORT", "abc");
  CHECK(Error({"serve"}).find("PORT is 'abc'") != std::string::npos);
}

TEST_CASE("every flag is in its subcommand's help with its environment", "[cli]") {
  for (const auto& [command, bit] :
       {std::pair{"serve", kServe}, std::pair{"predict", kPredict}, std::pair{"health", kHealth}}) {
    const auto parsed = Parse({command, "--help"});
    const std::string help = std::get<CommandLineExit>(parsed).text;
    for (const Flag& flag : AllFlags()) {
      if ((flag.commands & bit) == 0) continue;
      INFO(flag.name);
      CHECK(help.find("--" + std::string(flag.name)) != std::string::npos);
    }
  }
}

TEST_CASE("docs/flags.md is what --print-flags writes", "[cli]") {
  std::ifstream in(IDEFICS_SOURCE_DIR "/docs/flags.md");
  std::stringstream text;
  text << in.rdbuf();
  CHECK(text.str() == FlagsMarkdown());
}

TEST_CASE("every default is within its own limits", "[cli]") {
  auto values =
      FlagValues::FromEnvironment([](const char*) -> const char* { return nullptr; }, nullptr);
  REQUIRE(values.ok());
  for (const Flag& flag : AllFlags()) {
    INFO(flag.name);
    CHECK(values->Set(flag.name, flag.default_value).ok());
  }
}

TEST_CASE("-i builds the input object", "[cli]") {
  const auto input = InputFromArguments(
      {"text=5", "image=@/tmp/a=b.jpg", "max_new_tokens=16", "early_stopping=never"});
  REQUIRE(input.ok());
  CHECK((*input)["text"] == "5");
  CHECK((*input)["image"] == "file:/tmp/a=b.jpg");
  CHECK((*input)["max_new_tokens"] == 16);
  CHECK((*input)["early_stopping"] == "never");
  const auto list = InputFromArguments({R"(prompt=["a", "b"])"});
  CHECK((*list)["prompt"] == nlohmann::json({"a", "b"}));
  const auto items = InputFromArguments({"prompt=User:", "prompt=@/x.png", "stop=END"});
  CHECK((*items)["prompt"] == nlohmann::json({"User:", "file:/x.png"}));
  CHECK((*items)["stop"] == nlohmann::json::array({"END"}));
  CHECK_FALSE(InputFromArguments({"txt=hi"}).ok());
  CHECK_FALSE(InputFromArguments({"text"}).ok());
}

TEST_CASE("images have a quarter of the memory, as far as they need it", "[cli]") {
  const MemoryBudget small = DivideMemory(int64_t{1} << 20);
  CHECK(small.images == 1 << 18);
  CHECK(small.requests == 3 << 18);
  const MemoryBudget large = DivideMemory(int64_t{100} << 30);
  CHECK(large.images == DecodeMemory::kAmpleBytes);
  CHECK(large.images + large.requests == uint64_t{100} << 30);
  const MemoryBudget free = DivideMemory(0);
  CHECK(free.images + free.requests >= 256 << 20);
}

}  // namespace
}  // namespace idefics
