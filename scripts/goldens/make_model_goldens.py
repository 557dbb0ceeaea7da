#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/goldens/model_*.json: what transformers 4.57 computes for the cases of
parity_cases.py.

    make_model_goldens.py [--out FOLDER] [--only NAME]

Needs transformers 4.57, torch and Pillow 12; scripts/oracle.sh provides them.
"""

import argparse
import base64
import json
import random
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
import transformers

sys.path.insert(0, str(Path(__file__).resolve().parent))
from oracle_model import Oracle
from parity_cases import (
    DEMO,
    DEMO_CASE,
    GOLDENS,
    MODELS,
    NEAR_TIE,
    PROMPTS,
    ModelCase,
    base_sampling,
    beam_settings,
    changed_settings,
    columns,
    make_checkpoint,
)

NUM_WITH_LOGPROBS = 8


def packed(values: torch.Tensor) -> str:
    return base64.b64encode(values.float().contiguous().numpy().astype("<f4").tobytes()).decode()


def logits_case(oracle: Oracle, prompt, inputs) -> dict[str, Any]:
    narrow = oracle.logits(inputs)
    wide = oracle.logits(inputs, oracle.wide(oracle.model))
    chosen = torch.stack([row[columns(t, oracle.vocab)] for t, row in enumerate(narrow)])
    return {
        "prompt": prompt.name, "token_ids": inputs["input_ids"][0].tolist(),
        "image_index": oracle.image_index(inputs),
        "f32_error": round(float((narrow - wide).abs().max()), 8),
        "std": round(float(narrow.std()), 4), "columns": packed(chosen), "last": packed(narrow[-1])
    }


def generation_cases(oracle: Oracle, case: ModelCase, inputs: dict[str, Any],
                     prompts) -> dict[str, list[Any]]:
    rng = random.Random(case.seed)
    base = base_sampling(oracle.vocab - (3 if case.end_of_utterance else 2), case.end_of_utterance)
    plain = {p.name: oracle.greedy(inputs[p.name], base, 0)["token_ids"] for p in prompts}
    settings = [(p.name, base) for p in prompts]
    settings += [(name := prompts[i % len(prompts)].name, changed_settings(rng, base, plain[name]))
                 for i in range(case.num_changed)]
    # Its prompt is <s> alone: a bad word that begins with it is longer than the sequence.
    empty = "one empty string"
    settings.append(
        (empty, {**base, "bad_words_ids": [*base["bad_words_ids"], [1, plain[empty][0]]]}))
    greedy, beams = [], []
    near_ties = {"greedy": 0, "beams": 0}
    for i, (name, sampling) in enumerate(settings):
        result = oracle.greedy(inputs[name], sampling, 5 if i %
                               (len(settings) // NUM_WITH_LOGPROBS) == 0 else 0)
        if result["gap"] < NEAR_TIE:
            near_ties["greedy"] += 1
        else:
            greedy.append({"prompt": name, "sampling": sampling, **result})
    beam_cases = [(name := prompts[i % len(prompts)].name, beam_settings(rng, base, plain[name]))
                  for i in range(case.num_beams)]
    for prompt, early_stopping in zip(prompts, (False, True, "never"),
                                      strict=False):  # every likely token ends the sequence
        first = oracle.greedy(inputs[prompt.name], base, 5)["logprobs"][0]
        beam_cases.append((prompt.name, {
            **base, "eos_token_id": sorted(token for token, _ in first[:4]), "num_beams": 2,
            "length_penalty": 2.0, "early_stopping": early_stopping
        }))
    for name, sampling in beam_cases:
        result = oracle.beams(inputs[name], sampling)
        if result is None:
            near_ties["beams"] += 1
        else:
            beams.append({"prompt": name, "sampling": sampling, **result})
    return {"greedy": greedy, "beams": beams, "near_ties": near_ties}


def write_lines(path: Path, golden: dict[str, Any]) -> None:
    """JSON with one case a line."""
    parts = []
    for key, value in golden.items():
        if isinstance(value, list):
            value = "[\n" + ",\n".join(
                json.dumps(v, ensure_ascii=True, separators=(",", ":")) for v in value) + "\n]"
        else:
            value = json.dumps(value)
        parts.append(f"{json.dumps(key)}: {value}")
    path.write_text("{\n" + ",\n".join(parts) + "\n}\n", encoding="utf-8")


def make_golden(case: ModelCase, checkpoint: Path, out: Path, work: Path, prompts=PROMPTS) -> None:
    oracle = Oracle(checkpoint, work)
    inputs = {prompt.name: oracle.inputs(prompt) for prompt in prompts}
    logits = [logits_case(oracle, prompt, inputs[prompt.name]) for prompt in prompts]
    cases = generation_cases(oracle, case, inputs, prompts)
    golden = {
        "model": case.name,
        "made_with": {"transformers": transformers.__version__, "torch": torch.__version__},
        "vocab": oracle.vocab, "near_ties": cases["near_ties"], "logits": logits,
        "greedy": cases["greedy"], "beams": cases["beams"]
    }
    write_lines(out / f"model_{case.name}.json", golden)
    distinct = len({tuple(c["token_ids"]) for c in cases["greedy"]})
    kinds = sum(len(set(c["token_ids"]))
                for c in cases["greedy"]) / sum(len(c["token_ids"]) for c in cases["greedy"])
    print(
        f"{case.name}: {len(logits)} prompts, {len(cases['greedy'])} greedy generations "
        f"({distinct} distinct, "
        f"{kinds:.2f} of their tokens new), {len(cases['beams'])} with beams; left out for near "
        f"ties: "
        f"{cases['near_ties']}; largest f32 error {max(c['f32_error'] for c in logits):.1e}",
        flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, default=GOLDENS)
    parser.add_argument("--only", help="name of one model")
    options = parser.parse_args()
    if not transformers.__version__.startswith("4.57."):
        raise SystemExit(
            f"make_model_goldens.py: transformers is {transformers.__version__}, the oracle is "
            f"4.57: "
            "run it by scripts/oracle.sh")
    options.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    for case in MODELS:
        if options.only in (None, case.name):
            with tempfile.TemporaryDirectory() as work:
                checkpoint = make_checkpoint(case, Path(work) / "checkpoint")
                make_golden(case, checkpoint, options.out, Path(work))
    if options.only in (None, "demo") and (DEMO / "config.json").exists():
        with tempfile.TemporaryDirectory() as work:
            make_golden(DEMO_CASE, DEMO, options.out, Path(work))


if __name__ == "__main__":
    main()
