# SPDX-License-Identifier: Apache-2.0
"""Scenes of the demo world and how they are drawn.

A scene is one of: 1-5 objects (coloured shapes and emoji) at free positions and sizes, a
number from 0 to 99, or a written word. The picture is divided in thirds: an object's
centre keeps a margin from the lines and no two centres share a third, so that "top left"
is never in doubt. Everything is a pure function of the random generator given.
"""
import io
import math
import os
from dataclasses import dataclass, field
from functools import cache, lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from .vocabulary import (
    CLASSES,
    COLOR_NAMES,
    COLORS,
    EMOJI,
    EMOJI_FONT,
    FONT_PACKAGES,
    HELD_OUT_FONTS,
    SHAPE_COUNT,
    SHAPES,
    TEXT_COLORS,
    TRAIN_FONTS,
    WORDS,
)

SIZE = 448                 # side of a drawn picture
THIRD = SIZE / 3
MARGIN = 24                # distance of a centre from the lines between thirds
MIN_RADIUS, MAX_RADIUS = 42, 78


@dataclass
class Thing:
    """One object: `cls` indexes CLASSES, `color` COLOR_NAMES (-1 for emoji)."""
    cls: int
    color: int
    cell: int
    x: float
    y: float
    radius: float

    @property
    def name(self) -> str:
        return CLASSES[self.cls]

    @property
    def noun(self) -> str:
        return self.name if self.color < 0 else f"{COLOR_NAMES[self.color]} {self.name}"


@dataclass
class Scene:
    """What a picture shows. kind: "objects", "word" or "number" (then `text` is set)."""
    kind: str
    seed: int
    things: list = field(default_factory=list)     # in reading order
    text: str = ""                                 # lower case word, or digits
    text_color: str = ""
    upper: bool = True
    font: str = ""
    fresh_font: bool = False


def check_fonts() -> None:
    """Stop with the packages to install when a font is missing."""
    missing = [f for f in TRAIN_FONTS + HELD_OUT_FONTS + [EMOJI_FONT] if not os.path.exists(f)]
    if missing:
        raise SystemExit(f"missing fonts {missing}\napt-get install {FONT_PACKAGES}")


def sample_scene(seed: int, kind: str | None = None, count: int | None = None,
                 held_out_fonts: bool = False) -> Scene:
    """The scene of `seed`; `kind` and `count` fix what is otherwise drawn by chance."""
    rng = np.random.default_rng([7, seed])
    if kind is None:
        kind = rng.choice(["objects", "word", "number"], p=[0.60, 0.16, 0.24])
    if kind != "objects":
        fonts = HELD_OUT_FONTS if held_out_fonts else TRAIN_FONTS
        text = str(rng.choice(WORDS)) if kind == "word" else str(int(rng.integers(100)))
        return Scene(str(kind), seed, text=text, text_color=str(rng.choice(TEXT_COLORS)),
                     upper=bool(rng.random() < 0.5), font=str(rng.choice(fonts)),
                     fresh_font=held_out_fonts)
    if count is None:
        count = int(rng.choice([1, 2, 3, 4, 5], p=[0.38, 0.18, 0.18, 0.14, 0.12]))
    while True:
        things = _try_things(rng, count)
        if things:
            return Scene("objects", seed, sorted(things, key=lambda t: t.cell))


def _try_things(rng, count: int):
    """`count` things that neither overlap nor share a third, or None when they do not fit."""
    cells = rng.choice(9, count, replace=False)
    spots = []
    for cell in cells:
        jitter = rng.uniform(-1, 1, 2) * (THIRD / 2 - MARGIN)
        spots.append([(cell % 3 + 0.5) * THIRD + jitter[0], (cell // 3 + 0.5) * THIRD + jitter[1]])
    things, used = [], set()
    for i, (x, y) in enumerate(spots):
        gaps = [math.hypot(x - a, y - b) / 2 for j, (a, b) in enumerate(spots) if j != i]
        room = min([x / 0.9, y / 0.9, (SIZE - x) / 0.9, (SIZE - y) / 0.9, MAX_RADIUS] + gaps)
        if room < MIN_RADIUS:
            return None
        while True:
            shape = rng.random() < 0.4
            cls = int(rng.integers(SHAPE_COUNT) if shape else
                      rng.integers(SHAPE_COUNT, len(CLASSES)))
            color = int(rng.integers(len(COLOR_NAMES))) if shape else -1
            if (cls, color) not in used:
                break
        used.add((cls, color))
        things.append(Thing(cls, color, int(cells[i]), x, y, rng.uniform(MIN_RADIUS, room)))
    return things


# ---------------------------------------------------------------- drawing

def _smooth_noise(rng, cells: int) -> np.ndarray:
    """Smooth random colours, `cells` grains across, [SIZE/2, SIZE/2, 3] in -1..1."""
    grid = (rng.random((cells, cells, 3)) * 255).astype(np.uint8)
    image = Image.fromarray(grid).resize((SIZE // 2, SIZE // 2), Image.BICUBIC)
    return np.asarray(image, np.float32) / 127.5 - 1


@lru_cache(maxsize=256)
def _texture(index: int) -> Image.Image:
    """Photograph-like ground number `index`: sky and earth, blurred spots, fractal grain."""
    rng = np.random.default_rng([11, index])
    top, bottom = 60 + rng.random((2, 3)) * 140
    y = np.linspace(0, 1, SIZE // 2)[:, None, None]
    horizon = 1 / (1 + np.exp(-(y - rng.uniform(0.2, 0.8)) * rng.uniform(3, 40)))
    image = top + (bottom - top) * horizon + np.zeros((SIZE // 2, SIZE // 2, 3))
    level = rng.uniform(40, 90)
    for cells in (3, 6, 12, 24, 56):
        noise = _smooth_noise(rng, cells)
        if rng.random() < 0.7:
            noise = noise.mean(2, keepdims=True)
        image = image + level * noise
        level *= rng.uniform(0.45, 0.75)
    light = rng.uniform(0.28, 0.5)                # mixed with white: a light photograph
    image = 255 - (255 - np.clip(image, 0, 255)) * light
    return Image.fromarray(image.astype(np.uint8)).resize((SIZE, SIZE), Image.BILINEAR)


def _background(rng) -> Image.Image:
    """A light ground: plain, gradient, stripes or photograph-like."""
    kind = rng.random()
    def light():
        return rng.integers(205, 256, 3)
    if kind < 0.25:
        return Image.new("RGB", (SIZE, SIZE), tuple(int(v) for v in light()))
    if kind < 0.45:
        a, b, c, d = (light() for _ in range(4))
        corners = np.stack([np.stack([a, b]), np.stack([c, d])]).astype(np.uint8)
        return Image.fromarray(corners).resize((SIZE, SIZE), Image.BILINEAR)
    if kind < 0.58:
        a, b = light(), rng.integers(190, 256, 3)
        width = int(rng.integers(20, 70))
        band = (np.arange(SIZE) // width % 2).astype(bool)
        if rng.random() < 0.5:
            grid = np.where(band[:, None, None], a, b) + np.zeros((SIZE, SIZE, 3), int)
        else:
            grid = np.where(band[None, :, None], a, b) + np.zeros((SIZE, SIZE, 3), int)
        return Image.fromarray(grid.astype(np.uint8))
    image = _texture(int(rng.integers(256)))
    turn = int(rng.integers(4))
    if turn == 1:
        return image.transpose(Image.FLIP_LEFT_RIGHT)
    return image.copy() if turn != 2 else image.transpose(Image.FLIP_TOP_BOTTOM)


@cache
def _sprite(name: str) -> Image.Image:
    """The emoji `name`, cropped, on a transparent square of 136."""
    font = ImageFont.truetype(EMOJI_FONT, 109)
    canvas = Image.new("RGBA", (160, 160))
    ImageDraw.Draw(canvas).text((10, 10), EMOJI[name], font=font, embedded_color=True)
    canvas = canvas.crop(canvas.getbbox())
    side = max(canvas.size)
    square = Image.new("RGBA", (side, side))
    square.paste(canvas, ((side - canvas.width) // 2, (side - canvas.height) // 2))
    return square.resize((136, 136), Image.BICUBIC)


def _polygon(name: str) -> list:
    """Corner points of a shape in the unit circle (y downwards)."""
    def turn(k, n, r=1.0):
        return (r * math.sin(2 * math.pi * k / n), -r * math.cos(2 * math.pi * k / n))
    if name == "square":
        return [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)]
    if name == "triangle":
        return [(0, -0.95), (0.98, 0.75), (-0.98, 0.75)]
    if name == "star":
        return [turn(k, 10, 1.0 if k % 2 == 0 else 0.42) for k in range(10)]
    if name == "cross":
        a = 0.32
        return [(-a, -.95), (a, -.95), (a, -a), (.95, -a), (.95, a), (a, a), (a, .95),
                (-a, .95), (-a, a), (-.95, a), (-.95, -a), (-a, -a)]
    steps = [2 * math.pi * k / 40 for k in range(40)]
    if name == "heart":
        return [(math.sin(t) ** 3, -(13 * math.cos(t) - 5 * math.cos(2 * t)
                 - 2 * math.cos(3 * t) - math.cos(4 * t)) / 16.5) for t in steps]
    return [(0.95 * math.cos(t), 0.95 * math.sin(t)) for t in steps]


def _draw_thing(image: Image.Image, thing: Thing, rng) -> None:
    """Draw one thing with a small random turn."""
    angle = math.radians(rng.uniform(-8, 8))
    cos, sin = math.cos(angle), math.sin(angle)
    if thing.cls < SHAPE_COUNT:
        base = np.array(COLORS[COLOR_NAMES[thing.color]]) + rng.integers(-12, 13, 3)
        points = [(thing.x + thing.radius * (cos * px - sin * py),
                   thing.y + thing.radius * (sin * px + cos * py))
                  for px, py in _polygon(SHAPES[thing.cls])]
        ImageDraw.Draw(image).polygon(points, fill=tuple(int(v) for v in np.clip(base, 0, 255)))
        return
    side = int(2 * thing.radius)
    scale = 136 / side * 0.97
    shift = 68 - scale * side / 2 * (cos - sin), 68 - scale * side / 2 * (sin + cos)
    sprite = _sprite(thing.name).transform(
        (side, side), Image.AFFINE,
        (scale * cos, -scale * sin, shift[0], scale * sin, scale * cos, shift[1]),
        Image.BILINEAR)
    image.paste(sprite, (int(thing.x - side / 2), int(thing.y - side / 2)), sprite)


@lru_cache(maxsize=1024)
def _font(path: str, size: int):
    return ImageFont.truetype(path, size)


def _draw_text(image: Image.Image, scene: Scene, rng) -> list:
    """Write the scene's text at a free place and size, turned by up to 5 degrees; returns
    (character, x, y) of the middle of each."""
    text = scene.text.upper() if scene.upper else scene.text
    size = int(rng.integers(27, 48)) * 4
    while True:
        font = _font(scene.font, size)
        left, top, right, bottom = font.getbbox(text)
        if right - left <= 380 or size <= 72:
            break
        size -= 8
    pad = 24
    mask = Image.new("L", (right - left + 2 * pad, bottom - top + 2 * pad))
    ImageDraw.Draw(mask).text((pad - left, pad - top), text, font=font, fill=255)
    angle = rng.uniform(-5, 5)
    mask = mask.rotate(angle, Image.BILINEAR)
    color = np.clip(np.array(COLORS[scene.text_color]) + rng.integers(-12, 13, 3), 0, 255)
    x = int(rng.uniform(-pad + 6, max(SIZE - mask.width + pad - 6, -pad + 7)))
    y = int(rng.uniform(-pad + 6, SIZE - mask.height + pad - 6))
    image.paste(tuple(int(v) for v in color), (x, y), mask)
    cos, sin = math.cos(math.radians(angle)), math.sin(math.radians(angle))
    places = []
    for k, character in enumerate(text):
        along = (font.getlength(text[:k]) + font.getlength(text[:k + 1])) / 2 - left
        along -= (right - left) / 2
        places.append((character, x + mask.width / 2 + cos * along,
                       y + mask.height / 2 - sin * along))
    return places


def text_places(scene: Scene) -> list:
    """(character, x, y) of the text of a scene, as `draw` puts it."""
    rng = np.random.default_rng([13, scene.seed])
    return _draw_text(_background(rng), scene, rng)


def draw(scene: Scene) -> Image.Image:
    """The 448 x 448 picture of a scene."""
    rng = np.random.default_rng([13, scene.seed])
    image = _background(rng)
    for thing in scene.things:
        _draw_thing(image, thing, rng)
    if scene.kind != "objects":
        _draw_text(image, scene, rng)
    return image


def training_pixels(scene: Scene) -> np.ndarray:
    """The picture of `scene` as the training sees it: [112, 112, 3] uint8, some with noise."""
    rng = np.random.default_rng([17, scene.seed])
    image = draw(scene)
    image = image.resize((224, 224), Image.BICUBIC) if rng.random() < 0.12 else image.reduce(2)
    if rng.random() < 0.15:
        buffer = io.BytesIO()
        image.save(buffer, "JPEG", quality=int(rng.integers(40, 90)))
        image = Image.open(buffer).convert("RGB")
    pixels = np.asarray(image.reduce(2))
    if rng.random() < 0.2:
        noise = rng.normal(0, rng.uniform(1, 7), pixels.shape)
        pixels = np.clip(pixels + noise, 0, 255).astype(np.uint8)
    return pixels
