# SPDX-License-Identifier: Apache-2.0
"""Quantized bundles, and keys and values in 8 bit: how far their logits lie from f32's, that the
demo still answers, that neighbours change nothing.

scripts/goldens/compare_widths.py prints the errors as a table."""

import numpy
import pytest

from conftest import logits_of, wrong_answers

# rms of the error in standard deviations of the logits: measured 0.045 and 0.17 on the demo
LIMITS = {"int8": 0.08, "int4": 0.6}
KV_LIMIT = 0.02  # measured 0.0053 on the demo, 0.0019 on the other


def _logits(ours, count=4):
    from parity_cases import PROMPTS
    answers = ours.ask([{**ours.prompt(prompt), "piece": 0} for prompt in PROMPTS[:count]])
    return numpy.concatenate([logits_of(answer) for answer in answers])


@pytest.mark.parametrize("weights", LIMITS)
@pytest.mark.parametrize("name", ["demo", "instruct"])
def test_the_logits_of_quantized_weights_lie_near_those_of_f32(ours, name, weights):
    truth, mine = _logits(ours(name)), _logits(ours(name, "bf16", weights))
    error = numpy.sqrt(numpy.square(mine - truth).mean()) / truth.std(1).mean()
    print(f"{name} {weights}: rms error {error:.4f} standard deviations")
    assert 1e-3 < error < LIMITS[weights]


@pytest.mark.parametrize("name", ["demo", "instruct"])
def test_the_logits_with_keys_and_values_in_8_bit_lie_near_those_of_f32(ours, name):
    truth, mine = _logits(ours(name)), _logits(ours(name).with_int8_kv())
    error = numpy.sqrt(numpy.square(mine - truth).mean()) / truth.std(1).mean()
    print(f"{name}, KV in int8: rms error {error:.4f} standard deviations")
    assert 1e-4 < error < KV_LIMIT


@pytest.mark.parametrize("kv_dtype", ["bundle", "int8"])
@pytest.mark.parametrize("weights", LIMITS)
def test_the_demo_with_quantized_weights_answers_the_questions_of_the_readme(
        ours, weights, kv_dtype):
    model = ours("demo", "bf16", weights)
    if kv_dtype == "int8":
        model = model.with_int8_kv()
    wrong = wrong_answers(model)
    assert len(wrong) <= 1, wrong


@pytest.mark.parametrize("kv_dtype", ["bundle", "int8"])
@pytest.mark.parametrize("weights", ["f32", "bf16", "int8", "int4"])
def test_a_request_among_others_has_the_very_numbers_it_has_alone(ours, weights, kv_dtype):
    from parity_cases import PROMPTS
    model = ours("demo", "f32" if weights == "f32" else "bf16", weights)
    if kv_dtype == "int8":
        model = model.with_int8_kv()
    requests = [{**model.prompt(prompt), "sampling": {"max_new_tokens": 8, "num_logprobs": 5}}
                for prompt in PROMPTS]
    together = model.ask([{"together": requests}])[0]
    for request, alone, among in zip(requests, model.ask(requests), together, strict=True):
        assert alone["token_ids"] == among["token_ids"], request
        assert alone["logprobs"] == among["logprobs"], request
