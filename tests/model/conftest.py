# SPDX-License-Identifier: Apache-2.0
"""Checkpoints by seed, their bundles, and our program's answers about them, made once per test
run."""

import base64
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "scripts/goldens")]
THREADS = "1"  # matrix products in one order, whatever else runs on the machine


def ops_library() -> Path:
    return Path(
        os.environ.get("IDEFICS_OPS_LIBRARY")
        or ROOT / "build/release/predictor/ops/libidefics_ops.so")


def find_tool() -> Path:
    folders = [Path(os.environ["IDEFICS_BUILD_DIR"])
               ] if "IDEFICS_BUILD_DIR" in os.environ else ROOT.glob("build/*")
    found = [path for folder in folders for path in folder.glob("**/logits_tool") if path.is_file()]
    if not found:
        pytest.skip("logits_tool is not built: build the tests, or set IDEFICS_BUILD_DIR")
    return max(found, key=lambda path: path.stat().st_mtime)


def usable_sets() -> list[str]:
    """The instruction sets of the linears' kernels that this CPU has."""
    server = os.environ.get("IDEFICS_SERVER") or ROOT / "scripts/idefics-server"
    said = subprocess.run([server, "inspect", "--cpu"], capture_output=True, text=True, check=True)
    sets = re.findall(r"^[* ] (\w+) +(.*)$", said.stdout, re.MULTILINE)
    return [name for name, what in sets if not what.startswith("this CPU lacks")]


def golden_names():
    from parity_cases import MODELS
    return [case.name for case in MODELS] + ["demo"]


def read_golden(name: str):
    from parity_cases import DEMO, GOLDENS
    path = GOLDENS / f"model_{name}.json"
    if name == "demo" and not (DEMO / "config.json").exists():
        pytest.skip(f"no {DEMO}/config.json: the demo checkpoint is not there")
    if not path.exists():
        pytest.skip(f"no {path}: make it by scripts/oracle.sh --write")
    return json.loads(path.read_text())


def logits_of(answer):
    """[positions, vocab] f32."""
    import numpy
    values = numpy.frombuffer(base64.b64decode(answer["logits"]), "<f4")
    return values.reshape(len(answer["positions"]), -1)


class Ours:
    """A bundle, asked through logits_tool."""

    def __init__(self, bundle: Path, pictures: Path, settings: dict[str, str] | None = None):
        """settings: environment variables."""
        self.bundle = bundle
        self.pictures = pictures
        self.settings = settings or {}

    def having(self, **settings: str) -> "Ours":
        return Ours(self.bundle, self.pictures, {**self.settings, **settings})

    def with_int8_kv(self) -> "Ours":
        return self.having(IDEFICS_KV_DTYPE="int8")

    def on(self, instruction_set: str) -> "Ours":
        """With the linears' kernels of this set, and no wider operators of libtorch's."""
        wide = instruction_set.startswith(("avx512", "amx"))
        narrow = {"ATEN_CPU_CAPABILITY": "default" if instruction_set == "portable" else "avx2",
                  "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_ENABLE_INSTRUCTIONS": "AVX2"}
        return self.having(IDEFICS_CPU=instruction_set, **({} if wide else narrow))

    def prompt(self, prompt) -> dict:
        parts = [{"text": part}
                 if isinstance(part, str) else {"image": str(self.pictures / f"{part[1]}.ppm")}
                 for part in prompt.parts]
        return {"prompt_parts": parts, "add_end_of_utterance": prompt.add_end_of_utterance}

    def ask(self, requests, threads: str = THREADS, ranks: int = 1, devices: str | None = None):
        """One answer per request, of a model divided among so many ranks, or by layers among
        devices."""
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        # Stamps of these short-lived bundles go away with them.
        environment = {
            **os.environ, "OMP_WAIT_POLICY": "PASSIVE", "XDG_CACHE_HOME": str(self.bundle.parent),
            **self.settings
        }
        if devices:
            environment["IDEFICS_DEVICE"] = devices
        done = subprocess.run([find_tool(), str(self.bundle), threads, str(ranks)],
                              input=lines,
                              capture_output=True,
                              text=True,
                              timeout=1200,
                              env=environment)
        assert done.returncode == 0, done.stderr
        answers = [json.loads(line) for line in done.stdout.splitlines()]
        for answer in answers:
            for one in answer if isinstance(answer, list) else [answer]:
                assert not one["error"], one["error"]
        assert len(answers) == len(requests)
        return answers


def demo_scenes() -> list[dict]:
    """The twelve questions of the demo's README: id, answer and the request that asks."""
    assets = ROOT / "tests/assets"
    scenes = json.loads((assets / "scenes.json").read_text())
    for scene in scenes:
        parts = [{"image": str(assets / part[5:])} if part.startswith("file:") else {"text": part}
                 for part in scene["prompt"]]
        scene["request"] = {"prompt_parts": parts,
                            "sampling": {"max_new_tokens": 96, "eos_token_id": [1002]}}
    return scenes


def wrong_answers(model: Ours) -> list[str]:
    """Which of them it answers otherwise."""
    scenes = demo_scenes()
    answers = model.ask([scene["request"] for scene in scenes])
    return [scene["id"] for scene, answer in zip(scenes, answers, strict=True)
            if answer["text"].strip() != scene["answer"]]


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    """checkpoint(name) -> the folder of a model of parity_cases, made once."""
    made = {}

    def make(name: str) -> Path:
        from parity_cases import DEMO, MODELS, make_checkpoint
        if name == "demo":
            return DEMO
        if name not in made:
            case = next(case for case in MODELS if case.name == name)
            made[name] = make_checkpoint(case, tmp_path_factory.mktemp(name) / "checkpoint")
        return made[name]
    return make


@pytest.fixture(scope="session")
def export(tmp_path_factory):
    """export(checkpoint folder, dtype, weights) -> bundle folder."""
    pytest.importorskip("torch", reason="torch, which export needs, is not installed")
    if not ops_library().is_file():
        pytest.skip(f"{ops_library()} is not built: build idefics_ops or set IDEFICS_OPS_LIBRARY")

    def run(folder: Path, dtype: str = "f32", weights: str | None = None) -> Path:
        from export.export_bundle import ExportOptions, export_bundle
        os.environ["IDEFICS_OPS_LIBRARY"] = str(ops_library())
        bundle = tmp_path_factory.mktemp("bundle") / "bundle"
        export_bundle(ExportOptions(folder, bundle, dtype=dtype, weights=weights))
        return bundle
    return run


@pytest.fixture(scope="session")
def pictures(tmp_path_factory):
    from parity_cases import write_pictures
    folder = tmp_path_factory.mktemp("pictures")
    write_pictures(folder)
    return folder


@pytest.fixture(scope="session")
def ours(checkpoint, export, pictures):
    """ours(name, dtype, weights) -> Ours, exported once."""
    made = {}

    def make(name: str, dtype: str = "f32", weights: str | None = None) -> Ours:
        find_tool()
        key = (name, dtype, weights)
        if key not in made:
            made[key] = Ours(export(checkpoint(name), dtype, weights), pictures)
        return made[key]
    return make
