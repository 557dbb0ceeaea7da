// SPDX-License-Identifier: Apache-2.0
#include "common/flags.h"

#include <array>
#include <cstdlib>
#include <sstream>
#include <utility>

#include "common/check.h"
#include "common/defaults.h"
#include "common/flag_value.h"

namespace idefics {
namespace {

constexpr double kMaxInt = 2147483647;
constexpr double kMaxSize = 9007199254740992;  // 2^53
constexpr unsigned kBoth = kServe | kPredict;

// A number as text, for the table.
template <int64_t kNumber>
struct Decimal {
  std::array<char, 24> text{};

  constexpr Decimal() {
    size_t length = 1;
    for (int64_t rest = kNumber; rest >= 10; rest /= 10) ++length;
    for (int64_t rest = kNumber; length > 0; rest /= 10) {
      text[--length] = static_cast<char>('0' + rest % 10);
    }
  }
};
template <int64_t kNumber>
constexpr Decimal<kNumber> kDecimalOf;
template <int64_t kNumber>
constexpr const char* kDecimal = kDecimalOf<kNumber>.text.data();

constexpr Flag kFlags[] = {
    {"model", "IDEFICS_MODEL COG_WEIGHTS", FlagType::kString, "", 0, 0, "", kBoth,
     "Bundle folder made by scripts/export.sh."},
    {"device", "IDEFICS_DEVICE", FlagType::kDevices, "auto", 0, 0, "", kBoth,
     "Where the model runs: cpu, cuda, cuda:1; auto takes a GPU where there is one. Several, "
     "cuda:0,cuda:2, have neighbouring layers of it each, with their KV cache, and work one after "
     "the other; with --tensor-parallel each is a rank."},
    {"tensor-parallel", "IDEFICS_TENSOR_PARALLEL", FlagType::kInteger, "1", 1, 64, "", kBoth,
     "Devices among which every layer of the model is divided, each with its part of the weights "
     "and of the KV cache; on a CPU they are threads, for trying it."},
    {"rank-timeout", "IDEFICS_RANK_TIMEOUT", FlagType::kInteger, kDecimal<defaults::kRankTimeoutS>,
     1, 86400, "", kBoth,
     "Seconds that the ranks of --tensor-parallel wait for one of them before it is taken for "
     "lost; then nothing runs until a restart."},
    {"threads", "IDEFICS_THREADS", FlagType::kInteger, "0", 0, 4096, "", kBoth,
     "Threads of the model on a CPU; 0 takes all cores, unless half of them are faster."},
    {"max-num-seqs", "IDEFICS_MAX_NUM_SEQS", FlagType::kInteger, "0", 0, 4096, "", kBoth,
     "Sequences that the engine runs at once; each beam and each choice is one. 0: 32 on a CPU, "
     "256 on a GPU."},
    {"max-sequence-tokens", "IDEFICS_MAX_SEQUENCE_TOKENS", FlagType::kInteger,
     kDecimal<defaults::kMaxSequenceTokens>, 16, kMaxInt, "", kBoth,
     "Prompt and new tokens of one request."},
    {"kv-tokens", "IDEFICS_KV_TOKENS", FlagType::kInteger, "0", 0, kMaxSize, "", kBoth,
     "Tokens in the KV cache, over all running sequences; 0 takes what memory allows, half of it "
     "on a CPU."},
    {"kv-dtype", "IDEFICS_KV_DTYPE", FlagType::kChoice, "bundle", 0, 0, "bundle|int8", kBoth,
     "How the KV cache stores keys and values: in the bundle's type, or in 8 bit with a scale for "
     "each head, in about half of the memory."},
    {"huge-pages", "IDEFICS_HUGE_PAGES", FlagType::kChoice, "auto", 0, 0, "auto|true|false", kBoth,
     "On a CPU, move the weights to memory on pages of 2 MiB, which is read faster than the "
     "bundle's files, beside the first requests; then processes do not share them. auto does so "
     "where such pages exist and twice the weights fit into the free memory."},
    {"prefix-cache", "IDEFICS_PREFIX_CACHE", FlagType::kChoice, "auto", 0, 0, "auto|true|false",
     kBoth,
     "Keep the KV cache of finished requests, while nobody needs the room, for prompts that begin "
     "alike. auto does so where tokens stay the same bit for bit: on a CPU."},
    {"speculation", "IDEFICS_SPECULATION", FlagType::kBool, "true", 0, 0, "", kBoth,
     "Where one or two sequences run on a CPU, guess tokens from what came before and verify "
     "several in a step; tokens stay the same."},
    {"image-cache-slots", "IDEFICS_IMAGE_CACHE_SLOTS", FlagType::kInteger, "0", 0, kMaxInt, "",
     kBoth, "Distinct images that the engine keeps encoded; 0: 32 to 512, as memory allows."},
    {"custom-ops", "IDEFICS_CUSTOM_OPS", FlagType::kBool, "true", 0, 0, "", kBoth,
     "Run the model's own operators; --no-custom-ops runs plain ones, for comparison."},
    {"graph", "IDEFICS_GRAPH", FlagType::kBool, "true", 0, 0, "", kBoth,
     "Replay steps on a GPU from CUDA graphs; --no-graph starts each kernel by itself."},
    {"async-scheduling", "IDEFICS_ASYNC_SCHEDULING", FlagType::kChoice, "auto", 0, 0,
     "auto|true|false", kBoth,
     "Sample tokens where the model runs, so that the next step starts before the host has seen "
     "them; auto does so on a GPU."},
    {"weights", "IDEFICS_WEIGHTS", FlagType::kChoice, "bundle", 0, 0, "bundle|fp8", kBoth,
     "The decoder's weights: as the bundle has them, or fp8 made from a bundle in 16 bit while it "
     "loads, on a GPU of compute capability 8.9 or more."},
    {"verify-hashes", "IDEFICS_VERIFY_HASHES", FlagType::kChoice, "changed", 0, 0,
     "always|changed|never", kBoth,
     "When the sha256 of the bundle's files is compared at start; changed: unless they were found "
     "right before."},
    {"host", "IDEFICS_HOST", FlagType::kString, "127.0.0.1", 0, 0, "", kServe | kHealth,
     "Address to listen on; 0.0.0.0 is every one of this machine, which is open: see --api-key."},
    {"port", "IDEFICS_PORT AIP_HTTP_PORT PORT", FlagType::kInteger, "5000", 0, 65535, "",
     kServe | kHealth, "Port to listen on; 0 takes any free one."},
    {"metrics-port", "IDEFICS_METRICS_PORT", FlagType::kInteger, "0", 0, 65535, "", kServe,
     "Port of its own for /metrics, with the probes beside it; 0: /metrics is on --port."},
    {"metrics-alias", "IDEFICS_METRICS_ALIAS", FlagType::kChoice, "vllm", 0, 0, "vllm|none", kServe,
     "Under whose names metrics stand beside this program's own."},
    {"api-key", "IDEFICS_API_KEY", FlagType::kString, "", 0, 0, "", kServe,
     "Keys, separated by commas, of which a request must name one: Authorization: Bearer KEY, or "
     "X-Api-Key: KEY. The variable keeps them out of the process list."},
    {"api-key-file", "IDEFICS_API_KEY_FILE", FlagType::kString, "", 0, 0, "", kServe,
     "More keys, a line NAME:KEY each; read again on SIGHUP."},
    {"cors-origins", "IDEFICS_CORS_ORIGINS", FlagType::kString, "", 0, 0, "", kServe,
     "Origins, separated by commas, whose pages may use this server from a browser; * is any."},
    {"playground", "IDEFICS_PLAYGROUND", FlagType::kBool, "true", 0, 0, "", kServe,
     "Serve a page for people at /playground; --no-playground leaves it out."},
    {"playground-dir", "IDEFICS_PLAYGROUND_DIR", FlagType::kString, "", 0, 0, "", kServe,
     "Folder to read that page's files from whenever they are asked for, for work on it; none: "
     "they are part of the program."},
    {"served-model-name", "IDEFICS_SERVED_MODEL_NAME", FlagType::kString, "", 0, 0, "", kBoth,
     "Names, separated by commas, that the model has in OpenAI's API; the first is shown in "
     "answers, and * takes any name of a request. None: the bundle's folder."},
    {"default-temperature", "IDEFICS_DEFAULT_TEMPERATURE", FlagType::kNumber, "1", 0, 2, "", kBoth,
     "Temperature in OpenAI's API where a request names none; 0 is the most likely token."},
    {"default-max-tokens", "IDEFICS_DEFAULT_MAX_TOKENS", FlagType::kInteger, "0", 0, kMaxInt, "",
     kBoth,
     "Most new tokens of a chat in OpenAI's API where it names no number; 0 is what is left of "
     "--max-sequence-tokens."},
    {"openai-queue", "IDEFICS_OPENAI_QUEUE", FlagType::kInteger, "-1", -1, 100000, "", kServe,
     "Requests of OpenAI's API that may wait for others to end; beyond them the answer is 429. -1 "
     "is four for each that may run."},
    {"output", "COG_IDEFICS_OUTPUT", FlagType::kChoice, "string", 0, 0, "string|stream", kServe,
     "Type of a prediction's output: one string, or a list of pieces (Cog's ConcatenateIterator)."},
    {"max-concurrency", "COG_MAX_CONCURRENCY", FlagType::kInteger, "0", 0, kMaxInt, "", kServe,
     "Predictions that may run at once; 0 is what the engine can batch."},
    {"queue", "IDEFICS_QUEUE", FlagType::kInteger, "0", 0, 100000, "", kServe,
     "Predictions that may wait for others to end; beyond them the answer is 409, and health is "
     "BUSY only when these places are taken too."},
    {"client-concurrency", "IDEFICS_CLIENT_CONCURRENCY", FlagType::kInteger, "0", 0, kMaxInt, "",
     kServe,
     "Predictions of one client that may run or wait; beyond them the answer is 429. A client is "
     "a key's name, or without keys an address. 0 is no limit."},
    {"client-rate", "IDEFICS_CLIENT_RATE", FlagType::kNumber, "0", 0, kMaxInt, "", kServe,
     "Predictions a second that one client may ask for; after a rest as many at once as a second "
     "allows. Beyond them the answer is 429. 0 is no limit."},
    {"stream-history", "COG_STREAM_HISTORY_CAPACITY", FlagType::kInteger, "1024", 0, 1000000, "",
     kServe,
     "Events that an event stream which joins a running prediction gets to see; 0 is none."},
    {"setup-timeout", "COG_SETUP_TIMEOUT", FlagType::kNumber, "0", 0, kMaxInt, "", kServe,
     "Seconds the model may take to load; 0 is no limit."},
    {"stall-timeout", "IDEFICS_STALL_TIMEOUT", FlagType::kNumber, "300", 0, kMaxInt, "", kServe,
     "Seconds without progress of an engine that has work, after which health is UNHEALTHY; 0 is "
     "never."},
    {"queue-timeout", "IDEFICS_QUEUE_TIMEOUT", FlagType::kNumber, "0", 0, kMaxInt, "", kServe,
     "Seconds that a prediction may wait for a slot, after which it fails with 503 and "
     "Retry-After; 0 is no limit."},
    {"request-timeout", "IDEFICS_REQUEST_TIMEOUT", FlagType::kNumber, "0", 0, kMaxInt, "", kServe,
     "Seconds from a prediction's arrival to its end, after which it is cancelled and fails; 0 is "
     "no limit."},
    {"await-explicit-shutdown", "IDEFICS_AWAIT_EXPLICIT_SHUTDOWN", FlagType::kBool, "false", 0, 0,
     "", kServe, "Ignore SIGTERM; end on POST /shutdown or SIGINT."},
    {"drain-delay", "IDEFICS_DRAIN_DELAY", FlagType::kNumber, "0", 0, kMaxInt, "", kServe,
     "Seconds of normal service after a stop was asked for, in which only /readyz says no: time "
     "for load balancers to look elsewhere."},
    {"drain-timeout", "IDEFICS_DRAIN_TIMEOUT", FlagType::kNumber, "30", 0, kMaxInt, "", kServe,
     "Seconds that running predictions then have to end; new ones get 503."},
    {"max-body-bytes", "IDEFICS_MAX_BODY_BYTES", FlagType::kInteger,
     kDecimal<defaults::kMaxBodyBytes>, 1, kMaxSize, "", kServe, "Longest request body."},
    {"memory-budget", "IDEFICS_MEMORY_BUDGET", FlagType::kInteger, "0", 0, kMaxSize, "", kServe,
     "Bytes that requests may make the server hold, over all of them: bodies, downloads, kept "
     "predictions, answers under way; beyond them the answer is 503. A quarter, 2 GiB at most, is "
     "for images that are being decoded, which wait for it. 0 is a quarter of the memory that is "
     "left at the start."},
    {"body-timeout", "IDEFICS_BODY_TIMEOUT", FlagType::kNumber, "60", 0.1, kMaxInt, "", kServe,
     "Seconds in which a whole request body must arrive."},
    {"allow-private-urls", "IDEFICS_ALLOW_PRIVATE_URLS", FlagType::kBool, "false", 0, 0, "", kBoth,
     "Fetch images from loopback, private and link-local addresses too."},
    {"image-hosts", "IDEFICS_IMAGE_HOSTS", FlagType::kString, "", 0, 0, "", kBoth,
     "Hosts that images may come from, separated by commas; .example.org is all names below it. "
     "Empty is any host."},
    {"max-image-bytes", "IDEFICS_MAX_IMAGE_BYTES", FlagType::kInteger,
     kDecimal<defaults::kMaxImageBytes>, 1, kMaxSize, "", kBoth, "Longest image file."},
    {"max-image-pixels", "IDEFICS_MAX_IMAGE_PIXELS", FlagType::kInteger,
     kDecimal<defaults::kMaxImagePixels>, 1, kMaxSize, "", kBoth,
     "Width times height of an image file; the default is Pillow's."},
    {"max-images", "IDEFICS_MAX_IMAGES", FlagType::kInteger, kDecimal<defaults::kMaxImages>, 1,
     10000, "", kBoth, "Images in one prompt."},
    {"connect-timeout", "IDEFICS_CONNECT_TIMEOUT", FlagType::kNumber, "10", 0.1, 3600, "", kBoth,
     "Seconds to connect to an image server, and the longest silence from it."},
    {"fetch-timeout", "IDEFICS_FETCH_TIMEOUT", FlagType::kNumber, "60", 0.1, 86400, "", kBoth,
     "Seconds in which all images of a request must be there."},
    {"user-agent", "COG_USER_AGENT", FlagType::kString, "cog-idefics", 0, 0, "", kBoth,
     "User-Agent of image downloads."},
    {"webhook-hosts", "IDEFICS_WEBHOOK_HOSTS", FlagType::kChoice, "public", 0, 0,
     "public|loopback|any", kServe,
     "Addresses that webhooks may be posted to: public ones, these and loopback, or private ones "
     "too."},
    {"webhook-token-hosts", "IDEFICS_WEBHOOK_TOKEN_HOSTS", FlagType::kString,
     "localhost,127.0.0.1,[::1]", 0, 0, "", kServe,
     "Hosts of webhooks that get WEBHOOK_AUTH_TOKEN, separated by commas; .example.org is all "
     "names below it, * every host."},
    {"throttle-interval", "COG_THROTTLE_RESPONSE_INTERVAL", FlagType::kNumber, "0.5", 0, 3600, "",
     kServe, "Seconds between two webhook posts of a prediction; the last one does not wait."},
    {"log-level", "IDEFICS_LOG_LEVEL COG_LOG_LEVEL", FlagType::kChoice, "info", 0, 0,
     "debug|info|warning|warn|error", kBoth, "Least severe log lines to write."},
    {"log-format", "LOG_FORMAT", FlagType::kString, "json", 0, 0, "", kBoth,
     "console writes readable log lines, anything else one JSON object a line."},
    {"access-log", "IDEFICS_ACCESS_LOG", FlagType::kBool, "false", 0, 0, "", kServe,
     "A log line for each answer, but those to probes and of /metrics."},
};

constexpr FlagAlias kAliases[] = {
    {"max-batch", "IDEFICS_MAX_BATCH", "max-num-seqs"},
    {"image-entries", "IDEFICS_IMAGE_ENTRIES", "image-cache-slots"},
    {"fused", "IDEFICS_FUSED", "custom-ops"},
    {"devices", "IDEFICS_DEVICES", "device"},
    {"step-ahead", "IDEFICS_STEP_AHEAD", "async-scheduling"},
};

// A variable with this prefix is this program's own, not one of Cog's.
bool IsOwnVariable(const std::string& variable) { return variable.rfind("IDEFICS_", 0) == 0; }

// The flag's own variables, then those of its earlier names.
std::vector<std::string> VariablesOf(const Flag& flag) {
  std::vector<std::string> variables = SplitAt(flag.environment, ' ');
  for (const FlagAlias& alias : kAliases) {
    if (std::string_view(alias.flag) == flag.name) variables.emplace_back(alias.environment);
  }
  return variables;
}

// "serve, predict".
std::string CommandsOf(const Flag& flag) {
  std::string names;
  for (const auto& [bit, name] :
       {std::pair{kServe, "serve"}, std::pair{kPredict, "predict"}, std::pair{kHealth, "health"}}) {
    if ((flag.commands & bit) != 0) names += (names.empty() ? "" : ", ") + std::string(name);
  }
  return names;
}

const Flag& RequireFlag(std::string_view name) {
  const Flag* flag = FindFlag(name);
  IDEFICS_CHECK(flag != nullptr);
  return *flag;
}

}  // namespace

std::span<const Flag> AllFlags() { return kFlags; }

std::span<const FlagAlias> AllFlagAliases() { return kAliases; }

const Flag* FindFlag(std::string_view name) {
  for (const FlagAlias& alias : kAliases) {
    if (name == alias.name) name = alias.flag;
  }
  for (const Flag& flag : kFlags) {
    if (name == flag.name) return &flag;
  }
  return nullptr;
}

// Kubernetes sets NAME_PORT=tcp://10.0.0.1:80 in every pod beside a Service called NAME.
static bool IsServiceLink(std::string_view value) {
  return value.starts_with("tcp://") || value.starts_with("udp://");
}

Result<FlagValues> FlagValues::FromEnvironment(Environment environment,
                                               std::vector<std::string>* warnings) {
  FlagValues values;
  for (const Flag& flag : kFlags) {
    values.values_[flag.name] = flag.default_value;
    for (const std::string& variable : VariablesOf(flag)) {
      const char* value = environment(variable.c_str());
      if (value == nullptr || *value == '\0') continue;
      const auto normal = ParseFlagValue(flag, value);
      if (normal.ok()) {
        values.values_[flag.name] = *normal;
        break;
      }
      const std::string sentence =
          "environment variable " + variable + " is '" + value + "': " + normal.status().message();
      // Cog's contract ignores bad values of COG_SETUP_TIMEOUT, COG_MAX_CONCURRENCY and the like.
      const bool is_own =
          IsOwnVariable(variable) || variable == "PORT" || variable == "COG_IDEFICS_OUTPUT";
      if (is_own && !IsServiceLink(value)) {
        return Status::InvalidInput(sentence);
      }
      if (warnings != nullptr) warnings->push_back(sentence + "; it is ignored");
    }
  }
  return values;
}

Status FlagValues::Set(std::string_view name, const std::string& value) {
  const Flag& flag = RequireFlag(name);
  auto normal = ParseFlagValue(flag, value);
  if (!normal.ok()) {
    return Status::InvalidInput("--" + std::string(name) + " is '" + value +
                                "': " + normal.status().message());
  }
  values_[flag.name] = *normal;
  return Status::Ok();
}

const std::string& FlagValues::Text(std::string_view name) const {
  const FlagType type = RequireFlag(name).type;
  IDEFICS_CHECK(type == FlagType::kString || type == FlagType::kChoice ||
                type == FlagType::kDevices);
  return values_.find(RequireFlag(name).name)->second;
}

int64_t FlagValues::Integer(std::string_view name) const {
  IDEFICS_CHECK(RequireFlag(name).type == FlagType::kInteger);
  return static_cast<int64_t>(
      std::strtod(values_.find(RequireFlag(name).name)->second.c_str(), nullptr));
}

double FlagValues::Number(std::string_view name) const {
  IDEFICS_CHECK(RequireFlag(name).type == FlagType::kNumber);
  return std::strtod(values_.find(RequireFlag(name).name)->second.c_str(), nullptr);
}

bool FlagValues::Bool(std::string_view name) const {
  IDEFICS_CHECK(RequireFlag(name).type == FlagType::kBool);
  return values_.find(RequireFlag(name).name)->second == "true";
}

std::chrono::milliseconds FlagValues::Seconds(std::string_view name) const {
  return std::chrono::milliseconds(static_cast<int64_t>(Number(name) * 1000));
}

std::string FlagsMarkdown() {
  std::ostringstream out;
  out << "# Flags\n\nMade by `idefics-server --print-flags` from the table in `common/flags.cc`.\n"
         "A flag on the command line outranks the environment; of several variables the first that "
         "is set counts. `--flag` alone is true, `--no-flag` false.\n\n"
         "| flag | environment | default | values | of | what |\n|---|---|---|---|---|---|\n";
  for (const Flag& flag : kFlags) {
    out << "| `--" << flag.name << "` |";
    for (const std::string& variable : SplitAt(flag.environment, ' '))
      out << " `" << variable << "`";
    out << " | " << (*flag.default_value != '\0' ? "`" + std::string(flag.default_value) + "`" : "")
        << " | ";
    if (flag.type == FlagType::kChoice) {
      bool first = true;
      for (const std::string& choice : SplitAt(flag.choices, '|')) {
        out << (first ? "" : ", ") << choice;
        first = false;
      }
    } else if (flag.type == FlagType::kBool) {
      out << "true, false";
    } else if (flag.type == FlagType::kDevices) {
      out << "auto, cpu, cuda, cuda:N, several with commas between";
    } else if (flag.type == FlagType::kString) {
      out << "text";
    } else {
      out << FormatNumber(flag.minimum) << " … " << FormatNumber(flag.maximum);
    }
    out << " | " << CommandsOf(flag) << " | " << flag.help << " |\n";
  }
  return out.str();
}

}  // namespace idefics
