# SPDX-License-Identifier: Apache-2.0
"""Who was accepted and how each ended: by the webhook, by the answer or stream that its client
read, and by GET. All must say the same, once."""

from dataclasses import dataclass, field

MAX_SHOWN = 200
TERMINAL = ("succeeded", "failed", "canceled")


@dataclass
class Entry:
    wanted: tuple[str, ...]  # the ends that are right
    seen: str | None = None  # by the client; "left" by one that did not wait
    posted: str | None = None


@dataclass
class Ledger:
    open: dict[str, Entry] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)
    num_problems: int = 0
    late: set[str] = field(default_factory=set)  # whose last post was answered late

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def problem(self, text: str) -> None:
        self.num_problems += 1
        if len(self.problems) < MAX_SHOWN:
            self.problems.append(text)

    def ask(self, name: str, wanted: tuple[str, ...]) -> None:
        """Before it is sent: its webhook may come before its answer."""
        self.open[name] = Entry(wanted)

    def refused(self, name: str) -> None:
        if self.open.pop(name).posted:
            self.problem(f"{name} was refused and ended all the same")

    def accepted(self) -> None:
        self.count("accepted")

    def posted(self, name: str, status: str) -> None:
        """A `completed` webhook."""
        entry = self.open.get(name)
        if entry is None or entry.posted:
            if name in self.late:
                return self.count("posts repeated after a late answer")
            return self.problem(f"{name} ended ({status}) twice, or was never asked for")
        entry.posted = status
        return self._settle(name, entry)

    def seen(self, name: str, status: str) -> None:
        """The client's own view of the end: an answer, a stream's last event, or GET."""
        entry = self.open[name]
        if entry.seen:
            return self.problem(f"{name}: its client saw two ends, {entry.seen} and {status}")
        entry.seen = status
        return self._settle(name, entry)

    def left(self, name: str) -> None:
        self.seen(name, "left")

    def _settle(self, name: str, entry: Entry) -> None:
        if not entry.seen or not entry.posted:
            return
        if entry.seen not in ("left", entry.posted):
            self.problem(f"{name}: its client saw {entry.seen}, its webhook said {entry.posted}")
        if entry.posted not in entry.wanted:
            self.problem(f"{name} ended {entry.posted}, not {' or '.join(entry.wanted)}")
        self.count("ended")
        self.count(entry.posted)
        del self.open[name]
