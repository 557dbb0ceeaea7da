// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_batch.h"

#include <algorithm>
#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace idefics {
namespace {

constexpr int32_t kScratch = 99;

// A step of `count` decode rows: row r is at position 10 + r of the extent from 100 · r on.
struct Decode {
  std::vector<int32_t> tokens, images;
  std::vector<StepRow> rows;

  explicit Decode(int count) : tokens(count), images(count), rows(count) {
    for (int r = 0; r < count; ++r) {
      tokens[r] = 500 + r;
      images[r] = r - 1;
      rows[r].tokens = {&tokens[r], 1};
      rows[r].image_slots = {&images[r], 1};
      rows[r].position = 10 + r;
      rows[r].kv_start = 100 * r;
    }
  }
};

void AppendParams(const std::vector<DeviceSamplingParams>& params, std::vector<int32_t>* words) {
  const auto* data = reinterpret_cast<const int32_t*>(params.data());
  words->insert(words->end(), data, data + params.size() * kDeviceSamplingWords);
}

std::optional<StepSize> SizeOf(const std::vector<StepRow>& rows) {
  return GraphSizeOf(StepIndices(rows));
}

// Rows of the graph for so many decode rows; 0: none.
int GraphRowsOf(int count) {
  const std::optional<StepSize> size = SizeOf(Decode(count).rows);
  if (!size) return 0;
  CHECK(*size == StepSize{size->rows, size->rows, size->rows});
  return size->rows;
}

// The graph for `count` decode rows beside a piece of a prompt, of which the last token's logits
// are wanted.
std::optional<StepSize> BesidePrompt(int count, size_t prompt) {
  const std::vector<int32_t> numbers(prompt);
  Decode decode(count + 1);
  decode.rows.back().tokens = numbers;
  decode.rows.back().image_slots = numbers;
  return SizeOf(decode.rows);
}

TEST_CASE("a decode step takes the smallest graph that holds its rows", "[cuda_batch]") {
  CHECK(GraphRowsOf(1) == 1);
  CHECK(GraphRowsOf(2) == 2);
  CHECK(GraphRowsOf(3) == 4);
  CHECK(GraphRowsOf(8) == 8);
  CHECK(GraphRowsOf(33) == 48);
  CHECK(GraphRowsOf(128) == 128);
  CHECK(GraphRowsOf(129) == 160);
  CHECK(GraphRowsOf(256) == 256);
  CHECK(GraphRowsOf(257) == 320);
  CHECK(GraphRowsOf(512) == 512);
}

TEST_CASE("no graph takes more than 512 rows, or none", "[cuda_batch]") {
  CHECK(GraphRowsOf(513) == 0);
  CHECK(GraphRowsOf(0) == 0);
}

TEST_CASE("a prompt takes the smallest graph of few rows, beside many rows another",
          "[cuda_batch]") {
  CHECK(BesidePrompt(0, 2) == StepSize{2, 16, 2});
  CHECK(BesidePrompt(0, 16) == StepSize{2, 16, 2});
  CHECK(BesidePrompt(0, 17) == StepSize{4, 32, 4});
  CHECK(BesidePrompt(7, 57) == StepSize{8, 64, 8});
  CHECK(BesidePrompt(6, 57) == StepSize{8, 64, 8});
  CHECK(BesidePrompt(7, 56) == StepSize{63, 64, 64});  // of 8 rows none is left for the padding
  CHECK(BesidePrompt(100, 20) == StepSize{127, 128, 128});
  CHECK(BesidePrompt(126, 2) == StepSize{127, 128, 128});
  CHECK(BesidePrompt(150, 42) == StepSize{191, 192, 192});
  CHECK_FALSE(BesidePrompt(150, 43).has_value());
  CHECK_FALSE(BesidePrompt(0, 193).has_value());
}

TEST_CASE("every size that a step may take is captured, if a row of padding fits into the arena",
          "[cuda_batch]") {
  const auto is_captured = [](const StepSize& size, int most_rows, int64_t kv_tokens) {
    const std::vector<StepSize> sizes = GraphSizes(most_rows, kv_tokens);
    return std::ranges::find(sizes, size) != sizes.end();
  };
  for (int count = 0; count <= 300; ++count) {
    for (const size_t prompt : {2, 5, 16, 17, 31, 60, 100, 170, 192}) {
      const std::optional<StepSize> size = BesidePrompt(count, prompt);
      if (size) CHECK(is_captured(*size, count + 1, 192));
      if (size && size->tokens > 150) CHECK_FALSE(is_captured(*size, count + 1, 150));
    }
    if (count > 0) CHECK(is_captured(*SizeOf(Decode(count).rows), count, 1));
  }
}

TEST_CASE(
    "graphs are captured for as many rows as there may be, decode steps and the largest first",
    "[cuda_batch]") {
  const auto decode = [](int most_rows) {
    std::vector<int> rows;
    for (const StepSize& size : GraphSizes(most_rows, /*kv_tokens=*/1)) rows.push_back(size.rows);
    return rows;
  };
  CHECK(decode(1) == std::vector<int>{1});
  CHECK(decode(5) == std::vector<int>{8, 4, 2, 1});
  CHECK(decode(8) == std::vector<int>{8, 4, 2, 1});
  CHECK(decode(1000).front() == 512);
  const std::vector<StepSize> few = GraphSizes(2, 32);
  CHECK(few == std::vector<StepSize>{
                   {2, 2, 2}, {1, 1, 1}, {31, 32, 32}, {4, 32, 4}, {15, 16, 16}, {2, 16, 2}});
}

TEST_CASE("a graph is captured with a step of nothing but rows beyond its own", "[cuda_batch]") {
  std::vector<int32_t> expected{0, 0,        0, 0,        kScratch, kScratch, -1, -1, 0, 1, 2,  //
                                0, kScratch, 0, kScratch, 0,        1,        0,  1,  0, 1};
  AppendParams({{}, {}}, &expected);
  CHECK(GraphInput(StepIndices({}), {2, 2, 2}, kScratch) == expected);
}

TEST_CASE("a step with a row of other than one token, or without logits, is no plain decode step",
          "[cuda_batch]") {
  const std::vector<int32_t> piece{1, 2}, no_images{-1, -1};
  Decode decode(3);
  SECTION("two tokens in a row") {
    decode.rows[1].tokens = piece;
    decode.rows[1].image_slots = no_images;
    CHECK(SizeOf(decode.rows) == StepSize{15, 16, 16});
  }
  SECTION("more logits than a prompt has") {
    const std::vector<int32_t> guesses(4);
    decode.rows.resize(1);
    decode.rows[0].tokens = decode.rows[0].image_slots = guesses;
    decode.rows[0].num_logits = 4;
    CHECK(SizeOf(decode.rows) == StepSize{15, 16, 16});
  }
  SECTION("as many tokens as rows, but unevenly") {
    decode.rows[1].tokens = piece;
    decode.rows[1].image_slots = no_images;
    decode.rows[2].tokens = {};
    decode.rows[2].image_slots = {};
    CHECK(SizeOf(decode.rows) == StepSize{15, 16, 16});
  }
  SECTION("a token whose logits nobody wants") {
    decode.rows[0].wants_logits = false;
    CHECK(SizeOf(decode.rows) == StepSize{15, 16, 16});
  }
}

TEST_CASE("tokens beyond the step's own go to rows beyond its own, and the last has the rest",
          "[cuda_batch]") {
  const std::vector<int32_t> piece{7, 8}, images{3, 3};
  Decode decode(2);
  decode.rows[1].tokens = piece;
  decode.rows[1].image_slots = images;
  decode.rows[1].wants_logits = false;
  std::vector<int32_t> expected{
      500, 7,   8,   0,        0,        0,               // tokens
      10,  11,  12,  0,        0,        0,               // positions
      10,  111, 112, kScratch, kScratch, kScratch,        // kv_slots
      -1,  3,   3,   -1,       -1,       -1,              // image_slots
      0,   1,   3,   4,        6,                         // row_starts
      0,   0,   0,   100,      0,        kScratch, 0, 0,  // kv_starts
      0,   11,  0,   13,       0,        1,        0, 2,  // kv_lengths
      0,   1                                              // sample_rows
  };
  AppendParams({{}, {}}, &expected);
  CHECK(GraphInput(StepIndices(decode.rows), {4, 6, 2}, kScratch) == expected);
}

TEST_CASE("rows beyond the step's own are empty where no tokens are left for them",
          "[cuda_batch]") {
  const std::vector<int32_t> input = GraphInput(StepIndices(Decode(1).rows), {4, 2, 1}, kScratch);
  const std::vector<int32_t> row_starts(input.begin() + 8, input.begin() + 13);
  const std::vector<int32_t> kv_lengths(input.begin() + 21, input.begin() + 29);
  CHECK(row_starts == std::vector<int32_t>{0, 1, 2, 2, 2});
  CHECK(kv_lengths == std::vector<int32_t>{0, 11, 0, 1, 0, 0, 0, 0});
}

TEST_CASE("rows beyond the step's own write to the scratch slot and see nothing else",
          "[cuda_batch]") {
  std::vector<int32_t> expected{
      500, 501, 502, 0,                              // tokens
      10,  11,  12,  0,                              // positions
      10,  111, 212, kScratch,                       // kv_slots
      -1,  0,   1,   -1,                             // image_slots
      0,   1,   2,   3,        4,                    // row_starts
      0,   0,   0,   100,      0, 200, 0, kScratch,  // kv_starts
      0,   11,  0,   12,       0, 13,  0, 1,         // kv_lengths
      0,   1,   2,   3                               // sample_rows
  };
  AppendParams({{}, {}, {}, {}}, &expected);
  CHECK(GraphInput(StepIndices(Decode(3).rows), {4, 4, 4}, kScratch) == expected);
}

TEST_CASE("sampling params say where the sequence's tokens are, and other rows sample nothing",
          "[cuda_batch]") {
  Decode decode(3);
  DeviceSamplingParams greedy;
  greedy.mode = SamplingMode::kGreedy;
  decode.rows[1].sampling = &greedy;
  const StepIndices step(decode.rows);
  CHECK(step.host_rows == std::vector<int64_t>{0, 2});
  DeviceSamplingParams expected = greedy;
  expected.history_start = 100;
  expected.history_length = 12;  // its token is at position 11
  std::vector<int32_t> words;
  AppendParams({{}, expected, {}, {}}, &words);
  const std::vector<int32_t> input = GraphInput(step, {4, 4, 4}, kScratch);
  REQUIRE(input.size() > words.size());
  CHECK(std::vector<int32_t>(input.end() - static_cast<ptrdiff_t>(words.size()), input.end()) ==
        words);
}

TEST_CASE("the order of a step's arrays is that of the exported decoder's arguments", "[step]") {
  std::ifstream file(std::filesystem::path(IDEFICS_SOURCE_DIR) / "scripts/export/modules.py");
  const std::string source((std::istreambuf_iterator<char>(file)), {});
  const size_t decoder = source.find("\nclass Decoder(");
  REQUIRE(decoder != std::string::npos);
  size_t at = source.find("def forward(self", decoder);
  for (size_t i = 0; i < kSamplingParamsArray; ++i) {
    const std::string argument = std::string(kStepArrays[i].name) + ": Tensor";
    at = source.find_first_not_of(", \n", source.find(',', at));
    CHECK(source.substr(at, argument.size()) == argument);
  }
  CHECK(source.substr(source.find_first_not_of(", \n", source.find(',', at)), 8) == "k_arena:");
}

TEST_CASE("a step that fills its graph gets no rows", "[cuda_batch]") {
  const std::vector<int32_t> input = GraphInput(StepIndices(Decode(2).rows), {2, 2, 2}, kScratch);
  std::vector<int32_t> expected{500, 501, 10, 11,  10, 111, -1, 0,  0, 1, 2,  //
                                0,   0,   0,  100, 0,  11,  0,  12, 0, 1};
  AppendParams({{}, {}}, &expected);
  CHECK(input == expected);
}

}  // namespace
}  // namespace idefics
