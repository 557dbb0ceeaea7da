// SPDX-License-Identifier: Apache-2.0
#include "server/cog/input_adapter.h"

#include <catch2/catch_test_macros.hpp>

#include "server/cog/input_validation.h"
#include "tests/server/doubles/scripted_predictor.h"

namespace idefics {
namespace {

using nlohmann::json;

Result<PlannedRequest> Plan(const json& input, InputOrigin origin = InputOrigin::kHttp) {
  const ScriptedPredictor predictor;
  const ValidatedInput valid = ValidateInput(input, origin);
  REQUIRE(valid.errors.empty());
  return PlanRequest(valid.values, predictor.info(), origin, 64);
}

TEST_CASE("image and text become the original predictor's sequence", "[cog]") {
  const auto plan = Plan({{"image", "https://x.org/a.png"}, {"text", "What? </s>"}});
  REQUIRE(plan.ok());
  const auto& prompt = plan->request.prompt;
  REQUIRE(prompt.size() == 4);
  CHECK(prompt[0].text == "User: What? </s>");
  CHECK(prompt[0].special == SpecialText::kNone);
  CHECK(plan->image_parts == std::vector<size_t>{1});
  CHECK(prompt[1].open_mode == OpenMode::kPillowObject);
  CHECK(prompt[2].text == "<end_of_utterance>");
  CHECK(prompt[2].special == SpecialText::kTurns);
  CHECK(prompt[3].text == "\nAssistant:");
  CHECK(plan->answer == AnswerText::kStripped);
  CHECK_FALSE(plan->request.add_end_of_utterance);
}

TEST_CASE("a URL in text is text and is not fetched", "[cog]") {
  const auto plan = Plan({{"image", "data:,x"}, {"text", "https://x.org/a.jpg"}});
  REQUIRE(plan.ok());
  CHECK(plan->images == std::vector<std::string>{"data:,x"});
}

TEST_CASE("items of prompt are images where transformers sees a URL", "[cog]") {
  const auto plan = Plan({{"prompt",
                           {"User: hi", " https://x.org/a.png ", "see http://x.org/b.png",
                            "data:image/png;base64,AA==", "<end_of_utterance>"}}});
  REQUIRE(plan.ok());
  CHECK(plan->images ==
        std::vector<std::string>{"https://x.org/a.png", "data:image/png;base64,AA=="});
  CHECK(plan->image_parts == std::vector<size_t>{1, 3});
  CHECK(plan->request.prompt[1].open_mode == OpenMode::kUrl);
  CHECK(plan->request.prompt[2].text == "see http://x.org/b.png");
  CHECK(plan->request.prompt[4].special == SpecialText::kTurns);
  CHECK(plan->answer == AnswerText::kNew);
}

TEST_CASE("a prompt without an image is a prompt", "[cog]") {
  const auto plan = Plan({{"prompt", {"User: hi"}}});
  REQUIRE(plan.ok());
  CHECK(plan->images.empty());
}

TEST_CASE("a URL of another scheme in prompt is refused by name", "[cog]") {
  const auto plan = Plan({{"prompt", {"hi", "ftp://x.org/a.png"}}});
  REQUIRE_FALSE(plan.ok());
  CHECK(plan.status().message().find("item 1 of prompt is the URL 'ftp://x.org/a.png'") == 0);
}

TEST_CASE("file: is an image on the command line and text in HTTP", "[cog]") {
  const json input = {{"prompt", {"file:a.png"}}};
  CHECK(Plan(input)->images.empty());
  CHECK(Plan(input, InputOrigin::kCommandLine)->images == std::vector<std::string>{"file:a.png"});
}

TEST_CASE("sampling parameters count only with Top P Sampling", "[cog]") {
  const auto greedy = Plan({{"prompt", {"x"}}, {"temperature", 0}, {"top_k", 3}});
  REQUIRE(greedy.ok());
  CHECK_FALSE(greedy->request.sampling.do_sample);
  const auto sampled =
      Plan({{"prompt", {"x"}}, {"decoding_strategy", "Top P Sampling"}, {"seed", 7}});
  REQUIRE(sampled.ok());
  CHECK(sampled->request.sampling.do_sample);
  CHECK(sampled->request.sampling.temperature == 0.4);
  CHECK(sampled->request.sampling.top_p == 0.8);
  CHECK(sampled->request.sampling.top_k == 50);  // transformers' implicit one
  CHECK(sampled->request.sampling.seed == 7);
}

TEST_CASE("what only the model can judge is a sentence, not a crash", "[cog]") {
  const json sampling = {{"prompt", {"x"}}, {"decoding_strategy", "Top P Sampling"}};
  json bad = sampling;
  bad["temperature"] = 0;
  CHECK(Plan(bad).status().message().find("temperature is 0") == 0);
  bad = sampling;
  bad["num_beams"] = 2;
  CHECK(Plan(bad).status().message().find("num_beams is 2") == 0);
  CHECK(Plan({{"prompt", {"x"}}, {"eos_token_id", 100}}).status().message() ==
        "eos_token_id holds token id 100, the model's ids go from 0 to 99");
  CHECK_FALSE(Plan({{"prompt", {"x"}}, {"bad_words_ids", {{1, 100}}}}).ok());
  CHECK_FALSE(Plan({{"prompt", {"x"}}, {"max_new_tokens", 8}, {"min_new_tokens", 9}}).ok());
  json many = json::array();
  for (int i = 0; i < 9; ++i) many.push_back("data:image/png;base64,");
  CHECK(Plan({{"prompt", many}}).status().code() == ErrorCode::kTooLarge);
}

TEST_CASE("image tokens stay banned beside the user's bad words", "[cog]") {
  const auto plan = Plan({{"prompt", {"x"}}, {"bad_words_ids", {{5, 6}}}});
  CHECK(plan->request.sampling.bad_words_ids ==
        std::vector<std::vector<int32_t>>{{98}, {97}, {5, 6}});
  CHECK(plan->request.sampling.eos_token_ids == std::vector<int32_t>{99});
  CHECK(Plan({{"prompt", {"x"}}, {"eos_token_id", {1, 2}}})->request.sampling.eos_token_ids ==
        std::vector<int32_t>{1, 2});
}

TEST_CASE("early_stopping keeps its three values", "[cog]") {
  const auto of = [](json value) {
    return Plan({{"prompt", {"x"}}, {"early_stopping", std::move(value)}})
        ->request.sampling.early_stopping;
  };
  CHECK(of(false) == EarlyStopping::kHeuristic);
  CHECK(of(true) == EarlyStopping::kFirstFinished);
  CHECK(of("never") == EarlyStopping::kNever);
}

}  // namespace
}  // namespace idefics
