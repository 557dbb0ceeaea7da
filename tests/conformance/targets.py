# SPDX-License-Identifier: Apache-2.0
"""What the cases are put to: the fake server or our binary with the demo model, the real coglet, or
a URL."""

import contextlib
import functools
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.parse
from pathlib import Path
from typing import Any, Protocol

import pytest

from cases import Options
from client import Client
from patience import wait_until
from ports import free_port
from shims import image_path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
VERSIONS = dict(line.split() for line in (ROOT / "VERSION").open())  # "cog-idefics" and "cog"
OURS = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")
FAKE = os.environ.get("IDEFICS_FAKE_SERVER") or str(ROOT / "scripts/fake-server")
INPUTS_OF_THE_ORIGINAL = ("image", "text", "max_new_tokens", "repetition_penalty",
                          "decoding_strategy", "temperature", "top_p")


# `env` looks the command up on the PATH that it is given, not on ours.
PYTHON_START = ("env", "python", "--check-hash-based-pycs", "never", "-m", "cog.server.http")


def printed_schema(output: str) -> dict[str, Any]:
    environment = {**os.environ, "COG_IDEFICS_OUTPUT": output}
    return json.loads(
        subprocess.run([OURS, "--print-openapi"], env=environment, capture_output=True,
                       check=True).stdout)


class Running(Client):
    """A server process that a case may watch and end."""

    def __init__(self, command: list[str], environment: dict[str, str], port: int, **more: bool):
        super().__init__("127.0.0.1", port, **more)
        environment = {**os.environ, "PORT": str(port), **environment}
        self.process = subprocess.Popen(command,
                                        env=environment,
                                        stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT,
                                        start_new_session=True)
        self.log: list[str] = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line.decode(errors="replace"))

    def listening(self) -> dict[str, Any] | None:
        assert self.process.poll() is None, f"the server ended: {self.log[-5:]}"
        try:
            return self.health()
        except OSError:
            return None

    def wait_listening(self, seconds: float = 60) -> dict[str, Any] | None:
        return wait_until(self.listening, seconds, "that the server listens")

    def send_signal(self, number: int = signal.SIGTERM) -> None:
        self.process.send_signal(number)

    def wait_exit(self, seconds: float = 60) -> int:
        """Its status; all its lines are in `log` then."""
        status = self.process.wait(timeout=seconds)
        self._reader.join()
        return status

    def kill(self) -> None:
        """Ends the process and its children (coglet has a worker)."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


class Target(Protocol):
    """What starts a server for a case's options."""
    name: str

    def start(self, options: Options) -> Client: ...


class OurTarget:
    """The fake server, or idefics-server with the model of IDEFICS_DEMO_BUNDLE."""
    name = "ours"

    def __init__(self, program: tuple[str, ...] = (FAKE,)):
        self.program = program

    @functools.cached_property
    def path(self) -> str:
        return image_path(OURS)

    def command(self, options: Options) -> list[str]:
        """Loopback is open to it: webhooks and pictures of the cases come from there."""
        if options.cog_start:
            return [*PYTHON_START, "--host", "127.0.0.1", *options.flags]
        return [*self.program, "--host", "127.0.0.1", "--webhook-hosts", "any",
                "--allow-private-urls", "true", *options.flags, *options.tuning]

    def start(self, options: Options) -> Running:
        environment = {
            "COG_IDEFICS_OUTPUT": options.output, "COG_MAX_CONCURRENCY": str(options.slots)
        }
        if options.cog_start:
            environment |= {"PATH": self.path, "IDEFICS_SERVER_PROGRAM": FAKE}
        return Running(self.command(options), {**environment, **dict(options.env)}, free_port())


class CogletTarget:
    """The real server of cog (the version in VERSION) with coglet_runner/run.py, in a folder as
    `cog build` makes one."""
    name = "coglet"

    def __init__(self) -> None:
        self.folders: dict[str, Path] = {}
        self.path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.scratch = tempfile.mkdtemp(prefix="coglet-")

    def folder(self, output: str) -> Path:
        if output not in self.folders:
            folder = Path(self.scratch) / output
            (folder / ".cog").mkdir(parents=True)
            shutil.copy(HERE / "coglet_runner/run.py", folder)
            (folder / ".cog/openapi_schema.json").write_text(json.dumps(coglet_schema(output)))
            self.folders[output] = folder
        return self.folders[output]

    def start(self, options: Options) -> Running:
        runner = {"string": "Runner", "stream": "StreamRunner"}[options.output]
        if options.slots > 1:
            runner = "Async" + runner
        environment = {
            "COG_PREDICT_TYPE_STUB": f"run.py:{runner}", "COG_MAX_CONCURRENCY": str(options.slots),
            "PATH": self.path, **dict(options.env)
        }
        # `env --chdir` instead of cwd=: the process group stays the one that Running ends.
        command = ["env", f"--chdir={self.folder(options.output)}", *PYTHON_START[1:],
                   "--host", "127.0.0.1", *options.flags]
        return Running(command, environment, free_port(), frees_slot_late=True)


def coglet_schema(output: str) -> dict[str, Any]:
    """Our schema with the original's inputs alone: only these can be written as a Python
    signature."""
    schema = printed_schema(output)
    declared = schema["components"]["schemas"]["Input"]
    declared["properties"] = {name: declared["properties"][name] for name in INPUTS_OF_THE_ORIGINAL}
    declared.pop("anyOf", None)
    declared["required"] = ["image", "text"]
    if output == "string":
        # coglet refuses to stream a plain string; ours streams it
        # (docs/cog-api.md#deviations-from-coglet).
        schema["paths"]["/predictions"]["post"].pop("x-cog-streaming", None)
    return schema


class UrlTarget:
    """A server that somebody else started; cases that need another start are skipped."""
    name = "url"

    def __init__(self, url: str):
        parts = urllib.parse.urlsplit(url)
        assert parts.hostname, f"{url} names no host"
        self.client = Client(parts.hostname, parts.port or 80)
        served = self.client.get("/openapi.json").json["components"]["schemas"]["Output"]
        self.output = "stream" if served["type"] == "array" else "string"

    def start(self, options: Options) -> Client:
        if not options.plain:
            pytest.skip(
                f"needs a server started in its own way ({options}); --base-url names a running one"
            )
        if options.output != self.output:
            pytest.skip(
                f"needs the {options.output} variant; the server at --base-url has the other one")
        return self.client


class Pool:
    """Running servers by their options. A server that does not come back to rest is not used
    again."""

    def __init__(self, target: Target):
        self.target = target
        self.servers: dict[Options, Client] = {}

    def take(self, options: Options) -> Client:
        if options.fresh:
            return self._started(options)
        if options not in self.servers:
            self.servers[options] = self._started(options)
        return self.servers[options]

    def _started(self, options: Options) -> Client:
        server = self.target.start(options)
        if options.ready and isinstance(server, Running):
            server.wait_listening()
            server.wait_status("READY", seconds=120)
        return server

    def give_back(self, options: Options, server: Client) -> None:
        """Asserts that no case leaves a slot taken: what a shared server must be is READY."""
        if options.fresh:
            assert isinstance(server, Running)
            server.kill()
            return
        try:
            server.wait_status("READY", seconds=5)
        except (AssertionError, OSError):
            left = self.servers.pop(options)
            if isinstance(left, Running):
                left.kill()
            if self.target.name != "coglet":
                raise

    def close(self) -> None:
        for server in self.servers.values():
            if isinstance(server, Running):
                server.kill()
