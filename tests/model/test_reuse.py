# SPDX-License-Identifier: Apache-2.0
"""What is kept, copied, shared, moved or computed again changes no bit: tokens and log
probabilities with the prefix cache, in an arena that is too small and in other pieces are those of
one request alone."""

import json
import os
import random
import subprocess

import pytest

from conftest import ROOT, logits_of

WIDTHS = ["f32", "bf16", "int8", "int4"]
KV_DTYPES = ["bundle", "int8"]
TEXT = "what is in the picture a cat red square left of tent how many are there and where"


def bundle_of(ours, weights):
    return ours("demo", "f32" if weights == "f32" else "bf16", weights)


def server() -> str:
    path = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")
    if subprocess.run([path, "--help"], capture_output=True).returncode != 0:
        pytest.skip(f"{path} does not run: build it by scripts/build.sh, or set IDEFICS_SERVER")
    return path


@pytest.mark.parametrize("kv_dtype", KV_DTYPES)
@pytest.mark.parametrize("weights", WIDTHS)
def test_a_prompt_has_the_same_logits_in_whatever_pieces_it_runs(ours, weights, kv_dtype):
    from parity_cases import PROMPTS
    model = bundle_of(ours, weights)
    if kv_dtype == "int8":
        model = model.with_int8_kv()
    token_by_token, *others = [
        model.ask([{**model.prompt(prompt), "piece": piece} for prompt in PROMPTS])
        for piece in (1, 2, 5, 16, 1000)
    ]
    for pieces in others:
        for one, piece in zip(token_by_token, pieces, strict=True):
            logits = logits_of(one)[piece["positions"]]  # after each piece
            assert logits.tobytes() == logits_of(piece).tobytes()


def conversation(pictures, seed):
    """Lines that begin alike: few shots with different questions, and turns that go on."""
    choose = random.Random(seed)

    def text(count):
        return " ".join(choose.choices(TEXT.split(), k=count))

    picture = [f"file:{path}" for path in sorted(pictures.glob("*.ppm"))[:4]]
    shots = []
    for shown in picture[:3]:
        shots += [shown, f"Question: {text(8)} Answer: {text(5)} "]
    lines = [[*shots, f"Question: {text(6)} Answer:"] for _ in range(6)]
    turns = [picture[seed % 4], f"User: {text(12)} Assistant:"]
    for _ in range(5):
        lines.append(list(turns))
        turns += [text(10), f" User: {text(12)} Assistant:"]
    lines.append([*shots[:3], picture[3], *shots[3:]])  # another picture in the middle
    return lines


def predict(model, folder, lines, *flags):
    folder.mkdir()
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = subprocess.run([server(), "predict", "--model", str(model.bundle), "--jsonl",
                           str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl"), *flags],
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [answer["status"] for answer in answers] == ["succeeded"] * len(lines), answers
    return answers


@pytest.mark.parametrize(("weights", "kv_dtype"), [("f32", "bundle"), ("int8", "bundle"),
                                                    ("int8", "int8")])
def test_reuse_preemption_moves_and_guesses_change_no_token_and_no_log_probability(
        ours, pictures, weights, kv_dtype, tmp_path):
    model = bundle_of(ours, weights)
    kv = ["--kv-dtype", kv_dtype]
    prompts = [line for seed in range(3) for line in conversation(pictures, seed)]
    lines = []
    for i, prompt in enumerate(prompts):
        line = {"id": str(i), "prompt": prompt, "max_new_tokens": 100, "min_new_tokens": 60 + i}
        if i % 3 == 1:
            line |= {"decoding_strategy": "Top P Sampling", "temperature": 1.5, "seed": i}
        lines.append(line)
    alone = predict(model, tmp_path / "alone", lines, *kv, "--details", "--max-num-seqs", "1",
                    "--prefix-cache", "false", "--no-speculation")
    assert not any(answer["metrics"]["cached_token_count"] for answer in alone)
    for name, flags in {
            "guessed, cache off": [
                "--details", "--max-num-seqs", "1", "--prefix-cache", "false"
            ],
            "warm": ["--details", "--max-num-seqs", "1"],
            "together": ["--details", "--max-num-seqs", "8"],
            "short of room": ["--details", "--kv-tokens", "600"],
            "short of room, cache off": [
                "--details", "--kv-tokens", "600", "--prefix-cache", "false"
            ],
            "one picture": ["--details", "--image-cache-slots", "1"],
            "divided by layers, short of room": [
                "--details", "--kv-tokens", "600", "--device", "cpu,cpu"
            ],
            "a step ahead": ["--async-scheduling", "true", "--kv-tokens", "600"],
    }.items():
        answers = predict(model, tmp_path / name.replace(" ", "_"), lines, *kv, *flags)
        reused = sum(answer["metrics"]["cached_token_count"] for answer in answers)
        assert (reused > 0) == ("off" not in name), name
        for one, other in zip(alone, answers, strict=True):
            assert one["output"] == other["output"], (name, one["id"])
            if "--details" in flags:  # with which the host chooses the tokens
                assert one["token_ids"] == other["token_ids"], (name, one["id"])
                assert one["logprobs"] == other["logprobs"], (name, one["id"])


@pytest.mark.parametrize(("weights", "kv_dtype"), [("f32", "bundle"), ("int8", "bundle"),
                                                    ("int8", "int8")])
def test_requests_that_read_one_copy_of_a_beginning_give_what_they_give_alone(
        ours, pictures, weights, kv_dtype, tmp_path):
    model = bundle_of(ours, weights)
    choose = random.Random(3)
    shown = [f"file:{path}" for path in sorted(pictures.glob("*.ppm"))[:4]]
    shots = []
    for shot in range(16):  # some 400 tokens: more than EngineOptions::share_from
        shots += [shown[shot % 4], " ".join(choose.choices(TEXT.split(), k=20)) + ". "]
    lines = []
    for i in range(8):
        question = " ".join(choose.choices(TEXT.split(), k=6))
        line = {"id": str(i), "prompt": [*shots, f"Question: {question} Answer:"],
                "max_new_tokens": 60, "min_new_tokens": 40 + i}
        if i % 3 == 1:
            line |= {"decoding_strategy": "Top P Sampling", "temperature": 1.5, "seed": i}
        lines.append(line)
    flags = ["--kv-dtype", kv_dtype, "--details"]
    alone = predict(model, tmp_path / "alone", lines, *flags, "--max-num-seqs", "1",
                    "--prefix-cache", "false", "--no-speculation")
    tokens = alone[0]["metrics"]["input_token_count"]
    assert tokens > 350
    for name, other_flags in {
            "room": ["--kv-tokens", str(8 * (tokens + 60))],
            "hardly room": ["--kv-tokens", str(tokens + 200)],
            "divided by layers": ["--kv-tokens", str(tokens + 200), "--device", "cpu,cpu,cpu"],
    }.items():
        answers = predict(model, tmp_path / name.replace(" ", "_"), lines, *flags, *other_flags)
        for one, other in zip(alone, answers, strict=True):
            assert one["token_ids"] == other["token_ids"], (name, one["id"])
            assert one["logprobs"] == other["logprobs"], (name, one["id"])
        assert sum(answer["metrics"]["cached_token_count"] for answer in answers) > 7 * 300, name
