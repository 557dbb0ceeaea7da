# SPDX-License-Identifier: Apache-2.0
"""The servers of tests/server, by their file's path: this folder has a conftest too."""

import importlib.util
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[1] / "server"
sys.path.insert(0, str(FOLDER))
SPEC = importlib.util.spec_from_file_location("servers", FOLDER / "conftest.py")
servers = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(servers)

start = servers.start  # the fixture
