# SPDX-License-Identifier: Apache-2.0
"""What the soak's clients do. Every prediction that may be accepted has an id and a webhook, so
that the ledger learns of each end."""

import asyncio
import base64
import contextlib
import random
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from ledger import TERMINAL, Ledger
from rests import Rests
from wire import HOST, Answer, Wire, request

PICTURES = Path(__file__).resolve().parents[2] / "tests/assets"
REFUSED = (409, 429, 503)
POLL_S = 0.05


class Inputs:
    """The `input` of a prediction that is short, long, failing; for either engine."""

    def __init__(self, engine: str, rng: random.Random) -> None:
        self._fake = engine == "fake"
        self._random = rng
        picture = base64.b64encode((PICTURES / "several.jpg").read_bytes()).decode()
        self._picture = "data:image/jpeg;base64," + picture

    def short(self) -> dict[str, Any]:
        chance = self._random.random()
        if self._fake:
            orders = self._random.choice(["[chunks=3]", "[log=hi][chunks=20]", "[big=100000]",
                                          "[sleep=0.01]", "[chunks=5][delay=0.002]",
                                          "[metric=a:1]", "[logs=50,0]", "[echo]"])
            return {"prompt": [orders + "x"] + [self._picture] * (chance < 0.1)}
        prompt = ["User: What do you see?", self._picture, "<end_of_utterance>", "\nAssistant:"]
        tokens = {"max_new_tokens": self._random.choice([8, 16, 32])}
        if chance < 0.3:
            return {"prompt": prompt, **tokens, "decoding_strategy": "Top P Sampling",
                    "temperature": 1, "top_p": 0.9}
        if chance < 0.5:
            return {"prompt": prompt, **tokens, "num_beams": self._random.choice([2, 3, 4])}
        return {"prompt": prompt if chance < 0.9 else ["Hello"], **tokens}

    def long(self) -> dict[str, Any]:
        if self._fake:
            return {"prompt": ["[chunks=100000][delay=0.01]x"]}
        # Sampled, so that nothing of it can be guessed and verified at once.
        return {"prompt": ["Hello"], "max_new_tokens": 1024, "min_new_tokens": 1024,
                "decoding_strategy": "Top P Sampling", "temperature": 1.5, "top_p": 0.99}

    def failing(self) -> dict[str, Any]:
        bad_picture = "data:image/png;base64,iVBORw0KGgo="
        if self._fake:
            return {"prompt": [self._random.choice(["[chunks=2][fail=no]", "[unknown]",
                                                    "[fail_after=3,late][chunks=9]"])]}
        return {"prompt": ["Look", bad_picture], "max_new_tokens": 8}


class Client:
    """One of many; a task of the loop."""

    def __init__(self, port: int, hook: str, ledger: Ledger, inputs: Inputs,
                 rng: random.Random) -> None:
        self._port, self._hook, self._ledger = port, hook, ledger
        self._inputs, self._random = inputs, rng
        self._wire = Wire(port)
        self._kinds: list[tuple[Callable[[], Awaitable[None]], int]] = [
            (self.wait, 20), (self.poll, 15), (self.stream, 15), (self.fail, 8), (self.cancel, 8),
            (self.leave, 5), (self.leave_stream, 5), (self.ask_twice, 4), (self.look, 10),
            (self.bad, 15), (self.broken, 6), (self.cut_off, 10), (self.do_not_read, 1),
        ]

    async def run(self, rests: Rests, done: asyncio.Event) -> None:
        kinds, weights = zip(*self._kinds, strict=True)
        while not done.is_set():
            if rests.called:
                self._wire.close()
                await rests.wait()
            act = self._random.choices(kinds, weights)[0]
            try:
                await act()
                self._ledger.count(act.__name__)
            except Exception as error:  # whatever it is, the soak has to tell
                self._ledger.problem(f"{act.__name__}: {error!r}")
                self._wire.close()
        self._wire.close()

    # ---- good ones ----

    def _ask(self, inputs: dict[str, Any], *wanted: str) -> tuple[str, dict[str, Any]]:
        name = f"soak-{uuid.UUID(int=self._random.getrandbits(128))}"
        self._ledger.ask(name, wanted or ("succeeded",))
        events = self._random.choice([["completed"], ["start", "output", "logs", "completed"]])
        return name, {"id": name, "input": inputs, "webhook": self._hook,
                      "webhook_events_filter": events}

    def _accepted(self, name: str, status: int, *good: int) -> bool:
        if status in good:
            self._ledger.accepted()
            return True
        if status not in REFUSED:
            self._ledger.problem(f"{name}: answered {status}")
        self._ledger.count(f"refused with {status}")
        self._ledger.refused(name)
        return False

    async def _start(self, inputs: dict[str, Any], *wanted: str) -> str | None:
        """Asynchronously; the id, if it was accepted."""
        name, body = self._ask(inputs, *wanted)
        answer = await self._wire.ask(
            request("POST", "/predictions", body, Prefer="respond-async"))
        return name if self._accepted(name, answer.status, 202) else None

    async def _wait(self, inputs: dict[str, Any], *wanted: str) -> None:
        name, body = self._ask(inputs, *wanted)
        answer = await self._wire.ask(request("POST", "/predictions", body))
        if self._accepted(name, answer.status, 200):
            self._ledger.seen(name, answer.json()["status"])

    async def wait(self) -> None:
        await self._wait(self._inputs.short())

    async def fail(self) -> None:
        await self._wait(self._inputs.failing(), "failed")

    async def _get(self, name: str) -> Answer:
        return await self._wire.ask(request("GET", f"/predictions/{name}"))

    async def _until_ended(self, name: str) -> None:
        """By GET. The last 256 that ended are kept; who asks later learns it from the webhook."""
        while True:
            answer = await self._get(name)
            if answer.status == 404:
                self._ledger.count("GET too late")
                return self._ledger.left(name)
            status = answer.json()["status"]
            if status in TERMINAL:
                self._ledger.count("GET saw the end")
                return self._ledger.seen(name, status)
            await asyncio.sleep(POLL_S)

    async def poll(self) -> None:
        if name := await self._start(self._inputs.short()):
            await self._until_ended(name)

    async def cancel(self) -> None:
        if name := await self._start(self._inputs.long(), "canceled"):
            await asyncio.sleep(self._random.random() * 0.1)
            answer = await self._wire.ask(request("POST", f"/predictions/{name}/cancel"))
            if answer.status != 200:
                self._ledger.problem(f"{name}: cancel was answered {answer.status}")
            await self._until_ended(name)

    async def ask_twice(self) -> None:
        """PUT of an id that runs is the same prediction."""
        name, body = self._ask(self._inputs.long(), "canceled")
        put = request("PUT", f"/predictions/{name}", body, Prefer="respond-async")
        if not self._accepted(name, (await self._wire.ask(put)).status, 202):
            return
        again = await self._wire.ask(put)
        if again.status != 202:
            self._ledger.problem(f"{name}: asked again, {again.status}")
        await self._wire.ask(request("POST", f"/predictions/{name}/cancel"))
        await self._until_ended(name)

    async def _open_stream(self, wire: Wire, inputs: dict[str, Any],
                           *wanted: str) -> tuple[str, dict[str, str]] | None:
        name, body = self._ask(inputs, *wanted)
        await wire.send(request("POST", "/predictions", body, Accept="text/event-stream"))
        status, headers = await wire.head()
        return (name, headers) if self._accepted(name, status, 200) else None

    async def stream(self) -> None:
        wire = Wire(self._port)
        try:
            if opened := await self._open_stream(wire, self._inputs.short()):
                name, headers = opened
                ends = [data["status"] async for event, data in wire.events(headers)
                        if event == "completed"]
                for end in ends or ["left"]:
                    self._ledger.seen(name, end)
                if not ends:
                    self._ledger.problem(f"{name}: its stream had no last event")
        finally:
            wire.close()

    async def leave_stream(self) -> None:
        wire = Wire(self._port)
        try:
            if opened := await self._open_stream(wire, self._inputs.long(), "canceled"):
                async for _ in wire.events(opened[1]):
                    break
                self._ledger.left(opened[0])
        finally:
            wire.close(reset=self._random.random() < 0.5)

    async def leave(self) -> None:
        """A client that waits for the answer, and goes once GET says that it runs."""
        wire = Wire(self._port)
        name, body = self._ask(self._inputs.long(), "canceled")
        try:
            await wire.send(request("POST", "/predictions", body))
            answer = asyncio.ensure_future(wire.head())
            while not answer.done() and (await self._get(name)).status == 404:
                await asyncio.sleep(POLL_S)
            if answer.done():  # only a refusal comes so soon
                self._accepted(name, answer.result()[0])
                return
            answer.cancel()
            self._ledger.accepted()
            self._ledger.left(name)
        finally:
            wire.close(reset=self._random.random() < 0.5)

    async def look(self) -> None:
        for path in ("/health-check", "/", "/openapi.json"):
            answer = await self._wire.ask(request("GET", path))
            if answer.status != 200:
                self._ledger.problem(f"GET {path}: {answer.status}")
            if path == "/health-check" and answer.json()["status"] not in ("READY", "BUSY"):
                self._ledger.problem(f"health: {answer.body[:200]!r}")

    # ---- bad ones ----

    async def bad(self) -> None:
        """Refused, and the connection goes on."""
        data, wanted = self._random.choice([
            (request("POST", "/predictions", b"{"), 400),
            (request("POST", "/predictions", b"[1]"), 422),
            (request("POST", "/predictions", b"x", Content_Type="text/plain"), 415),
            (request("POST", "/predictions", {"input": {"prompt": 5}}), 422),
            (request("POST", "/predictions", {"input": {"prompt": ["x"], "top_p": 7}}), 422),
            (request("POST", "/predictions", {"id": "x" * 2000, "input": {}}), 422),
            (request("POST", "/predictions", b"[" * 5000), 400),
            (request("POST", "/predictions", b'{"a": [' + b'"",' * 210_000 + b'""]}'), 413),
            (request("POST", "/predictions/none/cancel"), 404),
            (request("GET", "/predictions/none"), 404),
            (request("PATCH", "/predictions"), 405),
            (request("GET", "/" + "x" * 20_000), 404),
            (request("POST", "/predictions", {}, Origin="https://evil.example"), 403),
        ])
        answer = await self._wire.ask(data)
        if answer.status != wanted:
            self._ledger.problem(f"{data[:60]!r} was answered {answer.status}, not {wanted}")

    async def broken(self) -> None:
        """No HTTP: refused, and the connection ends."""
        post = b"POST /predictions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
        data = self._random.choice([
            b"GET / HTTP/1.1\r\n\r\n", b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
            b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\r\n\r\n",
            b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 200 + b"\r\n", b"\r\n" * 500,
            post + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
            post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        ])
        wire = Wire(self._port)
        try:
            await wire.send(data)
            status, _ = await wire.head()
            if not 400 <= status < 600:
                self._ledger.problem(f"{data[:60]!r} was answered {status}")
        except (OSError, asyncio.IncompleteReadError):
            pass  # closed before all of it was taken
        finally:
            wire.close()

    async def cut_off(self) -> None:
        """Part of a good request, or one that nobody waits for; a client that left so early may
        have been accepted or not, so it asks for nothing that counts."""
        whole = request("POST", "/predictions", {"input": self._inputs.short()})
        wire = Wire(self._port)
        try:
            await wire.send(whole[:self._random.randrange(1, len(whole) + 1)])
            await asyncio.sleep(self._random.choice([0, 0, 0.01, 1]))
        finally:
            wire.close(reset=self._random.random() < 0.5)

    async def do_not_read(self) -> None:
        """Many answers are asked for and none is read for a while."""
        reader, writer = await asyncio.open_connection(HOST, self._port, limit=1024)
        try:
            writer.write(request("GET", "/openapi.json") * 100)
            await asyncio.sleep(2 * self._random.random())
            with contextlib.suppress(OSError):
                await reader.read(1024)
        finally:
            writer.transport.abort()
