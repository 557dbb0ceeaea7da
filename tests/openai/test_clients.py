# SPDX-License-Identifier: Apache-2.0
"""OpenAI's own Python client, which must understand every answer and map every refusal."""

import openai
import pytest

from conftest import QUESTION, image, text, user


@pytest.fixture(scope="module")
def client(api):
    return openai.OpenAI(base_url=api.url + "/v1", api_key="any", max_retries=0)


@pytest.fixture(scope="module")
def messages(cat):
    return [user(text(QUESTION), image(cat))]


def test_chat(api, client, messages):
    answer = client.chat.completions.create(model="default", messages=messages, temperature=0,
                                            max_tokens=24, logprobs=True, top_logprobs=2)
    assert answer.choices[0].message.content == api.chat(*messages).text
    assert answer.choices[0].finish_reason == "stop" and answer.usage.total_tokens > 0
    assert answer._request_id.startswith("req_")
    assert all(len(token.top_logprobs) == 2 for token in answer.choices[0].logprobs.content)


def test_streams(api, client, messages):
    chunks = list(client.chat.completions.create(
        model="default", messages=messages, temperature=0, max_tokens=24, stream=True,
        stream_options={"include_usage": True}))
    joined = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert joined == api.chat(*messages).text
    assert chunks[-1].choices == [] and chunks[-1].usage.completion_tokens > 0
    with client.chat.completions.stream(model="default", messages=messages, temperature=0,
                                        max_tokens=24) as stream:
        kinds = [event.type for event in stream]
        assert stream.get_final_completion().choices[0].message.content == joined
    assert kinds[-1] == "content.done"


def test_text_completions(client):
    answer = client.completions.create(model="default", prompt=["Once", "Twice"], max_tokens=4,
                                       temperature=0, logprobs=1)
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert answer.choices[0].logprobs.tokens
    pieces = client.completions.create(model="default", prompt="Once", max_tokens=4, temperature=0,
                                       stream=True)
    assert "".join(piece.choices[0].text for piece in pieces) == answer.choices[0].text


def test_responses(api, client, messages):
    answer = client.responses.create(model="default", temperature=0, max_output_tokens=24,
                                     instructions="Be brief.", input="Hello")
    assert answer.status == "completed" and answer.output_text
    with client.responses.stream(model="default", temperature=0, max_output_tokens=24,
                                 instructions="Be brief.", input="Hello") as stream:
        deltas = [event.delta for event in stream if event.type == "response.output_text.delta"]
        assert stream.get_final_response().output_text == "".join(deltas) == answer.output_text


def test_models(client):
    [model] = client.models.list().data
    assert client.models.retrieve(model.id) == model


@pytest.mark.parametrize("fields, error, code", [
    ({"model": "gpt-4o"}, openai.NotFoundError, "model_not_found"),
    ({"temperature": 3}, openai.BadRequestError, None),
    ({"messages": [user("word " * 5000)]}, openai.BadRequestError, "context_length_exceeded"),
    ({"messages": [user(image("data:image/png;base64,aGVsbG8="))]}, openai.BadRequestError,
     "invalid_image"),
    ({"response_format": {"type": "json_object"}}, openai.BadRequestError, "unsupported_value"),
])
@pytest.mark.parametrize("stream", [False, True])
def test_refusals_are_the_clients_exceptions(client, fields, error, code, stream):
    asked = {"model": "default", "messages": [user("Hi")], "max_tokens": 2, **fields}
    with pytest.raises(error) as raised:
        client.chat.completions.create(stream=stream, **asked)
    assert raised.value.code == code and raised.value.message


def test_a_wrong_key_and_a_full_queue(start):
    api = start("--max-concurrency", "1", "--openai-queue", "0", "--max-sequence-tokens", "2048",
                IDEFICS_API_KEY="right")

    def connect(key):
        return openai.OpenAI(base_url=api.url + "/v1", api_key=key, max_retries=0)
    with pytest.raises(openai.AuthenticationError):
        connect("wrong").models.list()
    client = connect("right")
    long = client.chat.completions.create(model="default", messages=[user("Hi")], stream=True,
                                          extra_body={"ignore_eos": True})
    next(iter(long))
    with pytest.raises(openai.RateLimitError):
        client.chat.completions.create(model="default", messages=[user("Hi")], max_tokens=1)
    long.close()
