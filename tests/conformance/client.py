# SPDX-License-Identifier: Apache-2.0
"""A client of Cog's HTTP interface, close enough to the wire to see everything that a case asks about."""

import base64
import http.client
import json
import socket
import struct
import time
import zlib

ASYNC = {"Prefer": "respond-async"}
SSE = {"Accept": "text/event-stream"}


def png(width=4, height=3):
    """A grey picture; written by hand, so that nothing needs Pillow."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    rows = zlib.compress((b"\0" + b"\x80" * width) * height)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


def data_uri(content, kind="image/png"):
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


PICTURE = data_uri(png())


def inputs(text="x", **others):
    return {"image": PICTURE, "text": text, "max_new_tokens": 8, **others}


def request(text="x", **fields):
    """A request's body; `fields` stand beside "input"."""
    return {"input": inputs(text), **fields}


def wait_until(condition, seconds=10, what="the condition"):
    """Polls until condition() is true and returns its value."""
    end = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < end, f"{what} did not come true in {seconds} s"
        time.sleep(0.01)


class Answer:
    def __init__(self, response):
        self.status, self.headers, self.body = response.status, response.headers, response.read()

    @property
    def json(self):
        return json.loads(self.body)

    @property
    def succeeded(self):
        """Whether it is the object of a prediction that succeeded."""
        return self.status == 200 and self.json["status"] == "succeeded"

    def __repr__(self):
        return f"{self.status} {self.body[:300]!r}"


class Exchange:
    """A request that is under way: the answer can be waited for, or the connection closed."""

    def __init__(self, port, host, method, path, body, headers, timeout=30):
        self.connection = http.client.HTTPConnection(host, port, timeout=timeout)
        headers = dict(headers or {})
        if body is not None and not isinstance(body, (str, bytes)) and not hasattr(body, "__next__"):
            body = json.dumps(body)
            headers.setdefault("Content-Type", "application/json")
        self.connection.request(method, path, body, headers)

    def answer(self):
        try:
            return Answer(self.connection.getresponse())
        finally:
            self.connection.close()

    def close(self):
        self.connection.close()


class EventStream:
    """Server-sent events: .status and .headers, then one (name, data) after another."""

    def __init__(self, exchange):
        self.connection = exchange.connection
        self.response = self.connection.getresponse()
        self.status, self.headers = self.response.status, self.response.headers
        self.comments = []

    def __iter__(self):
        name = None
        for line in self.response:
            line = line.decode().rstrip("\n")
            if line.startswith(":"):
                self.comments.append(line)
            elif line.startswith("event: "):
                name = line[len("event: "):]
            elif line.startswith("data: "):
                yield name, json.loads(line[len("data: "):])

    def next(self):
        return next(iter(self))

    def all(self):
        events = list(self)
        self.close()
        return events

    def close(self):
        # The response shares the socket: only closing both hangs up.
        self.response.close()
        self.connection.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()


class Client:
    """One server, by address. `frees_slot_late`: it answers before its slot is free (coglet)."""

    def __init__(self, host, port, frees_slot_late=False):
        self.host, self.port, self.frees_slot_late = host, port, frees_slot_late

    def send(self, method, path, body=None, headers=None, timeout=30):
        return Exchange(self.port, self.host, method, path, body, headers, timeout)

    def ask(self, method, path, body=None, headers=None, timeout=30):
        return self.send(method, path, body, headers, timeout).answer()

    def get(self, path):
        return self.ask("GET", path)

    def post(self, body, headers=None):
        return self.ask("POST", "/predictions", body, headers)

    def put(self, prediction_id, body, headers=None):
        return self.ask("PUT", f"/predictions/{prediction_id}", body, headers)

    def cancel(self, prediction_id):
        return self.ask("POST", f"/predictions/{prediction_id}/cancel").status

    def stream(self, body, prediction_id=None, headers=None):
        method, path = ("PUT", f"/predictions/{prediction_id}") if prediction_id else ("POST", "/predictions")
        return EventStream(self.send(method, path, body, headers or SSE))

    def predict(self, text="x", **others):
        """A synchronous prediction on an idle server; its object."""
        if self.frees_slot_late:
            self.wait_status("READY")
        answer = self.post({"input": inputs(text, **others)})
        assert answer.status == 200, answer
        return answer.json

    def detail(self, **others):
        """The validation entries that a request with these inputs gets, as {field: message}."""
        answer = self.post({"input": inputs(**others)})
        assert answer.status == 422, answer
        return {entry["loc"][2]: entry["msg"] for entry in answer.json["detail"]}

    def health(self):
        return self.get("/health-check").json

    def status(self):
        return self.health()["status"]

    def wait_status(self, *wanted, seconds=10):
        return wait_until(lambda: self.status() in wanted, seconds, f"the status {wanted}")

    def raw(self, content, timeout=5):
        """Sends bytes as they are; everything that comes back until the server closes or is silent."""
        with socket.create_connection((self.host, self.port), timeout=timeout) as connection:
            connection.sendall(content)
            received = b""
            try:
                while piece := connection.recv(65536):
                    received += piece
            except (TimeoutError, ConnectionResetError):
                pass
            return received
