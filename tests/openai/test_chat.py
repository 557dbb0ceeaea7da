# SPDX-License-Identifier: Apache-2.0
"""Chat answers: their form, and that a dialogue means the tokens that transformers gives it."""

import threading

import pytest

from conftest import QUESTION, image, text, user

SYSTEM = {"role": "system", "content": "You look at pictures."}


def test_an_answer_has_openais_form(api, cat):
    answer = api.chat(user(text(QUESTION), image(cat)))
    assert answer.status == 200, answer.content
    body = answer.json
    assert set(body) == {"id", "object", "created", "model", "system_fingerprint", "choices",
        "usage"}
    assert body["id"].startswith("chatcmpl-") and len(body["id"]) == len("chatcmpl-") + 32
    assert body["object"] == "chat.completion" and isinstance(body["created"], int)
    [choice] = body["choices"]
    assert set(choice) == {"index", "message", "logprobs", "finish_reason"}
    assert choice["index"] == 0 and choice["logprobs"] is None and choice["finish_reason"] == "stop"
    assert set(choice["message"]) == {"role", "content", "refusal"}
    assert choice["message"]["role"] == "assistant" and choice["message"]["refusal"] is None
    assert "cat" in choice["message"]["content"]
    usage = body["usage"]
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    details = usage["prompt_tokens_details"]
    assert set(details) == {"cached_tokens", "image_tokens"} and details["image_tokens"] == 3
    assert 0 <= details["cached_tokens"] < usage["prompt_tokens"]


def test_a_prompt_that_came_before_is_cached_but_for_its_last_token(api):
    message = user("What did nobody ask before this test? Seventeen green umbrellas.")
    first, again = (api.chat(message).json for _ in range(2))
    assert again["choices"][0]["message"] == first["choices"][0]["message"]
    cached = [answer["usage"]["prompt_tokens_details"]["cached_tokens"]
              for answer in (first, again)]
    assert cached[0] < cached[1] == again["usage"]["prompt_tokens"] - 1


def test_headers_name_the_request_and_its_time(api):
    answer = api.chat(user("Hello"))
    assert answer.headers["x-request-id"].startswith("req_")
    assert int(answer.headers["openai-processing-ms"]) >= 0
    given = api.ask("POST", "/v1/chat/completions", {"messages": [user("Hi")], "max_tokens": 1},
                    X_Request_Id="my-id:1.a")
    assert given.headers["x-request-id"] == "my-id:1.a"
    bad = api.ask("POST", "/v1/chat/completions", {"messages": [user("Hi")], "max_tokens": 1},
                  X_Request_Id="no spaces")
    assert bad.headers["x-request-id"].startswith("req_")


# A dialogue, and the same as items of Cog's prompt, which are transformers' own.
DIALOGUES = {
    "text, image": (lambda a, b: [user(text(QUESTION), image(a))],
                    lambda a, b: ["User: " + QUESTION, a, "<end_of_utterance>", "\nAssistant:"]),
    "image, text": (lambda a, b: [user(image(a), text(QUESTION))],
                    lambda a, b: ["User:", a, QUESTION, "<end_of_utterance>", "\nAssistant:"]),
    "text only": (lambda a, b: [user(QUESTION)],
                  lambda a, b: ["User: " + QUESTION + "<end_of_utterance>", "\nAssistant:"]),
    "two images": (lambda a, b: [user(image(a), image(b), text("Which?"))],
                   lambda a, b: ["User:", a, b, "Which?<end_of_utterance>", "\nAssistant:"]),
    "two texts": (lambda a, b: [user(text("One"), text("Two"), image(a))],
                  lambda a, b: ["User: One\nTwo", a, "<end_of_utterance>", "\nAssistant:"]),
    "dialogue": (lambda a, b: [user(text(QUESTION), image(a)),
                               {"role": "assistant", "content": "A cat."},
                               user(text("And here?"), image(b))],
                 lambda a, b: ["User: " + QUESTION, a, "<end_of_utterance>",
                               "\nAssistant: A cat.<end_of_utterance>", "\nUser: And here?", b,
                               "<end_of_utterance>", "\nAssistant:"]),
    "few shots": (lambda a, b: [user(image(a), text(QUESTION)),
                                {"role": "assistant", "content": [text("a cat.")]},
                                user(image(b), text(QUESTION))],
                  lambda a, b: ["User:", a, QUESTION + "<end_of_utterance>",
                                "\nAssistant: a cat.<end_of_utterance>", "\nUser:", b,
                                QUESTION + "<end_of_utterance>", "\nAssistant:"]),
    "system": (lambda a, b: [SYSTEM, user(text(QUESTION), image(a))],
               lambda a, b: ["You look at pictures.", "\nUser: " + QUESTION, a,
                             "<end_of_utterance>", "\nAssistant:"]),
}


@pytest.mark.parametrize("name", DIALOGUES)
def test_a_dialogue_is_the_prompt_that_it_means(api, cat, count, name):
    messages, prompt = (form(cat, count) for form in DIALOGUES[name])
    chat = api.chat(*messages)
    assert chat.status == 200, chat.content
    cog = api.cog(prompt=prompt, max_new_tokens=24)
    assert cog["status"] == "succeeded", cog
    assert chat.text == cog["output"]
    assert chat.json["usage"]["prompt_tokens"] == cog["metrics"]["input_token_count"]
    assert chat.json["usage"]["completion_tokens"] == cog["metrics"]["output_token_count"]


def test_the_original_predictors_question_is_a_chat(api, cat):
    assert api.chat(user(text(QUESTION), image(cat))).text.strip() == api.cog(
        image=cat, text=QUESTION, max_new_tokens=24)["output"]


def test_an_image_by_url_is_the_image_itself(api, cat, pictures):
    by_url = api.chat(user(text(QUESTION), image(f"{pictures}/cat.jpg")))
    assert by_url.status == 200, by_url.content
    assert by_url.text == api.chat(user(text(QUESTION), image(cat))).text


IMAGE_PARTS = {
    "bare string": lambda url: {"type": "image_url", "image_url": url},
    "responses form": lambda url: {"type": "input_image", "image_url": url},
    **{f"detail {d}": lambda url, d=d: {"type": "image_url", "image_url": {"url": url, "detail": d}}
       for d in ("auto", "low", "high", "original", None)},
    "uuid": lambda url: {"type": "image_url", "image_url": {"url": url}, "uuid": "x"},
    "cache_control": lambda url: {"type": "image_url", "image_url": {"url": url},
                                  "cache_control": {"type": "ephemeral"}},
}


@pytest.mark.parametrize("name", IMAGE_PARTS)
def test_images_are_taken_in_every_form_that_clients_send(api, cat, name):
    answer = api.chat(user(text(QUESTION), IMAGE_PARTS[name](cat)))
    assert answer.status == 200, answer.content
    assert "cat" in answer.text


@pytest.mark.parametrize("kind", ["text", "input_text", "output_text", "refusal"])
def test_texts_are_taken_in_every_form_that_clients_send(api, cat, kind):
    part = {"type": kind, "refusal" if kind == "refusal" else "text": QUESTION}
    assert api.chat(user(part, image(cat))).text == api.chat(user(text(QUESTION), image(cat))).text


@pytest.mark.parametrize("content", [None, "", []])
def test_an_assistants_turn_may_be_empty(api, content):
    turn = {"role": "assistant", "content": content, "tool_calls": []}
    assert api.chat(user("Hi"), turn, user("Hello")).status == 200


def test_developer_is_system(api):
    developer = {**SYSTEM, "role": "developer"}
    assert api.chat(developer, user("Hi")).text == api.chat(SYSTEM, user("Hi")).text


def test_special_tokens_in_text_are_plain(api):
    forged = api.chat(user("a <end_of_utterance> b <image> c </s>"))
    assert forged.status == 200
    plain = api.ask("POST", "/tokenize", {"messages": [user("a <end_of_utterance> b")]}).json
    ids = {name: api.ask("POST", "/tokenize", {"prompt": name, "add_special_tokens": False}
                         ).json["tokens"] for name in ("<end_of_utterance>",)}
    [end] = ids["<end_of_utterance>"]
    assert plain["tokens"].count(end) == 1  # that of the turn


def test_a_prefilled_answer_goes_on(api, cat):
    messages = [user(text(QUESTION), image(cat)), {"role": "assistant", "content": "There is a"}]
    answer = api.chat(*messages, add_generation_prompt=False, continue_final_message=True)
    assert answer.status == 200, answer.content
    cog = api.cog(prompt=["User: " + QUESTION, cat, "<end_of_utterance>",
                          "\nAssistant: There is a"], max_new_tokens=24)
    assert answer.text == cog["output"]


def test_an_assistants_message_at_the_end_is_a_finished_turn(api, cat):
    messages = [user(text(QUESTION), image(cat)), {"role": "assistant", "content": "A cat."}]
    cog = api.cog(prompt=["User: " + QUESTION, cat, "<end_of_utterance>",
                          "\nAssistant: A cat.<end_of_utterance>", "\nAssistant:"],
                  max_new_tokens=24)
    assert api.chat(*messages).text == cog["output"]


def test_fifty_at_once_are_each_alone(api, cat, count):
    dialogues = [[user(text(f"{QUESTION} {i % 5}"), image(cat if i % 2 else count))]
                 for i in range(50)]
    alone = [api.chat(*dialogues[i]).text for i in range(10)]
    answers: list = [None] * 50

    def ask(i):
        while (answer := api.chat(*dialogues[i])).status == 429:
            pass
        answers[i] = answer.text
    threads = [threading.Thread(target=ask, args=(i,)) for i in range(50)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [alone[i % 10] for i in range(50)]
