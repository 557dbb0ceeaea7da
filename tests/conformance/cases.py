# SPDX-License-Identifier: Apache-2.0
"""What a case is: its number in the contract's list (README.md), a tag and a sentence.

Tags: "c" equal to coglet 0.22 (such a case passes against it too), "ours" better on purpose, "hard"
safety.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

import pytest

Test = TypeVar("Test", bound=Callable[..., object])

TAGS = ("c", "ours", "hard")


@dataclasses.dataclass(frozen=True)
class Options:
    """How the server of a case is started. Cases with equal options share one process, unless
    `fresh`."""
    output: str = "string"    # "string" or "stream": the two variants of the schema
    slots: int = 1
    env: tuple[tuple[str, str], ...] = ()  # (name, value) pairs
    flags: tuple[str, ...] = ()   # of Cog's command line; every target knows them
    tuning: tuple[str, ...] = ()  # flags of our server alone, to make a case quick
    cog_start: bool = False   # by `python -m cog.server.http`, as platforms start an image
    fresh: bool = False       # a process of its own: the case ends it, or watches its start
    ready: bool = True        # wait for READY before the case begins

    @property
    def plain(self) -> bool:
        """Whether a server that somebody else started will do."""
        return self == Options(output=self.output)


@dataclasses.dataclass(frozen=True)
class Case:
    number: str
    tag: str
    title: str
    # What coglet does instead, in a few words; only where the tag is not "c".
    coglet: str
    only_ours: bool           # cannot be put to coglet at all; `coglet` says why
    options: Options


def case(number: int | str, tag: str, title: str, *, coglet: str = "", only_ours: bool = False,
         any_engine: bool = False, **options: Any) -> Callable[[Test], Test]:
    """Declares the test below it as a case. `any_engine`: it holds with a real model too, not only
    where directives in the text are obeyed. The other keywords are those of Options."""
    assert tag in TAGS, tag
    if isinstance(options.get("env"), dict):
        options["env"] = tuple(options["env"].items())
    declared = Case(str(number), tag, title, coglet, only_ours, Options(**options))

    def declare(test: Test) -> Test:
        test = pytest.mark.case(declared)(test)
        return pytest.mark.any_engine(test) if any_engine else test
    return declare
