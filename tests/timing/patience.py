# SPDX-License-Identifier: Apache-2.0
"""Waiting, and bounds on time, that hold on a machine of any speed.

Patience is counted in turns of a loop, not in seconds: where the machine is slow to run the test it
is as slow to run the server. A bound on a duration is stretched by what a plain round trip takes
then.
"""

import math
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


def slowness(round_trip: Callable[[], object], times: int = 20) -> float:
    """How many times slower than an idle machine this one is now, at least 1: by the slowest of
    some round trips to a server that has nothing else to do."""
    slowest = 0.0
    for _ in range(times):
        begun = time.monotonic()
        round_trip()
        slowest = max(slowest, time.monotonic() - begun)
    return max(1.0, slowest / QUIET_ROUND_TRIP_S)
