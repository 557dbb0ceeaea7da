# SPDX-License-Identifier: Apache-2.0
"""The alerts: their unit tests by promtool, and that what they ask for stands on a real page."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "deploy/prometheus"


def promtool(*arguments):
    if shutil.which("promtool") is None:
        pytest.skip("promtool (Debian's package prometheus) is not in PATH")
    return subprocess.run(["promtool", *arguments], cwd=FOLDER, capture_output=True, text=True,
                          check=False)


@pytest.mark.parametrize("arguments", [("check", "rules", "rules.yaml"),
                                       ("test", "rules", "rules_test.yaml")])
def test_promtool(arguments):
    done = promtool(*arguments)
    assert done.returncode == 0, done.stdout + done.stderr


def test_rules_ask_for_what_is_there(start):
    server = start()
    server.wait_until("READY")
    page = server.ask("GET", "/metrics")[1]
    there = set(re.findall(r"^(idefics_\w+)", page, re.M))
    expressions = [line for line in (FOLDER / "rules.yaml").read_text().splitlines()
                   if "annotations" not in line and not line.startswith("#")]
    asked = set(re.findall(r"\b(idefics_\w+)", "\n".join(expressions)))
    assert asked and asked <= there, asked - there
