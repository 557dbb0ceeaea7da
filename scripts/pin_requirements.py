#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Rewrites requirements*.txt: every wheel by version and sha256.

  pin_requirements.py [base|oracle|hub|cluster|deploy|lint|plot|cuda]…    the files named, or all

Asks pip what it would install on x86-64 Linux, or with --machine arm64 on arm64, for each Python
that Debian 12, Debian 13 and Ubuntu 24.04 ship (nothing is downloaded but metadata), then writes
one line a package with the hashes of all of them. Run it for both after changing a version below;
the new file gets a new cache folder. Those for arm64 are in scripts/arm64: what is pinned for one
kind of machine leaves the other's cache as it is.
"""

import argparse
import json
import pathlib
import subprocess
import sys
import tempfile
from dataclasses import dataclass

VERSIONS = dict(line.split() for line in
                pathlib.Path(__file__).resolve().parents[1].joinpath("VERSION").open())
COG = VERSIONS["cog"]
PYTHONS = ("3.11", "3.12", "3.13")
# The exporter, and the wheel that holds libtorch.
BASE = ("torch==2.11.0", "numpy==2.4.6", "safetensors==0.8.0", "sentencepiece==0.2.3",
        "protobuf==7.36.2")
# What the tests compare with (the oracles), and what runs them.
ORACLE = ("transformers==4.57.6", "pillow==12.3.0", f"cog=={COG}", f"coglet=={COG}",
          "pytest==9.2.0", "requests==2.34.2", "openai==3.57.0",
          # Drives Debian's chromium, and says what assistive technology will stumble over.
          "playwright==1.65.2", "axe-playwright-python==0.1.8",
          # Renders the chart, and knows the Kubernetes API's schemas.
          "helm-python-sdk==0.2.2", "kubernetes-validate==1.37.0",
          # OTLP's schema, and a collector.
          "opentelemetry-proto==1.45.2", "rotel==0.0.1a15")
# What fetches checkpoints from the Hugging Face hub. Apart from the oracles, whose transformers
# wants an
# older one, which gives up where a connection is cut in a file.
HUB = ("huggingface_hub==2.4.0",)
# What scripts/cluster.sh runs; what Ray Data wants, without the rest of ray[data].
CLUSTER = ("ray==2.60.0", "pyarrow==26.0.1", "pandas==3.1.1", "numpy==2.4.6", "fsspec==2026.9.0",
           "urllib3==2.8.0")
# What judges the rendered manifests, and the strict parser of OpenMetrics.
DEPLOY = ("checkov==3.3.30", "prometheus-client==0.26.0",
          "soupsieve==2.10")  # the last one for Python 3.11
# What scripts/check.sh runs.
LINT = ("ruff==0.17.6", "mypy==2.4.1")
# What the charts of scripts/bench are drawn with, and its clients' pictures.
PLOT = ("matplotlib==3.11.2", "numpy==2.4.6", "pillow==12.3.0")
# nvcc, for machines without a CUDA toolkit (the container); of the version that torch is built
# with.
CUDA = ("nvidia-cuda-nvcc==13.0.88", "nvidia-cuda-crt==13.0.88", "nvidia-nvvm==13.0.88",
        "nvidia-cuda-cccl==13.0.85")
# torch names these, but neither the exporter nor libtorch loads them (0.7 GB).
LEFT_OUT = ("triton", "cuda-bindings", "cuda-pathfinder", "cuda-toolkit", "nvidia-nvtx",
            "setuptools")


Packages = dict[str, tuple[str, set[str]]]  # name: (version, sha256 of each wheel)


@dataclass(frozen=True)
class Machine:
    name: str
    wheels: str  # as their names call it
    folder: pathlib.Path


SCRIPTS = pathlib.Path(__file__).resolve().parent
MACHINES = {
    machine.name: machine
    for machine in (Machine("x86-64", "x86_64", SCRIPTS),
                    Machine("arm64", "aarch64", SCRIPTS / "arm64"))
}


def resolve(python: str, machine: Machine, requirements: tuple[str, ...],
            folder: pathlib.Path) -> dict[str, tuple[str, str]]:
    """Returns {name: (version, sha256)} of what pip would install for this Python."""
    report = folder / f"{python}.json"
    platforms = [f"manylinux_2_{minor}_{machine.wheels}" for minor in range(36, 4, -1)]
    platforms += [f"manylinux{year}_{machine.wheels}" for year in ("2014", "2010", "1")]
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--dry-run", "--ignore-installed",
               "--only-binary=:all:", "--python-version", python, "--target", str(folder / "none"),
               "--report", str(report), *requirements]
    for platform in platforms:
        command += ["--platform", platform]
    subprocess.run(command, check=True)
    found = {}
    for item in json.loads(report.read_text())["install"]:
        name = item["metadata"]["name"].lower().replace("_", "-")
        sha256 = item["download_info"]["archive_info"]["hashes"]["sha256"]
        found[name] = (item["metadata"]["version"], sha256)
    return found


def merged(machine: Machine, requirements: tuple[str, ...]) -> Packages:
    """Returns what all Pythons need, less LEFT_OUT."""
    result: Packages = {}
    with tempfile.TemporaryDirectory() as folder:
        for python in PYTHONS:
            print(f"asking pip for Python {python}: {' '.join(requirements)}")
            for name, (version, sha256) in resolve(python, machine, requirements,
                                                   pathlib.Path(folder)).items():
                if name in LEFT_OUT:
                    continue
                known_version, hashes = result.setdefault(name, (version, set()))
                if known_version != version:
                    raise SystemExit(f"{name} is {known_version} for one Python and {version} for "
                                     f"{python}: name a version for it that all of them can use")
                hashes.add(sha256)
    return result


def write(machine: Machine, file: str, title: str, packages: Packages) -> None:
    path = machine.folder / file
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"# {title}", f"# Written by scripts/pin_requirements.py; {machine.name}, CPython "
             f"{PYTHONS[0]} to {PYTHONS[-1]}. Installed with --require-hashes --no-deps."]
    for name in sorted(packages):
        version, hashes = packages[name]
        lines.append(" \\\n    ".join([f"{name}=={version}"] +
                                      [f"--hash=sha256:{value}" for value in sorted(hashes)]))
    path.write_text("\n".join(lines) + "\n")
    print(f"{path.name}: {len(packages)} packages")


def main() -> None:
    every = ["base", "oracle", "hub", "cluster", "lint", "plot", "cuda"]
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(every))
    parser.add_argument("--machine", choices=MACHINES, default="x86-64")
    options = parser.parse_args()
    machine, names = MACHINES[options.machine], options.names or every
    if "base" in names or "oracle" in names:
        base = merged(machine, BASE)
        oracle = merged(machine, BASE + ORACLE)
        for name in base:
            if oracle.pop(name) != base[name]:
                raise SystemExit(f"{name} resolves differently for the oracles: pin it in BASE")
        write(machine, "requirements.txt", "The exporter's Python packages, and libtorch.", base)
        write(machine, "requirements-oracle.txt",
              "What the tests compare with; installed over requirements.txt.", oracle)
    if "hub" in names:
        base = merged(machine, BASE)
        write(machine, "requirements-hub.txt",
              "The client of the Hugging Face hub; installed over requirements.txt.",
              {name: package for name, package in merged(machine, BASE + HUB).items()
               if base.get(name) != package})
    if "cluster" in names:
        write(machine, "requirements-cluster.txt", "What scripts/cluster.sh runs.",
              merged(machine, CLUSTER))
    if "deploy" in names:
        write(machine, "requirements-deploy.txt", "What tests of deploy/ and of /metrics ask.",
              merged(machine, DEPLOY))
    if "lint" in names:
        write(machine, "requirements-lint.txt", "What scripts/check.sh runs on Python.",
              merged(machine, LINT))
    if "plot" in names:
        write(machine, "bench/requirements-plot.txt", "What the charts of scripts/bench need.",
              merged(machine, PLOT))
    if "cuda" in names:
        write(machine, "requirements-cuda.txt",
              "The CUDA compiler; installed over requirements.txt.", merged(machine, CUDA))


if __name__ == "__main__":
    main()
