# SPDX-License-Identifier: Apache-2.0
"""A client of Cog's HTTP interface, close enough to the wire to see everything that a case asks
about."""

import base64
import http.client
import json
import socket
import struct
import zlib
from collections.abc import Iterator
from typing import Any

from patience import wait_until

Headers = dict[str, str]

ASYNC = {"Prefer": "respond-async"}
SSE = {"Accept": "text/event-stream"}


def png(width: int = 4, height: int = 3) -> bytes:
    """A grey picture; written by hand, so that nothing needs Pillow."""
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(
            ">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(
        b"IEND", b"")


def data_uri(content: bytes, kind: str = "image/png") -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


PICTURE = data_uri(png())


def inputs(text: Any = "x", **others: Any) -> dict[str, Any]:
    return {"image": PICTURE, "text": text, "max_new_tokens": 8, **others}


def request(text: Any = "x", **fields: Any) -> dict[str, Any]:
    """A request's body; `fields` stand beside "input"."""
    return {"input": inputs(text), **fields}


class Answer:
    def __init__(self, response: http.client.HTTPResponse):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def succeeded(self) -> bool:
        """Whether it is the object of a prediction that succeeded."""
        return self.status == 200 and self.json["status"] == "succeeded"

    def __repr__(self) -> str:
        return f"{self.status} {self.body[:300]!r}"


class Exchange:
    """A request that is under way: the answer can be waited for, or the connection closed."""

    def __init__(self,
                 port: int,
                 host: str,
                 method: str,
                 path: str,
                 body: Any,
                 headers: Headers | None,
                 timeout: float = 120):
        self.connection = http.client.HTTPConnection(host, port, timeout=timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body,
                                               (str, bytes)) and not hasattr(body, "__next__"):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, body, headers)

    def answer(self) -> Answer:
        try:
            return Answer(self.connection.getresponse())
        finally:
            self.connection.close()

    def close(self) -> None:
        self.connection.close()


class EventStream:
    """Server-sent events: .status and .headers, then one (name, data) after another."""

    def __init__(self, exchange: Exchange):
        self.connection = exchange.connection
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
        self.comments: list[str] = []

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        name = ""
        for raw in self.response:
            line = raw.decode().rstrip("\n")
            if line.startswith(":"):
                self.comments.append(line)
            elif line.startswith("event: "):
                name = line[len("event: "):]
            elif line.startswith("data: "):
                yield name, json.loads(line[len("data: "):])

    def next(self) -> tuple[str, Any]:
        return next(iter(self))

    def all(self) -> list[tuple[str, Any]]:
        events = list(self)
        self.close()
        return events

    def close(self) -> None:
        # The response shares the socket: only closing both hangs up.
        self.response.close()
        self.connection.close()

    def __enter__(self) -> "EventStream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Client:
    """One server, by address. `frees_slot_late`: it answers before its slot is free (coglet)."""

    def __init__(self, host: str, port: int, frees_slot_late: bool = False):
        self.host, self.port, self.frees_slot_late = host, port, frees_slot_late

    def send(self, method: str, path: str, body: Any = None, headers: Headers | None = None,
             timeout: float = 120) -> Exchange:
        return Exchange(self.port, self.host, method, path, body, headers, timeout)

    def ask(self, method: str, path: str, body: Any = None, headers: Headers | None = None,
            timeout: float = 120) -> Answer:
        return self.send(method, path, body, headers, timeout).answer()

    def get(self, path: str) -> Answer:
        return self.ask("GET", path)

    def post(self, body: Any, headers: Headers | None = None) -> Answer:
        return self.ask("POST", "/predictions", body, headers)

    def put(self, prediction_id: str, body: Any, headers: Headers | None = None) -> Answer:
        return self.ask("PUT", f"/predictions/{prediction_id}", body, headers)

    def cancel(self, prediction_id: str) -> int:
        return self.ask("POST", f"/predictions/{prediction_id}/cancel").status

    def stream(self, body: Any, prediction_id: str | None = None,
               headers: Headers | None = None) -> EventStream:
        method, path = ("PUT",
                        f"/predictions/{prediction_id}") if prediction_id else ("POST",
                                                                                "/predictions")
        return EventStream(self.send(method, path, body, headers or SSE))

    def predict(self, text: Any = "x", **others: Any) -> dict[str, Any]:
        """A synchronous prediction on an idle server; its object."""
        if self.frees_slot_late:
            self.wait_status("READY")
        answer = self.post({"input": inputs(text, **others)})
        assert answer.status == 200, answer
        return answer.json

    def detail(self, **others: Any) -> dict[str, str]:
        """The validation entries that a request with these inputs gets, as {field: message}."""
        answer = self.post({"input": inputs(**others)})
        assert answer.status == 422, answer
        return {entry["loc"][2]: entry["msg"] for entry in answer.json["detail"]}

    def health(self) -> dict[str, Any]:
        return self.get("/health-check").json

    def status(self) -> str:
        return self.health()["status"]

    def wait_status(self, *wanted: str, seconds: float = 10) -> bool:
        return wait_until(lambda: self.status() in wanted, seconds, f"the status {wanted}")

    def raw(self, content: bytes, timeout: float = 5) -> bytes:
        """Sends bytes as they are; everything that comes back until the server closes, or is silent
        for `timeout` seconds after it has begun to answer."""
        with socket.create_connection((self.host, self.port), timeout=120) as connection:
            connection.sendall(content)
            received = b""
            try:
                while piece := connection.recv(65536):
                    received += piece
                    connection.settimeout(timeout)
            except (TimeoutError, ConnectionResetError):
                pass
            return received
