# SPDX-License-Identifier: Apache-2.0
"""What `idefics-server preprocess` makes of image files against Pillow 12, live.

    python -m pytest tests/images        (IDEFICS_SERVER names another binary or wrapper)
"""

import json
import os
import pathlib
import subprocess

import numpy as np
import pytest

PIL = pytest.importorskip("PIL", reason="Pillow is not installed")
if not PIL.__version__.startswith("12."):
    pytest.skip(f"needs Pillow 12, found {PIL.__version__}", allow_module_level=True)

import picture_files  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
SERVER = os.environ.get("IDEFICS_SERVER", str(ROOT / "scripts" / "idefics-server"))
SIZES = [(97, 61), (224, 224), (31, 333), (300, 20)]


def preprocess(folder: pathlib.Path, files: dict[str, bytes], as_url: bool) -> dict[str, dict]:
    for name, data in files.items():
        (folder / name).write_bytes(data)
    command = [SERVER, "preprocess", *(str(folder / name) for name in files)]
    if as_url:
        command.append("--as-url")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(lines) == len(files), f"exit code {done.returncode}: {done.stderr[-500:]}"
    assert done.returncode == (1 if any("error" in line for line in lines) else 0)
    return {pathlib.Path(line.pop("file")).name: line for line in lines}


def differences(folder: pathlib.Path, files: dict[str, bytes], as_url: bool) -> list[str]:
    ours = preprocess(folder, files, as_url)
    wrong = []
    for name, data in files.items():
        theirs = picture_files.pillow_says(data, as_url)
        both_refuse = "error" in ours[name] and "error" in theirs
        if not both_refuse and ours[name] != theirs:
            wrong.append(f"{name}: ours {ours[name]}, Pillow {theirs}")
    return wrong


@pytest.mark.parametrize("as_url", [False, True], ids=["object", "url"])
@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
def test_every_kind_of_file_gives_pillows_pixels(tmp_path, size, as_url):
    files = picture_files.pictures(*size, seed=size[0])
    assert not differences(tmp_path, files, as_url)


def test_random_sizes_are_resized_to_pillows_bytes(tmp_path):
    random = np.random.default_rng(5)
    sizes = [tuple(int(side) for side in random.integers(1, 500, 2)) for _ in range(120)]
    sizes += [(1, 1), (1, 500), (500, 1), (3000, 7), (7, 3000), (5000, 4), (30, 3001), (224, 1)]
    files = {}
    for i, (width, height) in enumerate(sizes):
        image = picture_files.Painter(width, height, seed=i).rgb()
        files[f"{i}-{width}x{height}.png"] = picture_files.saved(image, "PNG", compress_level=1)
    assert not differences(tmp_path, files, as_url=False)


CUT = ["q90-420.jpg", "progressive.jpg", "cmyk.jpg", "8bit-type2.png", "RGB.gif", "RGB.webp",
       "RGBA-lossless.webp", "animated.webp", "24bit.bmp", "8bit.bmp", "rle8.bmp", "RGB-raw.tif",
       "RGB-tiff_lzw.tif", "RGB-jpeg.tif", "group4.tif", "RGBA-420.avif", "plain.pgm", "RGB.ppm"]
# Cuts that Pillow forgives and we do not: the checksum behind PNG data, a GIF's last empty block.
STRICTER_BYTES = {"8bit-type2.png": range(-20, -10), "RGB.gif": range(-2, -1)}


@pytest.mark.parametrize("name", CUT)
def test_cut_off_files_are_accepted_or_refused_as_by_pillow(tmp_path, name):
    data = picture_files.pictures(61, 47, seed=1)[name]
    lengths = {len(data) * i // 40 for i in range(1, 40)} | set(range(len(data) - 24, len(data)))
    stricter = STRICTER_BYTES.get(name, ())
    files = {f"{n}": data[:n] for n in sorted(lengths) if n > 0 and n - len(data) not in stricter}
    assert not differences(tmp_path, files, as_url=False)


def test_out_writes_a_png_for_each_file_and_never_two_to_one_name(tmp_path):
    from PIL import Image

    names = [tmp_path / folder / "same.png" for folder in "ab"]
    for i, name in enumerate(names):
        name.parent.mkdir()
        picture_files.Painter(50 + i, 40, seed=i).rgb().save(name)
    out = tmp_path / "out"
    command = [SERVER, "preprocess", *map(str, names), "--out", str(out)]
    subprocess.run(command, capture_output=True, check=True)
    for name, written in zip(names, ["same.png", "same-2.png"], strict=True):
        expected = Image.open(name).resize((224, 224), Image.Resampling.BICUBIC)
        assert Image.open(out / written).tobytes() == expected.tobytes()
