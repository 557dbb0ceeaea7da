# SPDX-License-Identifier: Apache-2.0
"""What an image says of its parts (docker/sbom.sh), and of weaknesses that do not touch it
(docker/vex.openvex.json)."""

import json
import re
import shutil
import subprocess

import pytest

from conftest import ROOT

VEX = json.loads((ROOT / "docker/vex.openvex.json").read_text())


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Of this machine's packages and pins: {name: component}."""
    if not shutil.which("dpkg-query"):
        pytest.skip("needs dpkg")
    run = dict(cwd=ROOT, capture_output=True, text=True, check=True)
    pins = tmp_path_factory.mktemp("sbom") / "pins"
    pins.write_text(subprocess.run(["docker/sbom.sh", "pins", "cpu"], **run).stdout)
    document = json.loads(
        subprocess.run(["docker/sbom.sh", "document", pins], **run).stdout)
    assert (document["bomFormat"], document["specVersion"]) == ("CycloneDX", "1.5")
    version = re.search(r"^cog-idefics (\S+)", (ROOT / "VERSION").read_text(), re.M)[1]
    assert document["metadata"]["component"]["version"] == version
    return {part["name"]: part for part in document["components"]}


def test_every_part_has_a_name_a_version_and_an_address(parts):
    listed = subprocess.run(["dpkg-query", "--show", "--showformat=${Package}\n"],
                            capture_output=True, text=True, check=True).stdout.split()
    assert set(listed) <= set(parts)
    for part in parts.values():
        assert part["version"]
        assert re.fullmatch(r"pkg:(deb|pypi|github)/[!-~]+@[!-~]+", part["purl"])
        assert "+" not in part["purl"]


def test_what_is_compiled_in_or_copied_is_among_them(parts):
    pinned = re.search(r"^torch==([0-9.]+)", (ROOT / "scripts/requirements.txt").read_text(), re.M)
    assert parts["torch"]["version"].split("+")[0] == pinned[1]
    assert parts["cpp-httplib"]["version"] == "0.41.0"
    assert "nvidia_cuda_runtime" in parts and "nvidia_cudnn_cu13" not in parts
    assert {"nlohmann-json3-dev", "libcli11-dev"} <= set(parts)


def test_what_is_said_of_httplib_is_said_of_the_version_that_is_used(parts):
    assert {product["@id"] for statement in VEX["statements"]
            for product in statement["products"]} == {parts["cpp-httplib"]["purl"]}
    assert {statement["status"] for statement in VEX["statements"]} == {"not_affected"}


def test_httplib_gives_the_phrases_of_statuses_and_nothing_else():
    files = [path for folder in ("common", "weights", "predictor", "server", "scripts")
             for path in (ROOT / folder).rglob("*.cc") if "httplib" in path.read_text()]
    uses = {use for path in files for use in re.findall(r"httplib::\w+", path.read_text())}
    assert uses == {"httplib::status_message"}
