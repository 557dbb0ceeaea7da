# SPDX-License-Identifier: Apache-2.0
"""The soak (scripts/soak.sh): starts a server, sets clients on it, samples it, and judges.

    soak.py --out FOLDER [--engine fake|demo] [--minutes 60] [--clients 32] [--seed 0]
"""

import argparse
import asyncio
import contextlib
import csv
import itertools
import json
import os
import random
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from flat import Allowance, Line, Verdict, draw, judge
from hooks import Receiver
from ledger import Ledger
from rests import Rests
from wire import Wire, request
from workload import Client, Inputs

from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SLOTS, QUEUE = 8, 32
SAMPLE_S, NOTE_S, SETTLE_S = 1.0, 60.0, 120.0
RESTS_EVERY_S, REST_S = 30.0, 2.0
LEAST_RESTS = 20  # before which what a server grows by at its start is most of what is seen
# What a flat series may grow by, from rest to rest: a share of its median or so much, the larger.
ALLOWED = {
    "RSS, MB": Allowance(0.05, 8),
    "descriptors": Allowance(0.10, 8),
    "threads": Allowance(0.10, 4),
}
# What may be left of them, above the quiet server at the start, once all clients have gone.
LEFT_OVER = {"descriptors": 8, "threads": 24}


def note(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


@dataclass
class Server:
    process: subprocess.Popen[bytes]
    port: int
    samples: list[dict[str, float]] = field(default_factory=list)  # under load
    at_rest: list[dict[str, float]] = field(default_factory=list)

    def sample(self) -> dict[str, float]:
        proc = Path(f"/proc/{self.process.pid}")
        pages = int((proc / "statm").read_text().split()[1])
        return {
            "RSS, MB": pages * os.sysconf("SC_PAGE_SIZE") / 1e6,
            "descriptors": len(os.listdir(proc / "fd")),
            "threads": len(os.listdir(proc / "task")),
        }

    async def health(self) -> str:
        wire = Wire(self.port)
        try:
            return (await wire.ask(request("GET", "/health-check"))).json()["status"]
        finally:
            wire.close()


async def start(engine: str, log: Path) -> Server:
    port = free_port()
    command = [str(ROOT / "scripts" / ("fake-server" if engine == "fake" else "idefics-server"))]
    if engine == "demo":
        # So few that the prefix cache has filled them before memory is judged.
        command += ["serve", "--model", os.environ["IDEFICS_DEMO_BUNDLE"], "--kv-tokens", "16384"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--webhook-hosts", "any",
                "--max-concurrency", str(SLOTS), "--queue", str(QUEUE), "--throttle-interval",
                "0.05", "--log-level", "error"]
    with open(log, "w") as out:
        process = subprocess.Popen(command, stdout=out, stderr=out)
    server = Server(process, port)
    while True:
        if process.poll() is not None:
            sys.exit(f"the server ended at its start; see {log}")
        with contextlib.suppress(OSError):
            if await server.health() == "READY":
                return server
        await asyncio.sleep(0.05)


async def rest(server: Server, ledger: Ledger, rests: Rests, begun: float) -> None:
    """Samples the server once nobody asks and every end is told."""
    await rests.begin()
    await told(ledger)
    await asyncio.sleep(REST_S)
    if server.process.poll() is None:
        server.at_rest.append({"seconds": time.monotonic() - begun, **server.sample()})
    rests.end()


async def watch(server: Server, ledger: Ledger, rests: Rests, seconds: float,
                done: asyncio.Event) -> None:
    """Samples until the time is over or the server is gone, then lets the clients end."""
    begun = noted = rested = time.monotonic()
    while (now := time.monotonic()) < begun + seconds:
        if server.process.poll() is not None:
            ledger.problem(f"the server ended with {server.process.returncode}")
            break
        server.samples.append({"seconds": now - begun, **server.sample(),
                               "accepted": ledger.counts.get("accepted", 0),
                               "ended": ledger.counts.get("ended", 0)})
        if now > noted + NOTE_S:
            noted = now
            note(f"soak: {server.samples[-1]}, at rest {server.at_rest[-1:]}, "
                 f"{ledger.num_problems} problems")
        if now > rested + RESTS_EVERY_S:
            await rest(server, ledger, rests, begun)
            rested = time.monotonic()
        await asyncio.sleep(SAMPLE_S)
    done.set()


async def told(ledger: Ledger) -> None:
    """Until every end is told, or for so long that it never will be."""
    end = time.monotonic() + SETTLE_S
    while ledger.open and time.monotonic() < end:
        await asyncio.sleep(0.2)


async def settle(server: Server, ledger: Ledger, before: dict[str, float]) -> dict[str, float]:
    """Once the clients have gone: every end is told, and nothing of theirs is left (threads that
    have nothing to do end after ten seconds)."""
    end = time.monotonic() + SETTLE_S
    await told(ledger)
    for name, entry in list(ledger.open.items())[:5]:
        ledger.problem(f"{name} never ended: seen {entry.seen}, posted {entry.posted}")
    if server.process.poll() is not None:
        return {}
    if (health := await server.health()) != "READY":
        ledger.problem(f"without clients health is {health}")
    while True:
        after = server.sample()
        too_many = [name for name, most in LEFT_OVER.items() if after[name] > before[name] + most]
        if not too_many:
            return after
        if time.monotonic() > end:
            ledger.problem(f"{too_many}: {before} before, {after} with nobody left")
            return after
        await asyncio.sleep(SAMPLE_S)


def save(path: Path, samples: list[dict[str, float]]) -> None:
    with open(path, "w", newline="") as file:
        writer = csv.DictWriter(file, samples[0])
        writer.writeheader()
        writer.writerows({name: f"{value:.6g}" for name, value in row.items()} for row in samples)


def judge_all(server: Server, ledger: Ledger) -> dict[str, Verdict]:
    if len(server.at_rest) < LEAST_RESTS:
        note(f"soak: {len(server.at_rest)} rests are too few to say what is flat, which takes "
             f"{LEAST_RESTS}: run it for {LEAST_RESTS * RESTS_EVERY_S / 60:g} minutes or more")
        return {}
    verdicts = {}
    for name, allowance in ALLOWED.items():
        verdicts[name] = judge([row[name] for row in server.at_rest], allowance)
        if not verdicts[name].flat:
            ledger.problem(f"{name} is not flat: {verdicts[name]}")
    return verdicts


def panels(server: Server) -> dict[str, list[Line]]:
    lines = {name: [Line([row["seconds"] for row in rows], [row[name] for row in rows])
                    for rows in (server.samples, server.at_rest)] for name in ALLOWED}
    rates = [(b["seconds"], (b["ended"] - a["ended"]) / (b["seconds"] - a["seconds"]))
             for a, b in itertools.pairwise(server.samples)]
    return {**lines, "ends a second": [Line(*zip(*rates, strict=True))]}


async def soak(options: argparse.Namespace) -> Ledger:
    ledger = Ledger()
    path = options.out / f"{options.engine}.csv"
    server = await start(options.engine, path.with_suffix(".log"))
    try:
        receiver = Receiver(ledger, options.seed)
        before = server.sample()
        server.at_rest.append({"seconds": 0, **before})
        async with await receiver.start():
            done, rests = asyncio.Event(), Rests(options.clients)
            clients = []
            for number in range(options.clients):
                rng = random.Random(options.seed * 1000 + number)
                clients.append(Client(server.port, receiver.url, ledger,
                                      Inputs(options.engine, rng), rng).run(rests, done))
            await asyncio.gather(watch(server, ledger, rests, 60 * options.minutes, done),
                                 *clients)
            after = await settle(server, ledger, before)
    finally:
        server.process.terminate()
        if server.process.wait() != 0:
            ledger.problem(f"the server ended with {server.process.returncode}")
    save(path, server.samples)
    save(path.with_suffix(".rest.csv"), server.at_rest)
    verdicts = judge_all(server, ledger)
    draw(f"{options.engine} engine, {options.clients} clients, {ledger.counts.get('ended', 0)} "
         "predictions ended; dashed: at rest", panels(server), path.with_suffix(".svg"))
    report(ledger, verdicts, before, after, receiver.num_posts)
    return ledger


def report(ledger: Ledger, verdicts: dict[str, Verdict], before: dict[str, float],
           after: dict[str, float], num_posts: int) -> None:
    print(json.dumps(dict(sorted(ledger.counts.items())) | {"webhook posts": num_posts}))
    for name, verdict in verdicts.items():
        print(f"{name}: median {verdict.median:.4g}, growth over the last two thirds "
              f"{verdict.growth:+.3g} of {verdict.most:.3g} allowed; quiet {before[name]:.4g} "
              f"before, {after.get(name, float('nan')):.4g} after")
    for problem in ledger.problems:
        print(f"PROBLEM: {problem}")
    print(f"{ledger.num_problems} problems")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--engine", choices=["fake", "demo"], default="fake")
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, required=True)
    ledger = asyncio.run(soak(parser.parse_args()))
    sys.exit(1 if ledger.num_problems else 0)


if __name__ == "__main__":
    main()
