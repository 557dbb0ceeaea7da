# SPDX-License-Identifier: Apache-2.0
"""Root, schema and routing: cases 1-24."""

import pytest

from cases import case
from targets import INPUTS_OF_THE_ORIGINAL, ROOT, printed_schema

SLOW_SETUP = {"FAKE_SETUP_DELAY": "600"}


def input_schema(server):
    return server.get("/openapi.json").json["components"]["schemas"]["Input"]


@case(1, "c", "GET / names the eight URLs of Cog and none for trainings", any_engine=True)
def test_root(server):
    answer = server.get("/")
    assert answer.status == 200
    assert answer.json.pop("cog_version")
    assert {**answer.json, "cog_version": ""} == {
        "cog_version": "", "docs_url": "/docs", "openapi_url": "/openapi.json",
        "shutdown_url": "/shutdown", "healthcheck_url": "/health-check",
        "predictions_url": "/predictions",
        "predictions_idempotent_url": "/predictions/{prediction_id}",
        "predictions_cancel_url": "/predictions/{prediction_id}/cancel"
    }


@case(2, "c", "GET / answers during setup", fresh=True, ready=False, env=SLOW_SETUP)
def test_root_during_setup(server):
    server.wait_listening()
    assert server.get("/").status == 200
    assert server.status() == "STARTING"


@case(3,
      "c",
      "cog_version is the version that the schema and the image's label name",
      any_engine=True)
def test_versions_agree(server):
    version = server.get("/").json["cog_version"]
    assert version == server.get("/openapi.json").json["info"]["version"]
    assert f'run.cog.version="{version}"' in (ROOT / "Dockerfile").read_text()


@case(4, "c", "GET /openapi.json is an OpenAPI 3.0.2 document in JSON", any_engine=True)
def test_openapi(server):
    answer = server.get("/openapi.json")
    assert answer.status == 200
    assert answer.headers["Content-Type"] == "application/json"
    assert answer.json["openapi"] == "3.0.2"


@case(5, "ours", "GET /openapi.json answers during setup", coglet="503 until setup has ended",
      fresh=True, ready=False, env=SLOW_SETUP)
def test_openapi_during_setup(server):
    server.wait_listening()
    answer = server.get("/openapi.json")
    assert (answer.status, server.status()) == (200, "STARTING")


@case(6,
      "c",
      "image and text are required, alone or where there is no prompt; x-order counts from 0",
      any_engine=True)
def test_required_inputs(server):
    declared = input_schema(server)
    required = declared.get("required") or declared["anyOf"][0]["required"]
    assert required == ["image", "text"]
    assert [declared["properties"][name]["x-order"]
            for name in INPUTS_OF_THE_ORIGINAL] == list(range(7))


@case(7, "c", "max_new_tokens is an integer from 8 to 1024, 512 by default", any_engine=True)
def test_max_new_tokens(server):
    declared = input_schema(server)["properties"]["max_new_tokens"]
    assert (declared["type"], declared["minimum"], declared["maximum"],
            declared["default"]) == ("integer", 8, 1024, 512)


@case(8, "c", "decoding_strategy refers to an enumeration of two values", any_engine=True)
def test_decoding_strategy(server):
    schemas = server.get("/openapi.json").json["components"]["schemas"]
    declared = schemas["Input"]["properties"]["decoding_strategy"]
    assert declared["allOf"] == [{"$ref": "#/components/schemas/decoding_strategy"}]
    assert declared["default"] == "Greedy" and "type" not in declared
    assert schemas["decoding_strategy"]["enum"] == ["Greedy", "Top P Sampling"]


@case(9, "c", "Output is a string, or an iterator to concatenate, as the mode says")
@pytest.mark.parametrize("output", ["string", "stream"])
def test_output_schema(start, output):
    declared = start(output=output).get("/openapi.json").json["components"]["schemas"]["Output"]
    if output == "string":
        assert declared == {"title": "Output", "type": "string"}
    else:
        assert declared == {"title": "Output", "type": "array", "items": {"type": "string"},
                            "x-cog-array-type": "iterator", "x-cog-array-display": "concatenate"}


@case(10, "c", "every input has a description", any_engine=True)
def test_descriptions(server):
    properties = input_schema(server)["properties"]
    assert set(INPUTS_OF_THE_ORIGINAL) <= set(properties)
    for name, declared in properties.items():
        assert declared["description"], name


@case(11,
      "c",
      "the answer of POST /predictions leads to PredictionResponse and its output",
      any_engine=True)
def test_response_schema(server):
    document = server.get("/openapi.json").json
    content = document["paths"]["/predictions"]["post"]["responses"]["200"]["content"]
    assert content["application/json"]["schema"] == {
        "$ref": "#/components/schemas/PredictionResponse"
    }
    assert document["components"]["schemas"]["PredictionResponse"]["properties"]["output"] == {
        "$ref": "#/components/schemas/Output"}


@case(12, "c", "x-cog-streaming is true in the stream variant", output="stream")
def test_streaming_is_declared(server):
    assert server.get(
        "/openapi.json").json["paths"]["/predictions"]["post"]["x-cog-streaming"] is True


@case(13, "ours", "the schema that is served is the one that is printed",
      coglet="there is no such command", only_ours=True, any_engine=True)
def test_printed_schema(server):
    assert server.get("/openapi.json").json == printed_schema("string")


@case(14, "c", "GET of an unknown path is 404", any_engine=True)
def test_unknown_path(server):
    assert server.get("/nope").status == 404


@case(15, "c", "GET /docs is 404, although GET / names it", any_engine=True)
def test_docs(server):
    assert server.get("/docs").status == 404


@case(16, "c", "GET /predictions is 405 and allows POST", any_engine=True)
def test_get_predictions(server):
    answer = server.get("/predictions")
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@case(17,
      "ours",
      "GET /predictions/{id} of an unknown id is 404, DELETE of it 405 and allows GET and PUT",
      coglet="GET is 405, Allow: PUT",
      any_engine=True)
def test_get_of_a_prediction(server):
    assert server.get("/predictions/never-heard-of").status == 404
    allowed = server.ask("DELETE", "/predictions/x").headers["Allow"].replace(" ", "").split(",")
    assert {"GET", "PUT"} <= set(allowed)


@case(18, "c", "GET /predictions/x/stream is 404", any_engine=True)
def test_stream_route_is_gone(server):
    assert server.get("/predictions/x/stream").status == 404


@case(19, "c", "POST /health-check is 405 and allows GET and HEAD", any_engine=True)
def test_post_health(server):
    answer = server.ask("POST", "/health-check")
    assert answer.status == 405
    assert set(answer.headers["Allow"].replace(" ", "").split(",")) == {"GET", "HEAD"}


@case(20, "c", "DELETE /predictions/x is 405", any_engine=True)
def test_delete(server):
    assert server.ask("DELETE", "/predictions/x").status == 405


@case(21, "c", "HEAD /health-check is 200 without a body", any_engine=True)
def test_head(server):
    answer = server.ask("HEAD", "/health-check")
    assert (answer.status, answer.body) == (200, b"")


@case(22,
      "ours",
      "the three trainings routes are 404",
      coglet="they run the predictor (200)",
      any_engine=True)
@pytest.mark.parametrize("method, path", [("POST", "/trainings"), ("PUT", "/trainings/x"),
                                          ("POST", "/trainings/x/cancel")])
def test_trainings(server, method, path):
    assert server.ask(method, path, {"input": {}}).status == 404


@case(23, "c", "a Range header is ignored: 200 and the whole document", any_engine=True)
def test_range(server):
    answer = server.ask("GET", "/openapi.json", headers={"Range": "bytes=0-3"})
    assert answer.status == 200
    assert answer.json == server.get("/openapi.json").json


@case(24, "c", "OPTIONS /predictions is 405 without CORS headers", any_engine=True)
def test_options(server):
    answer = server.ask("OPTIONS", "/predictions", headers={"Origin": "http://x"})
    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control")]
