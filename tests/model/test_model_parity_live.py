# SPDX-License-Identifier: Apache-2.0
"""transformers 4.57 asked again, now: the committed goldens are its answers, and our program gives
them too, in f32 at every logit and in bf16 within bf16's own rounding. Everything under
scripts/oracle.sh; else a part of each model."""

import os

import numpy
import pytest

from conftest import golden_names, logits_of, read_golden

transformers = pytest.importorskip("transformers",
                                   reason="transformers, the oracle, is not installed")
torch = pytest.importorskip("torch", reason="torch is not installed")
if not transformers.__version__.startswith("4.57."):
    pytest.skip(f"transformers is {transformers.__version__}, the oracle is 4.57",
                allow_module_level=True)

FULL = os.environ.get("IDEFICS_ORACLE") == "full"
NUM_PROMPTS, NUM_GENERATIONS, NUM_BEAMS = (None, None, None) if FULL else (5, 3, 2)


@pytest.fixture(scope="module", params=golden_names())
def case(request, checkpoint, ours, tmp_path_factory):
    """(golden, Oracle, ours, the prompts by name)"""
    from oracle_model import Oracle
    from parity_cases import PROMPTS
    golden = read_golden(request.param)
    oracle = Oracle(checkpoint(request.param), tmp_path_factory.mktemp("oracle"))
    return golden, oracle, ours(request.param), {prompt.name: prompt for prompt in PROMPTS}


def test_every_logit_equals_that_of_transformers_asked_now(case):
    golden, oracle, ours, prompts = case
    entries = golden["logits"][:NUM_PROMPTS]
    answers = ours.ask([{**ours.prompt(prompts[entry["prompt"]]), "piece": 1} for entry in entries])
    worst, positions = 0.0, 0
    for entry, answer in zip(entries, answers, strict=True):
        inputs = oracle.inputs(prompts[entry["prompt"]])
        assert inputs["input_ids"][0].tolist() == entry["token_ids"] == answer["token_ids"]
        assert oracle.image_index(inputs) == entry["image_index"] == answer["image_index"]
        difference = numpy.abs(oracle.logits(inputs).numpy() - logits_of(answer)).max()
        assert difference <= max(
            1e-4, 4 * entry["f32_error"]), f"{entry['prompt']}: differs by {difference}"
        worst, positions = max(worst, difference), positions + len(entry["token_ids"])
    print(
        f"{golden['model']}: {positions} positions, {positions * golden['vocab']} logits, "
        f"largest difference "
        f"{worst:.1e}")


def test_transformers_still_generates_what_the_goldens_hold(case):
    golden, oracle, _, prompts = case
    for entry in golden["greedy"][:NUM_GENERATIONS]:
        result = oracle.greedy(oracle.inputs(prompts[entry["prompt"]]), entry["sampling"], 0)
        assert result["token_ids"] == entry["token_ids"], entry
        assert (result["text"], result["full_text"]) == (entry["text"], entry["full_text"])
    for entry in golden["beams"][:NUM_BEAMS]:
        result = oracle.beams(oracle.inputs(prompts[entry["prompt"]]), entry["sampling"])
        assert result["token_ids"] == entry["token_ids"], entry


def test_in_bf16_our_logits_are_as_near_to_f32_as_those_of_transformers(case, checkpoint, ours):
    """The margin rule of docs/model.md#tolerances, teacher forced: another best token is accepted
    only where the reference's lead is within twice its own rounding error."""
    from oracle_model import load_model, margin
    golden, oracle, _, prompts = case
    narrow = load_model(checkpoint(golden["model"]), torch.bfloat16)
    program = ours(golden["model"], "bf16")
    entries = golden["logits"][:NUM_PROMPTS]
    answers = program.ask([{**program.prompt(prompts[entry["prompt"]]), "piece": 0}
                           for entry in entries])
    our_error = their_error = 0.0
    same = total = 0
    leads = []
    for entry, answer in zip(entries, answers, strict=True):
        inputs = oracle.inputs(prompts[entry["prompt"]])
        exact, theirs = oracle.logits(inputs), oracle.logits(inputs, narrow)
        ours_now = torch.from_numpy(logits_of(answer).copy())
        our_error = max(our_error, float((ours_now - exact).abs().max()))
        their_error = max(their_error, float((theirs - exact).abs().max()))
        for row, reference in zip(ours_now, theirs, strict=True):
            best, lead = margin(reference)
            total += 1
            same += int(row.argmax()) == best
            if int(row.argmax()) != best:
                leads.append(lead)
    print(
        f"{golden['model']} bf16: largest error against f32: ours {our_error:.3f}, transformers "
        f"{their_error:.3f}; "
        f"the same best token at {same} of {total} positions, elsewhere a lead of at most "
        f"{max(leads, default=0):.3f}")
    assert our_error <= 2 * their_error
    assert all(lead <= 2 * their_error for lead in leads), leads
