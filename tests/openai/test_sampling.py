# SPDX-License-Identifier: Apache-2.0
"""Fields that choose tokens."""

import math

import pytest

from conftest import QUESTION, image, text, user


@pytest.fixture(scope="module")
def ask(api, cat):
    def run(**fields):
        answer = api.chat(user(text(QUESTION), image(cat)), **fields)
        assert answer.status == 200, answer.content
        return answer.json
    return run


@pytest.fixture(scope="module")
def greedy(ask):
    return ask()["choices"][0]["message"]["content"]


def contents(body):
    return [choice["message"]["content"] for choice in body["choices"]]


def test_temperature_zero_is_greedy_and_repeats(ask, greedy):
    assert contents(ask(temperature=0)) == [greedy]
    assert contents(ask(temperature=1.5, top_p=0)) == [greedy]
    assert contents(ask(temperature=1.5, top_k=1)) == [greedy]


def test_a_seed_repeats(ask):
    once, again = (contents(ask(temperature=1.8, seed=-7)) for _ in range(2))
    assert once == again
    others = {contents(ask(temperature=2, seed=seed))[0] for seed in range(8)}
    assert len(others) > 1


@pytest.mark.parametrize("n", [2, 3, 5])
def test_choices_are_those_of_the_seed_whatever_n_is(ask, n):
    most = contents(ask(temperature=2, seed=5, n=6))
    body = ask(temperature=2, seed=5, n=n)
    assert [choice["index"] for choice in body["choices"]] == list(range(n))
    assert contents(body) == most[:n]
    assert len(set(most)) > 1


def test_choices_of_temperature_zero_are_equal(ask, greedy):
    body = ask(n=3)
    assert contents(body) == [greedy] * 3
    one = ask()["usage"]
    assert body["usage"]["prompt_tokens"] == one["prompt_tokens"]
    assert body["usage"]["completion_tokens"] == 3 * one["completion_tokens"]


@pytest.mark.parametrize("name", ["max_tokens", "max_completion_tokens"])
@pytest.mark.parametrize("most", [1, 2, 3, 4.0])
def test_an_answer_ends_at_its_length(api, cat, name, most):
    answer = api.ask("POST", "/v1/chat/completions",
                     {"messages": [user(text(QUESTION), image(cat))], "temperature": 0,
                      name: most}).json
    assert answer["usage"]["completion_tokens"] == most
    assert answer["choices"][0]["finish_reason"] == "length"


def test_max_completion_tokens_outranks_max_tokens(ask):
    assert ask(max_tokens=9, max_completion_tokens=2)["usage"]["completion_tokens"] == 2


@pytest.mark.parametrize("most", [-1, 1_000_000, None])
def test_a_length_beyond_the_context_is_what_is_left(ask, greedy, most):
    assert contents(ask(max_tokens=most)) == [greedy]


def test_a_stop_string_ends_the_text_before_it(ask, greedy):
    stop = greedy[3:6]
    body = ask(stop=stop)
    assert contents(body) == [greedy[:greedy.index(stop)]]
    assert body["choices"][0]["finish_reason"] == "stop"
    assert contents(ask(stop=["never", stop])) == contents(body)
    kept = contents(ask(stop=stop, include_stop_str_in_output=True))
    assert kept == [greedy[:greedy.index(stop) + len(stop)]]


def test_a_bias_forbids_and_forces(ask, api):
    first = ask(max_tokens=1, logprobs=True)["choices"][0]["logprobs"]["content"][0]["token"]
    [*_, token] = api.ask("POST", "/tokenize", {"prompt": first.strip(),
                                                "add_special_tokens": False}).json["tokens"]
    without = ask(max_tokens=1, logprobs=True, logit_bias={str(token): -100})
    assert without["choices"][0]["logprobs"]["content"][0]["token"] != first
    # The bias is not part of the log probability: that is the model's own.
    other = without["choices"][0]["logprobs"]["content"][0]
    top = ask(max_tokens=1, logprobs=True, top_logprobs=20)["choices"][0]["logprobs"]["content"][0]
    known = {entry["token"]: entry["logprob"] for entry in top["top_logprobs"]}
    assert other["token"] in known
    assert math.isclose(other["logprob"], known[other["token"]], abs_tol=1e-4)
    # Forced: the same token all the time.
    forced = ask(max_tokens=5, logit_bias={str(token): 100}, ignore_eos=True)
    assert forced["usage"]["completion_tokens"] == 5


@pytest.mark.parametrize("name", ["frequency_penalty", "presence_penalty"])
def test_penalties_stop_a_repetition(ask, api, name):
    """Of some tokens that a bias puts above all others a penalty takes more, a reward fewer."""
    tokens = [api.ask("POST", "/tokenize", {"prompt": word, "add_special_tokens": False}
                      ).json["tokens"][-1] for word in ("cat", "dog", "red", "top", "left", "a")]
    fields = {"max_tokens": 24, "logit_bias": dict.fromkeys(map(str, tokens), 90),
              "ignore_eos": True, "logprobs": True}

    def kinds(penalty):
        body = ask(**fields, **{name: penalty})
        return len({entry["token"] for entry in body["choices"][0]["logprobs"]["content"]})
    print(name, kinds(2), kinds(0), kinds(-2))
    assert kinds(2) >= kinds(0) >= kinds(-2)
    assert kinds(2) > kinds(-2)


def test_ignore_eos_writes_to_the_length(ask):
    body = ask(max_tokens=17, ignore_eos=True)
    assert body["usage"]["completion_tokens"] == 17
    assert body["choices"][0]["finish_reason"] == "length"


def test_min_tokens_keeps_the_end_off(ask):
    assert ask(max_tokens=30, min_tokens=20)["usage"]["completion_tokens"] >= 20


def test_a_stop_token_ends_the_answer(ask, api, greedy):
    ids = api.ask("POST", "/tokenize", {"prompt": greedy.strip(),
                                        "add_special_tokens": False}).json["tokens"]
    body = ask(stop_token_ids=[ids[1]])
    assert body["usage"]["completion_tokens"] == 2
    assert body["choices"][0]["finish_reason"] == "stop"


def test_bad_words_do_not_come(ask, greedy):
    word = greedy.split()[1]
    assert word not in contents(ask(bad_words=[word]))[0].split()


@pytest.mark.parametrize("fields", [
    {"top_k": 5}, {"top_k": -1}, {"top_k": 0}, {"min_p": 0.1}, {"typical_p": 0.9}, {"top_p": 0.9},
    {"repetition_penalty": 1.2}, {"no_repeat_ngram_size": 2}, {"top_p": 1}, {"seed": 2**40},
    {"temperature": 2}, {"temperature": 0.000001},
])
def test_sampling_fields_are_taken(ask, fields):
    assert ask(**{"temperature": 1, "seed": 1, **fields})["choices"]


def test_beams_are_cogs_beams(api, ask, cat):
    body = ask(num_beams=3)
    cog = api.cog(prompt=["User: " + QUESTION, cat, "<end_of_utterance>", "\nAssistant:"],
                  max_new_tokens=24, num_beams=3)
    assert contents(body) == [cog["output"]]


@pytest.mark.parametrize("fields", [{"n": 2}, {"temperature": 1}, {"stream": True}])
def test_beams_take_no_company(api, fields):
    answer = api.chat(user("Hi"), num_beams=2, **fields)
    assert answer.status == 400 and answer.error["param"] == "num_beams"


@pytest.mark.parametrize("fields", [
    {"user": "me"}, {"metadata": {"a": "b"}}, {"store": True}, {"safety_identifier": "x"},
    {"prompt_cache_key": "x"}, {"reasoning_effort": "low"}, {"verbosity": "low"},
    {"parallel_tool_calls": True}, {"tools": [], "tool_choice": "auto"}, {"tool_choice": "none"},
    {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"response_format": {"type": "text"}},
    {"modalities": ["text"]}, {"chat_template_kwargs": {}}, {"cache_prompt": True},
    {"priority": 1}, {"no_such_field": {"deep": [1]}}, {"stop": None}, {"logit_bias": None},
    {"n": None}, {"seed": None}, {"stream": None}, {"skip_special_tokens": True},
])
def test_fields_that_change_nothing_are_ignored(ask, greedy, fields):
    assert contents(ask(**fields)) == [greedy]


def test_service_tier_is_answered_where_it_was_named(ask):
    assert ask(service_tier="auto")["service_tier"] == "default"
    assert "service_tier" not in ask()
