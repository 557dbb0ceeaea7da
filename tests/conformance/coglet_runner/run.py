# SPDX-License-Identifier: Apache-2.0
"""The fake engine for the real Cog server: obeys the directives of docs/cog-api.md#fake-server in
`text`.

`steps` is the interpreter; the four runners differ only in output type and in how they wait.
"""

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from cog import (
    AsyncConcatenateIterator,
    BaseRunner,
    ConcatenateIterator,
    Input,
    Path,
    current_scope,
    streaming,
)
from PIL import Image

DIRECTIVE = re.compile(r"\[([a-z_]+)(?:=([^\]]*))?\]")


def setting_of(settings: dict[str, Any], name: str, value: str | None) -> bool:
    """Notes a setting; False where `name` is none."""
    if name == "hold":
        count, _, file = str(value).partition(",")
        settings.setdefault("hold", {})[int(count)] = file
        return True
    if name not in ("chunks", "big", "echo", "delay", "fail_after", "chunk_log", "chunk_metric"):
        return False
    settings[name] = value if value is not None else True
    return True


def spin(seconds: float) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass


def effects(name: str, value: Any) -> Iterator[tuple[str, float]]:
    """One directive that acts: yields ("wait", seconds)."""
    if name == "sleep":
        yield "wait", float(value)
    elif name == "block":
        time.sleep(float(value))
    elif name == "spin":
        spin(float(value))
    elif name == "log":
        print(value, flush=True)
    elif name == "err":
        print(value, file=sys.stderr, flush=True)
    elif name == "logs":
        count, pause = value.split(",")
        for line in range(int(count)):
            print(f"line {line}", flush=True)
            yield "wait", float(pause)
    elif name == "metric":
        key, _, number = value.partition(":")
        current_scope().record_metric(key, json.loads(number))
    elif name == "fail":
        raise ValueError(value)
    elif name == "crash":
        os._exit(9)
    else:
        raise ValueError(f"unknown directive {name}")


def echoed(given: dict[str, Any]) -> str:
    with Image.open(str(given["image"])) as picture:
        width, height = picture.size
    others = {name: value for name, value in given.items() if name != "image"}
    return json.dumps({**others, "image_width": width, "image_height": height})


def pieces_of(settings: dict[str, Any], payload: str, given: dict[str, Any]) -> list[str]:
    if "big" in settings:
        return ["x" * int(settings["big"])]
    if "echo" in settings:
        return [echoed(given)]
    if "chunks" in settings:
        return [f"{payload}-{index}" for index in range(int(settings["chunks"]))]
    return [payload]


def steps(given: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """Yields ("wait", seconds) and ("piece", text)."""
    with Image.open(str(given["image"])) as picture:
        picture.load()
    settings: dict[str, Any] = {}
    text, at = given["text"], 0
    while match := DIRECTIVE.match(text, at):
        at = match.end()
        if not setting_of(settings, *match.groups()):
            yield from effects(*match.groups())
    limit, _, message = settings.get("fail_after", "").partition(",")

    def hold(count: int) -> Iterator[tuple[str, float]]:
        while count in settings.get("hold", {}) and not os.path.exists(settings["hold"][count]):
            yield "wait", 0.005
    pieces = pieces_of(settings, text[at:], given)
    for index, piece in enumerate(pieces):
        yield from hold(index)
        if limit and index >= int(limit):
            raise ValueError(message)
        if "delay" in settings:
            yield "wait", float(settings["delay"])
        if "chunk_log" in settings:
            print(f"chunk {index}", flush=True)
        if "chunk_metric" in settings:
            current_scope().record_metric(settings["chunk_metric"], index)
        yield "piece", piece
    yield from hold(len(pieces))
    if limit and int(limit) >= len(pieces):
        raise ValueError(message)


def wait(seconds: float) -> None:
    """In short steps: a cancel reaches Python code only between two calls."""
    end = time.monotonic() + seconds
    while (left := end - time.monotonic()) > 0:
        time.sleep(min(left, 0.005))


def pieces(given: dict[str, Any]) -> Iterator[str]:
    for what, value in steps(given):
        if what == "wait":
            wait(value)
        else:
            yield value


async def pieces_async(given: dict[str, Any]) -> AsyncIterator[str]:
    for what, value in steps(given):
        if what == "wait":
            await asyncio.sleep(value)
        else:
            yield value


class Common(BaseRunner):
    def setup(self) -> None:
        time.sleep(float(os.environ.get("FAKE_SETUP_DELAY", "0")))
        while (file := os.environ.get("FAKE_SETUP_HOLD")) and not os.path.exists(file):
            time.sleep(0.005)
        if message := os.environ.get("FAKE_SETUP_FAIL"):
            raise RuntimeError(message)

    def healthcheck(self) -> bool:
        kind = os.environ.get("FAKE_HEALTH")
        if kind == "raise":
            raise RuntimeError("gpu is on fire")
        if kind == "hang":
            time.sleep(60)
        return kind != "false"


MAX_TOKENS = Input(default=512, ge=8, le=1024)
PENALTY = Input(default=1.0, ge=0.01, le=5.0)
STRATEGY = Input(default="Greedy", choices=["Greedy", "Top P Sampling"])
TEMPERATURE = Input(default=0.4, ge=0.0, le=5.0)
TOP_P = Input(default=0.8, ge=0.01, le=0.99)


class Runner(Common):
    def run(self,
            image: Path,
            text: str,
            max_new_tokens: int = MAX_TOKENS,
            repetition_penalty: float = PENALTY,
            decoding_strategy: str = STRATEGY,
            temperature: float = TEMPERATURE,
            top_p: float = TOP_P) -> str:
        return "".join(pieces({name: value for name, value in locals().items() if name != "self"}))


class StreamRunner(Common):
    @streaming
    def run(self,
            image: Path,
            text: str,
            max_new_tokens: int = MAX_TOKENS,
            repetition_penalty: float = PENALTY,
            decoding_strategy: str = STRATEGY,
            temperature: float = TEMPERATURE,
            top_p: float = TOP_P) -> ConcatenateIterator[str]:
        yield from pieces({name: value for name, value in locals().items() if name != "self"})


class AsyncRunner(Common):
    async def run(self,
                  image: Path,
                  text: str,
                  max_new_tokens: int = MAX_TOKENS,
                  repetition_penalty: float = PENALTY,
                  decoding_strategy: str = STRATEGY,
                  temperature: float = TEMPERATURE,
                  top_p: float = TOP_P) -> str:
        given = {name: value for name, value in locals().items() if name != "self"}
        return "".join([piece async for piece in pieces_async(given)])


class AsyncStreamRunner(Common):
    @streaming
    async def run(self,
                  image: Path,
                  text: str,
                  max_new_tokens: int = MAX_TOKENS,
                  repetition_penalty: float = PENALTY,
                  decoding_strategy: str = STRATEGY,
                  temperature: float = TEMPERATURE,
                  top_p: float = TOP_P) -> AsyncConcatenateIterator[str]:
        given = {name: value for name, value in locals().items() if name != "self"}
        async for piece in pieces_async(given):
            yield piece
