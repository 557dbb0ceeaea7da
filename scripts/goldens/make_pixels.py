# SPDX-License-Identifier: Apache-2.0
"""Makes tests/assets/pixels/ and tests/goldens/pixels.json: small image files and what Pillow 12
with transformers 4.57's conversions sees in them. Run from the repository root:

    python -m scripts.goldens.make_pixels            writes both
    python -m scripts.goldens.make_pixels --check    compares the committed goldens with Pillow,
    live
"""

import argparse
import json
import pathlib
import re
import sys

import PIL
from tests.images import picture_files

ASSETS = pathlib.Path("tests/assets/pixels")
GOLDENS = pathlib.Path("tests/goldens/pixels.json")
SIZE = (19, 15)
SEED = 7
# Variants whose difference the live comparison covers well enough (tests/images/test_pixels.py).
LEFT_OUT = re.compile(
    r"key(1|3|85|300)\.|-interlaced\.gif|-200\.gif|packbits|adobe|(?<!^RGB)-raw\.|-old\."
    r"|(xmp|profile)[^6]"
    r"|exif[2-579](?!.*(jpg|tif))|-interlaced-|-top")


def goldens() -> dict:
    files = {path.name: path.read_bytes() for path in sorted(ASSETS.iterdir())}
    cases = [
        {
            "file": name,
            "object": picture_files.pillow_says(data, as_url=False),
            "url": picture_files.pillow_says(data, as_url=True),
        }
        for name, data in files.items()
    ]
    return {"pillow": PIL.__version__, "cases": cases}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true")
    check = parser.parse_args().check
    if not PIL.__version__.startswith("12."):
        print(f"needs Pillow 12, found {PIL.__version__}: pip install 'pillow<13'", file=sys.stderr)
        return 1
    if check:
        same = json.loads(GOLDENS.read_text())["cases"] == goldens()["cases"]
        print("pixels.json agrees with Pillow" if same else "pixels.json differs from Pillow")
        return 0 if same else 1
    ASSETS.mkdir(parents=True, exist_ok=True)
    for old in ASSETS.iterdir():
        old.unlink()
    for name, data in picture_files.pictures(*SIZE, SEED).items():
        if not LEFT_OUT.search(name):
            (ASSETS / name).write_bytes(data)
    GOLDENS.write_text(json.dumps(goldens(), indent=1) + "\n")
    num_bytes = sum(path.stat().st_size for path in ASSETS.iterdir())
    print(f"{len(list(ASSETS.iterdir()))} files, {num_bytes} bytes, in {ASSETS}; {GOLDENS} written")
    return 0


if __name__ == "__main__":
    sys.exit(main())
