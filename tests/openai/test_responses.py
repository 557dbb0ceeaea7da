# SPDX-License-Identifier: Apache-2.0
"""/v1/responses: the same answers as a chat's, in the other form."""

import json

import pytest

from conftest import QUESTION, image, text, user

GREEDY = {"temperature": 0, "max_output_tokens": 24}


def respond(api, given, **fields):
    return api.ask("POST", "/v1/responses", {"input": given, **GREEDY, **fields})


def output_text(body):
    [message] = body["output"]
    [part] = message["content"]
    assert part["type"] == "output_text" and part["annotations"] == []
    return part["text"]


def question(uri):
    return {"role": "user", "content": [{"type": "input_text", "text": QUESTION},
                                        {"type": "input_image", "image_url": uri}]}


def test_an_answer_is_the_chats(api, cat):
    body = respond(api, [question(cat)]).json
    chat = api.chat(user(text(QUESTION), image(cat)))
    assert output_text(body) == chat.text
    assert body["object"] == "response" and body["status"] == "completed"
    assert body["id"].startswith("resp_") and body["output"][0]["id"].startswith("msg_")
    assert body["usage"]["input_tokens"] == chat.json["usage"]["prompt_tokens"]
    assert body["usage"]["output_tokens"] == chat.json["usage"]["completion_tokens"]


def test_a_string_is_a_users_message_and_instructions_are_the_systems(api):
    body = respond(api, "Hello", instructions="Be brief.").json
    chat = api.chat({"role": "system", "content": "Be brief."}, user("Hello"))
    assert output_text(body) == chat.text


def test_a_dialogue_goes_on(api, cat):
    given = [{"type": "message", **question(cat)},
             {"type": "message", "role": "assistant",
              "content": [{"type": "output_text", "text": "A cat."}]},
             {"role": "user", "content": "Sure?"}]
    chat = api.chat(user(text(QUESTION), image(cat)), {"role": "assistant", "content": "A cat."},
                    user("Sure?"))
    assert output_text(respond(api, given).json) == chat.text


def test_a_cut_answer_is_incomplete(api, cat):
    body = respond(api, [question(cat)], max_output_tokens=2).json
    assert body["status"] == "incomplete"
    assert body["incomplete_details"] == {"reason": "max_output_tokens"}


def test_events_come_in_order(api, cat):
    answer = respond(api, [question(cat)], stream=True)
    blocks = answer.content.decode().strip().split("\n\n")
    events = [(lines[0].removeprefix("event: "), json.loads(lines[1].removeprefix("data: ")))
              for lines in (block.split("\n") for block in blocks)]
    kinds = [kind for kind, _ in events]
    deltas = [data["delta"] for kind, data in events if kind == "response.output_text.delta"]
    assert kinds == ["response.created", "response.in_progress", "response.output_item.added",
                     "response.content_part.added",
                     *["response.output_text.delta"] * len(deltas),
                     "response.output_text.done", "response.content_part.done",
                     "response.output_item.done", "response.completed"]
    assert [data["sequence_number"] for _, data in events] == list(range(len(events)))
    assert all(data["type"] == kind for kind, data in events)
    assert "".join(deltas) == output_text(respond(api, [question(cat)]).json)
    assert output_text(events[-1][1]["response"]) == "".join(deltas)


@pytest.mark.parametrize("fields", [
    {"store": True}, {"metadata": {}}, {"include": []}, {"reasoning": {}}, {"user": "x"},
    {"truncation": "disabled"}, {"text": {"format": {"type": "text"}}}, {"tools": []},
    {"tools": [{"type": "function", "name": "f"}], "tool_choice": "auto"}, {"background": False},
])
def test_fields_that_change_nothing(api, fields):
    assert output_text(respond(api, "Hello", **fields).json) == output_text(
        respond(api, "Hello").json)


@pytest.mark.parametrize("fields, param", [
    ({"previous_response_id": "resp_x"}, "previous_response_id"), ({"conversation": "c"},
                                                                   "conversation"),
    ({"background": True}, "background"), ({"truncation": "auto"}, "truncation"),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type"), ({"tools": 5}, "tools"),
    ({"text": {"format": {"type": "json_schema"}}}, "text.format"),
    ({"temperature": 3}, "temperature"), ({"max_output_tokens": 0}, "max_output_tokens"),
    ({"input": 5}, "input"), ({"input": []}, "input"), ({"input": None}, "input"),
    ({"input": [{"type": "function_call_output"}]}, "input[0].type"),
    ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
    ({"instructions": "x", "input": [{"role": "user", "content": 5}]}, "input[0].content"),
    ({"instructions": "x", "input": [{"role": "user", "content": [
        {"type": "input_image", "image_url": "data:image/png;base64,aGVsbG8="}]}]},
     "input[0].content[0].image_url"),
    ({"input": "word " * 5000}, "input"), ({"prompt": {"id": "x"}}, "prompt"),
])
def test_what_is_refused_is_named(api, fields, param):
    answer = api.ask("POST", "/v1/responses", {"input": "Hello", **GREEDY, **fields})
    assert answer.status == 400, answer.content
    assert answer.error["param"] == param
