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
# A condition that is slow by itself, such as a health check that takes seconds, ends the wait after
# this many times its patience; turns alone would last for hours.
HOPELESS = 20
QUIET_ROUND_TRIP_S = 0.01  # more than any round trip to an idle server on an idle machine takes


def wait_until(condition: Callable[[], T], seconds: float = 10, what: str = "the condition") -> T:
    """Polls until condition() is true and returns its value; fails after as many turns as fit into
    `seconds` on an idle machine, or when a condition that is itself slow has taken far longer."""
    hopeless = time.monotonic() + HOPELESS * seconds
    for _ in range(math.ceil(seconds / TURN_S)):
        if value := condition():
            return value
        if time.monotonic() > hopeless:
            break
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
