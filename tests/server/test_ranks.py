# SPDX-License-Identifier: Apache-2.0
"""The real server with a model that is divided among ranks."""

import json
import os
import re
import subprocess

import pytest

from conftest import ROOT, SERVER, data_uri

BUNDLE = os.environ.get("IDEFICS_DEMO_BUNDLE", "")
pytestmark = pytest.mark.skipif(not BUNDLE, reason="IDEFICS_DEMO_BUNDLE is not set")


def test_ranks_hold_the_bytes_that_inspect_says_and_answer_as_one(start, demo):
    shown = subprocess.run([SERVER, "inspect", BUNDLE, "--json"], capture_output=True, check=True)
    ways = json.loads(shown.stdout)["devices"]
    weights = {way["devices"]: way["weights"] for way in ways if "fp8" not in way["flags"]}
    question = {"image": data_uri(next((ROOT / "tests/assets").glob("*.jpg"))),
                "text": "What is this?"}
    expected = demo.predict(**question)[1]["output"]
    for ranks in (2, 4):
        server = start("--model", BUNDLE, "--device", "cpu", "--tensor-parallel", str(ranks))
        server.wait_until("READY", 120)
        assert server.predict(**question)[1]["output"] == expected
        held = re.findall(r"(\d+) bytes of weights", "".join(server.log))
        assert len(held) == ranks and max(map(int, held)) == weights[ranks]
    assert weights[1] > weights[2] > weights[4]
