# SPDX-License-Identifier: Apache-2.0
"""scripts/goldens/compare_vision.py: its table of bundles whose distance is known, and that int8
which was calibrated by pictures is nearer than without."""

import os
import shutil
import subprocess
import sys

import pytest
from safetensors.torch import load_file, save_file

from conftest import ROOT, environment

PICTURES = [ROOT / "tests/assets" / name for name in ("cat.jpg", "several.jpg")]
SERVER = os.environ.get("IDEFICS_SERVER") or str(ROOT / "scripts/idefics-server")
DEMO = ROOT / "weights/demo"  # sees pictures of 224 x 224, as the server gives them
COLUMNS = ("cosine", "smallest cosine of a row", "rms error / rms", "largest error / rms")


def _compared(first, *others):
    """{(bundle, picture, what): {column: number}}"""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts/goldens/compare_vision.py", "--bundles", first, *others,
         "--pictures", *PICTURES], env={**environment(), "IDEFICS_SERVER": SERVER},
        capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    head, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")]
                      for line in done.stdout.splitlines())
    assert head == ["bundle", "picture", "what", *COLUMNS]
    return {(bundle, picture, what): dict(zip(COLUMNS, map(float, numbers), strict=True))
            for bundle, picture, what, *numbers in rows}


def _changed(bundle, name, **factors):
    """A copy of a bundle some of whose vision tensors are multiplied."""
    copy = shutil.copytree(bundle, bundle.parent / name)
    (path,) = copy.glob("*.safetensors")
    found = load_file(path)
    for tensor, factor in factors.items():
        found[f"vision.{tensor}"] *= factor
    save_file(found, path)
    return copy


def test_each_column_says_what_its_name_says(export):
    first = export(DEMO, name="first", dtype="f32")
    same = shutil.copytree(first, first.parent / "same")
    against = _changed(first, "against", final_norm_weight=-1, final_norm_bias=-1)
    twice = _changed(first, "twice", final_norm_weight=2, final_norm_bias=2)
    found = _compared(first, same, against, twice)
    assert {key[:2] for key in found} == {(bundle.name, picture.name) for picture in PICTURES
                                          for bundle in (same, against, twice)}
    for (bundle, _, what), row in found.items():
        cosine, smallest, rms, largest = row.values()
        if bundle == "same":
            assert (cosine, smallest, rms, largest) == (1, 1, 0, 0), what
        elif what == "latents":
            right = {"against": (-1, -1, 2), "twice": (1, 1, 1)}[bundle]
            assert (cosine, smallest, rms) == pytest.approx(right, abs=1e-4)
            assert largest > rms
        elif what == "values":  # linear in the latents
            assert cosine == pytest.approx({"against": -1, "twice": 1}[bundle], abs=1e-4)


def test_one_wrong_latent_shows_in_the_smallest_cosine(export):
    first = export(DEMO, name="first", dtype="f32")
    wrong = _changed(first, "wrong")
    (path,) = wrong.glob("*.safetensors")
    found = load_file(path)
    found["vision.latents"][2] *= -1
    save_file(found, path)
    for row in _compared(first, wrong).values():
        assert row["smallest cosine of a row"] < row["cosine"] < 0.999


def test_int8_by_pictures_is_nearer_to_f32_than_without(make, export):
    checkpoint = make("--shape", "mid", "--dtype", "bf16", "--distribution", "normal", "--hidden",
                      "256", "--heads", "4", "--layers", "2")
    first = export(checkpoint, name="first", dtype="f32")
    plain = export(checkpoint, name="plain", weights="int8", calibrate="none")
    calibrated = export(checkpoint, name="calibrated", weights="int8")
    found = _compared(first, plain, calibrated)
    for picture in PICTURES:
        for what in ("latents", "keys", "values"):
            error = {bundle: found[bundle, picture.name, what]["rms error / rms"]
                     for bundle in ("plain", "calibrated")}
            print(picture.name, what, error, found["calibrated", picture.name, what]["cosine"])
            assert error["calibrated"] < 0.8 * error["plain"], (picture.name, what)
