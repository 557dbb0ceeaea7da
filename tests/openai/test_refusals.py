# SPDX-License-Identifier: Apache-2.0
"""What is wrong with a request: 400 with four keys and the field's path, before anything runs."""

import json

import pytest

from conftest import image, text, user

HELLO = [user("Hello")]
DEEP = "[" * 100_000 + "]" * 100_000


def refused(answer, param, status=400, code="any"):
    assert answer.status == status, (answer.status, answer.content[:300])
    assert answer.headers["content-type"] == "application/json"
    error = answer.error
    assert set(error) == {"message", "type", "param", "code"}
    assert isinstance(error["message"], str) and 0 < len(error["message"].encode()) <= 610
    assert error["param"] == param
    if code != "any":
        assert error["code"] == code
    return error


FIELDS = [
    ({"temperature": -0.1}, "temperature", None), ({"temperature": 2.1}, "temperature", None),
    ({"temperature": "1"}, "temperature", None), ({"temperature": True}, "temperature", None),
    ({"temperature": [1]}, "temperature", None), ({"top_p": -0.1}, "top_p", None),
    ({"top_p": 1.1}, "top_p", None), ({"top_p": "x"}, "top_p", None),
    ({"top_k": -2}, "top_k", None), ({"top_k": 1.5}, "top_k", None),
    ({"min_p": 2}, "min_p", None), ({"typical_p": 0}, "typical_p", None),
    ({"typical_p": 1.5}, "typical_p", None),
    ({"repetition_penalty": 0}, "repetition_penalty", None),
    ({"n": 0}, "n", None), ({"n": 129}, "n", None), ({"n": 1.5}, "n", None),
    ({"n": "2"}, "n", None),
    ({"n": True}, "n", None), ({"max_tokens": 0}, "max_tokens", None),
    ({"max_tokens": -2}, "max_tokens", None), ({"max_tokens": "10"}, "max_tokens", None),
    ({"max_tokens": 1.5}, "max_tokens", None), ({"max_tokens": 1e30}, "max_tokens", None),
    ({"max_completion_tokens": 0}, "max_completion_tokens", None),
    ({"min_tokens": 50, "max_tokens": 10}, "min_tokens", None),
    ({"stop": ""}, "stop", None), ({"stop": [""]}, "stop[0]", None), ({"stop": 5}, "stop", None),
    ({"stop": ["a", 5]}, "stop[1]", None), ({"stop": ["x"] * 17}, "stop", None),
    ({"seed": "1"}, "seed", None), ({"seed": 1.5}, "seed", None), ({"seed": 2**64}, "seed", None),
    ({"logprobs": 1}, "logprobs", None), ({"logprobs": "true"}, "logprobs", None),
    ({"top_logprobs": 3}, "top_logprobs", None),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", None),
    ({"logprobs": True, "top_logprobs": -1}, "top_logprobs", None),
    ({"frequency_penalty": 2.5}, "frequency_penalty", None),
    ({"presence_penalty": -2.5}, "presence_penalty", None),
    ({"logit_bias": []}, "logit_bias", None), ({"logit_bias": {"a": 1}}, "logit_bias", None),
    ({"logit_bias": {"1": 101}}, "logit_bias", None),
    ({"logit_bias": {"1": "1"}}, "logit_bias", None),
    ({"logit_bias": {"-1": 1}}, "logit_bias", None),
    ({"logit_bias": {"99999999": 1}}, "logit_bias", None),
    ({"logit_bias": {" 1": 1}}, "logit_bias", None),
    ({"logit_bias": {"1e1": 1}}, "logit_bias", None),
    ({"stream": 1}, "stream", None), ({"stream": "true"}, "stream", None),
    ({"stream_options": {"include_usage": True}}, "stream_options", None),
    ({"stream": True, "stream_options": []}, "stream_options", None),
    ({"stream": True, "stream_options": {"include_usage": 1}}, "stream_options.include_usage",
        None),
    ({"response_format": {"type": "json_object"}}, "response_format", "unsupported_value"),
    ({"response_format": {"type": "json_schema", "json_schema": {}}}, "response_format",
        "unsupported_value"),
    ({"response_format": "json"}, "response_format", "unsupported_value"),
    ({"tool_choice": "required"}, "tool_choice", "unsupported_value"),
    ({"tool_choice": {"type": "function", "function": {"name": "f"}}}, "tool_choice",
        "unsupported_value"),
    ({"function_call": {"name": "f"}}, "function_call", "unsupported_value"),
    ({"modalities": ["text", "audio"]}, "modalities", "unsupported_value"),
    ({"audio": {"voice": "a"}}, "audio", "unsupported_parameter"),
    ({"web_search_options": {}}, "web_search_options", "unsupported_parameter"),
    ({"user": 5}, "user", None), ({"ignore_eos": 1}, "ignore_eos", None),
    ({"stop_token_ids": "x"}, "stop_token_ids", None),
    ({"stop_token_ids": [-1]}, "stop_token_ids[0]", None),
    ({"stop_token_ids": [10**7]}, "stop_token_ids[0]", None),
    ({"stop_token_ids": list(range(33))}, "stop_token_ids", None),
    ({"bad_words": [5]}, "bad_words[0]", None),
    ({"bad_words": ["x" * 300]}, "bad_words[0]", None), ({"stop": "x" * 5000}, "stop", None),
    ({"bad_words": ["x"] * 65}, "bad_words", None),
    ({"num_beams": 17}, "num_beams", None), ({"num_beams": 0}, "num_beams", None),
    ({"early_stopping": "x"}, "early_stopping", None),
    ({"skip_special_tokens": False}, "skip_special_tokens", "unsupported_value"),
    *(({name: value}, name, "unsupported_parameter") for name, value in {
        "chat_template": "x", "echo": True, "prompt_logprobs": 1, "use_beam_search": True,
        "structured_outputs": {}, "guided_json": {}, "guided_regex": "x", "guided_choice": ["a"],
        "guided_grammar": "x", "grammar": "x", "json_schema": {}, "truncate_prompt_tokens": 5,
        "documents": []}.items()),
    ({"add_generation_prompt": True, "continue_final_message": True}, "continue_final_message",
        None),
    ({"add_generation_prompt": False, "continue_final_message": True}, "continue_final_message",
        None),
    ({"add_generation_prompt": 1}, "add_generation_prompt", None),
]


@pytest.mark.parametrize("fields, param, code", FIELDS, ids=lambda value: str(value)[:50])
def test_fields_out_of_range_or_of_another_type(api, fields, param, code):
    body = {"messages": HELLO, "max_tokens": 4, **fields}
    refused(api.ask("POST", "/v1/chat/completions", body), param, code=code)


MESSAGES = [
    (None, "messages"), ("hi", "messages"), ({}, "messages"), ([], "messages"),
    ([5], "messages[0]"),
    ([None], "messages[0]"), ([[]], "messages[0]"), ([{}], "messages[0].role"),
    ([{"role": 5, "content": "x"}], "messages[0].role"),
    ([{"role": "robot", "content": "x"}], "messages[0].role"),
    ([{"role": "tool", "content": "x"}], "messages[0].role"),
    ([{"role": "function", "content": "x"}], "messages[0].role"),
    ([{"role": "user"}], "messages[0].content"),
    ([{"role": "user", "content": None}], "messages[0].content"),
    ([{"role": "user", "content": 5}], "messages[0].content"),
    ([{"role": "user", "content": {}}], "messages[0].content"),
    ([{"role": "system"}], "messages[0].content"),
    ([user("a"), user(5)], "messages[1].content[0]"),
    ([user({"text": "x"})], "messages[0].content[0].type"),
    ([user({"type": 5})], "messages[0].content[0].type"),
    ([user({"type": "audio"})], "messages[0].content[0].type"),
    ([user({"type": "input_audio", "input_audio": {}})], "messages[0].content[0].type"),
    ([user({"type": "file", "file": {}})], "messages[0].content[0].type"),
    ([user({"type": "video_url", "video_url": {}})], "messages[0].content[0].type"),
    ([user({"type": "text"})], "messages[0].content[0].text"),
    ([user({"type": "text", "text": 5})], "messages[0].content[0].text"),
    ([user({"type": "image_url"})], "messages[0].content[0].image_url"),
    ([user({"type": "image_url", "image_url": 5})], "messages[0].content[0].image_url"),
    ([user({"type": "image_url", "image_url": {}})], "messages[0].content[0].image_url.url"),
    ([user({"type": "image_url", "image_url": {"url": 5}})],
        "messages[0].content[0].image_url.url"),
    ([user({"type": "image_url", "image_url": {"url": "http://x/", "detail": "big"}})],
     "messages[0].content[0].image_url.detail"),
    ([user(text("x"), {"type": "image_url", "image_url": {"url": "ftp://x/a.png"}})],
     "messages[0].content[1].image_url.url"),
    ([user({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}})],
     "messages[0].content[0].image_url.url"),
    ([user({"type": "image_url", "image_url": {"url": "/etc/passwd"}})],
     "messages[0].content[0].image_url.url"),
    ([user({"type": "image_url", "image_url": {"url": ""}})],
        "messages[0].content[0].image_url.url"),
    ([user({"type": "image_url", "image_url": "nonsense"})], "messages[0].content[0].image_url"),
    ([user("x")] * 10_001, "messages"),
]


@pytest.mark.parametrize("messages, param", MESSAGES, ids=lambda value: str(value)[:50])
def test_messages_that_are_none(api, messages, param):
    body = {"max_tokens": 4} if messages is None else {"messages": messages, "max_tokens": 4}
    refused(api.ask("POST", "/v1/chat/completions", body), param)


@pytest.mark.parametrize("body, status", [
    ("", 400), ("{", 400), ("[]", 400), ("null", 400), ('"x"', 400), ("{'a': 1}", 400),
    ('{"messages": [], "messages": []}', 400), (b'{"model": "\xff"}', 400),
    (DEEP, 400), ('{"messages":' + DEEP + "}", 400), (b"\xef\xbb\xbf{}", 400),
    ('{"messages": [' + ",".join(["1"] * 300_000) + "]}", 413),
], ids=lambda value: str(value)[:30])
def test_bodies_that_are_no_request(api, body, status):
    refused(api.ask("POST", "/v1/chat/completions", body), None if body[:1] != "{" or status != 400
            or "messages\": [], " not in str(body) else "messages", status)


def test_only_json_is_read(api):
    answer = api.ask("POST", "/v1/chat/completions", "a=b",
                     Content_Type="application/x-www-form-urlencoded")
    refused(answer, None, 415)


@pytest.mark.parametrize("url, code", [
    ("data:image/png;base64,aGVsbG8=", "invalid_image"),
    ("data:text/plain,hello", "invalid_image"), ("data:image/png;base64,", "invalid_image"),
    ("{pictures}/no-such.png", "invalid_image_url"), ("{pictures}/status/500", "invalid_image_url"),
    ("{pictures}/status/403", "invalid_image_url"),
    ("http://127.0.0.1:9/x.png", "invalid_image_url"),
    ("http://no-such-host.invalid/x.png", "invalid_image_url"),
    ("http://169.254.169.254/latest", "invalid_image_url"),
])
def test_images_that_are_none_are_named(api, cat, pictures, url, code):
    bad = image(url.replace("{pictures}", pictures))
    answer = api.chat(user(text("x"), image(cat)), user(bad))
    refused(answer, "messages[1].content[0].image_url.url", code=code)
    assert api.ask("GET", "/health").status == 200


def test_a_prompt_beyond_the_context_says_so(api):
    error = refused(api.chat(user("word " * 5000)), "messages", code="context_length_exceeded")
    assert "maximum context length" in error["message"]


def test_more_images_than_are_allowed(api, cat):
    error = refused(api.chat(user(*[image(cat)] * 100)), "messages")
    assert "--" in error["message"]


@pytest.mark.parametrize("name", ["", "default", "tgi", "demo", "HuggingFaceM4/demo", None])
def test_names_of_the_model(api, name):
    assert api.chat(user("Hi"), model=name, max_tokens=1).status == 200


@pytest.mark.parametrize("name", ["gpt-4o", "Demo", "demo ", "x" * 10_000])
def test_another_models_name_is_404(api, name):
    refused(api.chat(user("Hi"), model=name), "model", 404, "model_not_found")


def test_a_models_name_is_a_string(api):
    refused(api.chat(user("Hi"), model=5), "model")


@pytest.mark.parametrize("method, path, status", [
    ("GET", "/v1/chat/completions", 405), ("PUT", "/v1/completions", 405),
    ("POST", "/v1/models", 405),
    ("DELETE", "/v1/models/demo", 405), ("GET", "/v1/nothing", 404),
    ("POST", "/v1/embeddings", 404),
    ("POST", "/v1/audio/speech", 404), ("POST", "/v1/chat", 404), ("GET", "/v1/models/none", 404),
    ("POST", "/v1/chat/completions/", 404),
])
def test_routes_that_are_none(api, method, path, status):
    answer = api.ask(method, path, "{}" if method in ("POST", "PUT") else None)
    assert answer.status == status
    assert set(answer.error) == {"message", "type", "param", "code"}
    if status == 405:
        assert answer.headers["allow"]


def test_cogs_and_replicates_routes_keep_their_form(api):
    assert "detail" in api.ask("POST", "/predictions", {"input": {"max_new_tokens": "x"}}).json
    assert api.ask("GET", "/v1/predictions/none").json["status"] == 404


@pytest.mark.parametrize("fields", [{"messages": [user("x" * 1_000_000)]},
                                    {"messages": [user(*[text("x")] * 1000)]},
                                    {"messages": [{"role": "r" * 100_000, "content": "x"}]},
                                    {"messages": HELLO, "stop": ["s" * 100_000]},
                                    {"messages": HELLO, "user": "u" * 1_000_000}],
                         ids=["long text", "parts", "role", "stop", "user"])
def test_large_fields_cost_little_and_the_server_goes_on(api, fields):
    answer = api.ask("POST", "/v1/chat/completions", {"max_tokens": 2, **fields})
    assert answer.status in (200, 400) and len(answer.content) < 5000
    assert api.ask("GET", "/health").status == 200


def test_an_error_quotes_little_of_the_request(api):
    for fields in ({"temperature": "x" * 100_000}, {"logit_bias": {"k" * 100_000: 1}},
                   {"messages": [{"role": "x" * 100_000, "content": ""}]},
                   {"messages": [user({"type": "x" * 100_000})]}):
        answer = api.ask("POST", "/v1/chat/completions", {"messages": HELLO, **fields})
        assert answer.status == 400 and len(answer.content) < 2000


def test_unknown_keys_of_messages_and_parts_are_ignored(api):
    message = {"role": "user", "name": "me", "x": [1], "content": [
        {"type": "text", "text": "Hi", "annotations": [], "y": {"z": 1}}]}
    assert json.loads(api.chat(message).content)["choices"]
