# SPDX-License-Identifier: Apache-2.0
"""Event streams: their order, and that they say what the whole answer says."""

import json
import threading

import pytest

from conftest import QUESTION, image, text, user
from patience import wait_until


@pytest.fixture(scope="module")
def question(cat):
    return user(text(QUESTION), image(cat))


def joined(chunks, index=0):
    return "".join(choice["delta"].get("content") or "" for chunk in chunks
                   for choice in chunk["choices"] if choice["index"] == index)


def test_a_stream_is_the_answer_in_pieces(api, question):
    chunks = api.stream(question)
    assert joined(chunks) == api.chat(question).text
    first, *middle, last = chunks
    assert first["choices"] == [{"index": 0, "delta": {"role": "assistant", "content": ""},
                                 "logprobs": None, "finish_reason": None}]
    assert last["choices"] == [{"index": 0, "delta": {}, "logprobs": None,
                                "finish_reason": "stop"}]
    assert middle and all(chunk["choices"][0]["delta"]["content"] for chunk in middle)
    assert all(chunk["choices"][0]["finish_reason"] is None for chunk in chunks[:-1])
    assert all(chunk["object"] == "chat.completion.chunk" for chunk in chunks)
    for key in ("id", "created", "model", "system_fingerprint"):
        assert len({chunk[key] for chunk in chunks}) == 1
    assert all("usage" not in chunk for chunk in chunks)


def test_headers_keep_proxies_from_holding_a_stream(api, question):
    answer = api.ask("POST", "/v1/chat/completions", {"messages": [question], "stream": True,
                                                      "max_tokens": 2})
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-accel-buffering"] == "no"


def test_usage_comes_last_where_it_is_asked_for(api, question):
    chunks = api.stream(question, stream_options={"include_usage": True})
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"] == api.chat(question).json["usage"]
    assert all(chunk["usage"] is None for chunk in chunks[:-1])
    metrics = chunks[-1]["metrics"]  # Cog's, as in a prediction
    assert metrics["output_token_count"] == chunks[-1]["usage"]["completion_tokens"]
    assert metrics["image_count"] == 1 and metrics["predict_time"] > 0
    assert metrics["time_to_first_token"] > 0 and metrics["finish_reason"] == "eos"
    assert all("metrics" not in chunk for chunk in chunks[:-1])


def test_continuous_usage_counts_on(api, question):
    chunks = api.stream(question, stream_options={"include_usage": True,
                                                  "continuous_usage_stats": True})
    counts = [chunk["usage"]["completion_tokens"] for chunk in chunks]
    assert counts == sorted(counts) and counts[0] == 0
    assert len({chunk["usage"]["prompt_tokens"] for chunk in chunks}) == 1


@pytest.mark.parametrize("n", [2, 4])
def test_choices_of_a_stream_are_those_of_the_answer(api, question, n):
    fields = {"n": n, "temperature": 2, "seed": 11}
    whole = api.chat(question, **fields).json
    chunks = api.stream(question, **fields)
    for choice in whole["choices"]:
        assert joined(chunks, choice["index"]) == choice["message"]["content"]
    heads = [chunk["choices"][0] for chunk in chunks[:n]]
    assert [head["index"] for head in heads] == list(range(n))
    assert all(head["delta"].get("role") == "assistant" for head in heads)
    ends = [chunk["choices"][0]["index"] for chunk in chunks
            if chunk["choices"][0]["finish_reason"]]
    assert sorted(ends) == list(range(n))


def test_logprobs_of_a_stream_are_those_of_the_answer(api, question):
    whole = api.chat(question, logprobs=True, top_logprobs=2).json
    chunks = api.stream(question, logprobs=True, top_logprobs=2)
    entries = [entry for chunk in chunks for entry in
               (chunk["choices"][0]["logprobs"] or {"content": []})["content"]]
    assert entries == whole["choices"][0]["logprobs"]["content"]


@pytest.mark.parametrize("length", [1, 2, 5])
def test_a_partial_stop_string_is_held_and_then_said(api, question, length):
    whole = api.chat(question).text
    # Its first characters come, its last does not.
    stop = whole[-length:] + "\u0001"
    assert joined(api.stream(question, stop=stop)) == whole


def test_a_stop_string_never_gets_out(api, question):
    whole = api.chat(question).text
    stop = whole[4:7]
    chunks = api.stream(question, stop=stop)
    assert joined(chunks) == whole[:whole.index(stop)]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"


def test_length_is_the_reason_of_a_cut_stream(api, question):
    assert api.stream(question, max_tokens=2)[-1]["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("message, status", [
    ({"role": "user", "content": [{"type": "image_url", "image_url": {
        "url": "data:image/png;base64,aGVsbG8="}}]}, 400),
    ({"role": "user", "content": "word " * 5000}, 400),
])
def test_a_failure_before_the_first_token_is_a_plain_answer(api, message, status):
    answer = api.ask("POST", "/v1/chat/completions", {"messages": [message], "stream": True})
    assert answer.status == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.error["type"] == "invalid_request_error"


def test_text_completions_stream_too(api):
    body = {"prompt": "User: Hello", "max_tokens": 8, "temperature": 0}
    chunks = api.chunks("/v1/completions", body)
    whole = api.ask("POST", "/v1/completions", body).json["choices"][0]
    assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole["text"]
    assert chunks[-1]["choices"][0]["finish_reason"] == whole["finish_reason"]
    assert {chunk["object"] for chunk in chunks} == {"text_completion"}


def busy(api):
    return api.ask("GET", "/health-check").json["status"] == "BUSY"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(start, stream):
    api = start("--max-concurrency", "1", "--openai-queue", "0", "--max-sequence-tokens", "2048")
    connection = api.connect()
    connection.request("POST", "/v1/chat/completions",
                       json.dumps({"messages": [user("Hi")], "ignore_eos": True, "stream": stream,
                                   "temperature": 0}),
                       {"Content-Type": "application/json"})
    wait_until(lambda: busy(api), 30, "the request's running")
    assert api.chat(user("Hi")).status == 429
    connection.sock.close()
    connection.close()
    wait_until(lambda: not busy(api), 30, "the place's being free")
    assert api.chat(user("Hi")).status == 200


def test_streams_beside_each_other_are_each_alone(api, question):
    alone = [joined(api.stream(question, max_tokens=3 + i)) for i in range(4)]
    together: list = [None] * 16

    def ask(i):
        together[i] = joined(api.stream(question, max_tokens=3 + i % 4))
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert together == [alone[i % 4] for i in range(16)]
