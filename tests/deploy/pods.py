# SPDX-License-Identifier: Apache-2.0
"""A rendered pod's containers in a container engine, with what the pod asks for: user, root,
rights, volumes, command, environment, probes."""

import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request

import pytest

IMAGE = os.environ.get("IDEFICS_IMAGE", "cog-idefics:test-cpu")
BYTES = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30}


def docker(*arguments, check=True):
    return subprocess.run(["docker", *arguments], capture_output=True, text=True, check=check,
                          timeout=120)


def need_image(name):
    """Skips where there is no container engine, or no such image."""
    if shutil.which("docker") is None or docker("info", check=False).returncode != 0:
        pytest.skip("no container engine answers: scripts/container_test.sh starts one")
    if docker("image", "inspect", name, check=False).returncode != 0:
        pytest.skip(f"there is no image {name}: scripts/container_test.sh builds it")


def num_bytes(quantity):
    return int(quantity[:-2]) * BYTES[quantity[-2:]]


def mounts(pod, container, claim):
    """Of each volume: a memory file system in an emptyDir's place, owned as fsGroup has it, and the
    engine's volume `claim` in a claim's. None: the demo bundle of the image is in its place."""
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    group = pod["securityContext"]["fsGroup"]
    for mount in container["volumeMounts"]:
        volume = volumes[mount["name"]]
        if "emptyDir" in volume:
            size = num_bytes(volume["emptyDir"]["sizeLimit"])
            yield "--tmpfs", f"{mount['mountPath']}:size={size},mode=2770,gid={group}"
        else:
            assert "persistentVolumeClaim" in volume
            read_only = mount.get("readOnly", False)
            if claim is not None:
                yield "--volume", f"{claim}:{mount['mountPath']}{':ro' if read_only else ''}"
            else:
                assert read_only


def run_arguments(pod, container, image=IMAGE, claim=None):
    """`docker run`'s, as the kubelet would ask its runtime."""
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
    for option in mounts(pod, container, claim):
        options += option
    for variable in container.get("env", []):
        options += ["--env", f"{variable['name']}={variable['value']}"]
    return [*options, image, *container["command"][1:], *container["args"]]


class Kubelet:
    """Runs the pod's container and asks its probes as the Deployment says."""

    def __init__(self, pod, claim=None):
        self.pod = pod
        self.container = pod["containers"][0]
        port = self.container["ports"][0]["containerPort"]
        self.id = docker("run", "--detach", "--publish", f"127.0.0.1::{port}",
                         *run_arguments(pod, self.container, claim=claim)).stdout.strip()
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
