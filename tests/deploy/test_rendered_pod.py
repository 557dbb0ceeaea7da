# SPDX-License-Identifier: Apache-2.0
"""The chart's pod in a container engine: this test plays the kubelet, and gives the container what
the rendered Deployment asks for (user, root, rights, volumes, command, probes, grace)."""

import json
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest

from chart import preset, render
from patience import wait_until

IMAGE = os.environ.get("IDEFICS_IMAGE", "cog-idefics:test-cpu")
BYTES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def docker(*arguments, check=True):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check,
                          timeout=120)


@pytest.fixture(scope="module", autouse=True)
def engine():
    if shutil.which("docker") is None or docker("info", check=False).returncode != 0:
        pytest.skip("no container engine answers: scripts/container_test.sh starts one")
    if docker("image", "inspect", IMAGE, check=False).returncode != 0:
        pytest.skip(f"there is no image {IMAGE}: scripts/container_test.sh builds it")


def num_bytes(quantity):
    return int(quantity[:-2]) * BYTES[quantity[-2:]]


def mounts(pod, container):
    """Of each volume: a memory file system in an emptyDir's place, owned as fsGroup has it. The
    claim's volume is the demo bundle that the image holds."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    group = pod["securityContext"]["fsGroup"]
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "emptyDir" in volume:
            size = num_bytes(volume["emptyDir"]["sizeLimit"])
            yield "--tmpfs", f"{mount['mountPath']}:size={size},mode=2770,gid={group}"
        else:
            assert mount["readOnly"] and "persistentVolumeClaim" in volume


def run_arguments(pod):
    """`docker run`'s, as the kubelet would ask its runtime."""
    container = pod["containers"][0]
    security, rights = pod["securityContext"], container["securityContext"]
    assert security["runAsNonRoot"] and not rights["allowPrivilegeEscalation"]
    assert security["seccompProfile"] == {"type": "RuntimeDefault"}  # the engine's default, too
    options = ["--user", f"{security['runAsUser']}:{security['runAsGroup']}",
               "--group-add", str(security["fsGroup"]),
               "--security-opt", "no-new-privileges",
               "--memory", str(num_bytes(container["resources"]["limits"]["memory"])),
               "--entrypoint", container["command"][0]]
    if rights["readOnlyRootFilesystem"]:
        options.append("--read-only")
    for name in rights["capabilities"]["drop"]:
        options += ["--cap-drop", name]
    for option in mounts(pod, container):
        options += option
    for variable in container["env"]:
        options += ["--env", f"{variable['name']}={variable['value']}"]
    return [*options, IMAGE, *container["command"][1:], *container["args"]]


class Kubelet:
    """Runs the pod's container and asks its probes as the Deployment says."""

    def __init__(self, pod):
        self.pod = pod
        self.container = pod["containers"][0]
        port = self.container["ports"][0]["containerPort"]
        self.id = docker("run", "--detach", "--publish", f"127.0.0.1::{port}",
                         *run_arguments(pod)).stdout.strip()
        address = docker("port", self.id, str(port)).stdout.split()[0]
        self.url = f"http://{address}"

    def ask(self, path, body=None, seconds=60):
        """(status, answer); status 0: nobody answers in time."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data,
                                         {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=seconds) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()
        except OSError:
            return 0, b""

    def probe(self, name):
        probe = self.container[name]
        status, _ = self.ask(probe["httpGet"]["path"], seconds=probe.get("timeoutSeconds", 1))
        return 200 <= status < 400

    def start(self):
        """Until the startup probe is answered, within its limit."""
        probe = self.container["startupProbe"]
        for _ in range(probe["failureThreshold"]):
            if self.probe("startupProbe"):
                return
            assert self.state()["Running"], docker("logs", self.id).stderr
            time.sleep(min(probe["periodSeconds"], 0.5))
        raise AssertionError("the startup probe was never answered")

    def state(self):
        return json.loads(docker("inspect", "--format", "{{json .State}}", self.id).stdout)

    def remove(self):
        docker("rm", "--force", self.id, check=False)


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
