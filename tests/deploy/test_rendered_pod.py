# SPDX-License-Identifier: Apache-2.0
"""The chart's pod in a container engine: this test plays the kubelet, and gives the container what
the rendered Deployment asks for (user, root, rights, volumes, command, probes, grace)."""

import json
import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from chart import preset, render
from patience import wait_until
from pods import IMAGE, Kubelet, docker, need_image


@pytest.fixture(scope="module", autouse=True)
def engine():
    need_image(IMAGE)


@pytest.fixture(scope="module")
def kubelet():
    values = preset("values-cpu.yaml")
    # A node with less memory than the preset is for, and the bundle where the image has one.
    values["resources"] = {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"memory": "2Gi"}}
    values["model"] = {**values["model"], "path": "/src/weights"}
    running = Kubelet(render(values)["Deployment"]["spec"]["template"]["spec"])
    yield running
    running.remove()


def test_it_starts_and_is_ready_and_alive(kubelet):
    kubelet.start()
    assert kubelet.probe("readinessProbe") and kubelet.probe("livenessProbe")


def test_it_runs_as_the_chart_says(kubelet):
    inside = docker("exec", kubelet.id, "sh", "-c",
                    "id -u; id -g; id -G; grep -E '^(CapEff|CapBnd|NoNewPrivs|Seccomp):' "
                    "/proc/self/status").stdout.split("\n")
    assert inside[:2] == ["10001", "10001"] and "10001" in inside[2].split()
    assert dict(line.split(":\t") for line in inside[3:] if line) == {
        "CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1", "Seccomp": "2"}
    for path in ("/x", "/src/x", "/var/run/x"):
        assert docker("exec", kubelet.id, "touch", path, check=False).returncode != 0, path
    for mount in kubelet.container["volumeMounts"]:
        if not mount.get("readOnly"):
            docker("exec", kubelet.id, "touch", mount["mountPath"] + "/x")


def test_it_answers(kubelet):
    status, answer = kubelet.ask("/predictions", {"input": {"prompt": ["Hello"],
                                                            "max_new_tokens": 8}})
    assert status == 200 and json.loads(answer)["status"] == "succeeded", answer


def test_it_leaves_as_the_kubelet_asks(kubelet):
    """SIGTERM: readiness fails at once, what runs ends well, and it is gone within its grace."""
    long = {"input": {"prompt": ["Hello"], "max_new_tokens": 1000, "min_new_tokens": 1000}}
    with ThreadPoolExecutor(8) as clients:
        asked = [clients.submit(kubelet.ask, "/predictions", long) for _ in range(8)]
        wait_until(lambda: re.search(r"^idefics_requests_running\{.*\} [1-9]",
                                     kubelet.ask("/metrics")[1].decode(), re.M), 30)
        docker("kill", "--signal", "TERM", kubelet.id)
        wait_until(lambda: not kubelet.probe("readinessProbe"), 5)
        assert kubelet.probe("livenessProbe"), "a pod that leaves is not restarted"
    for status, answer in (each.result() for each in asked):
        assert status == 200 and json.loads(answer)["status"] == "succeeded", answer
    wait_until(lambda: not kubelet.state()["Running"],
               kubelet.pod["terminationGracePeriodSeconds"])
    assert kubelet.state()["ExitCode"] == 0, docker("logs", kubelet.id).stderr
