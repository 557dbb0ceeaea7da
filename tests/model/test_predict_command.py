# SPDX-License-Identifier: Apache-2.0
"""`idefics-server predict --jsonl` gives the tokens of transformers, whether its lines run together
or one by one."""

import json
import os
import subprocess

import pytest

from conftest import ROOT, read_golden

# Written in a prompt these are plain text, unlike in transformers.
FORGED = ("<image>", "<fake_token_around_image>")
NUM_LINES = 32
NUM_BEAM_LINES = 8


def server() -> str:
    path = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")
    if subprocess.run([path, "--help"], capture_output=True).returncode != 0:
        pytest.skip(f"{path} does not run: build it by scripts/build.sh, or set IDEFICS_SERVER")
    return path


@pytest.fixture(scope="module")
def lines(ours):
    """(golden entry, input line) of generations whose settings the API can express."""
    from parity_cases import PROMPTS
    prompts = {
        prompt.name: prompt
        for prompt in PROMPTS if not any(
            isinstance(part, str) and any(token in part for token in FORGED)
            for part in prompt.parts)
    }
    golden = read_golden("instruct")
    pictures = ours("instruct").pictures
    possible = [[entry for entry in golden[kind] if entry["prompt"] in prompts]
                for kind in ("greedy", "beams")]
    chosen = possible[0][:NUM_LINES] + possible[1][:NUM_BEAM_LINES]
    assert len(chosen) == NUM_LINES + NUM_BEAM_LINES
    made = []
    for i, entry in enumerate(chosen):
        prompt = prompts[entry["prompt"]]
        items = [
            part if isinstance(part, str) else f"file:{pictures / part[1]}.ppm"
            for part in prompt.parts
        ]
        made.append((entry, {"id": f"line {i}", "prompt": items, **entry["sampling"],
                             "add_end_of_utterance_token": prompt.add_end_of_utterance}))
    return made


def predict(ours, folder, lines, *flags):
    folder.mkdir()
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = subprocess.run([server(), "predict", "--model", str(ours("instruct").bundle), "--jsonl",
                           str(folder / "in.jsonl"), "-o", str(folder / "out.jsonl"), *flags],
                          capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [answer["id"] for answer in answers] == [line["id"] for line in lines]
    return answers


def test_lines_that_run_together_give_the_tokens_of_transformers(ours, lines, tmp_path):
    answers = predict(ours, tmp_path / "together", [line for _, line in lines], "--details")
    for (entry, line), answer in zip(lines, answers, strict=True):
        assert answer["status"] == "succeeded", answer
        assert answer["token_ids"] == entry["token_ids"], line
        assert answer["output"] == entry["text"], line
        assert len(answer["logprobs"]) == len(answer["token_ids"])


def test_lines_that_run_one_by_one_give_the_same_answers(ours, lines, tmp_path):
    inputs = [line for _, line in lines[:NUM_LINES]]
    together = predict(ours, tmp_path / "together", inputs, "--details")
    alone = predict(ours, tmp_path / "alone", inputs, "--details", "--max-num-seqs", "1")
    exact = 0
    for a, b in zip(together, alone, strict=True):
        assert a["token_ids"] == b["token_ids"], a["id"]
        exact += a["logprobs"] == b["logprobs"]
    print(f"log probabilities equal bit for bit in {exact} of {len(together)} answers")


def test_tokens_chosen_by_the_runner_a_step_ahead_are_the_same(ours, lines, tmp_path):
    """Without --details: log probabilities would leave the choice to the host."""
    greedy = [line for _, line in lines]
    settings = ({"temperature": 2.0}, {"top_p": 0.7, "temperature": 1.5, "typical_p": 0.8}, {
        "top_k": 5, "temperature": 3.0, "repetition_penalty": 1.3, "min_new_tokens": 4,
        "max_new_tokens": 20
    })
    sampled = [{
        **line, "id": f"sampled {i}", "decoding_strategy": "Top P Sampling", "seed": i,
        **settings[i % 3]
    } for i, line in enumerate(greedy[:NUM_LINES])]
    host = predict(ours, tmp_path / "host", greedy + sampled, "--async-scheduling", "false")
    ahead = predict(ours, tmp_path / "ahead", greedy + sampled, "--async-scheduling", "true")
    for (entry, line), answer in zip(lines, ahead[:len(lines)], strict=True):
        assert answer["output"] == entry["text"], line
    for a, b in zip(host, ahead, strict=True):
        assert (a["status"], a["output"]) == ("succeeded", b["output"]), a["id"]
        assert a["metrics"]["output_token_count"] == b["metrics"]["output_token_count"], a["id"]
    others = sum(a["output"] != b["output"]
                 for a, b in zip(ahead, ahead[len(greedy):], strict=False))
    assert others > NUM_LINES // 2, (f"only {others} of {NUM_LINES} sampled answers differ from "
                                     f"the greedy ones")
