# SPDX-License-Identifier: Apache-2.0
"""An idefics-server of our own: started, asked, started again where it dies."""

import contextlib
import ctypes
import hashlib
import json
import os
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import urllib3

from ports import free_port

HOST = "127.0.0.1"
MAX_FAILURES = 3  # of the server, one after another, with no answer between
POLL_S = 0.1
DEFAULT_WAIT_S = 1.0
PR_SET_PDEATHSIG = 1


class ServerError(Exception):
    """It will not do: nobody's request is at fault."""


def program() -> str:
    return os.environ.get("IDEFICS_SERVER") or str(
        Path(__file__).resolve().parents[1] / "idefics-server")


def _die_with_parent() -> None:
    """In the child: no server stays on the GPU when its worker is killed."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Server:
    """`predict` and `get` may be called by several threads."""

    def __init__(self, flags: Sequence[str], concurrency: int) -> None:
        self._flags = list(flags)
        # All that is under way may wait in the server, unless the flags say otherwise.
        self._environment = {"IDEFICS_QUEUE": str(concurrency), **os.environ}
        self._pool = urllib3.PoolManager(maxsize=concurrency, retries=False)
        self._lock = threading.Lock()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 (as long as this)
        self._process: subprocess.Popen[bytes] | None = None
        self._url = ""
        self._failures = 0
        self._generation = 0
        with self._lock:
            self._start()

    def close(self) -> None:
        with self._lock:
            if self._process is not None:
                self._process.terminate()
                self._process.wait()

    @property
    def input_names(self) -> frozenset[str]:
        schema = self.get("/openapi.json")
        return frozenset(schema["components"]["schemas"]["Input"]["properties"])

    @property
    def model(self) -> tuple[str | None, str | None]:
        """Its name, and the sha256 of its bundle's manifest."""
        with contextlib.suppress(KeyError):
            name = self.get("/v1/models")["data"][0]["id"]
            manifest = Path(self._bundle()) / "bundle.json"
            return name, hashlib.sha256(manifest.read_bytes()).hexdigest()
        return None, None

    def get(self, path: str) -> Any:
        return self._pool.request("GET", self._url + path).json()

    def predict(self, inputs: dict[str, Any]) -> tuple[int, bytes]:
        """The status and the body, once it is no request to wait. Dead servers are started anew and
        asked again. ServerError: they die every time."""
        body = json.dumps({"input": inputs}).encode()
        while True:
            generation, url = self._generation, self._url
            try:
                response = self._pool.request("POST", f"{url}/predictions", body=body,
                                              headers={"Content-Type": "application/json"})
            except urllib3.exceptions.HTTPError as error:
                self._failed(generation, str(error))
                continue
            if response.status in (409, 429, 503):
                time.sleep(float(response.headers.get("Retry-After", DEFAULT_WAIT_S)))
                continue
            with self._lock:
                self._failures = 0
            return response.status, response.data

    # ---- its life ----

    def _failed(self, generation: int, why: str) -> None:
        with self._lock:
            if generation != self._generation:
                return  # another thread has seen to it
            self._failures += 1
            if self._failures >= MAX_FAILURES:
                raise ServerError(f"the server failed {MAX_FAILURES} times with no answer between "
                                  f"({why}); its last lines:\n{self._log_tail()}")
            self._start()

    def _start(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        port = free_port(HOST)
        self._log.seek(0)
        self._log.truncate()
        self._process = subprocess.Popen(
            [program(), "serve", "--host", HOST, "--port", str(port), *self._flags],
            env=self._environment, stdout=self._log, stderr=self._log,
            preexec_fn=_die_with_parent)
        self._url = f"http://{HOST}:{port}"
        self._generation += 1
        while not self._ready():
            if self._process.poll() is not None:
                raise ServerError(f"the server ended at its start with status "
                                  f"{self._process.returncode}:\n{self._log_tail()}")
            time.sleep(POLL_S)

    def _ready(self) -> bool:
        with contextlib.suppress(urllib3.exceptions.HTTPError):
            return self.get("/health-check")["status"] in ("READY", "BUSY")
        return False

    def _log_tail(self) -> str:
        self._log.seek(max(0, self._log.seek(0, os.SEEK_END) - 2000))
        return self._log.read().decode("utf-8", "replace")

    def _bundle(self) -> str:
        """The --model of the flags, or of the environment."""
        for flag, value in zip(self._flags, [*self._flags[1:], ""], strict=True):
            if flag == "--model":
                return value
            if flag.startswith("--model="):
                return flag.partition("=")[2]
        return os.environ.get("IDEFICS_MODEL") or os.environ["COG_WEIGHTS"]
