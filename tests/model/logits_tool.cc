// SPDX-License-Identifier: Apache-2.0
// logits_tool BUNDLE [THREADS [RANKS]]: answers one JSON request a line through the same parts as
// the server, for test_model_parity.py. IDEFICS_KV_DTYPE and IDEFICS_DEVICE are as for the server.
//   {"prompt_parts": [{"text": "...", "special": "none|turns|all"} or
//                     {"image": PATH, "mode": "url|object"}, ...], "add_end_of_utterance": false,
//    "piece": n}          -> {"token_ids", "image_index", "positions", "logits"}
//      n = 0: every prefix of the prompt is a row of its own, run at once from its first token;
//      n > 0: one row in steps of n tokens. logits: base64 of f32 [positions, vocab].
//   {"token_ids": [...], "image_index": [...], "pixels": [[f32 of one image, 3 * S * S], ...],
//    "piece": n}          -> the same, without tokenizer and image processor
//   {"prompt_parts": ..., "sampling": {...}}   -> a GenerateResult
//   {"together": [requests with "sampling"]}   -> the results, run at the same time
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <thread>

#include "common/flags.h"
#include "predictor/images/preprocess.h"
#include "predictor/model/torch_runner.h"
#include "predictor/model_predictor.h"
#include "predictor/text/prompt.h"
#include "weights/bundle.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr int64_t kKvTokens = 32768;
constexpr int32_t kImageCacheSlots = 16;
constexpr int kMaxNumSeqs = 32;

std::string Base64(std::span<const float> values) {
  static constexpr char kDigits[] =
      "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const auto* bytes = reinterpret_cast<const uint8_t*>(values.data());
  const size_t count = values.size_bytes();
  std::string text;
  for (size_t i = 0; i < count; i += 3) {
    uint32_t group = static_cast<uint32_t>(bytes[i]) << 16;
    if (i + 1 < count) group |= static_cast<uint32_t>(bytes[i + 1]) << 8;
    if (i + 2 < count) group |= bytes[i + 2];
    text += kDigits[group >> 18];
    text += kDigits[(group >> 12) & 63];
    text += i + 1 < count ? kDigits[(group >> 6) & 63] : '=';
    text += i + 2 < count ? kDigits[group & 63] : '=';
  }
  return text;
}

GenerateRequest ReadPrompt(const json& request) {
  GenerateRequest result;
  for (const json& part : request.at("prompt_parts")) {
    if (part.contains("text")) {
      const std::string special = part.value("special", "all");
      result.prompt.emplace_back(PromptText{part["text"], special == "all" ? SpecialText::kAll
                                                          : special == "turns"
                                                              ? SpecialText::kTurns
                                                              : SpecialText::kNone});
      continue;
    }
    std::ifstream file(part.at("image").get<std::string>(), std::ios::binary);
    const std::vector<uint8_t> bytes(std::istreambuf_iterator<char>(file), {});
    result.prompt.emplace_back(PromptImage{"",
                                           part.value("mode", "url") == "url"
                                               ? ImagePolicy::kUprightAlphaDropped
                                               : ImagePolicy::kAlphaOverWhite,
                                           std::make_shared<const std::vector<uint8_t>>(bytes)});
  }
  result.add_end_of_utterance = request.value("add_end_of_utterance", false);
  return result;
}

SamplingParams ReadSampling(const json& s) {
  SamplingParams p;
  p.max_new_tokens = s.value("max_new_tokens", 20);
  p.min_new_tokens = s.value("min_new_tokens", 0);
  p.do_sample = s.value("do_sample", false);
  p.temperature = s.value("temperature", 1.0);
  p.top_k = s.value("top_k", 50);
  p.top_p = s.value("top_p", 1.0);
  p.repetition_penalty = s.value("repetition_penalty", 1.0);
  p.no_repeat_ngram_size = s.value("no_repeat_ngram_size", 0);
  p.bad_words_ids = s.value("bad_words_ids", std::vector<std::vector<int32_t>>{});
  p.eos_token_ids = s.value("eos_token_id", std::vector<int32_t>{});
  p.num_beams = s.value("num_beams", 1);
  p.length_penalty = s.value("length_penalty", 1.0);
  if (s.contains("early_stopping")) {
    const json& early = s["early_stopping"];
    p.early_stopping = early.is_string()   ? EarlyStopping::kNever
                       : early.get<bool>() ? EarlyStopping::kFirstFinished
                                           : EarlyStopping::kHeuristic;
  }
  if (s.contains("seed")) p.seed = s["seed"].get<uint64_t>();
  p.stop = s.value("stop", std::vector<std::string>{});
  p.num_logprobs = s.value("num_logprobs", 5);
  p.logprobs_mode = s.value("raw_logprobs", false) ? LogprobsMode::kRaw : LogprobsMode::kProcessed;
  p.num_choices = s.value("num_choices", 1);
  p.presence_penalty = s.value("presence_penalty", 0.0);
  p.frequency_penalty = s.value("frequency_penalty", 0.0);
  p.logit_bias = s.value("logit_bias", std::vector<std::pair<int32_t, float>>{});
  return p;
}

class TextCollector final : public GenerateObserver {
 public:
  void OnText(const TextPiece& piece) override { text += piece.text; }
  std::string text;
};

class Tool {
 public:
  Status Load(const std::string& path, int threads, int ranks) {
    PredictorOptions options;
    options.bundle = path;
    options.runner.device = "cpu";
    options.runner.num_threads = threads;
    options.runner.tensor_parallel = ranks;
    options.runner.kv_tokens = kKvTokens;
    options.runner.image_cache_slots = kImageCacheSlots;
    ASSIGN_OR_RETURN(
        const FlagValues flags,
        FlagValues::FromEnvironment(
            [](const char* name) -> const char* { return std::getenv(name); }, nullptr));
    if (flags.Text("kv-dtype") == "int8") options.runner.kv_dtype = KvDType::kInt8;
    if (flags.Text("device") != "auto") options.runner.device = flags.Text("device");
    options.engine.max_num_seqs = kMaxNumSeqs;
    ASSIGN_OR_RETURN(predictor_, LoadModelPredictor(options));
    ASSIGN_OR_RETURN(const Bundle bundle, Bundle::Open(path, {}));
    ASSIGN_OR_RETURN(runner_, MakeTorchRunner(bundle, options.runner));
    const ProcessorConfig& processor = bundle.manifest().processor;
    constants_.image_size = static_cast<int>(processor.image_size);
    for (size_t c = 0; c < 3; ++c) {
      constants_.mean[c] = static_cast<float>(processor.image_mean[c]);
      constants_.std[c] = static_cast<float>(processor.image_std[c]);
    }
    special_.image = bundle.manifest().tokenizer.image;
    special_.eos = bundle.manifest().tokenizer.eos;
    return Status::Ok();
  }

  json Answer(const json& request) {
    if (request.contains("together")) return Together(request["together"]);
    return request.contains("sampling") ? Generate(request) : Logits(request);
  }

 private:
  json Generate(const json& request) {
    GenerateRequest prompt = ReadPrompt(request);
    prompt.sampling = ReadSampling(request.at("sampling"));
    TextCollector streamed;
    const GenerateResult result = predictor_->Generate(prompt, {}, streamed);
    if (result.choices.empty()) return {{"error", result.status.message()}};
    json answer = AnswerOf(result.choices.front());
    answer["error"] = result.status.message();
    answer["streamed"] = streamed.text;
    answer["prompt_token_ids"] = result.prompt_token_ids;
    for (const Choice& choice : result.choices) answer["choices"].push_back(AnswerOf(choice));
    return answer;
  }

  static json AnswerOf(const Choice& choice) {
    json answer = {{"finish_reason", static_cast<int>(choice.finish_reason)},
                   {"text", choice.text},
                   {"full_text", choice.full_text},
                   {"token_ids", choice.token_ids},
                   {"logprobs", json::array()},
                   {"own_logprobs", json::array()}};
    for (const TokenLogprobs& step : choice.logprobs) {
      answer["logprobs"].push_back(step.top);
      answer["own_logprobs"].push_back(step.logprob);
    }
    return answer;
  }

  json Together(const json& requests) {
    std::vector<json> answers(requests.size());
    std::vector<std::thread> threads;
    for (size_t i = 0; i < requests.size(); ++i) {
      threads.emplace_back([&, i] { answers[i] = Generate(requests[i]); });
    }
    for (std::thread& thread : threads) thread.join();
    return answers;
  }

  // Token ids as the predictor makes them.
  std::vector<int32_t> PromptTokens(const GenerateRequest& prompt) {
    GenerateRequest one = prompt;
    one.sampling.max_new_tokens = 1;
    TextCollector ignored;
    return predictor_->Generate(one, {}, ignored).prompt_token_ids;
  }

  // Number of images, encoded to table rows 0, 1, ...
  Result<int32_t> EncodeImages(const GenerateRequest& prompt) {
    int32_t entry = 0;
    for (const PromptPiece& piece : prompt.prompt) {
      const auto* shown = std::get_if<PromptImage>(&piece);
      if (shown == nullptr) continue;
      ASSIGN_OR_RETURN(const ModelImage image,
                       PreprocessImage(*shown->file, shown->policy, constants_, {}));
      std::vector<float> pixels(image.rgb.size());
      NormalizePixels(image.rgb, constants_, pixels);
      RETURN_IF_ERROR(runner_->EncodeImage(pixels, entry));
      ++entry;
    }
    return entry;
  }

  // The prompt's tokens, what they see, and its images in the runner's table.
  Status Prepare(const json& request, std::vector<int32_t>* tokens, std::vector<int32_t>* index) {
    if (request.contains("token_ids")) {
      *tokens = request["token_ids"].get<std::vector<int32_t>>();
      *index = request["image_index"].get<std::vector<int32_t>>();
      int32_t entry = 0;
      for (const json& pixels : request["pixels"]) {
        RETURN_IF_ERROR(runner_->EncodeImage(pixels.get<std::vector<float>>(), entry));
        ++entry;
      }
      return Status::Ok();
    }
    const GenerateRequest prompt = ReadPrompt(request);
    *tokens = PromptTokens(prompt);
    ASSIGN_OR_RETURN(const int32_t images, EncodeImages(prompt));
    *index = ImageIndex(*tokens, special_, images);
    return Status::Ok();
  }

  json Logits(const json& request) {
    std::vector<int32_t> tokens;
    std::vector<int32_t> index;
    std::vector<int64_t> positions;
    std::vector<float> logits;
    Status status = Prepare(request, &tokens, &index);
    const int64_t piece = request.value("piece", 0);
    if (status.ok()) {
      status = piece > 0 ? RunPieces(tokens, index, piece, &positions, &logits)
                         : RunPrefixes(tokens, index, &positions, &logits);
    }
    if (!status.ok()) return {{"error", status.message()}};
    return {{"error", ""},
            {"token_ids", tokens},
            {"image_index", index},
            {"positions", positions},
            {"logits", Base64(logits)}};
  }

  Status RunPieces(std::span<const int32_t> tokens, std::span<const int32_t> index, int64_t piece,
                   std::vector<int64_t>* positions, std::vector<float>* logits) {
    const int64_t vocab = runner_->limits().vocab_size;
    for (size_t done = 0; done < tokens.size();) {
      const size_t count = std::min(static_cast<size_t>(piece), tokens.size() - done);
      StepRow row;
      row.tokens = tokens.subspan(done, count);
      row.image_slots = index.subspan(done, count);
      row.position = static_cast<int32_t>(done);
      done += count;
      positions->push_back(static_cast<int64_t>(done) - 1);
      logits->resize(positions->size() * vocab);
      RETURN_IF_ERROR(runner_->Step(std::span(&row, 1), std::span(*logits).last(vocab)));
    }
    return Status::Ok();
  }

  Status RunPrefixes(std::span<const int32_t> tokens, std::span<const int32_t> index,
                     std::vector<int64_t>* positions, std::vector<float>* logits) {
    const int64_t vocab = runner_->limits().vocab_size;
    const auto length = static_cast<int64_t>(tokens.size());
    const int64_t rows_a_step = std::min<int64_t>(kMaxNumSeqs, kKvTokens / length);
    for (int64_t first = 1; first <= length; first += rows_a_step) {
      std::vector<StepRow> rows;
      for (int64_t n = first; n < first + rows_a_step && n <= length; ++n) {
        StepRow row;
        row.tokens = tokens.first(n);
        row.image_slots = index.first(n);
        row.kv_start = static_cast<int64_t>(rows.size()) * length;
        rows.push_back(row);
        positions->push_back(n - 1);
      }
      logits->resize(positions->size() * vocab);
      RETURN_IF_ERROR(runner_->Step(rows, std::span(*logits).last(rows.size() * vocab)));
    }
    return Status::Ok();
  }

  std::unique_ptr<Predictor> predictor_;
  std::unique_ptr<ModelRunner> runner_;
  ProcessorConstants constants_;
  SpecialTokens special_;
};

int Main(const std::string& bundle, int threads, int ranks) {
  Tool tool;
  if (const Status status = tool.Load(bundle, threads, ranks); !status.ok()) {
    std::cerr << "logits_tool: " << status.message() << "\n";
    return 1;
  }
  for (std::string line; std::getline(std::cin, line);) {
    std::cout << tool.Answer(json::parse(line)).dump() << std::endl;
  }
  return 0;
}

}  // namespace
}  // namespace idefics

int main(int argc, char** argv) {
  if (argc < 2 || argc > 4) {
    std::cerr << "usage: logits_tool BUNDLE [THREADS [RANKS]] < requests.jsonl\n";
    return 2;
  }
  return idefics::Main(argv[1], argc > 2 ? std::stoi(argv[2]) : 0,
                       argc > 3 ? std::stoi(argv[3]) : 1);
}
