// SPDX-License-Identifier: Apache-2.0
#include "server/api/cog/openapi.h"

#include <catch2/catch_test_macros.hpp>
#include <nlohmann/json.hpp>

#include "server/api/cog/input_table.h"

namespace idefics {
namespace {

using nlohmann::json;

const json& Schemas(const json& document) { return document["components"]["schemas"]; }

TEST_CASE("the seven original inputs are as cog build writes them", "[cog]") {
  const json document = OpenApiDocument(OutputKind::kString);
  const json& properties = Schemas(document)["Input"]["properties"];
  const json expected = json::parse(R"({
    "image": {"format": "uri", "title": "Image", "type": "string", "x-order": 0},
    "text": {"title": "Text", "type": "string", "x-order": 1},
    "max_new_tokens": {"default": 512, "maximum": 1024, "minimum": 8, "title": "Max New Tokens",
                       "type": "integer", "x-order": 2},
    "repetition_penalty": {"default": 1, "maximum": 5, "minimum": 0.01,
                           "title": "Repetition Penalty", "type": "number", "x-order": 3},
    "decoding_strategy": {"allOf": [{"$ref": "#/components/schemas/decoding_strategy"}],
                          "default": "Greedy", "x-order": 4},
    "temperature": {"default": 0.4, "maximum": 5, "minimum": 0, "title": "Temperature",
                    "type": "number", "x-order": 5},
    "top_p": {"default": 0.8, "maximum": 0.99, "minimum": 0.01, "title": "Top P",
              "type": "number", "x-order": 6}})");
  for (const auto& [name, schema] : expected.items()) {
    INFO(name);
    json found = properties[name];
    CHECK_FALSE(found["description"].get<std::string>().empty());
    found.erase("description");
    CHECK(found == schema);
  }
  CHECK(Schemas(document)["decoding_strategy"] ==
        json::parse(R"({"description": "An enumeration.", "enum": ["Greedy", "Top P Sampling"],
                        "title": "decoding_strategy", "type": "string"})"));
}

TEST_CASE("image and text, or prompt, are required", "[cog]") {
  const json input = Schemas(OpenApiDocument(OutputKind::kString))["Input"];
  CHECK_FALSE(input.contains("required"));
  CHECK(input["anyOf"] ==
        json::parse(R"([{"required":["image","text"]},{"required":["prompt"]}])"));
}

TEST_CASE("every input is described and in the order of the table", "[cog]") {
  const json properties = Schemas(OpenApiDocument(OutputKind::kString))["Input"]["properties"];
  CHECK(properties.size() == AllInputs().size());
  int order = 0;
  for (const InputSpec& spec : AllInputs()) {
    INFO(spec.name);
    CHECK(properties[spec.name]["x-order"] == order++);
    CHECK(std::string(spec.description).size() > 10);
  }
}

TEST_CASE("the output's schema follows its kind", "[cog]") {
  const json text = OpenApiDocument(OutputKind::kString);
  CHECK(Schemas(text)["Output"] == json::parse(R"({"title":"Output","type":"string"})"));
  CHECK_FALSE(text["paths"]["/predictions"]["post"].contains("x-cog-streaming"));
  const json stream = OpenApiDocument(OutputKind::kList);
  CHECK(Schemas(stream)["Output"] ==
        json::parse(R"({"items":{"type":"string"},"title":"Output","type":"array",
                        "x-cog-array-display":"concatenate","x-cog-array-type":"iterator"})"));
  CHECK(stream["paths"]["/predictions"]["post"]["x-cog-streaming"] == true);
}

TEST_CASE("the answer of POST /predictions resolves to an object with output", "[cog]") {
  const json document = OpenApiDocument(OutputKind::kString);
  const json& answer = document["paths"]["/predictions"]["post"]["responses"]["200"];
  CHECK(answer["content"]["application/json"]["schema"]["$ref"] ==
        "#/components/schemas/PredictionResponse");
  CHECK(Schemas(document)["PredictionResponse"]["properties"].contains("output"));
  CHECK(document["openapi"] == "3.0.2");
}

}  // namespace
}  // namespace idefics
