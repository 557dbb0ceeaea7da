# SPDX-License-Identifier: Apache-2.0
"""The demo model behind OpenAI's API, or any server at --base-url."""

import base64
import http.client
import json
import os
import signal
import subprocess
import threading
import urllib.parse
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from patience import wait_until
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SERVER = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")
ASSETS = ROOT / "tests/assets"
QUESTION = "What is in this image?"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--base-url", help="ask this running server instead, http://host:port")


def data_uri(name: str) -> str:
    kind = "png" if name.endswith("png") else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode((ASSETS / name).read_bytes()).decode()


def image(url: str) -> dict[str, Any]:
    return {"type": "image_url", "image_url": {"url": url}}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def user(*parts: Any) -> dict[str, Any]:
    return {"role": "user", "content": parts[0] if parts and isinstance(parts[0], str) else
            list(parts)}


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status = response.status
        self.headers = {name.lower(): value for name, value in response.getheaders()}
        self.content = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.content)

    @property
    def error(self) -> Any:
        return self.json["error"]

    @property
    def text(self) -> str:
        return str(self.json["choices"][0]["message"]["content"])


class Api:
    def __init__(self, url: str):
        self.url = url
        parts = urllib.parse.urlsplit(url)
        self.host, self.port = parts.hostname or "127.0.0.1", parts.port or 80

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.host, self.port, timeout=120)

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Answer:
        connection = self.connect()
        if body is not None and not isinstance(body, (str, bytes)):
            body = json.dumps(body)
        sent = {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            sent.setdefault("Content-Type", "application/json")
        connection.request(method, path, body, sent)
        answer = Answer(connection.getresponse())
        connection.close()
        return answer

    def chat(self, *messages: Any, **fields: Any) -> Answer:
        body = {"messages": list(messages), "temperature": 0, "max_tokens": 24, **fields}
        return self.ask("POST", "/v1/chat/completions", body)

    def complete(self, prompt: Any, **fields: Any) -> Answer:
        body = {"prompt": prompt, "temperature": 0, **fields}
        return self.ask("POST", "/v1/completions", body)

    def chunks(self, path: str, body: Any) -> list[Any]:
        """The objects of an event stream, which must be framed as OpenAI's are."""
        answer = self.ask("POST", path, {**body, "stream": True})
        assert answer.status == 200, answer.content
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert "content-length" not in answer.headers
        records = answer.content.decode().split("\n\n")
        assert records[-2:] == ["data: [DONE]", ""], records[-3:]
        assert all(record.startswith("data: ") and "\n" not in record for record in records[:-1])
        return [json.loads(record.removeprefix("data: ")) for record in records[:-2]]

    def stream(self, *messages: Any, **fields: Any) -> list[Any]:
        body = {"messages": list(messages), "temperature": 0, "max_tokens": 24, **fields}
        return self.chunks("/v1/chat/completions", body)

    def cog(self, **inputs: Any) -> Any:
        return self.ask("POST", "/predictions", {"input": inputs}).json


class Running(Api):
    """A server of our own."""

    def __init__(self, *flags: str, **environment: str):
        port = free_port()
        super().__init__(f"http://127.0.0.1:{port}")
        bundle = os.environ.get("IDEFICS_DEMO_BUNDLE")
        if not bundle:
            pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
        command = [SERVER, "serve", "--model", bundle, "--host", "127.0.0.1", "--port", str(port),
                   "--allow-private-urls", *flags]
        self.process = subprocess.Popen(command, env={**os.environ, **environment},
                                        stderr=subprocess.DEVNULL)

    def ready(self) -> bool:
        try:
            return self.ask("GET", "/health").status == 200
        except OSError:
            assert self.process.poll() is None, "the server ended at its start"
            return False

    def stop(self, with_signal: int = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(with_signal)
        return self.process.wait(timeout=60)


@pytest.fixture(scope="session")
def api(request: pytest.FixtureRequest) -> Iterator[Api]:
    if url := request.config.getoption("--base-url"):
        yield Api(url)
        return
    server = Running("--served-model-name", "demo")
    wait_until(server.ready, 120, "the model's being loaded")
    yield server
    assert server.stop() == 0


@pytest.fixture
def start() -> Iterator[Callable[..., Running]]:
    """start("--flag", …) -> a server of the test's own, once it is ready."""
    started: list[Running] = []

    def run(*flags: str, **environment: str) -> Running:
        started.append(Running(*flags, **environment))
        wait_until(started[-1].ready, 120, "the model's being loaded")
        return started[-1]
    yield run
    for server in started:
        server.stop(signal.SIGKILL)


class Pictures(BaseHTTPRequestHandler):
    """/NAME: a file of tests/assets; /status/N answers N."""

    def do_GET(self) -> None:
        file = ASSETS / self.path[1:]
        status = int(self.path.rsplit("/", 1)[1]) if self.path.startswith("/status/") else 200
        content = file.read_bytes() if status == 200 and file.is_file() else b"no picture"
        self.send_response(status if status != 200 or file.is_file() else 404)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="session")
def pictures() -> Iterator[str]:
    """The address of an image server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Pictures)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()


@pytest.fixture(scope="session")
def cat() -> str:
    return data_uri("cat.jpg")


@pytest.fixture(scope="session")
def count() -> str:
    return data_uri("count.jpg")
