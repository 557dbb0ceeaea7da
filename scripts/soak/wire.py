# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 on asyncio streams, as little of it as the soak needs, so that the client costs less
than the server; and bytes that no client library would send."""

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

HOST = "127.0.0.1"
TIMEOUT_S = 300  # of anything that must come


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


def request(method: str, path: str, body: object = None, **headers: str) -> bytes:
    """`body`: bytes as they are, anything else as JSON; None is no body."""
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost"]
    content = b""
    if body is not None:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        headers = {"Content_Type": "application/json", **headers}
        lines.append(f"Content-Length: {len(content)}")
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return "\r\n".join([*lines, "", ""]).encode() + content


class Wire:
    """One connection, kept while the server keeps it. One task at a time."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def send(self, data: bytes) -> None:
        if self._streams is None:
            self._streams = await asyncio.open_connection(HOST, self._port)
        self._streams[1].write(data)
        await self._streams[1].drain()

    async def ask(self, data: bytes) -> Answer:
        """A kept connection that the server has closed meanwhile is opened anew, once."""
        kept = self._streams is not None
        try:
            return await self._ask(data)
        except (OSError, asyncio.IncompleteReadError):
            self.close()
            if not kept:
                raise
            return await self._ask(data)

    async def _ask(self, data: bytes) -> Answer:
        await self.send(data)
        status, headers = await self.head()
        body = b"".join([piece async for piece in self.body(headers)])
        if headers.get("connection") == "close":
            self.close()
        return Answer(status, headers, body)

    async def head(self) -> tuple[int, dict[str, str]]:
        assert self._streams is not None
        async with asyncio.timeout(TIMEOUT_S):
            text = await self._streams[0].readuntil(b"\r\n\r\n")
        first, *lines = text.decode("latin-1").split("\r\n")[:-2]
        pairs = (line.partition(": ") for line in lines)
        return int(first.split(" ")[1]), {name.lower(): value for name, _, value in pairs}

    async def body(self, headers: dict[str, str]) -> AsyncIterator[bytes]:
        """Its chunks, or the whole."""
        assert self._streams is not None
        reader = self._streams[0]
        async with asyncio.timeout(TIMEOUT_S):
            if headers.get("transfer-encoding") != "chunked":
                yield await reader.readexactly(int(headers.get("content-length", "0")))
                return
            while size := int(await reader.readuntil(b"\r\n"), 16):
                yield (await reader.readexactly(size + 2))[:-2]
            await reader.readexactly(2)

    async def events(self, headers: dict[str, str]) -> AsyncIterator[tuple[str, Any]]:
        text = b""
        async for piece in self.body(headers):
            text += piece
            *frames, text = text.split(b"\n\n")
            for frame in frames:
                if frame.startswith(b"event: "):
                    name, _, data = frame[len("event: "):].partition(b"\ndata: ")
                    yield name.decode(), json.loads(data)

    def close(self, reset: bool = False) -> None:
        """`reset`: without a good-bye (RST)."""
        if self._streams is None:
            return
        writer = self._streams[1]
        self._streams = None
        if reset:
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            writer.transport.abort()
        else:
            writer.close()
