# SPDX-License-Identifier: Apache-2.0
"""Log probabilities: the model's own, one entry a token."""

import math

import pytest

from conftest import QUESTION, image, text, user


@pytest.fixture(scope="module")
def question(cat):
    return user(text(QUESTION), image(cat))


def entries(api, question, **fields):
    answer = api.chat(question, logprobs=True, **fields)
    assert answer.status == 200, answer.content
    return answer.json["choices"][0]["logprobs"]["content"]


def test_tokens_join_to_the_text(api, question):
    answer = api.chat(question, logprobs=True).json
    choice = answer["choices"][0]
    content = choice["logprobs"]["content"]
    assert choice["logprobs"]["refusal"] is None
    raw = b"".join(bytes(entry["bytes"]) for entry in content)
    assert raw.decode().removeprefix(" ") == choice["message"]["content"].removeprefix(" ")
    # The end of the turn is a token, and has no entry.
    assert len(content) == answer["usage"]["completion_tokens"] - 1
    assert all(entry["top_logprobs"] == [] for entry in content)


@pytest.mark.parametrize("k", [1, 2, 5, 20])
def test_the_largest_come_in_order(api, question, k):
    for entry in entries(api, question, top_logprobs=k):
        tops = [top["logprob"] for top in entry["top_logprobs"]]
        assert len(tops) == k and tops == sorted(tops, reverse=True)
        assert all(value <= 0 and math.isfinite(value) for value in tops)
        assert entry["token"] == entry["top_logprobs"][0]["token"]  # greedy
        assert math.isclose(entry["logprob"], tops[0], abs_tol=1e-6)


def test_they_are_the_models_own(api, question):
    plain = entries(api, question, top_logprobs=3)
    for fields in ({"temperature": 1.7, "top_k": 1}, {"repetition_penalty": 1.01, "top_k": 1},
                   {"temperature": 0.5, "top_p": 0}):
        changed = entries(api, question, top_logprobs=3, **fields)
        assert changed[0]["token"] == plain[0]["token"]
        assert math.isclose(changed[0]["logprob"], plain[0]["logprob"], abs_tol=1e-4), fields


def test_a_sampled_token_has_its_own_probability(api, question):
    for entry in entries(api, question, temperature=2, seed=3, top_logprobs=20):
        known = {top["token"]: top["logprob"] for top in entry["top_logprobs"]}
        if entry["token"] in known:
            assert math.isclose(entry["logprob"], known[entry["token"]], abs_tol=1e-5)
        else:
            assert entry["logprob"] <= min(known.values()) + 1e-5


def test_log_probabilities_change_no_token(api, question):
    assert api.chat(question, logprobs=True, top_logprobs=5).text == api.chat(question).text


def test_text_completions_have_their_own_form(api):
    answer = api.complete("User: Hello", max_tokens=6, logprobs=2).json["choices"][0]
    logprobs = answer["logprobs"]
    assert set(logprobs) == {"tokens", "token_logprobs", "top_logprobs", "text_offset"}
    lengths = {len(value) for value in logprobs.values()}
    assert len(lengths) == 1 and lengths.pop() >= 1
    assert all(2 <= len(top) <= 3 for top in logprobs["top_logprobs"])
    assert all(token in top for token, top in zip(logprobs["tokens"], logprobs["top_logprobs"],
                                                  strict=True))
    assert logprobs["text_offset"][0] == 0
    assert logprobs["text_offset"] == sorted(logprobs["text_offset"])


def test_zero_is_only_the_chosen_token(api):
    logprobs = api.complete("User: Hello", max_tokens=4, logprobs=0).json["choices"][0]["logprobs"]
    assert all(len(top) == 1 for top in logprobs["top_logprobs"])


def ids_of(api, string):
    return api.ask("POST", "/tokenize", {"prompt": string}).json["tokens"]


def scored(api, prompt, **fields):
    answer = api.complete(prompt, **{"max_tokens": 1, "logprobs": 2, "echo": True, **fields})
    assert answer.status == 200, answer.content
    return answer.json["choices"][0]["logprobs"]


def test_a_prompts_scores_are_what_its_tokens_had_as_new_ones(api):
    prompt = "User: What is 2 plus 3?<end_of_utterance>\nAssistant:"
    body = {"inputs": prompt, "parameters": {"details": True, "max_new_tokens": 7}}
    new = api.ask("POST", "/generate", body).json["details"]["tokens"]
    tokens = [*ids_of(api, prompt), *(token["id"] for token in new)]
    logprobs = scored(api, tokens)
    scores = logprobs["token_logprobs"]
    assert len(new) > 2 and scores[len(tokens) - len(new):len(tokens)] == [
        token["logprob"] for token in new]
    assert scores[0] is None and logprobs["top_logprobs"][0] is None
    assert len(scores) == len(tokens) + 1 and None not in scores[1:]


def test_scores_do_not_depend_on_how_a_prompt_is_cut_or_was_seen_before(api):
    long = [*ids_of(api, "User: "), *ids_of(api, "a red circle and " * 60)[1:]]
    assert len(long) > 130
    first = scored(api, long)
    api.complete(long, max_tokens=3)  # its keys are kept
    assert scored(api, long) == first
    short = scored(api, long[:30])
    assert short["token_logprobs"][:30] == first["token_logprobs"][:30]


def test_each_choice_and_each_prompt_has_the_scores(api):
    answer = api.complete(["Once upon", "Twice"], n=2, temperature=2, seed=3, max_tokens=3,
                          logprobs=1, echo=True).json["choices"]
    assert len(answer) == 4
    for a, b, prompt in ((answer[0], answer[1], "Once upon"), (answer[2], answer[3], "Twice")):
        count = len(ids_of(api, prompt))
        assert a["text"].startswith(prompt) and b["text"].startswith(prompt)
        assert a["logprobs"]["token_logprobs"][:count] == b["logprobs"]["token_logprobs"][:count]
        offsets = a["logprobs"]["text_offset"]
        assert offsets == sorted(offsets) and offsets[count] == len(prompt)


def test_scores_stream_before_the_answer(api):
    body = {"prompt": "Once upon", "temperature": 0, "max_tokens": 4, "logprobs": 1, "echo": True}
    whole = api.complete(body.pop("prompt"), **body).json["choices"][0]
    pieces = [chunk["choices"][0] for chunk in
              api.chunks("/v1/completions", {"prompt": "Once upon", **body}) if chunk["choices"]]
    assert "".join(piece["text"] for piece in pieces) == whole["text"]
    for key in ("tokens", "token_logprobs", "text_offset"):
        joined = [value for piece in pieces if piece["logprobs"]
                  for value in piece["logprobs"][key]]
        assert joined == whole["logprobs"][key], key


def test_a_prompt_of_one_token_has_no_score(api):
    logprobs = scored(api, ids_of(api, "")[:1])
    assert logprobs["token_logprobs"][0] is None and len(logprobs["tokens"]) == 2
