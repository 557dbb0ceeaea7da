# SPDX-License-Identifier: Apache-2.0
"""/v1/completions: the raw prompt."""

import pytest

PROMPT = "User: What is a cat?<end_of_utterance>\nAssistant:"


def texts(answer):
    assert answer.status == 200, answer.content
    return [choice["text"] for choice in answer.json["choices"]]


def ids(api, prompt):
    return api.ask("POST", "/tokenize", {"prompt": prompt}).json["tokens"]


def test_an_answer_has_openais_form(api):
    body = api.complete(PROMPT, max_tokens=8).json
    assert body["id"].startswith("cmpl-") and body["object"] == "text_completion"
    [choice] = body["choices"]
    assert set(choice) == {"index", "text", "logprobs", "finish_reason"}
    assert body["usage"]["total_tokens"] > body["usage"]["prompt_tokens"] > 0


def test_a_raw_prompt_is_cogs_prompt(api):
    cog = api.cog(prompt=[PROMPT], max_new_tokens=16)
    assert texts(api.complete(PROMPT, max_tokens=16)) == [cog["output"]]


def test_sixteen_tokens_unless_more_are_asked_for(api):
    answer = api.complete("one two three", ignore_eos=True).json
    assert answer["usage"]["completion_tokens"] == 16


def test_token_ids_are_taken_as_they_are(api):
    tokens = ids(api, PROMPT)
    assert tokens[0] == 1  # <s> stands before texts only
    assert texts(api.complete(tokens, max_tokens=8)) == texts(api.complete(PROMPT, max_tokens=8))
    answer = api.complete(tokens, max_tokens=1).json
    assert answer["usage"]["prompt_tokens"] == len(tokens)


@pytest.mark.parametrize("form", ["texts", "ids"])
def test_a_list_of_prompts_is_as_many_answers(api, form):
    prompts = [PROMPT, "User: Hello<end_of_utterance>\nAssistant:", "Once upon"]
    alone = [texts(api.complete(prompt, max_tokens=6))[0] for prompt in prompts]
    given = prompts if form == "texts" else [ids(api, prompt) for prompt in prompts]
    answer = api.complete(given, max_tokens=6)
    assert texts(answer) == alone
    assert [choice["index"] for choice in answer.json["choices"]] == [0, 1, 2]


def test_choices_come_by_prompt(api):
    prompts = ["Once upon", "Twice upon"]
    one = [texts(api.complete(prompt, n=2, temperature=2, seed=4, max_tokens=5))
           for prompt in prompts]
    assert texts(api.complete(prompts, n=2, temperature=2, seed=4, max_tokens=5)) == [*one[0],
                                                                                      *one[1]]


def test_many_prompts_wait_for_each_other(api):
    prompts = [f"Number {i}" for i in range(40)]
    assert len(texts(api.complete(prompts, max_tokens=2))) == 40


def test_echo_says_the_prompt_first(api):
    [plain] = texts(api.complete(PROMPT, max_tokens=4))
    assert texts(api.complete(PROMPT, max_tokens=4, echo=True)) == [PROMPT + plain]


@pytest.mark.parametrize("fields, param", [
    ({"suffix": "x"}, "suffix"),
    ({"best_of": 2}, "best_of"),
    ({"prompt_embeds": []}, "prompt_embeds"), ({"logprobs": 21}, "logprobs"),
    ({"logprobs": True}, "logprobs"), ({"max_tokens": 0}, "max_tokens"),
])
def test_what_is_not_done_is_refused(api, fields, param):
    answer = api.complete(PROMPT, **fields)
    assert answer.status == 400 and answer.error["param"] == param


@pytest.mark.parametrize("prompt, param", [
    (None, "prompt"), (5, "prompt"), ({}, "prompt"), ([], "prompt"), ([[]], "prompt[0]"),
    (["a", 5], "prompt[1]"), ([1, "a"], "prompt[1]"), ([1, 10**9], "prompt[1]"),
    ([-1], "prompt[0]"),
    ([[1, 2], [1, 10**7]], "prompt[1][1]"), (["a"] * 129, "prompt"), ([1.5], "prompt[0]"),
])
def test_prompts_that_are_none(api, prompt, param):
    answer = api.complete(prompt)
    assert answer.status == 400 and answer.error["param"] == param, answer.content


def test_image_tokens_are_no_text(api):
    size = api.ask("POST", "/tokenize", {"prompt": "<image>", "add_special_tokens": False}).json
    assert size["count"] > 1  # plain text
    vocabulary_end = api.complete([10**6]).error["message"]
    last = int(vocabulary_end.split(" to ")[1].split(",")[0])
    refused = [api.complete([1, token]).status for token in range(last - 2, last + 1)]
    # <image> and <fake_token_around_image>; the end of a turn may be written.
    assert refused.count(400) == 2


def test_a_stream_has_one_prompt(api):
    answer = api.complete(["a", "b"], stream=True)
    assert answer.status == 400 and answer.error["param"] == "prompt"
