// SPDX-License-Identifier: Apache-2.0
// A body -> the requests of OpenAI's routes and of text-generation-inference's. What is taken can
// be written as a prompt; what is refused is said in a few words.
#include <cstddef>
#include <cstdint>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>

#include "common/check.h"
#include "predictor/text/prompt.h"
#include "server/api/openai/completion_request.h"
#include "server/api/openai/response_request.h"
#include "server/api/tgi/tgi_request.h"
#include "tests/text/vocabulary.h"

namespace idefics {
namespace {

constexpr size_t kMaxErrorBytes = 2048;

// A tokenizer and what the requests are judged by; it generates nothing.
class Vocabulary final : public Predictor {
 public:
  explicit Vocabulary(std::unique_ptr<Tokenizer> tokenizer) : tokenizer_(std::move(tokenizer)) {
    info_.prompt_eos_token_ids = {tokenizer_->special().eos};
    info_.banned_words_ids = {{tokenizer_->special().image}, {tokenizer_->special().fake_image}};
    info_.max_sequence_tokens = 512;
  }
  const ModelInfo& info() const override { return info_; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  GenerateResult Generate(const GenerateRequest&, std::stop_token, GenerateObserver&) override {
    return {};
  }

 private:
  ModelInfo info_;
  const std::unique_ptr<Tokenizer> tokenizer_;
};

void CheckRequest(const Tokenizer& tokenizer, const GenerateRequest& request) {
  IDEFICS_CHECK(!request.prompt.empty());
  const TokenizedPrompt prompt = BuildPrompt(tokenizer, request.prompt, false);
  IDEFICS_CHECK_EQ(prompt.tokens.size(), prompt.image_index.size());
  IDEFICS_CHECK(request.sampling.num_choices >= 1 && request.sampling.num_choices <= 128);
  for (const auto& word : request.sampling.bad_words_ids) IDEFICS_CHECK(word.size() <= 512);
}

void Check(const Tokenizer& tokenizer, const std::variant<CompletionRequest, OpenAiError>& read) {
  if (const auto* error = std::get_if<OpenAiError>(&read)) {
    const HttpResponse response = ErrorResponse(*error);
    IDEFICS_CHECK(response.status >= 400 && response.status < 500);
    IDEFICS_CHECK(nlohmann::json::accept(response.body));
    IDEFICS_CHECK(response.body.size() < kMaxErrorBytes);
    return;
  }
  for (const GenerateRequest& request : std::get<CompletionRequest>(read).prompts) {
    CheckRequest(tokenizer, request);
  }
}

void Run(const nlohmann::json& body) {
  static const Vocabulary& vocabulary = *new Vocabulary(TinyTokenizer());
  static const OpenAiOptions& options = *[] {
    auto* made = new OpenAiOptions();
    made->served_models = {"model"};
    return made;
  }();
  const Tokenizer& tokenizer = *vocabulary.tokenizer();
  const ModelFacts model{vocabulary.info(), tokenizer, options};
  Check(tokenizer, ReadChatRequest(body, model));
  Check(tokenizer, ReadTextRequest(body, model));
  Check(tokenizer, ReadResponseRequest(body, model));
  const auto read = ReadTgiRequest(body, vocabulary, /*streams=*/false);
  if (const auto* wanted = std::get_if<TgiRequest>(&read)) CheckRequest(tokenizer, wanted->request);
}

}  // namespace
}  // namespace idefics

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto body = nlohmann::json::parse(data, data + size, nullptr, /*allow_exceptions=*/false);
  if (body.is_object()) idefics::Run(body);
  return 0;
}
