// SPDX-License-Identifier: Apache-2.0
#include "server/cli/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstdlib>
#include <iterator>

#include "common/version.h"
#include "server/api/cog/input_table.h"
#include "server/api/cog/openapi.h"
#include "server/cli/unknown_argument.h"

namespace idefics {
namespace {

bool IsBoolWord(const std::string& text) {
  for (const char* word : {"true", "false", "1", "0", "yes", "no", "on", "off"}) {
    if (text == word) return true;
  }
  return false;
}

std::string FlagNameOf(const std::string& argument) {
  if (argument.rfind("--", 0) != 0) return "";
  return argument.substr(2, argument.find('=') - 2);
}

// "--flag", "--no-flag", "--flag false" and "--flag=false" all become "--flag=…".
std::vector<std::string> JoinBools(const std::vector<std::string>& arguments) {
  std::vector<std::string> joined;
  for (size_t i = 0; i < arguments.size(); ++i) {
    const std::string& argument = arguments[i];
    const std::string name = FlagNameOf(argument);
    const Flag* refused = name.starts_with("no-") ? FindFlag(name.substr(3)) : nullptr;
    const Flag* flag = FindFlag(name);
    if (refused != nullptr && refused->type == FlagType::kBool && argument == "--" + name) {
      joined.push_back("--" + name.substr(3) + "=false");
    } else if (flag == nullptr || flag->type != FlagType::kBool ||
               argument.find('=') != std::string::npos) {
      joined.push_back(argument);
    } else if (i + 1 < arguments.size() && IsBoolWord(arguments[i + 1])) {
      joined.push_back(argument + "=" + arguments[++i]);
    } else {
      joined.push_back(argument + "=true");
    }
  }
  return joined;
}

std::string HelpOf(const Flag& flag) {
  std::string help = flag.help;
  if (*flag.default_value != '\0') help += " [" + std::string(flag.default_value) + "]";
  return help + " (" + flag.environment + ")";
}

// CLI11's objects and where their values go.
class Parser {
 public:
  explicit Parser(CommandLine* out) : out_(*out) {
    app_.require_subcommand(0, 1);
    app_.add_flag("--version", version_, "Print the version and end.");
    app_.add_flag("--print-openapi", print_openapi_, "Print the OpenAPI document and end.");
    app_.add_flag("--print-flags", print_flags_, "Print docs/flags.md and end.");
    auto* serve = app_.add_subcommand("serve", "Serve Cog's HTTP API.");
    AddFlags(*serve, kServe);
    AddPredict();
    auto* preprocess =
        app_.add_subcommand("preprocess", "Show what the model sees of image files.");
    preprocess->add_option("files", out_.files, "Image files.")->required();
    preprocess->add_option("--out", out_.output, "Folder for PNG files of what the model sees.");
    preprocess->add_flag("--as-url", out_.as_url, "Open them as images given by URL.");
    auto* inspect = app_.add_subcommand("inspect", "Describe a bundle, or this CPU.");
    inspect->add_option("bundle", out_.bundle, "Bundle folder.");
    inspect->add_flag("--json", out_.as_json, "Print one JSON object instead of tables.");
    inspect->add_flag("--cpu", out_.cpu,
                      "Which kernels run on this CPU, and why; without a bundle.");
    auto* health = app_.add_subcommand(
        "health", "Ask the server on this machine how it is; status 0 is READY or BUSY.");
    AddFlags(*health, kHealth);
    auto* probe = app_.add_subcommand(
        "probe", "Ask a probe for a container without curl; status 0 is an answer of 2xx.");
    probe->add_option("url", out_.url,
                      "URL, or path on the server of this machine; /readyz where it is left out.");
    AddFlags(*probe, kHealth);
  }

  // Throws CLI::ParseError.
  void Parse(std::vector<std::string> arguments) {
    std::reverse(arguments.begin(), arguments.end());  // CLI11 takes a stack
    app_.parse(std::move(arguments));
  }

  // The help of the subcommand that was named.
  std::string Help() {
    const auto named = app_.get_subcommands();
    return named.empty() ? app_.help() : named.front()->help();
  }

  Status Finish() {
    for (const auto& [name, value] : given_) RETURN_IF_ERROR(out_.flags.Set(name, value));
    if (app_.got_subcommand("predict")) out_.command = CommandLine::Command::kPredict;
    if (app_.got_subcommand("preprocess")) out_.command = CommandLine::Command::kPreprocess;
    if (app_.got_subcommand("inspect")) out_.command = CommandLine::Command::kInspect;
    if (app_.got_subcommand("health")) out_.command = CommandLine::Command::kHealth;
    if (app_.got_subcommand("probe")) out_.command = CommandLine::Command::kProbe;
    if (print_openapi_) out_.command = CommandLine::Command::kPrintOpenApi;
    if (print_flags_) out_.command = CommandLine::Command::kPrintFlags;
    const bool any = !app_.get_subcommands().empty() || print_openapi_ || print_flags_ || version_;
    if (!any)
      return Status::InvalidInput("name one of serve, predict, preprocess, inspect, health, probe");
    RETURN_IF_ERROR(CheckInspect());
    return CheckPredict();
  }

  bool wants_version() const { return version_; }

  // Of the first argument that nothing takes. REQUIRES: Parse has thrown CLI::ExtrasError.
  std::string Unexpected(const std::vector<std::string>& arguments) const {
    const std::vector<std::string> left = app_.remaining(/*recurse=*/true);
    const auto found = std::ranges::find_first_of(arguments, left);
    const std::string argument = found == arguments.end() ? left.front() : *found;
    const auto named = app_.get_subcommands();
    const std::string name = FlagNameOf(argument);
    if (name.empty()) {
      return named.empty() ? "there is no command " + argument +
                                 DidYouMean("", NearestName(argument, NamesOfCommands()))
                           : named.front()->get_name() + " takes no argument '" + argument + "'";
    }
    if (named.empty() && FindFlag(name) != nullptr) {
      return "--" + name + " belongs behind a command, as in idefics-server serve --" + name;
    }
    const CLI::App& command = named.empty() ? app_ : *named.front();
    return "there is no flag --" + name +
           DidYouMean("--", NearestName(name, NamesOfFlags(command)));
  }

 private:
  static std::string DidYouMean(const std::string& dashes, const std::string& nearest) {
    return nearest.empty() ? "" : "; did you mean " + dashes + nearest + "?";
  }

  std::vector<std::string> NamesOfCommands() const {
    std::vector<std::string> names;
    for (const CLI::App* command : app_.get_subcommands({})) names.push_back(command->get_name());
    return names;
  }

  static std::vector<std::string> NamesOfFlags(const CLI::App& command) {
    std::vector<std::string> names;
    for (const CLI::Option* option : command.get_options()) {
      std::ranges::copy(option->get_lnames(), std::back_inserter(names));
    }
    return names;
  }

  void AddFlags(CLI::App& app, FlagCommand command) {
    for (const Flag& flag : AllFlags()) {
      if ((flag.commands & command) == 0) continue;
      const std::string name = flag.name;
      app.add_option_function<std::string>(
             "--" + name,
             [this, name](const std::string& value) { given_.emplace_back(name, value); },
             HelpOf(flag))
          ->take_last();
    }
    for (const FlagAlias& alias : AllFlagAliases()) {
      if ((FindFlag(alias.flag)->commands & command) == 0) continue;
      const std::string name = alias.name;
      app.add_option_function<std::string>(
             "--" + name,
             [this, name](const std::string& value) { given_.emplace_back(name, value); })
          ->take_last()
          ->group("");  // not in --help
    }
  }

  void AddPredict() {
    auto* predict =
        app_.add_subcommand("predict", "Answer one input, or the lines of a JSONL file.");
    predict
        ->add_option("-i,--input", out_.inputs,
                     "NAME=VALUE; @FILE is an image file; prompt may be repeated or a JSON list.")
        ->take_all();
    predict->add_option(
        "--jsonl", out_.jsonl,
        "File with one JSON object of inputs a line, plus an optional id; images may "
        "also be file:PATH. Lines with a custom_id are those of an OpenAI batch file.");
    predict->add_option("-o,--out", out_.output, "Where the answers go; with --jsonl required.");
    predict->add_flag("--details", out_.details,
                      "Also prompt_token_ids, token_ids, and logprobs: for each new token the five "
                      "likeliest as [[id, log probability], …].");
    predict->add_flag("--retry-failed", out_.retry_failed,
                      "With --jsonl: answer the lines again that have failed in an earlier run.");
    AddFlags(*predict, kPredict);
    predict->footer("Inputs:\n" + InputsHelp());
  }

  Status CheckInspect() const {
    if (out_.command != CommandLine::Command::kInspect || out_.bundle.empty() == out_.cpu) {
      return Status::Ok();
    }
    return Status::InvalidInput("inspect needs either a bundle folder or --cpu");
  }

  Status CheckPredict() const {
    if (out_.command != CommandLine::Command::kPredict) return Status::Ok();
    if (out_.jsonl.empty() == out_.inputs.empty()) {
      return Status::InvalidInput("predict needs either -i NAME=VALUE or --jsonl FILE");
    }
    if (out_.retry_failed && out_.jsonl.empty()) {
      return Status::InvalidInput("--retry-failed needs --jsonl FILE");
    }
    if (!out_.jsonl.empty() && out_.output.empty()) {
      return Status::InvalidInput("predict --jsonl needs -o FILE for the answers");
    }
    return Status::Ok();
  }

  CommandLine& out_;
  CLI::App app_{"Serves IDEFICS, a vision-language model, over Cog's HTTP API.", "idefics-server"};
  std::vector<std::pair<std::string, std::string>> given_;
  bool version_ = false;
  bool print_openapi_ = false;
  bool print_flags_ = false;
};

CommandLineExit Failure(const std::string& message) {
  return {"idefics-server: " + message + " (see idefics-server --help).\n", 2};
}

}  // namespace

std::variant<CommandLine, CommandLineExit> ParseCommandLine(int argc, const char* const* argv) {
  CommandLine out;
  const std::vector<std::string> arguments(argv + std::min(argc, 1), argv + argc);
  auto flags = FlagValues::FromEnvironment(
      [](const char* name) -> const char* { return std::getenv(name); }, &out.warnings);
  if (!flags.ok()) return Failure(flags.status().message());
  out.flags = *flags;
  Parser parser(&out);
  try {
    parser.Parse(JoinBools(arguments));
  } catch (const CLI::CallForHelp&) {
    return CommandLineExit{parser.Help(), 0};
  } catch (const CLI::ExtrasError&) {
    return Failure(parser.Unexpected(JoinBools(arguments)));
  } catch (const CLI::ParseError& e) {
    return Failure(e.what());
  }
  if (parser.wants_version()) {
    return CommandLineExit{
        std::string("idefics-server ") + kServerVersion + " (Cog " + kCogVersion + ")\n", 0};
  }
  const Status status = parser.Finish();
  if (!status.ok()) return Failure(status.message());
  return out;
}

}  // namespace idefics
