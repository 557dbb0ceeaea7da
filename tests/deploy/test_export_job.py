# SPDX-License-Identifier: Apache-2.0
"""The chart's export: its job fetches a model from a hub and leaves a bundle on the claim, for
which the server's pod waits, and which it then serves. The test plays the hub and the kubelet."""

import os
import subprocess
import sys
import uuid

import pytest

from chart import ROOT, rendered
from pods import IMAGE, Kubelet, docker, need_image, run_arguments

sys.path.insert(0, str(ROOT / "tests/export"))
from hub_stand_in import REPO, HubStandIn

EXPORT_IMAGE = os.environ.get("IDEFICS_EXPORT_IMAGE", "cog-idefics:test-export")
SMALL = {"requests": {"cpu": "1", "memory": "2Gi"}, "limits": {"memory": "2Gi"}}


@pytest.fixture(scope="module")
def hub():
    need_image(IMAGE)
    need_image(EXPORT_IMAGE)
    server = HubStandIn(ROOT / "weights/demo")
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def claim():
    """A volume as the kubelet gives it to a pod with fsGroup 10001."""
    name = f"idefics-test-{uuid.uuid4().hex[:8]}"
    docker("volume", "create", name)
    docker("run", "--rm", "--volume", f"{name}:/models", "--entrypoint", "sh", IMAGE, "-c",
           "chgrp 10001 /models && chmod 2775 /models")
    yield name
    docker("volume", "rm", "--force", name, check=False)


@pytest.fixture(scope="module")
def pods(hub):
    """(the job's, the Deployment's)"""
    objects = {each["kind"]: each for each in rendered({
        "model": {"source": "export", "volume": {"size": "1Gi"}}, "resources": SMALL,
        "export": {"repository": REPO, "resources": SMALL, "args": ["--weights=int8"],
                   "env": [{"name": "HF_ENDPOINT", "value": hub.url}]}})}
    return tuple(objects[kind]["spec"]["template"]["spec"] for kind in ("Job", "Deployment"))


def run_to_its_end(pod, container, image, claim, *options):
    """(status, what was said)"""
    done = subprocess.run(
        ["docker", "run", "--rm", *options, *run_arguments(pod, container, image, claim)],
        capture_output=True, text=True, timeout=300, check=False)
    return done.returncode, done.stdout + done.stderr


def export(pods, claim):
    job = pods[0]
    return run_to_its_end(job, job["containers"][0], EXPORT_IMAGE, claim, "--network", "host")


def on_the_claim(claim, script):
    return docker("run", "--rm", "--user", "10001", "--volume", f"{claim}:/models:ro",
                  "--entrypoint", "sh", IMAGE, "-c", script).stdout.split()


def test_the_pod_waits_until_the_job_has_made_the_bundle(pods, claim):
    job, pod = pods
    [waiting] = pod["initContainers"]
    name = docker("run", "--detach", *run_arguments(pod, waiting, claim=claim)).stdout.strip()
    try:
        status, said = export(pods, claim)
        assert status == 0, said
        assert docker("wait", name).stdout.strip() == "0"
    finally:
        docker("rm", "--force", name, check=False)
    [bundle] = on_the_claim(claim, "ls -A /models")  # and nothing of the hub's cache
    assert f"/models/{bundle}" == job["containers"][0]["args"][3]


def test_a_bundle_that_is_there_is_left_alone(pods, claim, hub):
    made = on_the_claim(claim, "stat -c %Y /models/*/bundle.json")
    asked = len(hub.asked)
    assert export(pods, claim)[0] == 0
    assert len(hub.asked) == asked and on_the_claim(
        claim, "stat -c %Y /models/*/bundle.json") == made


def test_the_pod_serves_it(pods, claim):
    running = Kubelet(pods[1], claim)
    try:
        running.start()
        status, answer = running.ask("/v1/models")
        assert status == 200 and REPO.split("/")[1].encode() in answer
        status, answer = running.ask("/predictions", {"input": {"prompt": ["Hello"],
                                                                "max_new_tokens": 8}})
        assert status == 200 and b'"succeeded"' in answer, answer
    finally:
        running.remove()
