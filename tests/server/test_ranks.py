# SPDX-License-Identifier: Apache-2.0
"""The real server with a model that is divided among ranks."""

import contextlib
import ctypes
import http.client
import json
import os
import re
import subprocess
import threading
from pathlib import Path

import pytest

from conftest import ROOT, SERVER, data_uri
from patience import wait_until

BUNDLE = os.environ.get("IDEFICS_DEMO_BUNDLE", "")
pytestmark = pytest.mark.skipif(not BUNDLE, reason="IDEFICS_DEMO_BUNDLE is not set")

QUESTION = {"image": data_uri(next((ROOT / "tests/assets").glob("*.jpg"))), "text": "What is this?"}


def test_ranks_hold_the_bytes_that_inspect_says_and_answer_as_one(start, demo):
    shown = subprocess.run([SERVER, "inspect", BUNDLE, "--json"], capture_output=True, check=True)
    ways = json.loads(shown.stdout)["devices"]
    weights = {way["flags"]: way["weights"] for way in ways}
    expected = demo.predict(**QUESTION)[1]["output"]
    for ranks in (2, 4):
        server = start("--model", BUNDLE, "--device", "cpu", "--tensor-parallel", str(ranks))
        server.wait_until("READY", 120)
        assert server.predict(**QUESTION)[1]["output"] == expected
        assert server.stop() == 0
        held = re.findall(r"(\d+) bytes of weights", "".join(server.log))
        assert len(held) == ranks and max(map(int, held)) == weights[f"--tensor-parallel {ranks}"]
    assert weights[""] > weights["--tensor-parallel 2"] > weights["--tensor-parallel 4"]


PTRACE_DETACH, PTRACE_SEIZE, PTRACE_INTERRUPT = 17, 0x4206, 0x4207
WALL = 0x40000000  # waitpid: threads too


def ptrace(request, thread):
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.ptrace(request, thread, None, None) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def computes(process, thread):
    """Whether a stopped thread is inside an operator, where it holds no lock and waits for none."""
    call, *_, at = Path(f"/proc/{process.pid}/task/{thread}/syscall").read_text().split()
    maps = Path(f"/proc/{process.pid}/maps").read_text()
    code = re.findall(r"^(\w+)-(\w+) r-xp .*libidefics_ops", maps, re.M)
    return call == "-1" and any(int(begin, 16) <= int(at, 16) < int(end, 16) for begin, end in code)


@contextlib.contextmanager
def hanging(process, name):
    """Holds the thread of that name in the middle of a step, as a device that hangs would, until
    the process has ended."""
    tasks = Path(f"/proc/{process.pid}/task").iterdir()
    # Those that it has started have its name too.
    thread = min(int(task.name) for task in tasks if (task / "comm").read_text().strip() == name)

    def catch():
        try:
            ptrace(PTRACE_SEIZE, thread)
        except PermissionError:
            pytest.skip("this machine lets no process stop another one's thread")
        ptrace(PTRACE_INTERRUPT, thread)
        os.waitpid(thread, WALL)
        if computes(process, thread):
            return True
        ptrace(PTRACE_DETACH, thread)
        return False
    wait_until(catch, 60, "a step under way")
    try:
        yield
        # Whoever holds it has to see its end first.
        wait_until(lambda: os.waitpid(thread, WALL | os.WNOHANG)[0], 60, "the process's end")
    finally:
        process.kill()


@pytest.fixture
def asked(start):
    """asked("--flag", …) -> (a server of two ranks, the threads of three clients that ask until an
    answer fails, each client's answers)."""
    def run(*flags):
        server = start("--model", BUNDLE, "--device", "cpu", "--tensor-parallel", "2", "--threads",
                       "2", *flags)
        server.wait_until("READY", 120)
        answers = [[] for _ in range(3)]

        def ask(mine):
            with contextlib.suppress(OSError, http.client.HTTPException):  # the server has ended
                while not mine or mine[-1]["status"] == "succeeded":
                    mine.append(server.predict(**QUESTION)[1])
        clients = [threading.Thread(target=ask, args=(mine,)) for mine in answers]
        for client in clients:
            client.start()
        return server, clients, answers
    return run


def test_a_rank_that_hangs_is_one_error_for_all_and_a_server_that_says_so_and_ends(asked):
    server, clients, answers = asked("--rank-timeout", "5")
    with hanging(server.process, "rank 1"):
        for client in clients:
            client.join()
        assert all(mine[-1]["status"] == "failed" for mine in answers)
        server.wait_for_line("rank 1 of 2 does not answer any more: nothing runs until a restart")
        assert server.health() == "DEFUNCT"
        for path in ("/readyz", "/livez"):
            code, why = server.ask("GET", path)
            assert code == 503 and "restart the server" in why
        code, refused = server.predict(**QUESTION)
        assert code == 503 and "restart the server" in refused["error"]
        server.process.terminate()
    assert server.wait() == 1 and "Stopped with a model that had failed for good" in server.log[-1]


def test_a_server_ends_while_it_still_waits_for_a_rank(asked):
    server, _, _ = asked("--drain-timeout", "1")
    with hanging(server.process, "rank 1"):
        server.process.terminate()
    assert server.wait() == 1 and "Stopped although predictions did not end" in server.log[-1]
