# SPDX-License-Identifier: Apache-2.0
"""text-generation-inference's routes, by hand and by huggingface_hub's client."""

import json

import pytest
from huggingface_hub import InferenceClient

from conftest import QUESTION

PARAMETERS = {"max_new_tokens": 24}


def inputs(uri):
    return f"User: {QUESTION}![]({uri})<end_of_utterance>\nAssistant:"


def generate(api, text, **parameters):
    return api.ask("POST", "/generate",
                   {"inputs": text, "parameters": {**PARAMETERS, **parameters}})


def records(api, text, **parameters):
    answer = api.ask("POST", "/generate_stream",
                     {"inputs": text, "parameters": {**PARAMETERS, **parameters}})
    assert answer.status == 200, answer.content
    parts = answer.content.decode().split("\n\n")
    assert parts[-1] == "" and all(part.startswith("data:{") for part in parts[:-1])
    return [json.loads(part.removeprefix("data:")) for part in parts[:-1]]


def test_a_prompt_with_an_image_is_cogs_prompt(api, cat):
    answer = generate(api, inputs(cat))
    assert answer.status == 200, answer.content
    cog = api.cog(prompt=["User: " + QUESTION, cat, "<end_of_utterance>", "\nAssistant:"],
                  max_new_tokens=24)
    assert answer.json == {"generated_text": cog["output"]}
    assert int(answer.headers["x-prompt-tokens"]) == cog["metrics"]["input_token_count"]


def test_details_name_the_tokens(api, cat):
    body = generate(api, inputs(cat), details=True, top_n_tokens=2).json
    details = body["details"]
    assert details["finish_reason"] == "eos_token" and details["prefill"] == []
    assert details["generated_tokens"] == len(details["tokens"]) + 1  # the end
    assert "".join(token["text"] for token in details["tokens"]).strip() == body[
        "generated_text"].strip()
    for token, top in zip(details["tokens"], details["top_tokens"], strict=True):
        assert set(token) == {"id", "text", "logprob", "special"}
        assert len(top) == 2 and top[0]["id"] == token["id"]


def test_a_stream_is_the_answer_in_tokens(api, cat):
    whole = generate(api, inputs(cat)).json["generated_text"]
    stream = records(api, inputs(cat))
    assert "".join(record["token"]["text"] for record in stream) == whole
    assert [record["index"] for record in stream] == list(range(1, len(stream) + 1))
    *others, last = stream
    assert all(record["generated_text"] is None and record["details"] is None
               for record in others)
    assert last["generated_text"] == whole
    assert last["details"]["finish_reason"] == "eos_token"


@pytest.mark.parametrize("parameters, reason", [({"max_new_tokens": 2}, "length"),
                                                ({"stop": ["cat"]}, "stop_sequence")])
def test_reasons_of_the_end(api, cat, parameters, reason):
    body = generate(api, inputs(cat), details=True, **parameters).json
    assert body["details"]["finish_reason"] == reason
    if reason == "stop_sequence":
        assert body["generated_text"].endswith("cat")


def test_the_prompt_comes_first_where_asked_for(api):
    plain = generate(api, "User: Hi<end_of_utterance>\nAssistant:").json["generated_text"]
    full = generate(api, "User: Hi<end_of_utterance>\nAssistant:", return_full_text=True).json
    assert full["generated_text"] == "User: Hi<end_of_utterance>\nAssistant:" + plain


def test_a_seed_repeats(api):
    once, again = (generate(api, "User: Hi\nAssistant:", do_sample=True, temperature=1.5,
                            seed=3).json for _ in range(2))
    assert once == again


@pytest.mark.parametrize("body", [
    {}, {"inputs": 5}, {"inputs": ""}, {"inputs": "x", "parameters": []}, [],
    *({"inputs": "x", "parameters": parameters} for parameters in (
        {"max_new_tokens": 0}, {"max_new_tokens": "5"}, {"temperature": 0}, {"top_p": 2},
        {"top_k": 0}, {"best_of": 2}, {"truncate": 5}, {"grammar": {}}, {"watermark": True},
        {"decoder_input_details": True}, {"adapter_id": "x"}, {"stop": [""]}, {"details": 1},
        {"top_n_tokens": 6}, {"seed": -1}, {"repetition_penalty": 0})),
    {"inputs": "x![](data:image/png;base64,aGVsbG8=)"},
    {"inputs": "word " * 5000},
])
def test_what_is_wrong_is_422(api, body):
    for path in ("/generate", "/generate_stream"):
        answer = api.ask("POST", path, body)
        assert answer.status == 422, answer.content
        assert set(answer.json) == {"error", "error_type"}
        assert answer.json["error_type"] == "validation" and answer.json["error"]


@pytest.mark.parametrize("text", ["a ![](no url) b", "a ![](", "![]()", "a ![](ftp://x/y.png)"])
def test_what_is_no_image_is_text(api, text):
    assert generate(api, text, max_new_tokens=1).status == 200


def test_info(api):
    info = api.ask("GET", "/info").json
    assert info["model_pipeline_tag"] == "image-text-to-text"
    assert info["max_total_tokens"] == info["max_input_tokens"] + 1


def test_huggingface_hubs_client(api, cat):
    client = InferenceClient(base_url=api.url)
    text = generate(api, inputs(cat)).json["generated_text"]
    assert client.text_generation(inputs(cat), max_new_tokens=24) == text
    detailed = client.text_generation(inputs(cat), max_new_tokens=24, details=True)
    assert detailed.generated_text == text and detailed.details.finish_reason == "eos_token"
    stream = client.text_generation(inputs(cat), max_new_tokens=24, stream=True)
    assert "".join(stream) == text
    assert client.text_generation("Once", max_new_tokens=3, details=True,
                                  top_n_tokens=2).details.top_tokens
