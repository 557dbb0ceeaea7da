# SPDX-License-Identifier: Apache-2.0
"""GET /health-check and the states of setup: cases 25-42."""

import datetime
import os
import statistics
import threading
import time
from pathlib import Path

import pytest

from cases import case
from client import ASYNC, request
from patience import Pace, wait_until

READY_FILE = Path("/var/run/cog/ready")


def moment(text):
    parsed = datetime.datetime.fromisoformat(text)
    assert parsed.utcoffset() is not None, text
    return parsed


def health_when(server, wanted, seconds=20):
    """The health body as soon as its status is `wanted`."""
    server.wait_listening()
    server.wait_status(wanted, seconds=seconds)
    return server.health()


@case(25, "c", "during a slow setup the status is STARTING, with started_at and no completed_at",
      fresh=True, ready=False, env={"FAKE_SETUP_DELAY": "600"})
def test_starting(server):
    setup = health_when(server, "STARTING")["setup"]
    assert moment(setup["started_at"])
    assert setup["status"] == "starting" and "completed_at" not in setup


@case(26, "c", "every health answer from the first on has `setup`", fresh=True, ready=False,
      env={"FAKE_SETUP_DELAY": "0.5"})
def test_setup_is_always_there(server):
    first = server.wait_listening()
    while True:
        health = server.health()
        assert "setup" in first and "setup" in health
        if health["status"] == "READY":
            break


@case(27,
      "c",
      "the status is never UNKNOWN, polled from the start of the process",
      fresh=True,
      ready=False,
      env={"FAKE_SETUP_DELAY": "0.2"})
def test_never_unknown(server):
    seen = {server.wait_listening()["status"]}
    for _ in range(1000):
        seen.add(server.status())
    assert seen <= {"STARTING", "READY"}


@case(28, "c", "after setup: READY, succeeded, completed_at not before started_at", any_engine=True)
def test_ready(server):
    health = server.health()
    assert (health["status"], health["setup"]["status"]) == ("READY", "succeeded")
    assert moment(health["setup"]["completed_at"]) >= moment(health["setup"]["started_at"])


@case(29, "c", "a failed setup: 200 SETUP_FAILED, its cause in the logs, and the process stays",
      fresh=True, ready=False, env={"FAKE_SETUP_FAIL": "no weights here"})
def test_setup_failed(server):
    health = health_when(server, "SETUP_FAILED")
    assert health["setup"]["status"] == "failed"
    assert "no weights here" in health["setup"]["logs"]
    time.sleep(1)
    assert server.process.poll() is None and server.status() == "SETUP_FAILED"


@case(30, "c", "COG_SETUP_TIMEOUT=1 ends a longer setup with 'timed out'", fresh=True, ready=False,
      env={"FAKE_SETUP_DELAY": "600", "COG_SETUP_TIMEOUT": "1"})
def test_setup_timeout(server):
    assert "timed out" in health_when(server, "SETUP_FAILED")["setup"]["logs"]


@case(31, "c", "COG_SETUP_TIMEOUT of 0 or nonsense is no limit")
@pytest.mark.parametrize("value", ["0", "abc"])
def test_no_setup_timeout(start, value):
    server = start(ready=False, env={"FAKE_SETUP_DELAY": "1.2", "COG_SETUP_TIMEOUT": value})
    assert health_when(server, "READY")["setup"]["status"] == "succeeded"


@case(32, "c", "version.coglet is a string", any_engine=True)
def test_version(server):
    assert isinstance(server.health()["version"]["coglet"], str)


@case(33, "c", "BUSY during a prediction, READY within 100 ms of its answer")
def test_busy(server, hold):
    running = server.send("POST", "/predictions", request(f"[hold=0,{hold}]x"))
    server.wait_status("BUSY")
    hold.touch()
    assert running.answer().status == 200
    server.wait_status("READY", seconds=0.1)


@case("33b",
      "ours",
      "READY and free as soon as the answer is there: 200 predictions back to back, never 409",
      coglet="4-40 % of them get 409")
def test_back_to_back(server):
    assert [server.post(request()).status for _ in range(200)] == [200] * 200


@case(34, "c", "with two slots one prediction leaves READY, two make BUSY", slots=2)
def test_two_slots(server):
    first = server.send("POST", "/predictions", request("[sleep=600]x", id="slot-1"))
    time.sleep(0.2)
    assert server.status() == "READY"
    second = server.send("POST", "/predictions", request("[sleep=600]x", id="slot-2"))
    server.wait_status("BUSY")
    assert server.cancel("slot-1") == server.cancel("slot-2") == 200
    assert first.answer().json["status"] == second.answer().json["status"] == "canceled"


@case(35, "c", "COG_MAX_CONCURRENCY=0 leaves one slot to an engine that takes one at a time",
      env={"COG_MAX_CONCURRENCY": "0"}, fresh=True)
def test_zero_slots(server):
    running = server.send("POST", "/predictions", request("[sleep=600]x", id="only"))
    server.wait_status("BUSY")
    assert server.post(request()).status == 409
    assert server.cancel("only") == 200
    assert running.answer().status == 200


@case(36,
      "c",
      "a health hook that says no: UNHEALTHY with coglet's sentence, and predictions still run",
      env={"FAKE_HEALTH": "false"},
      fresh=True,
      ready=False)
def test_unhealthy(server):
    health = health_when(server, "UNHEALTHY")
    assert health[
        "user_healthcheck_error"] == "Healthcheck failed: user-defined healthcheck returned False"
    assert server.post(request()).succeeded


@case(37,
      "c",
      "a health hook that raises: UNHEALTHY with its text",
      env={"FAKE_HEALTH": "raise"},
      fresh=True,
      ready=False)
def test_health_hook_raises(server):
    error = health_when(server, "UNHEALTHY")["user_healthcheck_error"]
    assert error.startswith("Healthcheck failed: ") and "gpu is on fire" in error


@case(38, "c", "a health hook that hangs: UNHEALTHY 'timed out after 5.0 seconds' within 6 s",
      env={"FAKE_HEALTH": "hang"}, fresh=True, ready=False)
def test_health_hook_hangs(server, idle):
    server.wait_listening()
    with Pace(idle.health) as pace:
        error = wait_until(lambda: server.health().get("user_healthcheck_error"), 10,
                           "the hook's error")
    assert error == "Healthcheck failed: user-defined healthcheck timed out after 5.0 seconds"
    assert pace.took < 5 + 1.5 * pace.slowness


@case(39, "c", "UNHEALTHY outranks BUSY", env={"FAKE_HEALTH": "false"}, fresh=True, ready=False)
def test_unhealthy_while_busy(server):
    health_when(server, "UNHEALTHY")
    assert server.put("only", request("[sleep=600]x"), ASYNC).status == 202  # it has the slot
    assert server.post(request()).status == 409
    assert server.status() == "UNHEALTHY"
    assert server.cancel("only") == 200


@case(40,
      "ours",
      "20 parallel health calls beside an engine at full load are all answered within 250 ms",
      coglet="most are; the hook shares the worker's process")
def test_health_under_load(server, idle):
    running = server.send("POST", "/predictions", request("[spin=60]x", id="spins"))
    server.wait_status("BUSY")
    times = []

    def ask():
        begun = time.monotonic()
        assert server.status() in ("BUSY", "READY")
        times.append(time.monotonic() - begun)
    threads = [threading.Thread(target=ask) for _ in range(20)]
    with Pace(idle.health) as pace:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert server.cancel("spins") == 200
    assert len(times) == 20 and max(times) < 0.25 * pace.slowness, statistics.quantiles(times)
    assert running.answer().status == 200


@case(41, "c", "with KUBERNETES_SERVICE_HOST /var/run/cog/ready appears once READY, not before")
def test_ready_file(start, hold):
    if os.geteuid() != 0 and not os.access(READY_FILE.parent.parent, os.W_OK):
        pytest.skip("/var/run cannot be written by this user")
    READY_FILE.unlink(missing_ok=True)
    server = start(ready=False,
                   env={"FAKE_SETUP_HOLD": str(hold), "KUBERNETES_SERVICE_HOST": "10.0.0.1"})
    assert health_when(server, "STARTING") and not READY_FILE.exists()
    hold.touch()
    health_when(server, "READY")
    wait_until(READY_FILE.exists, what="the file")
    READY_FILE.unlink()


@case("41b", "c", "without KUBERNETES_SERVICE_HOST no such file is made")
def test_no_ready_file(start):
    READY_FILE.unlink(missing_ok=True)
    start().health()
    assert not READY_FILE.exists()


@case(42, "c", "nothing in the health body is null", any_engine=True)
def test_no_nulls(server):
    assert "null" not in server.get("/health-check").body.decode()
