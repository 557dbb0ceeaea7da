// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/input_parser.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "server/api/cog/input_validation.h"

namespace idefics {
namespace {

using nlohmann::json;

Task Parse(const json& input, InputOrigin origin = InputOrigin::kHttp) {
  const ValidatedInput valid = ValidateInput(input, origin);
  REQUIRE(valid.errors.empty());
  return ParseInput(valid.values, origin);
}

const PromptText& TextAt(const Task& task, size_t i) {
  return std::get<PromptText>(task.request.prompt.at(i));
}

// The images' references, in order.
std::vector<std::string> Images(const Task& task) {
  std::vector<std::string> references;
  for (const PromptPiece& piece : task.request.prompt) {
    if (const auto* image = std::get_if<PromptImage>(&piece)) {
      references.push_back(image->reference);
    }
  }
  return references;
}

TEST_CASE("image and text become the original predictor's sequence", "[cog]") {
  const Task task = Parse({{"image", "https://x.org/a.png"}, {"text", "What? </s>"}});
  REQUIRE(task.refusal.ok());
  REQUIRE(task.request.prompt.size() == 4);
  CHECK(TextAt(task, 0).text == "User: What? </s>");
  CHECK(TextAt(task, 0).special == SpecialText::kNone);
  const auto& image = std::get<PromptImage>(task.request.prompt[1]);
  CHECK(image.reference == "https://x.org/a.png");
  CHECK(image.policy == ImagePolicy::kAlphaOverWhite);
  CHECK(image.file == nullptr);
  CHECK(TextAt(task, 2).text == "<end_of_utterance>");
  CHECK(TextAt(task, 2).special == SpecialText::kTurns);
  CHECK(TextAt(task, 3).text == "\nAssistant:");
  CHECK(task.response == ResponseText::kStripped);
  CHECK(task.request.token_defaults == TokenDefaults::kQuestion);
  CHECK_FALSE(task.request.add_end_of_utterance);
}

TEST_CASE("a URL in text is text and is not fetched", "[cog]") {
  const Task task = Parse({{"image", "data:,x"}, {"text", "https://x.org/a.jpg"}});
  CHECK(Images(task) == std::vector<std::string>{"data:,x"});
}

TEST_CASE("items of prompt are images where transformers sees a URL", "[cog]") {
  const Task task = Parse({{"prompt",
                            {"User: hi", " https://x.org/a.png ", "see http://x.org/b.png",
                             "data:image/png;base64,AA==", "<end_of_utterance>"}}});
  REQUIRE(task.refusal.ok());
  CHECK(Images(task) ==
        std::vector<std::string>{"https://x.org/a.png", "data:image/png;base64,AA=="});
  CHECK(std::get<PromptImage>(task.request.prompt[1]).policy == ImagePolicy::kUprightAlphaDropped);
  CHECK(std::holds_alternative<PromptImage>(task.request.prompt[3]));
  CHECK(TextAt(task, 2).text == "see http://x.org/b.png");
  CHECK(TextAt(task, 4).special == SpecialText::kTurns);
  CHECK(task.response == ResponseText::kNew);
  CHECK(task.request.token_defaults == TokenDefaults::kPrompt);
}

TEST_CASE("a prompt without an image is a prompt", "[cog]") {
  const Task task = Parse({{"prompt", {"User: hi"}}});
  CHECK(task.refusal.ok());
  CHECK(Images(task).empty());
}

TEST_CASE("a URL of another scheme in prompt is refused by name", "[cog]") {
  const Task task = Parse({{"prompt", {"hi", "ftp://x.org/a.png"}}});
  CHECK(task.refusal.code() == ErrorCode::kInvalidInput);
  CHECK(task.refusal.message().find("item 1 of prompt: it is the URL 'ftp://x.org/a.png'") == 0);
}

TEST_CASE("file: is an image on the command line and text in HTTP", "[cog]") {
  const json input = {{"prompt", {"file:a.png"}}};
  CHECK(Images(Parse(input)).empty());
  CHECK(Images(Parse(input, InputOrigin::kCommandLine)) == std::vector<std::string>{"file:a.png"});
}

TEST_CASE("sampling parameters come from the input, with the table's defaults", "[cog]") {
  CHECK_FALSE(Parse({{"prompt", {"x"}}, {"temperature", 0}}).request.sampling.do_sample);
  const Task task =
      Parse({{"prompt", {"x"}}, {"decoding_strategy", "Top P Sampling"}, {"seed", 7}});
  const SamplingParams& sampling = task.request.sampling;
  CHECK(sampling.do_sample);
  CHECK(sampling.temperature == 0.4);
  CHECK(sampling.top_p == 0.8);
  CHECK(sampling.top_k == 50);  // transformers' implicit one
  CHECK(sampling.seed == 7);
}

TEST_CASE("token lists are the request's own; ids beyond 32 bits stay outside the vocabulary",
          "[cog]") {
  const json x = json::array({"x"});
  CHECK(Parse({{"prompt", x}}).request.sampling.eos_token_ids.empty());
  CHECK(Parse({{"prompt", x}, {"eos_token_id", 5}}).request.sampling.eos_token_ids ==
        std::vector<int32_t>{5});
  CHECK(Parse({{"prompt", x}, {"eos_token_id", {1, 2}}}).request.sampling.eos_token_ids ==
        std::vector<int32_t>{1, 2});
  CHECK(Parse({{"prompt", x}, {"eos_token_id", 1LL << 40}}).request.sampling.eos_token_ids ==
        std::vector<int32_t>{2147483647});
  CHECK(Parse({{"prompt", x}, {"bad_words_ids", {{5, 6}}}}).request.sampling.bad_words_ids ==
        std::vector<std::vector<int32_t>>{{5, 6}});
}

TEST_CASE("early_stopping keeps its three values", "[cog]") {
  const auto of = [](json value) {
    return Parse({{"prompt", {"x"}}, {"early_stopping", std::move(value)}})
        .request.sampling.early_stopping;
  };
  CHECK(of(false) == EarlyStopping::kHeuristic);
  CHECK(of(true) == EarlyStopping::kFirstFinished);
  CHECK(of("never") == EarlyStopping::kNever);
}

TEST_CASE("a temperature that is 0 as a float is refused where it is used", "[cog]") {
  const json tiny = {{"prompt", {"x"}}, {"temperature", 1e-300}};
  CHECK(Parse(tiny).refusal.ok());
  json sampled = tiny;
  sampled["decoding_strategy"] = "Top P Sampling";
  CHECK(Parse(sampled).refusal.code() == ErrorCode::kInvalidInput);
  sampled["temperature"] = 1e-5;
  CHECK(Parse(sampled).refusal.ok());
}

}  // namespace
}  // namespace idefics
