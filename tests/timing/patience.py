# SPDX-License-Identifier: Apache-2.0
"""Waiting, and bounds on time, that hold on a machine of any speed.

Patience is counted in turns of a loop, not in seconds: where the machine is slow to run the test it
is as slow to run the server. A bound on a duration is stretched by what a plain round trip takes
meanwhile.
"""

import math
import threading
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
TURN_S = 0.01
SLOW_CALL_S = 1.0  # a condition that takes so long waits for something else than the machine
QUIET_ROUND_TRIP_S = 0.01  # more than any round trip to an idle server on an idle machine takes


def wait_until(condition: Callable[[], T], seconds: float = 10, what: str = "the condition") -> T:
    """Polls until condition() is true and returns its value; fails after as many turns as fit into
    `seconds` on an idle machine. A slow call counts as all the turns that fit into it."""
    turns = math.ceil(seconds / TURN_S)
    while turns > 0:
        begun = time.monotonic()
        if value := condition():
            return value
        took = time.monotonic() - begun
        turns -= 1 if took < SLOW_CALL_S else math.ceil(took / TURN_S)
        time.sleep(TURN_S)
    value = condition()
    assert value, f"{what} did not come true in the turns of {seconds} s"
    return value


class Pace:
    """Around what has a bound: `took` is its seconds, `slowness` how many times slower than an idle
    machine this one was meanwhile, at least 1. That is told by the slowest of the round trips, one
    after another for as long as it lasts, to a server that has nothing else to do."""

    def __init__(self, round_trip: Callable[[], object]):
        self._round_trip = round_trip
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._measure)
        self._begun = 0.0
        self.slowness = 1.0
        self.took = 0.0

    def _measure(self) -> None:
        while not self._ended.wait(TURN_S):
            begun = time.monotonic()
            self._round_trip()
            took = time.monotonic() - begun
            self.slowness = max(self.slowness, took / QUIET_ROUND_TRIP_S)

    def __enter__(self) -> "Pace":
        self._thread.start()
        self._begun = time.monotonic()
        return self

    def __exit__(self, *_: object) -> None:
        self.took = time.monotonic() - self._begun
        self._ended.set()
        self._thread.join()
