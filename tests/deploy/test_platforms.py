# SPDX-License-Identifier: Apache-2.0
"""Plays the platforms of docs/operations.md#platforms: the image's command with their variables,
their probes while it loads and afterwards, their way to ask, their way to end it. Vertex AI is in
tests/server/test_vertex.py, Kubernetes in test_chart.py and test_rendered_pod.py."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from patience import wait_until
from ports import free_port

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/conformance"))

from shims import image_path  # noqa: E402

yaml = pytest.importorskip("yaml", reason="PyYAML is not installed")

FAKE = os.environ["IDEFICS_FAKE_SERVER"]
COG = ("python", "-m", "cog.server.http")  # what the image starts
PREDICTION = {"input": {"prompt": ["hello"]}}


@dataclass
class Platform:
    """How it starts a container, and what it asks."""

    environment: dict[str, str]
    ready: str
    ask: str = "/predictions"
    alive: str | None = None
    command: tuple[str, ...] = COG
    body: dict[str, object] = field(default_factory=lambda: PREDICTION)
    loading: int = 503  # the answer of `ready` until the model is there


def azure(port):
    file = yaml.safe_load((ROOT / "deploy/azureml/deployment.yaml").read_text())
    routes = file["environment"]["inference_config"]
    assert {route["port"] for route in routes.values()} == {5000}, "the image's own"
    assert file["environment_variables"]["COG_WEIGHTS"].startswith("/var/azureml-app/")
    return Platform({"PORT": port, **file["environment_variables"]},
                    ready=routes["readiness_route"]["path"], alive=routes["liveness_route"]["path"],
                    ask=routes["scoring_route"]["path"])


def huggingface(port):
    image = json.loads((ROOT / "deploy/huggingface/custom_image.json").read_text())
    assert image["port"] == 5000 and image["env"] == {"COG_WEIGHTS": "/repository"}
    return Platform({"PORT": port, **image["env"]}, ready=image["health_route"])


def sagemaker(port):
    return Platform({"SAGEMAKER_BIND_TO_PORT": port}, ready="/ping", ask="/invocations",
                    command=("serve",))


def runpod(port):
    return Platform({"PORT": port, "PORT_HEALTH": port}, ready="/ping", loading=204)


def cloud_run(port):
    return Platform({"PORT": port, "K_SERVICE": "idefics"}, ready="/readyz", alive="/livez")


def kserve(port):
    return Platform({"PORT": port, "COG_WEIGHTS": "/mnt/models"}, ready="/v2/health/ready",
                    alive="/v2/health/live")


PLATFORMS = (azure, huggingface, sagemaker, runpod, cloud_run, kserve)


def ask(port, path, body=None):
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", data,
                                     {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()
    except OSError:
        return 0, b""


@pytest.mark.parametrize("make", PLATFORMS, ids=[make.__name__ for make in PLATFORMS])
def test_a_platform_starts_it_waits_asks_and_ends_it(make, tmp_path):
    port = str(free_port())
    platform = make(port)
    loaded = tmp_path / "loaded"
    path = image_path(FAKE)
    serve = Path(path.split(":")[0]) / "serve"
    serve.write_text((ROOT / "docker/serve").read_text())
    serve.chmod(0o755)
    # `env` looks the command up on the PATH that it is given.
    process = subprocess.Popen(
        ["env", *platform.command], stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PATH": path, "FAKE_SETUP_HOLD": str(loaded),
             **platform.environment})
    try:
        answers = []  # of the readiness probe, each once

        def ready():
            status = ask(port, platform.ready)[0]
            answers.extend({status} - set(answers))
            if status == platform.loading:
                loaded.touch()
            if platform.alive and status:
                assert ask(port, platform.alive)[0] == 200, "it is alive all the time"
            return status == 200
        wait_until(ready, 30)
        assert set(answers) - {0} == {platform.loading, 200}, answers
        status, answer = ask(port, platform.ask, platform.body)
        assert status == 200 and json.loads(answer)["status"] == "succeeded", answer
        process.send_signal(signal.SIGTERM)
        _, log = process.communicate(timeout=60)
        assert process.returncode == 0, log
    finally:
        process.kill()
        process.wait()
