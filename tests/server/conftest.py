# SPDX-License-Identifier: Apache-2.0
"""Starts servers: the fake one (always) and the real one with the demo model
(IDEFICS_DEMO_BUNDLE)."""

import base64
import http.client
import json
import os
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from patience import wait_until
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SERVER = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")
FAKE_SERVER = os.environ.get("IDEFICS_FAKE_SERVER") or str(ROOT / "scripts/fake-server")
ASSETS = ROOT / "tests/assets"
PICTURES = ASSETS / "pixels"


def data_uri(path: Path) -> str:
    return "data:image/png;base64," + base64.b64encode(path.read_bytes()).decode()


class Server:
    """The fake server; the real one where --model is among the flags."""

    def __init__(self, *flags, port=None, **environment):
        self.port = port or free_port()
        program = [SERVER, "serve"] if "--model" in flags else [FAKE_SERVER]
        command = [*program, "--host", "127.0.0.1", "--port", str(self.port), *flags]
        self.process = subprocess.Popen(command,
                                        env={**os.environ, **environment},
                                        stderr=subprocess.PIPE)
        self.log = []
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()

    def _read_log(self):
        for line in self.process.stderr:
            self.log.append(line.decode(errors="replace"))

    def wait_for_line(self, words):
        """A line is in `log` some time after it was written."""
        wait_until(lambda: any(words in line for line in list(self.log)), what=f"a line: {words}")

    def connect(self):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)

    def ask(self, method, path, body=None, **headers):
        """-> (status, parsed body or text)"""
        connection = self.connect()
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        connection.request(method, path, body,
                           {name.replace("_", "-"): value
                            for name, value in headers.items()})
        response = connection.getresponse()
        text = response.read().decode()
        connection.close()
        is_json = (response.getheader("Content-Type") or "").startswith("application/json")
        return response.status, json.loads(text) if is_json else text

    def predict(self, _path="/predictions", _method="POST", _headers=None, **inputs):
        return self.ask(_method, _path, {"input": inputs}, **(_headers or {}))

    def health(self):
        return self.ask("GET", "/health-check")[1]["status"]

    def wait_until(self, status, seconds=60):
        def reached():
            try:
                return self.health() == status
            except OSError:
                assert self.process.poll() is None, "".join(self.log)
                return False
        wait_until(reached, seconds, f"the status {status}")

    def wait(self):
        """Its exit status; all its lines are in `log` then."""
        status = self.process.wait(timeout=60)
        self._reader.join()
        return status

    def stop(self, with_signal=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.wait()


@pytest.fixture
def start():
    """start("--flag", …, NAME="value", …) -> a Server, stopped at the end of the test."""
    started = []

    def run(*flags, **environment):
        started.append(Server(*flags, **environment))
        return started[-1]
    yield run
    for server in started:
        server.stop(signal.SIGKILL)


@pytest.fixture(scope="session")
def fake():
    server = Server("--max-concurrency", "2", "--allow-private-urls")
    server.wait_until("READY")
    yield server
    assert server.stop() == 0


@pytest.fixture(scope="session")
def demo():
    bundle = os.environ.get("IDEFICS_DEMO_BUNDLE")
    if not bundle:
        pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
    server = Server("--model", bundle, "--allow-private-urls")
    server.wait_until("READY", 120)
    yield server
    assert server.stop() == 0


@pytest.fixture
def hold(tmp_path):
    """The fake engine waits for this file: `hold.touch()` lets it go on (docs/cog-api.md)."""
    return tmp_path / "go"


class Pictures(BaseHTTPRequestHandler):
    """/NAME: a file of tests/assets; /slow: begins and never ends; /loop: redirects to itself;
    /to?URL."""

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/slow":
            self.server.slow_begun.set()
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            self.wfile.write(b"twenty bytes and then")
            self.server.stopped.wait()
            return
        if path in ("/loop", "/to"):
            self.send_response(302)
            self.send_header("Location", query or "/loop")
            self.send_header("Content-Length", "0")
            self.end_headers()
            return
        file = ASSETS / path[1:]
        found = file.is_file()
        content = file.read_bytes() if found else b"no such picture"
        self.server.agents.append(self.headers.get("User-Agent"))
        self.send_response(200 if found else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="session")
def pictures():
    """An image server; .url is its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    server.url = f"http://127.0.0.1:{server.server_address[1]}"
    server.agents = []
    server.stopped = threading.Event()
    server.slow_begun = threading.Event()  # somebody asked for /slow
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield server
    server.stopped.set()
    server.shutdown()
