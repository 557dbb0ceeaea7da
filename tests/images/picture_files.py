# SPDX-License-Identifier: Apache-2.0
"""Image files of every kind that the server reads, made from a seed, and what Pillow sees in them.

pictures() is used by test_pixels.py (many sizes, live) and scripts/goldens/make_pixels.py (one
size, committed). Some files are written by Pillow, the ones it cannot write by hand.
"""

import functools
import hashlib
import io
import itertools
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps, PngImagePlugin

MODEL_SIZE = 224


class Painter:
    """Makes noisy gradients of one size; the same seed makes the same pictures."""

    def __init__(self, width: int, height: int, seed: int):
        self.width, self.height = width, height
        self.random = np.random.default_rng(seed)

    def pixels(self, channels: int) -> np.ndarray:
        y, x = np.mgrid[0 : self.height, 0 : self.width]
        waves = [np.sin((x * (1 + c) + y * (2 - c)) / (9 + 5 * c)) for c in range(channels)]
        noise = self.random.normal(0, 12, (self.height, self.width, channels))
        return np.clip(128 + 100 * np.stack(waves, -1) + noise, 0, 255).astype(np.uint8)

    def rgb(self) -> Image.Image:
        return Image.fromarray(self.pixels(3))

    def rgba(self) -> Image.Image:
        pixels = self.pixels(4)
        pixels[: self.height // 3, :, 3] = 0
        pixels[self.height // 3 : self.height // 2, :, 3] = 255
        return Image.fromarray(pixels)

    def mode(self, mode: str) -> Image.Image:
        if mode in ("LA", "RGBA"):
            return self.rgba().convert(mode)
        if mode == "I;16":
            shape = (self.height, self.width)
            return Image.fromarray(self.random.integers(0, 600, shape).astype(np.uint16))
        if mode in ("I", "F"):
            levels = self.random.normal(128, 120, (self.height, self.width))
            return Image.fromarray(levels.astype(np.int32 if mode == "I" else np.float32))
        return self.rgb().convert(mode)

    def bytes(self, count: int) -> bytes:
        return self.random.integers(0, 256, count).astype(np.uint8).tobytes()


def saved(image: Image.Image, file_format: str, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, file_format, **options)
    return buffer.getvalue()


def jpegs(paint: Painter):
    for quality, sampling in itertools.product((40, 90), ("4:4:4", "4:2:2", "4:2:0")):
        name = f"q{quality}-{sampling.replace(':', '')}.jpg"
        yield name, saved(paint.rgb(), "JPEG", quality=quality, subsampling=sampling)
    yield "progressive.jpg", saved(paint.rgb(), "JPEG", progressive=True)
    yield "restarts.jpg", saved(paint.rgb(), "JPEG", restart_marker_rows=1)
    yield "rgb.jpg", saved(paint.rgb(), "JPEG", keep_rgb=True)
    yield "grey.jpg", saved(paint.mode("L"), "JPEG")
    yield "grey-progressive.jpg", saved(paint.mode("L"), "JPEG", progressive=True)
    yield "cmyk.jpg", saved(paint.mode("CMYK"), "JPEG", quality=90)
    pair = {"save_all": True, "append_images": [paint.rgb()]}
    yield "two.mpo", saved(paint.rgb(), "MPO", **pair)


def png_chunk(name: bytes, data: bytes) -> bytes:
    crc = zlib.crc32(name + data)
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", crc)


PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
PNG_KINDS = [(1, 0), (2, 0), (4, 0), (8, 0), (16, 0), (8, 2), (16, 2), (1, 3), (2, 3), (4, 3)]
PNG_KINDS += [(8, 3), (8, 4), (16, 4), (8, 6), (16, 6)]
ADAM7 = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2)]
ADAM7 += [(0, 1, 1, 2)]


def raw_png(paint: Painter, bits: int, color: int, interlaced: bool, plte=None, trns=None) -> bytes:
    """Random samples, all five row filters."""

    def rows(width: int, height: int) -> bytes:
        size = (width * PNG_CHANNELS[color] * bits + 7) // 8
        lines = []
        for y in range(height):
            line = bytearray(paint.bytes(size))
            if bits == 16 and y % 2:
                line[0::2] = bytes(len(line[0::2]))  # values below 256, which are not clipped
            lines.append(bytes([y % 5]) + bytes(line))
        return b"".join(lines)

    width, height = paint.width, paint.height
    passes = ADAM7 if interlaced else [(0, 0, 1, 1)]
    sizes = [((width - x + dx - 1) // dx, (height - y + dy - 1) // dy) for x, y, dx, dy in passes]
    data = b"".join(rows(w, h) for w, h in sizes if w > 0 and h > 0)
    header = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, interlaced)
    chunks = [(b"IHDR", header), (b"PLTE", plte), (b"tRNS", trns), (b"IDAT", zlib.compress(data))]
    body = b"".join(png_chunk(name, part) for name, part in chunks if part is not None)
    return b"\x89PNG\r\n\x1a\n" + body + png_chunk(b"IEND", b"")


def pngs(paint: Painter):
    for (bits, color), interlaced in itertools.product(PNG_KINDS, (False, True)):
        name = f"{bits}bit-type{color}" + ("-interlaced" if interlaced else "")
        palette = paint.bytes(3 << bits) if color == 3 else None
        yield name + ".png", raw_png(paint, bits, color, interlaced, palette)
        if color == 3:
            alphas = paint.bytes(1 << bits)
            yield name + "-alphas.png", raw_png(paint, bits, color, interlaced, palette, alphas)
            one = b"\xff\x00\xff"[: 1 << bits]
            yield name + "-one.png", raw_png(paint, bits, color, interlaced, palette, one)
            short = palette[: 3 * max(1, (1 << bits) * 2 // 3)]
            yield name + "-short.png", raw_png(paint, bits, color, interlaced, short)
        if color == 0 and not interlaced:
            for key in (0, 1, 3, 85, 255, 300):
                trns = struct.pack(">H", key)
                yield f"{name}-key{key}.png", raw_png(paint, bits, color, interlaced, None, trns)
        if color == 2 and not interlaced:
            trns = struct.pack(">HHH", 3, 4, 5)
            yield f"{name}-key.png", raw_png(paint, bits, color, interlaced, None, trns)
    animation = {"save_all": True, "append_images": [paint.rgba()]}
    yield "animated.png", saved(paint.rgba(), "PNG", **animation)
    yield "animated-default.png", saved(paint.rgba(), "PNG", default_image=True, **animation)
    yield "no-end.png", saved(paint.rgb(), "PNG")[:-12]


def raw_gif(paint: Painter, interlaced: bool, global_map, local_map, transparent) -> bytes:
    """A frame that is smaller than the canvas, of random indices, each after a clear code."""
    width, height = max(1, paint.width - 5), max(1, paint.height - 4)

    def depth(colors) -> int:
        return max(1, (len(colors) // 3 - 1).bit_length())

    flags = 0x80 | (depth(global_map) - 1) if global_map else 0
    parts = [b"GIF89a", struct.pack("<HH", paint.width, paint.height), bytes([flags, 2, 0])]
    parts.append(global_map or b"")
    if transparent is not None:
        parts.append(b"!\xf9\x04\x01\0\0" + bytes([transparent]) + b"\0")
    flags = (0x80 | (depth(local_map) - 1) if local_map else 0) | (0x40 if interlaced else 0)
    left, top = paint.width - width, paint.height - height
    parts.append(b"," + struct.pack("<HHHHB", left, top, width, height, flags) + (local_map or b""))
    bits = max(2, depth(local_map or global_map or bytes(768)))
    codes = []
    for value in paint.random.integers(0, 1 << bits, width * height):
        codes += [1 << bits, int(value)]
    packed, num_bits, data = 0, 0, bytearray()
    for code in [*codes, (1 << bits) + 1]:
        packed |= code << num_bits
        num_bits += bits + 1
        while num_bits >= 8:
            data.append(packed & 255)
            packed, num_bits = packed >> 8, num_bits - 8
    data.append(packed & 255)
    parts.append(bytes([bits]))
    parts += [bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255)]
    return b"".join(parts) + b"\0;"


def gifs(paint: Painter):
    for mode in ("RGB", "L", "1", "P", "RGBA"):
        yield f"{mode}.gif", saved(paint.mode(mode), "GIF")
    yield "interlaced.gif", saved(paint.rgb(), "GIF", interlace=1)
    animation = {"save_all": True, "append_images": [paint.rgb()]}
    yield "animated.gif", saved(paint.rgb(), "GIF", **animation)
    yield "no-trailer.gif", saved(paint.rgb(), "GIF")[:-1]
    colors, few = paint.bytes(768), paint.bytes(48)
    ramp = bytes(value for level in range(256) for value in (level,) * 3)
    for name, (global_map, local_map) in {
        "global": (colors, None), "local": (None, few), "both": (colors, few), "none": (None, None),
        "ramp": (ramp, None), "local-ramp": (None, ramp), "short": (few, None),
    }.items():
        for transparent, interlaced in itertools.product((None, 3, 200), (False, True)):
            kind = f"{name}-{transparent}" + ("-interlaced" if interlaced else "")
            yield f"{kind}.gif", raw_gif(paint, interlaced, global_map, local_map, transparent)
    wide = bytearray(raw_gif(paint, False, colors, None, 7))
    struct.pack_into("<HH", wide, 6, max(1, paint.width - 2), max(1, paint.height - 3))
    yield "frame-sticks-out.gif", bytes(wide)


def webps(paint: Painter):
    for mode in ("RGB", "RGBA", "L"):
        yield f"{mode}.webp", saved(paint.mode(mode), "WEBP", quality=60)
        yield f"{mode}-lossless.webp", saved(paint.mode(mode), "WEBP", lossless=True)
    yield "alpha.webp", saved(paint.rgba(), "WEBP", quality=40, alpha_quality=50)
    animation = {"save_all": True, "append_images": [paint.rgba()], "duration": 50}
    yield "animated.webp", saved(paint.rgba(), "WEBP", **animation)


def avifs(paint: Painter):
    for mode, sampling in itertools.product(("RGB", "RGBA"), ("4:2:0", "4:2:2", "4:4:4", "4:0:0")):
        name = f"{mode}-{sampling.replace(':', '')}"
        yield f"{name}.avif", saved(paint.mode(mode), "AVIF", subsampling=sampling, quality=60)
    yield "limited.avif", saved(paint.rgb(), "AVIF", range="limited")
    animation = {"save_all": True, "append_images": [paint.rgba()]}
    yield "animated.avif", saved(paint.rgba(), "AVIF", **animation)


def tiffs(paint: Painter):
    for mode in ("RGB", "L", "1", "P", "LA", "RGBA", "I;16", "CMYK", "I", "F"):
        for compression in ("raw", "tiff_lzw", "tiff_adobe_deflate", "packbits"):
            name = f"{mode.replace(';', '')}-{compression}.tif"
            yield name, saved(paint.mode(mode), "TIFF", compression=compression)
    for mode in ("RGB", "L", "YCbCr"):
        yield f"{mode}-jpeg.tif", saved(paint.mode(mode), "TIFF", compression="jpeg")
    for compression in ("group3", "group4"):
        yield f"{compression}.tif", saved(paint.mode("1"), "TIFF", compression=compression)
    pages = {"save_all": True, "append_images": [paint.rgb()]}
    yield "pages.tif", saved(paint.rgb(), "TIFF", **pages)


def raw_bmp(paint: Painter, bits: int, compression: int, pixels: bytes, palette=b"", masks=b"",
            header_bytes=40, num_colors=0, top_down=False) -> bytes:
    height = -paint.height if top_down else paint.height
    header = struct.pack("<IiiHHIIiiII", header_bytes, paint.width, height, 1, bits, compression,
                         len(pixels), 0, 0, num_colors, 0)
    header = (header + masks).ljust(header_bytes, b"\0")
    start = 14 + len(header) + len(palette)
    file_header = b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start)
    return file_header + header + palette + pixels


BMP_MASKS = [
    (0xFF0000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0),
    (0xFF000000, 0xFF00, 0xFF, 0), (0xFF000000, 0xFF0000, 0xFF00, 0xFF),
    (0xFF, 0xFF00, 0xFF0000, 0xFF000000), (0xFF0000, 0xFF00, 0xFF, 0xFF000000),
    (0xFF000000, 0xFF00, 0xFF, 0xFF0000), (0, 0, 0, 0), (1, 2, 3, 4),
]


def run_lengths(paint: Painter) -> bytes:
    data = bytearray()
    for _ in range(paint.height):
        left = paint.width
        while left:
            count = min(left, int(paint.random.integers(1, 20)))
            data += bytes([count, int(paint.random.integers(0, 256))])
            left -= count
        data += b"\0\0"
    return bytes(data + b"\0\1")


def bmps(paint: Painter):
    def noise(bits: int) -> bytes:
        return paint.bytes((paint.width * bits + 31) // 32 * 4 * paint.height)

    for bits, top_down in itertools.product((1, 4, 8, 16, 24, 32), (False, True)):
        palette = paint.bytes(4 << bits) if bits <= 8 else b""
        name = f"{bits}bit" + ("-top" if top_down else "")
        yield f"{name}.bmp", raw_bmp(paint, bits, 0, noise(bits), palette, top_down=top_down)
    few = paint.bytes(32)
    yield "few-colors.bmp", raw_bmp(paint, 4, 0, noise(4), few, num_colors=8)
    ramp = bytes(value for level in range(256) for value in (level, level, level, 0))
    yield "grey.bmp", raw_bmp(paint, 8, 0, noise(8), ramp)
    for name, masks in {"565": (0xF800, 0x7E0, 0x1F), "555": (0x7C00, 0x3E0, 0x1F)}.items():
        yield f"{name}.bmp", raw_bmp(paint, 16, 3, noise(16), masks=struct.pack("<III", *masks))
    for i, masks in enumerate(BMP_MASKS):
        packed = struct.pack("<IIII", *masks)
        yield f"masks{i}.bmp", raw_bmp(paint, 32, 3, noise(32), masks=packed, header_bytes=124)
        if masks[3] == 0:
            yield f"masks{i}-old.bmp", raw_bmp(paint, 32, 3, noise(32), masks=packed[:12])
    palette = paint.bytes(1024)
    yield "rle8.bmp", raw_bmp(paint, 8, 1, run_lengths(paint), palette)
    yield "rle4.bmp", raw_bmp(paint, 4, 2, run_lengths(paint), palette[:64])


def pnms(paint: Painter):
    for mode in ("RGB", "L", "1"):
        yield f"{mode}.ppm", saved(paint.mode(mode), "PPM")
    width, height, count = paint.width, paint.height, paint.width * paint.height
    size = b"%d %d " % (width, height)

    def plain(values) -> bytes:
        return b"\n".join(b"%d" % value for value in values) + b"\n"

    yield "plain.pbm", b"P1 " + size + plain(paint.random.integers(0, 2, count))
    yield "plain.pgm", b"P2\n# levels\n" + size + b"15 " + plain(paint.random.integers(
        0, 16, count))
    yield "plain.ppm", b"P3 " + size + b"1000 " + plain(paint.random.integers(0, 1001, 3 * count))
    yield "max100.pgm", b"P5 " + size + b"100\n" + bytes(v % 101 for v in paint.bytes(count))
    yield "max7.ppm", b"P6 " + size + b"7\n" + bytes(v % 9 for v in paint.bytes(3 * count))
    for top in (1000, 65535):
        wide = paint.random.integers(0, min(top, 700), count).astype(">u2").tobytes()
        yield f"max{top}.pgm", b"P5 " + size + b"%d\n" % top + wide


def oriented(paint: Painter):
    for orientation in range(1, 10):
        exif = Image.Exif()
        exif[274] = orientation
        xmp = f"<x><tiff:Orientation>{orientation}</tiff:Orientation></x>"
        for ending, file_format in {"jpg": "JPEG", "png": "PNG", "webp": "WEBP", "tif": "TIFF",
                                    "avif": "AVIF"}.items():
            if ending == "avif" and orientation == 9:
                continue
            yield f"exif{orientation}.{ending}", saved(paint.rgb(), file_format, exif=exif)
        for ending, file_format in {"jpg": "JPEG", "webp": "WEBP"}.items():
            yield f"xmp{orientation}.{ending}", saved(paint.rgb(), file_format, xmp=xmp.encode())
        yield f"exif{orientation}-alpha.png", saved(paint.rgba(), "PNG", exif=exif)
        text = PngImagePlugin.PngInfo()
        text.add_itxt("XML:com.adobe.xmp", xmp, zip=orientation % 2 == 0)
        yield f"xmp{orientation}.png", saved(paint.rgb(), "PNG", pnginfo=text)
        text, digits = PngImagePlugin.PngInfo(), exif.tobytes().hex()
        lines = "\n".join(digits[i : i + 72] for i in range(0, len(digits), 72))
        profile = f"\nexif\n{len(digits) // 2:8}\n{lines}\n"
        text.add_text("Raw profile type exif", profile, zip=orientation % 2 == 0)
        yield f"profile{orientation}.png", saved(paint.rgb(), "PNG", pnginfo=text)


MAKERS = [jpegs, pngs, gifs, webps, avifs, tiffs, bmps, pnms, oriented]


@functools.cache
def pictures(width: int, height: int, seed: int) -> dict[str, bytes]:
    """File name -> bytes, every kind once."""
    paint = Painter(width, height, seed)
    return {name: data for maker in MAKERS for name, data in maker(paint)}


def pillow_says(data: bytes, as_url: bool) -> dict:
    """{"width", "height", "format", "sha256"} of what transformers 4.57 makes of it; or an
    error."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = Image.open(io.BytesIO(data))
            file_format = image.format
            image.load()
            if as_url:  # transformers.image_utils.load_image
                image = ImageOps.exif_transpose(image)
            size = image.size
            if as_url:
                image = image.convert("RGB")
            elif image.mode != "RGB":  # convert_to_rgb of the IDEFICS image processor
                alpha = image.convert("RGBA")
                white = Image.new("RGBA", alpha.size, (255, 255, 255))
                image = Image.alpha_composite(white, alpha).convert("RGB")
        except Exception as error:
            return {"error": repr(error)}
    image = image.resize((MODEL_SIZE, MODEL_SIZE), Image.Resampling.BICUBIC)
    digest = hashlib.sha256(image.tobytes()).hexdigest()
    return {"width": size[0], "height": size[1], "format": file_format, "sha256": digest}
