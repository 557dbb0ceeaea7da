# SPDX-License-Identifier: Apache-2.0
"""The server of tests/server."""

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests/server"))


@pytest.fixture
def start():
    # By its path: this folder has a conftest too.
    import importlib.util
    spec = importlib.util.spec_from_file_location("servers", ROOT / "tests/server/conftest.py")
    servers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(servers)
    started = []

    def run(*flags, **environment):
        started.append(servers.Server(*flags, **environment))
        return started[-1]
    yield run
    for server in started:
        server.stop(9)
