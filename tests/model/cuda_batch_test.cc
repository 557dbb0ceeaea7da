// SPDX-License-Identifier: Apache-2.0
#include "predictor/model/cuda_batch.h"

#include <catch2/catch_test_macros.hpp>
#include <filesystem>
#include <fstream>
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

int GraphRowsOf(int count) { return GraphRows(StepIndices(Decode(count).rows)); }

TEST_CASE("a decode step takes the smallest graph that holds its rows", "[cuda_batch]") {
  CHECK(GraphRowsOf(1) == 1);
  CHECK(GraphRowsOf(2) == 2);
  CHECK(GraphRowsOf(3) == 4);
  CHECK(GraphRowsOf(8) == 8);
  CHECK(GraphRowsOf(33) == 48);
  CHECK(GraphRowsOf(128) == 128);
  CHECK(GraphRowsOf(129) == 160);
  CHECK(GraphRowsOf(256) == 256);
}

TEST_CASE("no graph takes more than 256 rows, or none", "[cuda_batch]") {
  CHECK(GraphRowsOf(257) == 0);
  CHECK(GraphRowsOf(0) == 0);
}

TEST_CASE("graphs are captured for as many rows as there may be, and no more", "[cuda_batch]") {
  CHECK(GraphSizes(1) == std::vector<int>{1});
  CHECK(GraphSizes(5) == std::vector<int>{1, 2, 4, 8});
  CHECK(GraphSizes(8) == std::vector<int>{1, 2, 4, 8});
  CHECK(GraphSizes(1000).back() == 256);
}

TEST_CASE("a graph is captured with a step of nothing but rows beyond its own", "[cuda_batch]") {
  std::vector<int32_t> expected{0, 0,        0, 0,        kScratch, kScratch, -1, -1, 0, 1, 2,  //
                                0, kScratch, 0, kScratch, 0,        1,        0,  1,  0, 1};
  AppendParams({{}, {}}, &expected);
  CHECK(GraphInput(StepIndices({}), 2, kScratch) == expected);
}

TEST_CASE("a step with a piece of a prompt runs eagerly", "[cuda_batch]") {
  const std::vector<int32_t> piece{1, 2}, no_images{-1, -1};
  Decode decode(3);
  SECTION("two tokens in a row") {
    decode.rows[1].tokens = piece;
    decode.rows[1].image_slots = no_images;
    CHECK(GraphRows(StepIndices(decode.rows)) == 0);
  }
  SECTION("as many tokens as rows, but unevenly") {
    decode.rows[1].tokens = piece;
    decode.rows[1].image_slots = no_images;
    decode.rows[2].tokens = {};
    decode.rows[2].image_slots = {};
    CHECK(GraphRows(StepIndices(decode.rows)) == 0);
  }
  SECTION("a token whose logits nobody wants") {
    decode.rows[0].wants_logits = false;
    CHECK(GraphRows(StepIndices(decode.rows)) == 0);
  }
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
  CHECK(GraphInput(StepIndices(Decode(3).rows), 4, kScratch) == expected);
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
  const std::vector<int32_t> input = GraphInput(step, 4, kScratch);
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
  const std::vector<int32_t> input = GraphInput(StepIndices(Decode(2).rows), 2, kScratch);
  std::vector<int32_t> expected{500, 501, 10, 11,  10, 111, -1, 0,  0, 1, 2,  //
                                0,   0,   0,  100, 0,  11,  0,  12, 0, 1};
  AppendParams({{}, {}}, &expected);
  CHECK(input == expected);
}

}  // namespace
}  // namespace idefics
