# SPDX-License-Identifier: Apache-2.0
"""The servers that the page is put in front of, and a proxy that hides one below a prefix."""

import http.client
import json
import os
import signal
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from patience import wait_until
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")
FAKE_PROGRAM = os.environ.get("IDEFICS_FAKE_SERVER") or str(ROOT / "scripts/fake-server")


class Server:
    def __init__(self, command: list[str], flags: tuple[str, ...], environment: dict[str, str],
                 wait: bool = True):
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(self.port), *flags],
            env={**os.environ, **environment}, stderr=subprocess.DEVNULL)
        if wait:
            wait_until(lambda: self.health() != "STARTING", 120, "the start")

    @classmethod
    def fake(cls, *flags: str, **environment: str) -> "Server":
        environment.setdefault("FAKE_TOKENIZER", str(ROOT / "weights/demo/tokenizer.model"))
        return cls([FAKE_PROGRAM], ("--served-model-name", "fake", *flags), environment)

    @classmethod
    def starting(cls, *flags: str, **environment: str) -> "Server":
        """A fake server that is still loading."""
        environment.setdefault("FAKE_TOKENIZER", str(ROOT / "weights/demo/tokenizer.model"))
        server = cls([FAKE_PROGRAM], flags, environment, wait=False)
        wait_until(server.listens, 30, "the port's being open")
        return server

    @classmethod
    def demo(cls, *flags: str, **environment: str) -> "Server":
        bundle = os.environ.get("IDEFICS_DEMO_BUNDLE")
        if not bundle:
            pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
        return cls([PROGRAM, "serve", "--model", bundle], flags, environment)

    def ask(self, method: str, path: str, body: Any = None,
            **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            body = json.dumps(body)
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, sent)
        response = connection.getresponse()
        content = response.read()
        connection.close()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, content

    def health_body(self) -> dict[str, Any]:
        return dict(json.loads(self.ask("GET", "/health-check")[2]))

    def health(self) -> str:
        try:
            return str(self.health_body()["status"])
        except OSError:
            assert self.process.poll() is None, "the server ended at its start"
            return "STARTING"

    def listens(self) -> bool:
        try:
            return self.health_body()["status"] == "STARTING"
        except OSError:
            assert self.process.poll() is None, "the server ended at its start"
            return False

    def used(self) -> int:
        return int(self.health_body()["concurrency"]["current"])

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(timeout=60)


class Proxy:
    """A reverse proxy: PREFIX/x is the server's /x. Answers are passed on as they come."""

    def __init__(self, server: Server, prefix: str):
        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                if not self.path.startswith(prefix):
                    self.send_error(404)
                    return
                length = int(self.headers.get("Content-Length") or 0)
                body = self.rfile.read(length) if length else None
                connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=60)
                headers = {name: value for name, value in self.headers.items()
                           if name.lower() not in ("host", "origin", "connection")}
                connection.request(self.command, self.path.removeprefix(prefix), body, headers)
                response = connection.getresponse()
                self.send_response(response.status)
                for name, value in response.getheaders():
                    if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                        self.send_header(name, value)
                self.send_header("Connection", "close")
                self.end_headers()
                while piece := response.read1():
                    self.wfile.write(piece)
                    self.wfile.flush()
                connection.close()

            do_GET = do_POST = do_HEAD = answer  # noqa: N815

            def log_message(self, *_: Any) -> None:
                pass
        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_address[1]}"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.http.shutdown()
