# SPDX-License-Identifier: Apache-2.0
"""Answers pieces with a server of its own. What a row is at fault for becomes an error row; what
the server is at fault for is tried again."""

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, TypeVar

from cluster import answers
from cluster.answers import Answer, Count
from cluster.plan import Piece, open_place
from cluster.rows import Row, inputs_of, read_rows
from cluster.server import Server, ServerError

S = TypeVar("S")
T = TypeVar("T")
MAX_INTERNAL_ERRORS = 3  # of one row: 500 and its like


@dataclass(frozen=True)
class Options:
    flags: Sequence[str] = ()  # of the server
    concurrency: int = 8  # rows under way at once
    constants: dict[str, Any] = field(default_factory=dict)  # inputs of every row that lacks them
    retry_failed: bool = False


def in_order(pool: ThreadPoolExecutor, work: Callable[[S], T], items: Iterable[S],
             window: int) -> Iterator[T]:
    """As pool.map, but takes no more than `window` items before their results are taken."""
    pending: deque[Future[T]] = deque()
    for item in items:
        pending.append(pool.submit(work, item))
        if len(pending) >= window:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


class Worker:
    def __init__(self, options: Options) -> None:
        self._options = options
        self._server = Server(options.flags, options.concurrency)
        self._names = self._server.input_names
        self._model, self._revision = self._server.model

    def close(self) -> None:
        self._server.close()

    def answer(self, piece: Piece) -> Count:
        """What there is of it now, whoever answered it. ServerError: the server will not do."""
        known: dict[int, Answer] = {}
        done = answers.count(piece)
        if done is not None:
            if not (self._options.retry_failed and done.errors):
                return done
            known = {number: answer for number, answer in enumerate(answers.read(piece))
                     if answer.error is None}
        rows = enumerate(read_rows(*open_place(piece.source), piece.first, piece.count))
        with ThreadPoolExecutor(self._options.concurrency) as pool:
            found = list(in_order(pool, lambda pair: known.get(pair[0]) or self._answer(pair[1]),
                                  rows, 2 * self._options.concurrency))
        if len(found) != piece.count:
            raise ServerError(f"{piece.source} has changed: {len(found)} rows from {piece.first} "
                              f"on, not {piece.count}")
        answers.write(piece, found)
        return Count(len(found), sum(answer.error is not None for answer in found))

    def _answer(self, row: Row) -> Answer:
        if row.problem:
            return self._error(row, row.problem)
        try:
            inputs = self._options.constants | inputs_of(row.values, self._names)
            json.dumps(inputs)
        except (ValueError, TypeError) as error:
            return self._error(row, f"the row is no input: {error}")
        for _ in range(MAX_INTERNAL_ERRORS):
            status, body = self._server.predict(inputs)
            if status == 200:
                return self._from_prediction(row, json.loads(body))
            if status < 500:
                break
        return self._error(row, f"status {status}: {body.decode('utf-8', 'replace')[:1000]}")

    def _from_prediction(self, row: Row, prediction: dict[str, Any]) -> Answer:
        if prediction["status"] != "succeeded":
            return self._error(row, prediction.get("error") or prediction["status"])
        output, metrics = prediction.get("output", ""), prediction.get("metrics", {})
        return Answer(row.id, output if isinstance(output, str) else "".join(output), None,
                      metrics.get("finish_reason"), metrics.get("input_token_count"),
                      metrics.get("output_token_count"), self._model, self._revision)

    def _error(self, row: Row, text: str) -> Answer:
        return Answer(row.id, error=text, model=self._model, revision=self._revision)
