# SPDX-License-Identifier: Apache-2.0
"""The process: start, signals, shutdown, resources: cases 156-168."""

import json
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

import pytest

from cases import case
from client import ASYNC, request
from patience import Pace, wait_until
from ports import free_port, listens
from targets import FAKE

AWAIT = ("--await-explicit-shutdown=true",)


@case(156, "c", "the log tells where it listens", fresh=True)
def test_start_line(server):
    def says(*words):
        return any(word in line for line in list(server.log) for word in words)
    wait_until(lambda: says(f"{server.port}") and says("Starting", "istening"),
               what="a line with the port")


@case(157, "c",
      "PORT names the port; one that is taken ends the process with a message and not with 0")
def test_port(start):
    server = start()
    assert server.get("/").status == 200  # it was told its port by PORT
    second = start(ready=False, env={"PORT": str(server.port)}, flags=())
    assert second.wait_exit() != 0
    assert any("in use" in line or "cannot listen" in line for line in second.log), second.log


@case("157b", "ours", "its status is 1 and its message names the address", coglet="a traceback")
def test_port_in_use(start):
    server = start()
    second = start(ready=False, env={"PORT": str(server.port)})
    assert second.wait_exit() == 1
    assert any(f"cannot listen on 127.0.0.1:{server.port}" in line for line in second.log)


@case(158, "c", "SIGTERM while idle: exit 0 within 2 s", fresh=True)
def test_sigterm(server, idle):
    with Pace(idle.health) as pace:
        server.send_signal()
        assert server.wait_exit() == 0
    assert pace.took < 2 * pace.slowness


@case(159,
      "c",
      "SIGTERM during a synchronous prediction: its answer is delivered, then exit 0",
      fresh=True)
def test_sigterm_while_busy(server, hold):
    running = server.send("POST", "/predictions", request(f"[hold=0,{hold}]done"))
    server.wait_status("BUSY")
    server.send_signal()
    time.sleep(0.4)
    hold.touch()
    assert running.answer().json["output"] == "done"
    assert server.wait_exit() == 0


@case(160,
      "c",
      "--await-explicit-shutdown: SIGTERM is ignored, POST /shutdown ends it with 0",
      flags=AWAIT,
      fresh=True)
def test_await_explicit_shutdown(server):
    server.send_signal()
    time.sleep(0.4)
    assert server.status() == "READY"
    answer = server.ask("POST", "/shutdown")
    assert (answer.status, answer.json) == (200, {})
    assert server.wait_exit() == 0


@case(161, "c", "both spellings of the flag are taken from Cog's command line")
@pytest.mark.parametrize("flags", [("--await-explicit-shutdown=true", ),
                                   ("--await-explicit-shutdown", "true")])
def test_spellings(start, flags):
    server = start(flags=flags, cog_start=True)
    server.send_signal()
    time.sleep(0.4)
    assert server.status() == "READY"


@case(162, "ours", "SIGINT: exit 0, also with the flag", coglet="ends by the signal")
@pytest.mark.parametrize("flags", [(), AWAIT])
def test_sigint(start, flags):
    server = start(flags=flags)
    server.send_signal(signal.SIGINT)
    assert server.wait_exit() == 0


@case(163,
      "c",
      "SIGTERM during setup: exit within 5 s",
      fresh=True,
      ready=False,
      env={"FAKE_SETUP_DELAY": "600"})
def test_sigterm_during_setup(server, idle):
    server.wait_listening()
    with Pace(idle.health) as pace:
        server.send_signal()
        server.wait_exit()
    assert pace.took < 5 * pace.slowness


@case(164, "c", "POST /shutdown: {}, exit 0, and nothing listens any more", fresh=True)
def test_shutdown(server):
    answer = server.ask("POST", "/shutdown")
    assert (answer.status, answer.json) == (200, {})
    assert server.wait_exit() == 0
    with pytest.raises(ConnectionRefusedError):
        server.get("/")


@case("164b",
      "ours",
      "SIGTERM lets asynchronous predictions end",
      coglet="exits at once",
      fresh=True)
def test_sigterm_and_async(server, hook):
    server.post(request("[sleep=0.6]x", webhook=hook.url), ASYNC)
    hook.wait_posts(1)
    server.send_signal()
    assert hook.wait_completed()[-1].json["status"] == "succeeded"
    assert server.wait_exit() == 0


@case("164c", "ours", "a second SIGTERM ends the waiting", coglet="it goes on waiting", fresh=True)
def test_second_signal(server, idle):
    running = server.send("POST", "/predictions", request("[block=600]x"))
    server.wait_status("BUSY")
    server.send_signal()
    wait_until(lambda: server.get("/readyz").status == 503, what="that it was told")
    with Pace(idle.health) as pace:
        server.send_signal()
        server.wait_exit()
    assert pace.took < 2 * pace.slowness
    running.close()


@case(165, "c", "--threads and --upload-url are tolerated")
def test_old_flags(start):
    flags = ("--threads", "4", "--upload-url", "http://127.0.0.1:1/x/")
    assert start(flags=flags, cog_start=True).predict()["status"] == "succeeded"


@case("165b", "ours", "unknown flags are tolerated", coglet="exit 2")
def test_unknown_flags(start):
    assert start(flags=("--no-such-flag=1", "--mode", "predict"),
                 cog_start=True).predict()["status"] == "succeeded"


@case(166,
      "ours",
      "as process 1: SIGTERM ends it with 0",
      coglet="it has a worker process; not tried",
      only_ours=True)
def test_as_process_1(target):
    if target.name != "ours" or not can_unshare():
        pytest.skip(
            "needs unshare and the right to use it; scripts/container_test.sh stops a container by "
            "SIGTERM, there below tini"
        )
    port = free_port()
    process = subprocess.Popen(["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", FAKE,
                                "--host", "127.0.0.1", "--port", str(port)], stderr=subprocess.PIPE)
    try:
        wait_until(lambda: listens(port), 60, "that it listens")
        child = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()[0]
        os.kill(int(child), signal.SIGTERM)
        assert process.wait(timeout=60) == 0
    finally:
        process.kill()
        assert process.stderr is not None
        process.stderr.close()


def can_unshare():
    """Root in a container may lack the capability."""
    return shutil.which("unshare") is not None and subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"], stderr=subprocess.DEVNULL,
        check=False).returncode == 0


@case(167,
      "hard",
      "10 000 requests in a row: neither memory nor descriptors grow",
      coglet="409 in between",
      only_ours=True,
      fresh=True)
def test_nothing_grows(server):
    def resources():
        folder = Path(f"/proc/{server.process.pid}")
        resident = int((folder / "statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        return resident, len(list((folder / "fd").iterdir()))

    def ask(count):
        for _ in range(count // 2):
            assert server.post(request()).status == 200
            server.get("/health-check")
    ask(4000)
    resident, descriptors = resources()
    ask(10_000)
    later, later_descriptors = resources()
    assert later - resident < 8 << 20, f"{(later - resident) >> 10} KiB more"
    assert later_descriptors <= descriptors + 3


@case(168, "c", "200 idle connections do not keep health waiting", any_engine=True)
def test_idle_connections(server, idle):
    connections = [socket.create_connection((server.host, server.port)) for _ in range(200)]
    with Pace(idle.health) as pace:
        assert server.status() == "READY"
    assert pace.took < 0.25 * pace.slowness
    for connection in connections:
        connection.close()


@case(217, "c", "nonsense in Cog's environment variables is the default, not the end")
@pytest.mark.parametrize("name, value", [("COG_MAX_CONCURRENCY", "abc"),
                                         ("COG_MAX_CONCURRENCY", ""), ("COG_LOG_LEVEL", "loud"),
                                         ("COG_THROTTLE_RESPONSE_INTERVAL", "abc"),
                                         ("COG_SETUP_TIMEOUT", "-5"), ("COG_SETUP_TIMEOUT", "1.5"),
                                         ("LOG_FORMAT", "nonsense"), ("COG_USER_AGENT", "")])
def test_nonsense_environment(start, name, value):
    assert start(env={name: value}).predict()["status"] == "succeeded"


def log_lines(server):
    server.predict("[log=said by the engine]a secret question")
    server.send_signal()
    server.wait_exit()
    return [line for line in server.log if line.strip()]


@case(218, "c", "log lines are JSON objects with timestamp, level and target")
def test_json_log(start):
    lines = [json.loads(line) for line in log_lines(start()) if line.startswith("{")]
    assert len(lines) > 2
    for line in lines:
        assert {"timestamp", "level", "target"} <= set(line) and line["level"].isupper(), line


@case("218b", "c", "LOG_FORMAT=console writes readable lines")
def test_console_log(start):
    assert not [
        line for line in log_lines(start(env={"LOG_FORMAT": "console"})) if line.startswith("{")
    ]


@case("218c", "hard", "no log line holds an input")
def test_log_without_inputs(start):
    assert "a secret question" not in "".join(log_lines(start(env={"COG_LOG_LEVEL": "debug"})))


@case(219, "c", "generated ids all differ")
def test_ids_differ(server):
    ids = set()
    for _ in range(100):
        server.wait_status("READY")
        ids.add(server.post(request()).json["id"])
    assert len(ids) == 100
