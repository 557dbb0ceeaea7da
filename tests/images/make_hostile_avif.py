#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes tests/assets/hostile/*.avif: AVIF files whose parts are far larger than the image.

    python tests/images/make_hostile_avif.py        (needs Pillow with AVIF)

An encoder makes one frame of one colour; the boxes around it are written here, so that many tiles
or frames share its bytes (ISO/IEC 14496-12 and 23008-12).
"""

import io
import pathlib
import struct
from collections.abc import Iterator

from PIL import Image

FOLDER = pathlib.Path(__file__).resolve().parents[1] / "assets" / "hostile"
COLOR = (90, 120, 200)
HANDLER = struct.pack(">I4s12s", 0, b"pict", b"") + b"\0"
# What the items of the primary image are made of: their index among the properties, from 1.
ISPE_OUT, ISPE_FRAME, AV1C, PIXI, LSEL = 1, 2, 3, 4, 5
ESSENTIAL = 0x80


def box(name: bytes, *contents: bytes) -> bytes:
    data = b"".join(contents)
    return struct.pack(">I", 8 + len(data)) + name + data


def full_box(name: bytes, version: int, *contents: bytes) -> bytes:
    return box(name, struct.pack(">I", version << 24), *contents)


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    at = 0
    while at + 8 <= len(data):
        size, name = struct.unpack(">I4s", data[at : at + 8])
        yield name, data[at + 8 : at + size]
        at += size


def encoded(width: int, height: int) -> tuple[bytes, bytes]:
    """One frame of one colour, and its av1C box's contents."""
    buffer = io.BytesIO()
    Image.new("RGB", (width, height), COLOR).save(buffer, "AVIF", quality=90, speed=10)
    file = dict(boxes(buffer.getvalue()))
    meta = dict(boxes(file[b"meta"][4:]))
    properties = dict(boxes(dict(boxes(meta[b"iprp"]))[b"ipco"]))
    return file[b"mdat"], properties[b"av1C"]


def item_entry(number: int, kind: bytes) -> bytes:
    return full_box(b"infe", 2, struct.pack(">HH4s", number, 0, kind), b"\0")


def association(item: int, *properties: int) -> bytes:
    return struct.pack(">HB", item, len(properties)) + bytes(properties)


def avif(size: tuple[int, int], frame_size: tuple[int, int], av1c: bytes, kinds: list[bytes],
         links: bytes, associations: list[bytes], places: list[tuple[int, int]],
         data: bytes) -> bytes:
    """Items 1, 2, ... of these kinds; places are offsets in data and lengths."""
    file_type = box(b"ftyp", b"avif\0\0\0\0avifmif1miaf")
    entries = [item_entry(i, kind) for i, kind in enumerate(kinds, 1)]
    properties = box(b"ipco", full_box(b"ispe", 0, struct.pack(">II", *size)),
                     full_box(b"ispe", 0, struct.pack(">II", *frame_size)), box(b"av1C", av1c),
                     full_box(b"pixi", 0, b"\3\x08\x08\x08"), box(b"lsel", struct.pack(">H", 1)))
    linked = full_box(b"ipma", 0, struct.pack(">I", len(associations)), *associations)

    def meta(start: int) -> bytes:
        located = [struct.pack(">HHHII", i, 0, 1, start + at, length)
                   for i, (at, length) in enumerate(places, 1)]
        return full_box(b"meta", 0, full_box(b"hdlr", 0, HANDLER),
                        full_box(b"pitm", 0, struct.pack(">H", 1)),
                        full_box(b"iloc", 0, struct.pack(">BBH", 0x44, 0, len(places)), *located),
                        full_box(b"iinf", 0, struct.pack(">H", len(entries)), *entries),
                        links, box(b"iprp", properties, linked))

    start = len(file_type) + len(meta(0)) + 8
    return file_type + meta(start) + box(b"mdat", data)


def grid(tile: int, rows: int, columns: int, size: tuple[int, int]) -> bytes:
    """rows x columns tiles of tile x tile pixels, all of them the same bytes, cut to the size."""
    frame, av1c = encoded(tile, tile)
    count = rows * columns
    description = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, *size)
    numbers = range(2, count + 2)
    targets = struct.pack(f">HH{count}H", 1, count, *numbers)
    tiles = [association(i, ISPE_FRAME, ESSENTIAL | AV1C, PIXI) for i in numbers]
    places = [(0, len(description))] + [(len(description), len(frame))] * count
    return avif(size, (tile, tile), av1c, [b"grid"] + [b"av01"] * count,
                full_box(b"iref", 0, box(b"dimg", targets)),
                [association(1, ISPE_OUT, PIXI), *tiles], places, description + frame)


def many_frames(side: int, count: int) -> bytes:
    """One item of many frames, of which a layer is wanted that none of them has."""
    frame, av1c = encoded(side, side)
    wanted = association(1, ISPE_OUT, ESSENTIAL | AV1C, PIXI, ESSENTIAL | LSEL)
    return avif((side, side), (side, side), av1c, [b"av01"], b"", [wanted],
                [(0, count * len(frame))], count * frame)


def many_items(count: int) -> bytes:
    """One small frame, and references to items that are nowhere described."""
    frame, av1c = encoded(64, 64)
    targets = struct.pack(f">IH{count}I", 1, count, *range(2, count + 2))
    return avif((64, 64), (64, 64), av1c, [b"av01"], full_box(b"iref", 1, box(b"dimg", targets)),
                [association(1, ISPE_OUT, ESSENTIAL | AV1C, PIXI)], [(0, len(frame))], frame)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    files = {
        "grid.avif": grid(256, 2, 2, (500, 500)),
        "large-tiles.avif": grid(4096, 8, 8, (64, 64)),
        "many-frames.avif": many_frames(4096, 20),
        "many-items.avif": many_items(25_000),
    }
    for name, data in files.items():
        (FOLDER / name).write_bytes(data)


if __name__ == "__main__":
    main()
