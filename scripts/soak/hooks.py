# SPDX-License-Identifier: Apache-2.0
"""The webhooks' receiver. Now and then it is a bad one: 500, or a closed connection, so that posts
are tried again. Where this machine is so busy that a last post is answered after half a minute, the
server may have given the answer up and post it once more: such posts are named to the ledger."""

import asyncio
import datetime
import json
import random

from ledger import TERMINAL, Ledger

POST_S = 30  # so long the server waits for an answer
BAD = 0.01  # of the posts


class Receiver:
    def __init__(self, ledger: Ledger, seed: int) -> None:
        self._ledger = ledger
        self._random = random.Random(seed)
        self.num_posts = 0
        self.url = ""

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        return server

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._post(reader, writer):
                pass
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    async def _post(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
        length = int(head.split("content-length:")[1].split("\r\n")[0])
        post = json.loads(await reader.readexactly(length))
        self.num_posts += 1
        if self._random.random() < BAD:
            if self._random.random() < 0.5:
                return False
            writer.write(b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n")
            return True
        if post["status"] in TERMINAL:
            self._ledger.posted(post["id"], post["status"])
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        await writer.drain()
        if post["status"] in TERMINAL:
            ended = datetime.datetime.fromisoformat(post["completed_at"])
            age = datetime.datetime.now(datetime.UTC) - ended
            if age.total_seconds() > POST_S * 0.9:
                self._ledger.late.add(post["id"])
        return True
