# SPDX-License-Identifier: Apache-2.0
"""OpenAI's API against Cog's on the same server: seconds to the first piece of a stream, and
requests a second of whole answers with 1 … N clients in a closed loop, in turns.

    openai_api.py --bundle BUNDLE [--clients 1,8,32] [--rounds 7] [--requests 20]

Both ask the same question about the same picture and write as many tokens. A ratio above 1 is
OpenAI's API being faster.
"""

import functools
import http.client
import json
import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

from common import (
    PICTURE,
    Figure,
    Server,
    arguments,
    data_uri,
    heading,
    interleaved,
    ratio,
    seconds_together,
    table,
)

QUESTION = "What is in this image?"
Body = dict[str, Any]


class Route:
    """One way to ask."""

    def __init__(self, port: int, path: str, whole: Body, stream: Body, accept: str):
        self.port, self.path, self.accept = port, path, accept
        self.whole, self.stream = whole, stream

    def _post(self, connection: http.client.HTTPConnection, body: Body,
              **headers: str) -> http.client.HTTPResponse:
        connection.request("POST", self.path, json.dumps(body),
                           {"Content-Type": "application/json", **headers})
        response = connection.getresponse()
        if response.status != 200:
            sys.exit(f"{self.path} answered {response.status}: {response.read()[:300]!r}")
        return response

    def first_piece(self) -> float:
        """Seconds from the request to its first piece of text, the middle one of ten."""
        return statistics.median(self._first_piece() for _ in range(10))

    def _first_piece(self) -> float:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        begin = time.perf_counter()
        first = 0.0
        for line in self._post(connection, self.stream, Accept=self.accept):
            is_empty = b'"content":""' in line
            if first == 0 and not is_empty and (b'"chunk"' in line or b'"content":"' in line):
                first = time.perf_counter() - begin
        connection.close()
        return first

    def requests_per_second(self, clients: int, requests: int) -> float:
        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
            for _ in range(requests):
                self._post(connection, self.whole).read()
            connection.close()
        return clients * requests / seconds_together(clients, client)


def routes(port: int, tokens: int) -> dict[str, Route]:
    picture = data_uri(PICTURE.read_bytes())
    prompt = ["User: " + QUESTION, picture, "<end_of_utterance>", "\nAssistant:"]
    cog = {"input": {"prompt": prompt, "max_new_tokens": tokens, "min_new_tokens": tokens}}
    content = [{"type": "text", "text": QUESTION},
               {"type": "image_url", "image_url": {"url": picture}}]
    chat: Body = {"messages": [{"role": "user", "content": content}], "temperature": 0,
                  "max_tokens": tokens, "min_tokens": tokens}
    return {"Cog": Route(port, "/predictions", cog, cog, "text/event-stream"),
            "OpenAI": Route(port, "/v1/chat/completions", chat, {**chat, "stream": True}, "*/*")}


def compare(what: str, rounds: int, runs: dict[str, Callable[[], float]],
            faster_is_larger: bool) -> list[object]:
    results = interleaved(rounds, runs)
    ours, theirs = results["OpenAI"], results["Cog"]
    gain = ratio(ours, theirs) if faster_is_larger else ratio(theirs, ours)
    return [what, Figure(theirs), Figure(ours), gain]


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--clients", default="1,8,32")
    parser.add_argument("--requests", type=int, default=20, help="of each client, in a round")
    parser.add_argument("--tokens", type=int, default=8)
    options = parser.parse_args()
    heading("OpenAI's API and Cog's")
    for bundle in options.bundle:
        with Server(bundle, "--queue", "1000", "--openai-queue", "1000") as server:
            both = routes(server.port, options.tokens)
            rows = [compare("first piece, s", options.rounds,
                            {name: route.first_piece for name, route in both.items()}, False)]
            for count in map(int, options.clients.split(",")):
                runs: dict[str, Callable[[], float]] = {
                    name: functools.partial(route.requests_per_second, count, options.requests)
                    for name, route in both.items()}
                rows.append(compare(f"requests/s, {count} clients", options.rounds, runs, True))
        print(f"\n{bundle.name}\n")
        table(["", "Cog", "OpenAI", "OpenAI is faster by"], rows)


if __name__ == "__main__":
    main()
