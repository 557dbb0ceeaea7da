# SPDX-License-Identifier: Apache-2.0
"""The real server with a model whose layers are divided among devices."""

import json
import os
import re
import subprocess

import pytest

from conftest import ASSETS, SERVER, data_uri

BUNDLE = os.environ.get("IDEFICS_DEMO_BUNDLE", "")
pytestmark = pytest.mark.skipif(not BUNDLE, reason="IDEFICS_DEMO_BUNDLE is not set")


def inputs():
    """Those of the scenes, as the API takes them."""
    for scene in json.loads((ASSETS / "scenes.json").read_text()):
        yield [data_uri(ASSETS / part[5:]) if part.startswith("file:") else part
               for part in scene["prompt"]]


def chat(server, **body):
    question = {"role": "user", "content": "What is this?"}
    return server.ask("POST", "/v1/chat/completions", {"messages": [question], **body})


def test_devices_hold_the_bytes_that_inspect_says_and_answer_as_one(start, demo):
    shown = subprocess.run([SERVER, "inspect", BUNDLE, "--json"], capture_output=True, check=True)
    ways = {way["flags"]: way for way in json.loads(shown.stdout)["devices"]}
    each = ways["--device cuda:0,cuda:1"]["each"]
    expected = [demo.predict(prompt=prompt)[1]["output"] for prompt in inputs()]
    for count in (2, 3):
        server = start("--model", BUNDLE, "--device", ",".join(["cpu"] * count))
        server.wait_until("READY", 120)
        assert [server.predict(prompt=prompt)[1]["output"] for prompt in inputs()] == expected
        assert server.stop() == 0
        held = list(map(int, re.findall(r"layers in (\d+) bytes of weights", "".join(server.log))))
        assert len(held) == count and sum(held) == ways[""]["weights"]
        if count == 2:
            assert held == [device["weights"] for device in each]


def test_streams_and_choices_are_those_of_one_device(start, demo):
    server = start("--model", BUNDLE, "--device", "cpu,cpu")
    server.wait_until("READY", 120)
    _, stream = chat(server, stream=True, temperature=0)
    pieces = [json.loads(line[6:]) for line in stream.splitlines() if line.startswith("data: {")]
    text = "".join(piece["choices"][0]["delta"].get("content") or "" for piece in pieces)
    assert text and text == chat(demo, temperature=0)[1]["choices"][0]["message"]["content"]
    several = {"n": 3, "seed": 5, "temperature": 1.5}
    assert chat(server, **several)[1]["choices"] == chat(demo, **several)[1]["choices"]


@pytest.mark.parametrize("flags, says", [
    (["--device", "cpu,cuda:9"],
     "(no CUDA device can be used here, and cuda:9 was asked for: use cpu or auto"
     "|there is no cuda:9 here: the last one is cuda:\\d"
     "|--device is cpu,cuda:9: they must all be GPUs, or all the CPU)"),
    (["--device", "cpu,cpu,cpu,cpu,cpu"],
     "--device names 5 devices, and the model has 4 layers: name as many devices at most"),
    (["--device", "cpu,cpu,cpu", "--tensor-parallel", "2"],
     "--device names 3 devices and --tensor-parallel is 2: give one device for each rank, or one "
     "alone; without --tensor-parallel they divide the layers"),
    (["--devices", "cpu,gpu"],  # an earlier name
     "--devices is 'cpu,gpu': use auto, cpu, cuda or cuda:N, or several with commas between"),
])
def test_devices_that_cannot_be_used_are_refused_in_a_sentence(flags, says):
    done = subprocess.run([SERVER, "predict", "--model", BUNDLE, "-i", "prompt=hi", *flags],
                          capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert re.search(says, done.stderr), done.stderr
