# SPDX-License-Identifier: Apache-2.0
"""How soon the server answers after its start."""

import contextlib
import http.client
import json
import os
import subprocess
import time

import pytest

from conftest import FAKE_SERVER, SERVER, Server
from patience import wait_until


def seconds_until(status, server, begun, limit_s=60, or_status=None):
    """-> (seconds from `begun` to the first answer with one of the two, the status of the first
    answer of all)"""
    first = None
    while time.monotonic() - begun < limit_s:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
            connection.request("GET", "/health-check")
            answered = json.loads(connection.getresponse().read())["status"]
            connection.close()
            first = first or answered
            if answered in (status, or_status):
                return time.monotonic() - begun, first
        except OSError:
            assert server.process.poll() is None, "".join(server.log)
        time.sleep(0.001)
    raise AssertionError(f"not {status} after {limit_s} s")


def seconds_of_a_start():
    """Of the program alone: it says its version and ends. The quickest of some: others may hold the
    cores."""
    times = []
    for _ in range(5):
        begun = time.monotonic()
        subprocess.run([SERVER, "--version"], capture_output=True, check=True)
        times.append(time.monotonic() - begun)
    return min(times)


def test_the_fake_engine_is_ready_within_a_tenth_of_a_second(start):
    tries = []
    for _ in range(20):
        limit = max(0.1, 3 * seconds_of_a_start())
        begun = time.monotonic()
        server = start()
        tries.append((seconds_until("READY", server, begun)[0], limit))
        server.stop()
        if tries[-1][0] < limit:
            return
    raise AssertionError(tries)


def test_help_does_not_load_the_model_runtime():
    traced = subprocess.run([SERVER, "serve", "--help"], env={**os.environ, "LD_DEBUG": "files"},
                            capture_output=True, text=True, check=True)
    assert "libcurl" in traced.stderr and "libc10" not in traced.stderr
    assert "--model" in traced.stdout


def test_a_server_that_loads_a_model_answers_starting_at_once():
    bundle = os.environ.get("IDEFICS_DEMO_BUNDLE")
    if not bundle:
        pytest.skip("IDEFICS_DEMO_BUNDLE names no bundle: scripts/test.sh exports one")
    tries = []
    for _ in range(5):
        limit = max(0.5, 15 * seconds_of_a_start())
        begun = time.monotonic()
        server = Server("--model", bundle)
        try:
            answered, first = seconds_until("STARTING", server, begun, or_status="READY")
            seconds_until("READY", server, begun)
        finally:
            assert server.stop() == 0
        tries.append((first, answered, limit))
        if first == "STARTING" and answered < limit:
            return
    raise AssertionError(tries)


def listening_addresses(process):
    """Of a process: the addresses of its listening IPv4 sockets, as /proc/net/tcp has them."""
    inodes = set()
    for descriptor in os.scandir(f"/proc/{process.pid}/fd"):
        with contextlib.suppress(OSError):
            inodes.add(os.readlink(descriptor.path))
    with open("/proc/net/tcp") as table:
        rows = [line.split() for line in table][1:]
    return {row[1].split(":")[0] for row in rows
            if row[3] == "0A" and f"socket:[{row[9]}]" in inodes}


def test_it_listens_on_loopback_and_says_so_where_it_does_not(start):
    loopback, everywhere = "0100007F", "00000000"
    process = subprocess.Popen([FAKE_SERVER, "--port", "0"], stderr=subprocess.DEVNULL)
    try:
        wait_until(lambda: listening_addresses(process), 20, "that it listens")
        assert listening_addresses(process) == {loopback}
    finally:
        process.kill()
        process.wait()
    for host, expected, warned in (("127.0.0.1", loopback, False), ("0.0.0.0", everywhere, True)):
        server = start("--host", host)
        server.wait_until("READY")
        assert listening_addresses(server.process) == {expected}
        assert server.stop() == 0
        lines = [line for line in server.log if "no authentication" in line]
        assert [json.loads(line)["severity"] for line in lines] == ["WARNING"] * warned
