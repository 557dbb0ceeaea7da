# SPDX-License-Identifier: Apache-2.0
"""Several choices of a prompt, raw log probabilities, penalties and bias, by a model: against
single requests, and against numpy over the model's own logits, which test_model_parity.py compares
with transformers'."""

import numpy
import pytest

from conftest import logits_of

MASK = 2**64 - 1
NUM_NEW = 12


def choice_seed(seed: int, index: int) -> int:
    """docs/model.md#choices, written anew."""
    if index == 0:
        return seed
    x = (seed + index * 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


@pytest.fixture(scope="module")
def model(ours):
    from parity_cases import MODELS
    return ours(MODELS[0].name)


def prompts(model):
    from parity_cases import PROMPTS
    return [model.prompt(prompt) for prompt in PROMPTS[:4]]


def sampled(**other):
    return {"do_sample": True, "temperature": 1.5, "top_k": 0, "max_new_tokens": NUM_NEW, **other}


def test_choices_are_the_answers_of_their_seeds(model):
    different = 0
    for number, prompt in enumerate(prompts(model)):
        seed = MASK - number
        many = model.ask([{**prompt, "sampling": sampled(seed=seed, num_choices=5)}])[0]["choices"]
        single = model.ask([{
            **prompt, "sampling": sampled(seed=choice_seed(seed, i))
        } for i in range(5)])
        assert len(many) == 5
        for choice, alone in zip(many, single, strict=True):
            assert choice["token_ids"] == alone["token_ids"]
            assert choice["text"] == alone["text"]
            assert choice["full_text"] == alone["full_text"]
            assert choice["own_logprobs"] == pytest.approx(alone["own_logprobs"], abs=1e-4)
        different += len({tuple(choice["token_ids"]) for choice in many}) > 1
    assert different == 4


def logits_before_each(model, answer):
    """Of a text prompt: [new tokens, vocab], the logits that each new token was picked by."""
    prompt, new = answer["prompt_token_ids"], answer["token_ids"]
    ids = prompt + new[:-1]
    whole = model.ask([{
        "token_ids": ids, "image_index": [-1] * len(ids), "pixels": [], "piece": 1
    }])[0]
    return logits_of(whole)[len(prompt) - 1:].astype(numpy.float64)


def log_softmax(logits):
    shifted = logits - logits.max()
    return shifted - numpy.log(numpy.exp(shifted).sum())


def test_raw_log_probabilities_are_those_of_the_models_logits(model):
    sampling = sampled(seed=3, raw_logprobs=True, num_logprobs=4, repetition_penalty=1.7,
                       presence_penalty=1.0, logit_bias=[[5, 4.0]], bad_words_ids=[[9]])
    answer = model.ask([{**prompts(model)[0], "sampling": sampling}])[0]
    rows = logits_before_each(model, answer)
    assert len(rows) == NUM_NEW == len(answer["own_logprobs"])
    for row, token, own, top in zip(rows, answer["token_ids"], answer["own_logprobs"],
                                    answer["logprobs"], strict=True):
        expected = log_softmax(row)
        assert own == pytest.approx(expected[token], abs=1e-4)
        assert [value for _, value in top] == \
            pytest.approx(sorted(expected, reverse=True)[:4], abs=1e-4)
        for token_id, value in top:
            assert value == pytest.approx(expected[token_id], abs=1e-4)


@pytest.mark.parametrize("presence,frequency,bias", [
    (1.5, 0.0, {}), (0.0, 0.8, {}), (0.6, 0.4, {7: 2.5, 3: -4.0}), (-1.0, -0.3, {}),
    (0.0, 0.0, {11: 100.0})])
def test_greedy_tokens_are_the_best_by_openais_formula(model, presence, frequency, bias):
    answer = model.ask([{
        **prompts(model)[0], "sampling": {
            "max_new_tokens": NUM_NEW, "presence_penalty": presence,
            "frequency_penalty": frequency, "logit_bias": list(bias.items()), "num_logprobs": 1
        }
    }])[0]
    new = answer["token_ids"]
    for count, (row, token) in enumerate(zip(logits_before_each(model, answer), new, strict=True)):
        for token_id, value in bias.items():
            row[token_id] += value
        counts = numpy.bincount(new[:count], minlength=len(row))
        row -= counts * frequency + (counts > 0) * presence
        assert row[token] >= row.max() - 1e-4
