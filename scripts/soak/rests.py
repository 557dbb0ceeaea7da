# SPDX-License-Identifier: Apache-2.0
"""Rests: all clients stop between two acts and close what they hold, so that the server is sampled
with nobody asking. What is held under load follows the load; what is held at rest does not."""

import asyncio


class Rests:
    """One task calls, the clients' tasks come; all of one loop."""

    def __init__(self, num_clients: int) -> None:
        self._awaited = num_clients
        self._resting = 0
        self._all_rest, self._go = asyncio.Event(), asyncio.Event()
        self._go.set()

    @property
    def called(self) -> bool:
        return not self._go.is_set()

    async def wait(self) -> None:
        """A client's, until the rest is over."""
        self._resting += 1
        if self._resting == self._awaited:
            self._all_rest.set()
        await self._go.wait()
        self._resting -= 1

    async def begin(self) -> None:
        """Returns once every client rests."""
        self._all_rest.clear()
        self._go.clear()
        await self._all_rest.wait()

    def end(self) -> None:
        self._go.set()
