# SPDX-License-Identifier: Apache-2.0
"""Our program against transformers 4.57 in f32, by the committed goldens: prompts, logits,
generations, beams.

The goldens are made by scripts/oracle.sh --write; test_model_parity_live.py asks transformers
again.
"""

import json

import numpy
import pytest

from conftest import golden_names, logits_of, read_golden

LOGPROB_TOLERANCE = 1e-3


@pytest.fixture(scope="module", params=golden_names())
def case(request, ours):
    """(golden, ours) of one model."""
    golden = read_golden(request.param)
    return golden, ours(request.param)


def tolerance(entry) -> float:
    """docs/model.md#tolerances: transformers' own f32 rounding, four times."""
    return max(1e-4, 4 * entry["f32_error"])


def requests_of(golden, ours, kind):
    from parity_cases import PROMPTS
    prompts = {prompt.name: prompt for prompt in PROMPTS}
    return [{
        **ours.prompt(prompts[entry["prompt"]]), "sampling": {
            **entry["sampling"], "num_logprobs": 5
        }
    } for entry in golden[kind]]


def unpack(text, width=None):
    import base64
    values = numpy.frombuffer(base64.b64decode(text), "<f4")
    return values if width is None else values.reshape(-1, width)


@pytest.mark.parametrize("piece", [0, 1, 7],
                         ids=["every prefix at once", "token by token", "pieces of seven"])
def test_prompts_become_the_tokens_images_and_logits_of_transformers(case, piece):
    from parity_cases import NUM_COLUMNS, PROMPTS, columns
    golden, ours = case
    prompts = {prompt.name: prompt for prompt in PROMPTS}
    requests = [{**ours.prompt(prompts[entry["prompt"]]), "piece": piece}
                for entry in golden["logits"]]
    worst = 0.0
    for entry, answer in zip(golden["logits"], ours.ask(requests), strict=True):
        assert answer["token_ids"] == entry["token_ids"], entry["prompt"]
        assert answer["image_index"] == entry["image_index"], entry["prompt"]
        logits = logits_of(answer)
        expected = unpack(entry["columns"], NUM_COLUMNS)
        chosen = numpy.stack([
            row[columns(t, golden["vocab"])]
            for t, row in zip(answer["positions"], logits, strict=True)
        ])
        difference = max(numpy.abs(chosen - expected[answer["positions"]]).max(),
                         numpy.abs(logits[-1] - unpack(entry["last"])).max())
        assert difference <= tolerance(
            entry), f"{entry['prompt']}: the logits differ by {difference}"
        assert entry["std"] > 0.1  # logits that hardly move would prove nothing
        worst = max(worst, difference)
    print(
        f"{golden['model']}, piece {piece}: {len(requests)} prompts, "
        f"{sum(len(e['token_ids']) for e in golden['logits'])} positions, largest difference "
        f"{worst:.1e}"
    )


def test_greedy_generations_are_those_of_transformers(case):
    golden, ours = case
    checked = 0
    for entry, answer in zip(golden["greedy"],
                             ours.ask(requests_of(golden, ours, "greedy")),
                             strict=True):
        where = f"{entry['prompt']} {entry['sampling']}, smallest gap {entry['gap']}"
        assert answer["token_ids"] == entry["token_ids"], where
        assert answer["text"] == entry["text"], where
        assert answer["streamed"] == entry["text"], where
        assert answer["full_text"] == entry["full_text"], where
        for ours_top, theirs_top in zip(answer["logprobs"], entry.get("logprobs", []),
                                        strict=False):
            check_logprobs(ours_top, theirs_top)
            checked += 1
    print(
        f"{golden['model']}: {len(golden['greedy'])} greedy generations and {checked} tokens' "
        f"log probabilities "
        f"equal; left out for a near tie: {golden['near_ties']['greedy']}")


def check_logprobs(ours_top, theirs_top):
    """The same five values; the same tokens where they are not near each other."""
    assert [pair[1] for pair in ours_top] == pytest.approx([pair[1] for pair in theirs_top],
                                                           abs=LOGPROB_TOLERANCE)
    for i, (_token, value) in enumerate(theirs_top):
        near = [other for other, v in theirs_top if abs(v - value) < LOGPROB_TOLERANCE]
        last_place_may_tie = i == len(theirs_top) - 1
        assert ours_top[i][0] in near or last_place_may_tie, (ours_top, theirs_top)


def test_beam_searches_are_those_of_transformers(case):
    golden, ours = case
    for entry, answer in zip(golden["beams"],
                             ours.ask(requests_of(golden, ours, "beams")),
                             strict=True):
        where = f"{entry['prompt']} {entry['sampling']}"
        assert answer["token_ids"] == entry["token_ids"], where
        assert answer["text"] == entry["text"], where
    print(
        f"{golden['model']}: {len(golden['beams'])} beam searches equal; left out for a near tie: "
        f"{golden['near_ties']['beams']}")


def test_the_same_requests_together_and_alone_give_the_same_bits(case):
    golden, ours = case
    requests = (requests_of(golden, ours, "greedy") + requests_of(golden, ours, "beams")[:8])[-32:]
    alone = ours.ask(requests)
    together = ours.ask([{"together": requests}])[0]
    for request, one, other in zip(requests, alone, together, strict=True):
        assert one["token_ids"] == other["token_ids"], request
        assert one["full_text"] == other["full_text"]
        assert one["logprobs"] == other["logprobs"], request
    print(f"{golden['model']}: {len(requests)} requests")


def test_a_generation_cut_by_a_stop_string_is_a_prefix_of_the_whole(case):
    golden, ours = case
    requests = requests_of(golden, ours, "greedy")
    whole = ours.ask(requests[:8])
    for request, answer in zip(requests[:8], whole, strict=True):
        if len(answer["text"]) < 6:
            continue
        stop = answer["text"][3:5]
        request["sampling"]["stop"] = [stop]
        cut = ours.ask([request])[0]
        assert cut["text"] == answer["text"][:answer["text"].index(stop)]
        assert cut["streamed"] == cut["text"]
        assert answer["full_text"].startswith(cut["full_text"])


def test_the_goldens_hold_enough_and_varied_generations():
    names = [name for name in golden_names() if name != "demo"]
    goldens = [read_golden(name) for name in names]
    greedy = [tuple(entry["token_ids"]) for golden in goldens for entry in golden["greedy"]]
    assert len(greedy) >= 200
    assert len(set(greedy)) >= 150
    varied = [tokens for tokens in greedy if len(set(tokens)) >= min(4, len(tokens))]
    assert len(varied) >= 150, "too many generations repeat one token"
    beams = [entry["sampling"] for golden in goldens for entry in golden["beams"]]
    assert {(s["num_beams"], s["early_stopping"]) for s in beams} == \
        {(n, e) for n in (2, 3, 4) for e in (False, True, "never")}
    print(json.dumps({"greedy": len(greedy), "beams": len(beams)}))
