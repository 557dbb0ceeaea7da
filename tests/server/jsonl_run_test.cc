// SPDX-License-Identifier: Apache-2.0
#include "server/cli/jsonl_run.h"

#include <unistd.h>

#include <atomic>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/server/doubles/scripted_images.h"
#include "tests/server/doubles/scripted_predictor.h"

namespace idefics {
namespace {

using nlohmann::json;

class JsonlFixture {
 public:
  JsonlFixture()
      : folder_(std::filesystem::temp_directory_path() /
                ("idefics-jsonl-" + std::to_string(getpid()))) {
    std::filesystem::create_directories(folder_);
    std::filesystem::remove(Path("out"));
  }
  ~JsonlFixture() { std::filesystem::remove_all(folder_); }
  JsonlFixture(const JsonlFixture&) = delete;
  JsonlFixture& operator=(const JsonlFixture&) = delete;

  std::string Path(const std::string& name) const { return (folder_ / name).string(); }
  void Put(const std::string& name, const std::string& text) const {
    std::ofstream(Path(name), std::ios::binary) << text;
  }
  std::string Text(const std::string& name) const {
    std::ifstream in(Path(name), std::ios::binary);
    std::stringstream text;
    text << in.rdbuf();
    return text.str();
  }
  std::vector<json> Answers() const {
    std::vector<json> answers;
    std::istringstream in(Text("out"));
    for (std::string line; std::getline(in, line);) answers.push_back(json::parse(line));
    return answers;
  }
  Status Run(std::stop_token stop = {}) {
    return JsonlRun({Path("in"), Path("out"), details, retry_failed}, predictor, images, options,
                    {})
        .Run(stop);
  }

  ScriptedPredictor predictor;
  ScriptedImages images;
  AnswerOptions options;
  bool details = false;
  bool retry_failed = false;

 private:
  std::filesystem::path folder_;
};

std::string Lines(int count) {
  std::string text;
  for (int i = 1; i <= count; ++i) {
    text += R"({"id":"q)" + std::to_string(i) + R"(","prompt":["hi"],"max_new_tokens":1})" + "\n";
  }
  return text;
}

TEST_CASE_METHOD(JsonlFixture, "every line gets an answer, in input order, and a bad one an error",
                 "[cli]") {
  Put("in", "{\"id\":7,\"prompt\":[\"hi\"]}\n\nnot json\n{\"text\":\"hi\"}\n" + Lines(20));
  REQUIRE(Run().ok());
  const auto answers = Answers();
  REQUIRE(answers.size() == 23);
  CHECK(answers[0]["id"] == 7);
  CHECK(answers[0]["status"] == "succeeded");
  CHECK(answers[0]["output"] == " A dog.");
  CHECK(answers[1]["line"] == 3);
  CHECK(answers[1]["status"] == "failed");
  CHECK(answers[1]["error"] == "the line is no JSON object");
  CHECK(answers[2]["error"] == "input image: Field required");
  for (size_t i = 1; i < answers.size(); ++i) CHECK(answers[i - 1]["line"] < answers[i]["line"]);
}

TEST_CASE_METHOD(JsonlFixture, "a second run makes only what is missing and cuts a torn line",
                 "[cli]") {
  Put("in", Lines(5));
  REQUIRE(Run().ok());
  const std::string whole = Text("out");
  std::istringstream lines(whole);
  std::string first;
  std::string second;
  std::getline(lines, first);
  std::getline(lines, second);
  Put("out", second + "\n" + first + "\n" + "{\"line\":3,\"sta");
  ScriptedPredictor again;
  REQUIRE(JsonlRun({Path("in"), Path("out")}, again, images, options, {}).Run({}).ok());
  CHECK(again.requests().size() == 3);
  const auto answers = Answers();
  REQUIRE(answers.size() == 5);
  for (size_t i = 0; i < 5; ++i) {
    CHECK(answers[i]["line"] == i + 1);
    CHECK(answers[i]["id"] == "q" + std::to_string(i + 1));
  }
}

TEST_CASE_METHOD(JsonlFixture, "lines that have failed are answered again where that is asked for",
                 "[cli]") {
  Put("in", Lines(3) + "{\"text\":\"hi\"}\n");
  predictor.status = Status(ErrorCode::kOutOfMemory, "no memory");
  REQUIRE(Run().ok());
  predictor.status = Status::Ok();
  REQUIRE(Run().ok());
  CHECK(predictor.requests().size() == 3);  // what has an answer has one
  retry_failed = true;
  REQUIRE(Run().ok());
  CHECK(predictor.requests().size() == 6);
  const auto answers = Answers();
  REQUIRE(answers.size() == 4);
  for (size_t i = 0; i < 3; ++i) CHECK(answers[i]["status"] == "succeeded");
  CHECK(answers[3]["status"] == "failed");
}

TEST_CASE_METHOD(JsonlFixture, "a stop leaves whole lines and loses no answer", "[cli]") {
  Put("in", Lines(200));
  std::stop_source stop;
  std::atomic<int> begun{0};
  predictor.on_generate = [&] {
    if (++begun == 50) stop.request_stop();
  };
  CHECK(Run(stop.get_token()).code() == ErrorCode::kCanceled);
  const size_t made = Answers().size();
  CHECK(made < 200);
  const size_t before = predictor.requests().size();
  REQUIRE(Run().ok());
  CHECK(Answers().size() == 200);
  CHECK(predictor.requests().size() - before == 200 - made);
}

TEST_CASE_METHOD(JsonlFixture, "an output that belongs to another input is left alone", "[cli]") {
  Put("in", Lines(2));
  Put("out", "{\"line\":1,\"id\":\"other\",\"status\":\"succeeded\"}\n");
  CHECK(Run().message().find("belongs to another input") != std::string::npos);
  Put("out", "precious text\n");
  CHECK(Run().message().find("did not write") != std::string::npos);
  CHECK(Text("out") == "precious text\n");
}

TEST_CASE_METHOD(JsonlFixture, "details hold token ids and the largest log probabilities",
                 "[cli]") {
  details = true;
  options.num_logprobs = 5;
  Put("in", Lines(1));
  REQUIRE(Run().ok());
  const json answer = Answers().at(0);
  CHECK(answer["prompt_token_ids"] == json({1, 2, 3}));
  CHECK(answer["token_ids"] == json({4, 99}));
  CHECK(answer["logprobs"][0][1] == json::parse("[5,-1.5]"));
  CHECK(predictor.requests()[0].sampling.num_logprobs == 5);
}

}  // namespace
}  // namespace idefics
