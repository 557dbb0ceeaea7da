# SPDX-License-Identifier: Apache-2.0
"""Many and bad clients: health answers within 250 ms throughout, and predictions still run."""

import contextlib
import json
import os
import resource
import socket
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from patience import Pace, wait_until

# A sanitizer keeps what was freed.
INSTRUMENTED = os.environ.get("IDEFICS_PRESET") in ("asan", "tsan")
HEALTH_S = 0.25
HALF_HEAD = b"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-"
HALF_BODY = (b"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Type: "
             b"application/json\r\nContent-Length: 100\r\n\r\n{")


def post(text):
    body = json.dumps({"input": {"prompt": [text]}}).encode()
    return (
        b"POST /predictions HTTP/1.1\r\nHost: x\r\nContent-Type: "
        b"application/json\r\nContent-Length: "
        + str(len(body)).encode() + b"\r\n\r\n" + body)


@pytest.fixture
def many():
    """As many descriptors as there may be."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < 10_000:
        pytest.skip(f"{hard} descriptors are allowed, the test needs 10000")
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def started(start, fake, many):
    """started("--flag", …) -> a server; .idle: one without work, which shows what the machine does
    to any."""
    servers = []

    def run(*flags):
        server = start("--max-concurrency", "4", "--queue", "1000", *flags)
        server.wait_until("READY")
        server.idle = fake
        servers.append(server)
        return server
    yield run
    for server in servers:
        assert server.process.poll() is None, "".join(server.log[-20:])


@pytest.fixture
def server(started):
    return started("--body-timeout", "1.5")


@contextlib.contextmanager
def connections(server, count, first=b""):
    made = []
    try:
        for _ in range(count):
            made.append(socket.create_connection(("127.0.0.1", server.port)))
            made[-1].sendall(first)
        yield made
    finally:
        for connection in made:
            connection.close()


def check_service(server, seconds):
    """Health and predictions on connections of their own, as a director makes them. Health takes
    less than 250 ms, as an idle machine would have it."""
    end = time.monotonic() + seconds
    slowest = 0
    with Pace(server.idle.health) as pace:
        while time.monotonic() < end:
            begun = time.monotonic()
            assert server.health() in ("READY", "BUSY")
            slowest = max(slowest, time.monotonic() - begun)
            assert server.predict(prompt=["x"])[1]["status"] == "succeeded"
            time.sleep(0.02)
    assert slowest < HEALTH_S * pace.slowness


def tasks(server):
    return len(os.listdir(f"/proc/{server.process.pid}/task"))


def resident_bytes(server):
    pages = int(Path(f"/proc/{server.process.pid}/statm").read_text().split()[1])
    return 0 if INSTRUMENTED else pages * resource.getpagesize()


def used_slots(server):
    return server.ask("GET", "/health-check")[1]["concurrency"]["current"]


def test_5000_idle_and_2000_half_sent_connections_cost_no_thread_and_little_memory(server):
    check_service(server, 0.5)
    threads, memory = tasks(server), resident_bytes(server)
    with connections(server, 5000), connections(server, 2000, HALF_HEAD) as half_sent:
        check_service(server, 3)
        assert tasks(server) <= threads + 8
        assert resident_bytes(server) - memory < 64 << 20
        half_sent[-1].settimeout(60)
        assert half_sent[-1].recv(100).startswith(b"HTTP/1.1 408")
        check_service(server, 0.5)


def drip(server, request):
    with socket.create_connection(("127.0.0.1", server.port)) as connection:
        connection.settimeout(60)
        head, body = request.split(b"\r\n\r\n")
        connection.sendall(head + b"\r\n\r\n")
        for at in range(0, len(body), 10):
            time.sleep(0.2)
            connection.sendall(body[at:at + 10])
        return connection.recv(1000)


def test_500_slow_clients_at_once_are_all_served(started):
    server = started("--body-timeout", "60")
    request = post("slow")
    with ThreadPoolExecutor(500) as clients:
        answers = [clients.submit(drip, server, request) for _ in range(500)]
        check_service(server, 1.5)
        for answer in answers:
            assert b" 200 OK" in answer.result() and b'"succeeded"' in answer.result()


def test_half_sent_bodies_end_by_their_deadline(server):
    with connections(server, 500, HALF_BODY) as half_sent, Pace(server.idle.health) as pace:
        check_service(server, 1)
        for connection in half_sent:
            connection.settimeout(60)
            assert connection.recv(100).startswith(b"HTTP/1.1 408")
    assert pace.took < 6 * pace.slowness
    assert used_slots(server) == 0


def test_clients_that_do_not_read_hold_no_slot(server):
    memory = resident_bytes(server)
    with connections(server, 30, post("[big=8000000]")):
        check_service(server, 1)
        # A client that stalls is given up only after 30 s.
        wait_until(lambda: used_slots(server) == 0)
    # Recent answers are kept, 64 MiB of them.
    wait_until(lambda: resident_bytes(server) - memory < 400 << 20)


def race(server, number, text, delay_s):
    """A sync prediction and its cancel, at once. -> (status of the prediction, status of the
    cancel)"""
    path = f"/predictions/race-{text}-{number}"
    answers = []
    canceling = threading.Thread(target=lambda: (time.sleep(
        delay_s), answers.append(server.ask("POST", path + "/cancel")[0])))
    canceling.start()
    status, body = server.ask("PUT", path, {"input": {"prompt": [text]}})
    canceling.join()
    assert status == 200
    return body["status"], answers[0]


@pytest.mark.parametrize("text, delays", [("[sleep=0.3]x", (0, 0.001, 0.002)),
                                          ("[sleep=0.003]x", (0.002, 0.003, 0.004, 0.005))],
                         ids=["start", "completion"])
def test_500_cancels_race_the(server, text, delays):
    with ThreadPoolExecutor(4) as clients:
        ended = list(
            clients.map(lambda number: race(server, number, text, delays[number % len(delays)]),
                        range(500)))
    assert {status for status, _ in ended} <= {"succeeded", "canceled"}
    assert {status for _, status in ended} <= {200, 404}
    # An accepted cancel may come too late; a refused one cannot have canceled.
    assert not [pair for pair in ended if pair == ("canceled", 404)]
    assert used_slots(server) == 0 and server.health() == "READY"


def test_sync_clients_that_leave_at_any_moment_free_their_slots(server):
    for number in range(200):
        with connections(server, 1, post("[sleep=600]x")):
            time.sleep(number % 5 / 1000)
    wait_until(
        lambda: used_slots(server) == 0 and server.ask("GET", "/health-check")[1]["queue"][
            "current"] == 0)
    assert server.predict(prompt=["x"])[1]["status"] == "succeeded"
