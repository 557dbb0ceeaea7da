// SPDX-License-Identifier: Apache-2.0
#include "server/api/tgi/tgi_request.h"

#include <limits>
#include <nlohmann/json.hpp>
#include <utility>

#include "server/fetch/data_uri.h"
#include "server/fetch/url_policy.h"

namespace idefics {
namespace {

using nlohmann::json;

constexpr double kMost = std::numeric_limits<double>::max();
constexpr double kLeast = 1e-5;  // of what is divided by

bool IsImageUrl(std::string_view text) {
  return IsDataUri(text) || text.starts_with("http://") || text.starts_with("https://");
}

// Sampling is asked for by do_sample, or by a field that would mean nothing without it.
void ReadDistribution(FieldReader* fields, SamplingParams* sampling) {
  bool sample = false;
  fields->Bool("do_sample", &sample);
  sample |= fields->Number("temperature", kLeast, kMost, &sampling->temperature) &&
            sampling->temperature != 1;
  sampling->top_k = 0;
  sample |= fields->Integer("top_k", 1, std::numeric_limits<int>::max(), &sampling->top_k);
  sample |= fields->Number("top_p", kLeast, 1, &sampling->top_p) && sampling->top_p < 1;
  sample |= fields->Number("typical_p", kLeast, 1, &sampling->typical_p) && sampling->typical_p < 1;
  sampling->do_sample = sample;
  fields->Number("repetition_penalty", kLeast, kMost, &sampling->repetition_penalty);
  fields->Number("frequency_penalty", -2, 2, &sampling->frequency_penalty);
  int64_t seed = 0;
  if (fields->Integer("seed", 0, std::numeric_limits<int64_t>::max(), &seed)) {
    sampling->seed = static_cast<uint64_t>(seed);
  }
}

void RefuseOthers(FieldReader* fields) {
  int best_of = 1;
  fields->Integer("best_of", 1, 1, &best_of);
  fields->Refuse("truncate", "truncate is not supported: shorten the inputs");
  fields->Refuse("grammar", "grammar is not supported: answers cannot be guided");
  fields->Refuse("adapter_id", "adapter_id is not supported: there are no adapters");
  for (const char* name : {"watermark", "decoder_input_details"}) {
    bool wanted = false;
    fields->Bool(name, &wanted);
    if (wanted) fields->Fail(name, std::string(name) + " is not supported");
  }
}

void ReadParameters(FieldReader* fields, TgiRequest* out) {
  constexpr int kDefaultNewTokens = 1024;
  constexpr size_t kMaxStops = 16;
  constexpr size_t kMaxStopBytes = 4096;
  SamplingParams& sampling = out->request.sampling;
  sampling.max_new_tokens = kDefaultNewTokens;
  fields->Integer("max_new_tokens", 1, std::numeric_limits<int>::max(), &sampling.max_new_tokens);
  ReadDistribution(fields, &sampling);
  fields->Texts("stop", kMaxStops, kMaxStopBytes, &sampling.stop);
  sampling.include_stop_string = true;  // as that server's
  fields->Bool("details", &out->details);
  fields->Integer("top_n_tokens", 0, 5, &out->top_n_tokens);
  RefuseOthers(fields);
}

}  // namespace

std::vector<PromptPiece> SplitInputs(std::string_view inputs) {
  constexpr std::string_view kBegin = "![](";
  std::vector<PromptPiece> pieces;
  const auto add_text = [&](std::string_view text) {
    if (!text.empty()) pieces.emplace_back(PromptText{std::string(text), SpecialText::kTurns});
  };
  size_t from = 0;  // of the text that is not yet a piece
  for (size_t begin = inputs.find(kBegin); begin != std::string_view::npos;
       begin = inputs.find(kBegin, begin + 1)) {
    const size_t end = inputs.find(')', begin);
    if (end == std::string_view::npos) break;
    const std::string_view url = inputs.substr(begin + kBegin.size(), end - begin - kBegin.size());
    if (!IsImageUrl(url)) continue;
    add_text(inputs.substr(from, begin - from));
    pieces.emplace_back(PromptImage{std::string(url), ImagePolicy::kUprightAlphaDropped, nullptr});
    from = end + 1;
  }
  add_text(inputs.substr(from));
  return pieces;
}

std::variant<TgiRequest, FieldProblem> ReadTgiRequest(const json& body, const Predictor& predictor,
                                                      bool streams) {
  TgiRequest out;
  FieldReader fields(body, "");
  std::string inputs;
  if (!fields.Text("inputs", &inputs) || inputs.empty()) {
    fields.Fail("inputs", "inputs is empty: give a text");
  }
  fields.Bool("stream", &out.stream);
  out.stream |= streams;
  static const json kNone = json::object();
  const json* given = fields.Find("parameters");
  if (given != nullptr && !given->is_object()) {
    fields.Fail("parameters", "parameters must be an object");
  }
  if (fields.failed()) return *fields.error();
  FieldReader parameters(given == nullptr ? kNone : *given, "parameters");
  ReadParameters(&parameters, &out);
  out.request.prompt = SplitInputs(inputs);
  bool full = false;
  parameters.Bool("return_full_text", &full);
  if (full) out.echo = std::move(inputs);
  if (parameters.failed()) return *parameters.error();
  out.request.cut_to_context = true;
  // Both tokens end an answer there, whatever the checkpoint says.
  out.request.token_defaults = TokenDefaults::kPrompt;
  const SpecialTokens& special = predictor.tokenizer()->special();
  out.request.sampling.eos_token_ids = predictor.info().prompt_eos_token_ids;
  if (!out.request.sampling.IsEos(special.eos)) {
    out.request.sampling.eos_token_ids.push_back(special.eos);
  }
  if (out.details || out.stream) {  // only these show tokens, and whole logits cost time
    out.request.sampling.logprobs_mode = LogprobsMode::kRaw;
    out.request.sampling.num_logprobs = out.top_n_tokens;
  }
  return out;
}

}  // namespace idefics
