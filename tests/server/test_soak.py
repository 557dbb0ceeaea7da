# SPDX-License-Identifier: Apache-2.0
"""The soak (scripts/soak.sh) itself: that it finds what it is to find, and a short run of it."""

import asyncio
import json
import os
import random
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

SOAK = Path(__file__).resolve().parents[2] / "scripts/soak"
sys.path.insert(0, str(SOAK))

from flat import Allowance, judge  # noqa: E402
from ledger import Ledger  # noqa: E402
from rests import Rests  # noqa: E402

ALLOWANCE = Allowance(0.05, 8)


def test_noise_and_a_warm_start_are_flat_and_a_slow_leak_is_not():
    rng = random.Random(1)
    noise = [rng.uniform(90, 110) for _ in range(900)]
    assert judge([30 + i / 5 for i in range(300)] + noise, ALLOWANCE).flat
    assert not judge([value + i / 50 for i, value in enumerate(noise)], ALLOWANCE).flat
    assert judge([100.0, 90.0], ALLOWANCE).flat


def test_an_end_that_comes_twice_never_or_otherwise_is_a_problem():
    ledger = Ledger()
    for name in ("good", "twice", "other", "wrong", "refused", "never"):
        ledger.ask(name, ("succeeded",))
    for name, seen, posted in [("good", "succeeded", "succeeded"),
                               ("twice", "succeeded", "succeeded"),
                               ("other", "failed", "succeeded"), ("wrong", "failed", "failed")]:
        ledger.seen(name, seen)
        ledger.posted(name, posted)
    assert [problem.split()[0].strip(":") for problem in ledger.problems] == ["other", "wrong"]
    ledger.posted("twice", "succeeded")
    ledger.posted("refused", "succeeded")
    ledger.refused("refused")
    assert ledger.num_problems == 4 and list(ledger.open) == ["never"]
    ledger.late.add("good")  # its post was answered so late that it may come again
    ledger.posted("good", "succeeded")
    assert ledger.num_problems == 4


def test_a_rest_begins_once_every_client_has_stopped():
    async def client(rests: Rests, acts: list[str], name: str) -> None:
        for act in range(4):
            if rests.called:
                await rests.wait()
            acts.append(f"{name}{act} begins")
            await asyncio.sleep(0)
            acts.append(f"{name}{act} ends")

    async def run() -> None:
        rests, acts = Rests(2), []
        clients = [asyncio.create_task(client(rests, acts, name)) for name in "ab"]
        await asyncio.sleep(0)
        for _ in range(2):
            await rests.begin()
            before = list(acts)
            await asyncio.sleep(0.01)
            assert acts == before
            rests.end()
            await asyncio.sleep(0)
        await asyncio.gather(*clients)
        assert len(acts) == 16

    asyncio.run(run())


def test_a_short_soak_ends_every_prediction_once(tmp_path):
    done = subprocess.run([sys.executable, str(SOAK / "soak.py"), "--out", str(tmp_path),
                           "--minutes", "0.1", "--clients", "16"],
                          capture_output=True, text=True, env=os.environ)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "too few to say what is flat" in done.stderr
    counts = json.loads(done.stdout.splitlines()[0])
    assert counts["accepted"] == counts["ended"] > 0
    assert ET.parse(tmp_path / "fake.svg").getroot().findall("{http://www.w3.org/2000/svg}path")
