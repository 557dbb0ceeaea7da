# SPDX-License-Identifier: Apache-2.0
"""Training data: the drawn pictures with their labels, and packed batches of rows."""
import os
import pickle
import sys
from concurrent.futures import ProcessPoolExecutor

import numpy as np
import torch

from . import questions
from .model import Packed
from .vocabulary import CHARACTERS, COLOR_NAMES, WORDS
from .world import SIZE, Scene, sample_scene, text_places, training_pixels

FIRST_SEED = 1_000_000_000        # training scenes; test scenes use seeds below this
SIDE, GRID = 112, 8
NUMBER_SHARE = 0.6               # of the pictures with text
SEE_TEXT_SHARE, ASK_TEXT_SHARE = 0.45, 0.65   # of the pictures in phase A, of single ones in B


def scene_labels(scene: Scene) -> dict:
    """What the latents and patches of a scene should hold; 0 = nothing, -1 = not asked."""
    labels = {"cell": np.zeros((9, 2), np.int8), "patch": np.zeros((GRID ** 2, 2), np.int8),
              "word": 0, "digit": np.zeros(2, np.int8), "text_color": 0,
              "count": len(scene.things), **text_labels(scene)}
    if scene.kind != "objects":
        labels["patch"][:] = -1
        labels["text_color"] = 1 + COLOR_NAMES.index(scene.text_color)
        if scene.kind == "word":
            labels["word"] = 1 + WORDS.index(scene.text)
        else:
            labels["digit"][:len(scene.text)] = [1 + int(c) for c in scene.text]
    centre = (np.arange(GRID) + 0.5) * SIZE / GRID
    for thing in scene.things:
        value = thing.cls + 1, thing.color + 1
        labels["cell"][thing.cell] = value
        far = np.hypot(centre[:, None] - thing.y, centre[None] - thing.x).reshape(-1)
        labels["patch"][far < thing.radius + 8] = value
        labels["patch"][far.argmin()] = value
    return labels


def text_labels(scene: Scene) -> dict:
    """Which character has its middle in each patch, and the letters of a word in order."""
    labels = {"char": np.full(GRID ** 2, -1, np.int8), "letters": np.full(6, -1, np.int8)}
    if scene.kind == "objects":
        return labels
    labels["char"][:] = 0
    for character, x, y in text_places(scene):
        row, column = (int(np.clip(v * GRID / SIZE, 0, GRID - 1)) for v in (y, x))
        labels["char"][row * GRID + column] = 1 + CHARACTERS.index(character.lower())
    if scene.kind == "word":
        labels["letters"][:] = 0
        labels["letters"][:len(scene.text)] = [1 + CHARACTERS.index(c) for c in scene.text]
    return labels


def _render(job):
    """Draw scenes [start, stop) into the memory-mapped picture file; returns scenes, labels."""
    path, seed, count, start, stop, show = job
    pixels = np.memmap(path, np.uint8, "r+", shape=(count, SIDE, SIDE, 3))
    scenes = []
    for i in range(start, stop):
        scenes.append(sample_scene(FIRST_SEED + seed * 10_000_000 + i))
        pixels[i] = training_pixels(scenes[-1])
        if show and (i - start) % 500 == 0:
            progress("drawing", (i - start) / (stop - start))
    labels = [scene_labels(s) for s in scenes]
    return scenes, {k: np.array([l[k] for l in labels]) for k in labels[0]}


def progress(name: str, share: float, note: str = "") -> None:
    """A one-line progress bar on stderr."""
    full = int(30 * share)
    sys.stderr.write(f"\r{name} [{'#' * full}{'.' * (30 - full)}] {100 * share:5.1f} % {note}   ")
    sys.stderr.flush()


def prepare(folder: str, seed: int, count: int, workers: int = 2) -> None:
    """Draw `count` training pictures into `folder` unless they are there already."""
    index = os.path.join(folder, f"scenes-{seed}-{count}.pickle")
    if os.path.exists(index):
        return
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "pictures.u8")
    np.memmap(path, np.uint8, "w+", shape=(count, SIDE, SIDE, 3))
    edges = [count * i // workers for i in range(workers + 1)]
    jobs = [(path, seed, count, edges[i], edges[i + 1], i == 0) for i in range(workers)]
    with ProcessPoolExecutor(workers) as pool:
        parts = list(pool.map(_render, jobs))
    sys.stderr.write("\n")
    scenes = [scene for part in parts for scene in part[0]]
    labels = {k: np.concatenate([part[1][k] for part in parts]) for k in parts[0][1]}
    with open(index, "wb") as file:
        pickle.dump((scenes, labels), file)


class Pictures:
    """The drawn pictures: `pixels[i]`, `scenes[i]`, `labels[name][i]`."""

    def __init__(self, folder: str, seed: int, count: int):
        with open(os.path.join(folder, f"scenes-{seed}-{count}.pickle"), "rb") as file:
            self.scenes, self.labels = pickle.load(file)
        self.pixels = np.memmap(os.path.join(folder, "pictures.u8"), np.uint8, "r",
                                shape=(count, SIDE, SIDE, 3))
        single = np.array([questions.is_single(s) for s in self.scenes])
        text = np.array([s.kind != "objects" for s in self.scenes])
        number = np.array([s.kind == "number" for s in self.scenes])
        self.objects = np.flatnonzero(~text)
        self.words, self.numbers = np.flatnonzero(text & ~number), np.flatnonzero(number)
        self.one, self.several = np.flatnonzero(single & ~text), np.flatnonzero(~single)

    def pick(self, rng, count: int, single_share: float) -> np.ndarray:
        """`count` picture numbers in pairs of like kind."""
        pairs = []
        for _ in range(count // 2):
            if rng.random() >= single_share:
                pairs += list(rng.choice(self.several, 2, replace=False))
            else:
                pairs += list(self.mix(rng, 2, ASK_TEXT_SHARE, self.one))
        return np.array(pairs)

    def mix(self, rng, count: int, share: float, others=None) -> np.ndarray:
        """`count` picture numbers, `share` of them with text, more numbers than words
        since digits are learnt last."""
        others = self.objects if others is None else others
        text = np.where(rng.random(count) < NUMBER_SHARE, rng.choice(self.numbers, count),
                        rng.choice(self.words, count))
        return np.where(rng.random(count) < share, text, rng.choice(others, count))

    def tensors(self, chosen):
        """(pixels, labels) of the chosen pictures as tensors."""
        labels = {k: torch.from_numpy(v[chosen].astype(np.int64)) for k, v in self.labels.items()}
        return torch.from_numpy(self.pixels[chosen]), labels


def pack(rows: list) -> Packed:
    """Pack encoded rows (ids, seen picture, learn mask)."""
    lengths = [len(ids) for ids, _, _ in rows]
    total = sum(lengths)
    width = max(lengths)
    ids = np.concatenate([r[0] for r in rows])
    seen = np.concatenate([r[1] for r in rows])
    learn = np.concatenate([r[2] for r in rows])
    grid = np.full((len(rows), width), total)
    start = 0
    for i, n in enumerate(lengths):
        grid[i, :n] = np.arange(start, start + n)
        start += n
    back = np.flatnonzero(grid.reshape(-1) < total)
    position = np.concatenate([np.arange(n) for n in lengths])
    pictures = seen.max() + 1
    groups = [np.flatnonzero(seen == k) for k in range(pictures)]
    by_picture = np.full((pictures, max([len(g) for g in groups], default=1)), total)
    for k, group in enumerate(groups):
        by_picture[k, :len(group)] = group
    flat = by_picture.reshape(-1)
    sees_back = np.flatnonzero(flat < total)
    label_at = np.flatnonzero(learn)
    tensors = [ids, position, grid, back, by_picture, flat[sees_back], sees_back,
               label_at - 1, ids[label_at]]
    return Packed(*[torch.from_numpy(np.ascontiguousarray(t, np.int64)) for t in tensors])


def question_rows(pictures: Pictures, chosen, rng, encoder, per_pair: int, keep) -> tuple:
    """(encoded rows, families) for pairs of chosen pictures.

    `keep(family)` is the chance that a sampled row is used, so that families which are
    still hard get more of the rows.
    """
    rows, families = [], []
    for k in range(0, len(chosen), 2):
        scenes = [pictures.scenes[chosen[k]], pictures.scenes[chosen[k + 1]]]
        made = 0
        while made < per_pair:
            row = questions.sample_row(scenes, rng)
            if rng.random() > keep(row.family):
                continue
            ids, seen, learn = encoder.row(row)
            rows.append((ids, [s + k if s >= 0 else -1 for s in seen], learn))
            families.append(row.family)
            made += 1
    return rows, families
