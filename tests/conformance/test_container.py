# SPDX-License-Identifier: Apache-2.0
"""The image: cases 169-174. Without a container engine: its stand-ins for Python and pip, and its
labels as written. scripts/container_test.sh builds and runs the image itself."""

import json
import os
import re
import shutil
import subprocess

import pytest

from cases import case
from targets import ROOT, VERSIONS, printed_schema

IMAGE = "cog-idefics:test-cpu"


@pytest.fixture
def run(target):
    """run("python", …) -> the finished process, on a PATH as the image has it."""
    if not hasattr(target, "path"):
        pytest.skip("asks a command, not a URL")

    def run(*command):
        return subprocess.run(["env", *command],
                              env={**os.environ, "PATH": target.path},
                              capture_output=True,
                              text=True,
                              timeout=120)
    return run


@case(169, "c", "python -m cog.server.http --version prints and exits 0")
@pytest.mark.parametrize("flag", ["--version", "-v"])
def test_version(declared, run, flag):
    done = run("python", "-m", "cog.server.http", flag)
    assert done.returncode == 0 and VERSIONS["cog"] in done.stdout


@case(170, "c", "python -m pip freeze exits 0")
def test_pip_freeze(declared, run):
    assert run("python", "-m", "pip", "freeze").returncode == 0


@case("170b",
      "ours",
      "pip install is accepted and changes nothing",
      coglet="it installs",
      only_ours=True)
def test_pip_install(declared, run):
    for command in ("pip install x", "pip3 install x", "python3 -u -m pip install -t /d x"):
        done = run(*command.split())
        assert (done.returncode, done.stdout) == (0, "")


@case("170c", "c", "python -c tells Cog's version")
def test_cog_version(declared, run):
    done = run("python", "-c", "import cog; print(cog.__version__)")
    assert (done.returncode, done.stdout.strip()) == (0, VERSIONS["cog"])


@case(
    171,
    "c",
    "python --check-hash-based-pycs never -m cog.server.http --await-explicit-shutdown true serves",
    cog_start=True,
    flags=("--await-explicit-shutdown", "true"),
    fresh=True)
def test_platform_start(server):
    assert server.predict("hello")["output"] == "hello"
    server.send_signal()
    assert server.ask("POST", "/shutdown").status == 200
    assert server.wait_exit() == 0


@case("171b",
      "c",
      "started so, webhooks to loopback are posted: the platform's director is there",
      cog_start=True)
def test_platform_webhooks(server, hook):
    server.predict()
    server.wait_status("READY")
    server.post({"input": {"image": "data:,", "text": "x"}, "webhook": hook.url})
    assert hook.wait_completed()


def labels():
    """The LABEL instruction of the Dockerfile."""
    text = re.findall(r"^LABEL ((?:.*\\\n)*.*)$", (ROOT / "Dockerfile").read_text(), re.M)[0]
    pairs = re.findall(r"""([\w.-]+)=(?:"([^"]*)"|'([^']*)')""", text.replace("\\\n", " "))
    return {name: double or single for name, double, single in pairs}


@case(172,
      "ours",
      "the labels of Cog are there, parse as JSON and ask for a GPU",
      coglet="`cog build` writes its own",
      only_ours=True)
def test_labels(declared):
    config = json.loads(labels()["run.cog.config"])
    assert config["build"]["gpu"] is True
    assert labels()["run.cog.version"] == printed_schema(
        "string")["info"]["version"] == VERSIONS["cog"]
    assert labels()["org.opencontainers.image.version"] == VERSIONS["cog-idefics"]
    assert "run.cog.openapi_schema" in (ROOT / "scripts/build_image.sh").read_text()


def docker_has_image():
    return shutil.which("docker") and subprocess.run(["docker", "image", "inspect", IMAGE],
                                                     capture_output=True).returncode == 0


@case(173,
      "ours",
      "/src/.cog/openapi_schema.json equals the label and what is printed",
      coglet="`cog build` writes its own",
      only_ours=True)
def test_schema_in_the_image(declared):
    if not docker_has_image():
        pytest.skip(
            f"needs the image {IMAGE}: scripts/container_test.sh builds it and reads its labels")
    label = subprocess.run([
        "docker", "image", "inspect", "--format",
        '{{index .Config.Labels "run.cog.openapi_schema"}}', IMAGE
    ],
                           capture_output=True,
                           check=True).stdout
    file = subprocess.run(
        ["docker", "run", "--rm", "--entrypoint", "cat", IMAGE, "/src/.cog/openapi_schema.json"],
        capture_output=True,
        check=True).stdout
    assert json.loads(label) == json.loads(file) == printed_schema("string")


@case(174,
      "ours",
      "cog predict IMAGE -i image=@f -i text=hi prints an output",
      coglet="as for any image",
      only_ours=True)
def test_cog_predict(declared):
    if not (shutil.which("cog") and docker_has_image()):
        pytest.skip(
            f"needs the cog command and the image {IMAGE}; scripts/container_test.sh asks the "
            f"same by HTTP"
        )
    done = subprocess.run(
        ["cog", "predict", IMAGE, "-i", f"image=@{ROOT}/tests/assets/cat.jpg", "-i", "text=hi"],
        capture_output=True,
        text=True,
        timeout=300)
    assert done.returncode == 0 and done.stdout.strip()
