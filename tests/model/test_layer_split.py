# SPDX-License-Identifier: Apache-2.0
"""A model whose layers are divided among devices: bit for bit the undivided one."""

import pytest

from conftest import demo_scenes, logits_of

DEVICES = ["cpu,cpu", "cpu,cpu,cpu"]
WIDTHS = [("f32", None), ("bf16", None), ("bf16", "int8"), ("bf16", "int4")]


def assert_same_logits(model, devices, piece):
    from parity_cases import PROMPTS
    requests = [{**model.prompt(prompt), "piece": piece} for prompt in PROMPTS]
    for one, many in zip(model.ask(requests), model.ask(requests, devices=devices), strict=True):
        assert logits_of(many).tobytes() == logits_of(one).tobytes()


@pytest.mark.parametrize("devices", DEVICES)
# A cross layer before every one of 3 layers, before the first of 4, before every third of 6.
@pytest.mark.parametrize("name", ["base_vector_alpha", "no_norms_head_10", "no_resampler"])
def test_logits_are_the_same_wherever_the_layers_are_cut(ours, name, devices):
    assert_same_logits(ours(name), devices, piece=0)


def test_a_layer_on_each_device_computes_the_same(ours):
    assert_same_logits(ours("no_resampler"), ",".join(["cpu"] * 6), piece=3)


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("kv_dtype", ["bundle", "int8"])
@pytest.mark.parametrize("dtype, weights", WIDTHS)
def test_logits_are_the_same_in_every_width(ours, dtype, weights, kv_dtype, devices):
    model = ours("demo", dtype, weights)
    assert_same_logits(model.with_int8_kv() if kv_dtype == "int8" else model, devices, piece=2)


@pytest.mark.parametrize("devices", DEVICES)
@pytest.mark.parametrize("dtype, weights", WIDTHS)
def test_the_demo_answers_the_same_alone_and_together(ours, dtype, weights, devices):
    model = ours("demo", dtype, weights)
    requests = [scene["request"] for scene in demo_scenes()]
    alone = [answer["token_ids"] for answer in model.ask(requests)]
    assert [answer["token_ids"] for answer in model.ask(requests, devices=devices)] == alone
    together = model.ask([{"together": requests}], devices=devices)[0]
    assert [answer["token_ids"] for answer in together] == alone


def test_choices_and_beams_are_the_same(ours):
    from parity_cases import PROMPTS
    model = ours("instruct")
    sampling = [{"max_new_tokens": 12, "num_beams": 4},
                {"max_new_tokens": 12, "num_choices": 5, "do_sample": True, "seed": 7}]
    requests = [{**model.prompt(prompt), "sampling": wanted}
                for prompt in PROMPTS[:4] for wanted in sampling]
    assert model.ask(requests, devices="cpu,cpu,cpu") == model.ask(requests)
