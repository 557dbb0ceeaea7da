# SPDX-License-Identifier: Apache-2.0
"""deploy/routing, behind the real balancers: a session stays with its replica, sessions spread, and
those of a replica that leaves are the only ones that move."""

import http.client
import json
import signal
from collections import Counter
from pathlib import Path

import pytest

from balancers import balancer
from ports import free_port

ROUTING = Path(__file__).resolve().parents[2] / "deploy/routing"
FILES = {"nginx": "nginx.conf", "haproxy": "haproxy.cfg"}
SESSIONS = [f"session-{number}" for number in range(60)]


def configured(name, port, replicas):
    """The file as it lies in deploy/routing, with addresses of this test."""
    text = (ROUTING / name).read_text()
    for number, replica in enumerate(replicas):
        text = text.replace(f"idefics-{number}:5000", f"127.0.0.1:{replica.port}")
    return text.replace("listen 8080", f"listen 127.0.0.1:{port}").replace(
        "bind :8080", f"bind 127.0.0.1:{port}").replace(
            "inter 1s", "inter 100ms").replace("timeout check 5s", "timeout check 60s")


def ask(port, session, prompt="x"):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    headers = {"Content-Type": "application/json", **({"X-Session-ID": session} if session else {})}
    connection.request("POST", "/predictions", json.dumps({"input": {"prompt": [prompt]}}), headers)
    answer = connection.getresponse()
    status = json.loads(answer.read()).get("status") if answer.status == 200 else None
    connection.close()
    return answer.status, status


def served(replica):
    """Predictions that it has ended."""
    lines = replica.ask("GET", "/metrics")[1].splitlines()
    return sum(float(line.split()[-1]) for line in lines
               if line.startswith("vllm:request_success_total{"))


def homes(port, replicas):
    """{session: the number of the replica that answered it}"""
    found = {}
    for session in SESSIONS:
        before = [served(replica) for replica in replicas if replica.process.poll() is None]
        assert ask(port, session) == (200, "succeeded")
        alive = [replica for replica in replicas if replica.process.poll() is None]
        (home, ) = [replicas.index(replica) for replica, count in zip(alive, before, strict=True)
                    if served(replica) > count]
        found[session] = home
    return found


@pytest.fixture(params=["nginx", "haproxy"])
def behind(request, tmp_path, start):
    """(port of the balancer, three replicas)"""
    replicas = [start("--max-concurrency", "8", "--queue", "64", "--drain-delay", "1")
                for _ in range(3)]
    for replica in replicas:
        replica.wait_until("READY")
    port = free_port()
    with balancer(request.param, tmp_path, port,
                  configured(FILES[request.param], port, replicas)):
        yield port, replicas


def test_a_session_stays_and_only_those_of_a_replica_that_leaves_move(behind):
    port, replicas = behind
    first = homes(port, replicas)
    assert homes(port, replicas) == first
    assert all(count >= len(SESSIONS) / 8 for count in Counter(first.values()).values()), first
    assert len(set(first.values())) == 3
    replicas[1].process.send_signal(signal.SIGTERM)
    assert replicas[1].process.wait(60) == 0
    moved = homes(port, replicas)
    assert all(moved[session] == home for session, home in first.items() if home != 1)
    assert set(moved.values()) == {0, 2}


def test_without_a_session_all_replicas_are_asked(behind):
    port, replicas = behind
    for _ in range(60):
        assert ask(port, None) == (200, "succeeded")
    assert all(served(replica) > 0 for replica in replicas)
