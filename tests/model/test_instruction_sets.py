# SPDX-License-Identifier: Apache-2.0
"""The demo with the linears' kernels of each instruction set that this CPU has (IDEFICS_CPU): the
tokens of transformers, the answers of the README, and a batch that changes nothing.

tests/model/linear_test.cc and tests/kernels compare the kernels themselves."""

import pytest

from conftest import read_golden, usable_sets, wrong_answers

QUANTIZED = ("int8", "int4")


@pytest.fixture(params=usable_sets())
def demo(request, ours):
    """demo(weights) -> the demo's bundle on one of the sets."""

    def make(weights):
        dtype = "f32" if weights == "f32" else "bf16"
        return ours("demo", dtype, weights).on(request.param)
    return make


def _requests(model, **sampling):
    from parity_cases import PROMPTS
    return [{**model.prompt(prompt), "sampling": sampling} for prompt in PROMPTS[:6]]


def test_f32_writes_the_tokens_of_transformers(demo):
    from parity_cases import PROMPTS
    prompts = {prompt.name: prompt for prompt in PROMPTS}
    entries = read_golden("demo")["greedy"][:12]
    model = demo("f32")
    requests = [{**model.prompt(prompts[entry["prompt"]]), "sampling": entry["sampling"]}
                for entry in entries]
    for entry, answer in zip(entries, model.ask(requests), strict=True):
        assert answer["token_ids"] == entry["token_ids"], entry["prompt"]


@pytest.mark.parametrize("weights", ["bf16", *QUANTIZED])
def test_the_questions_of_the_readme_are_answered(demo, weights):
    wrong = wrong_answers(demo(weights))
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("weights", ["f32", "bf16", *QUANTIZED])
def test_a_request_among_others_has_the_very_numbers_it_has_alone(demo, weights):
    model = demo(weights)
    requests = _requests(model, max_new_tokens=8, num_logprobs=5)
    together = model.ask([{"together": requests}])[0]
    for request, alone, among in zip(requests, model.ask(requests), together, strict=True):
        assert alone["token_ids"] == among["token_ids"], request
        assert alone["logprobs"] == among["logprobs"], request
