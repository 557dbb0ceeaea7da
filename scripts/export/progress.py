# SPDX-License-Identifier: Apache-2.0
"""A progress bar of bytes on stderr: one redrawn line on a terminal, elsewhere a line every ten
percent."""

import sys
import threading
import time

QUIET_S = 0.5  # nothing is drawn for short work
REDRAW_S = 0.1
WIDTH = 30


class Progress:
    """Any thread may advance it."""

    def __init__(self, what: str, total: int):
        self._what = what
        self._total = max(total, 1)
        self._done = 0
        self._terminal = sys.stderr.isatty()
        self._start = self._last = time.monotonic()
        self._next_decile = 1  # at zero there is nothing to say
        self._drawn = False
        self._lock = threading.Lock()

    def advance(self, amount: int) -> None:
        with self._lock:
            self._advance(amount)

    def _advance(self, amount: int) -> None:
        self._done = min(self._total, self._done + amount)
        now = time.monotonic()
        decile = 10 * self._done // self._total
        waiting = now - self._last < REDRAW_S if self._terminal else decile < self._next_decile
        if now - self._start < QUIET_S or waiting:
            return
        self._next_decile = decile + 1
        self._last = now
        self._draw("   " if self._terminal else "\n")

    def close(self) -> None:
        if self._drawn and self._terminal:
            self._draw("   \n")

    def _draw(self, end: str) -> None:
        self._drawn = True
        fraction = self._done / self._total
        seconds = time.monotonic() - self._start
        left = seconds * (1 - fraction) / fraction if fraction else 0.0
        filled = int(fraction * WIDTH)
        bar = "#" * filled + "." * (WIDTH - filled)
        start = "\r" if self._terminal else ""
        print(f"{start}{self._what} [{bar}] {self._done / 1e9:.2f}/{self._total / 1e9:.2f} GB, "
              f"{seconds:.0f} s, {left:.0f} s left", end=end, file=sys.stderr, flush=True)
