# SPDX-License-Identifier: Apache-2.0
"""What a calibration looks at: the pictures and texts of a folder, or drawn pictures that the model
is asked about, and texts of many kinds."""

import os
import subprocess
import tempfile
import zlib
from pathlib import Path

import sentencepiece
import torch
from torch import Tensor

from .calibration import Sample
from .config import CheckpointConfig
from .errors import ExportError
from .tokenizer_files import Tokenizer

SYNTHETIC, NOTHING = "synthetic", "none"
_PICTURES = 16  # at most
_DRAWN_TOKENS = 60  # of what a model says of a picture
_DRAWN_ANSWER = 24  # and to a question
_MOST_TOKENS = 256  # of one text
_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".tif", ".tiff", ".bmp", ".avif", ".ppm")
# Inputs differ by what is read: a model that is asked sees other ones than one that tells.
_QUESTIONS = (
    "What is in this image?", "Describe the picture.", "What do you see?",
    "How many things are there?", "What color is it?", "Where is it?",
    "Is there a person in the picture?", "What does it say?", "Read the text.", "What is this?",
    "Which is on the left?", "Is this a cat?", "What is in the center of the image?",
    "What could happen next?", "Write a short caption.", "Why do you think so?")
_TEXTS = (
    "Hello! How are you?", "What is two plus three?",
    "The weather was fine that morning, so we walked along the river until we came to a small "
    "town with a market.",
    "She opened the letter, read it twice and put it on the table without a word.",
    "To bake bread you need flour, water, salt and yeast; knead it well and let it rest.",
    "In 1969 two people walked on the moon for the first time.",
    "Thank you, that is very kind of you.", "A list: 1. apples, 2. pears; 3. plums.",
    "The old bridge was closed for repairs, and nobody knew when it would open again.",
    "Water boils at 100 degrees; on a mountain it boils sooner.",
    "def add(a, b):\n    return a + b\n",
    "Il pleut depuis ce matin, mais nous sortirons quand même.",
    "Der Zug nach Hamburg fährt heute von Gleis 7 ab.",
    "Question: Who wrote it? Answer: Nobody remembers her name.",
    "\"I have never seen anything like it,\" he said, and closed the door.",
    "On Monday the museum is closed. Tickets cost 12.50 euros, children pay half.")


class _Words:
    """Tokens as the model's prompts have them."""

    def __init__(self, tokenizer: Tokenizer):
        self._tokenizer = tokenizer
        self._pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer.model)
        self.picture = [tokenizer.fake_image, tokenizer.image, tokenizer.fake_image]

    def of(self, text: str) -> list[int]:
        return self._pieces.encode(text)

    def sample(self, pixels: Tensor | None, tokens: list[int], drawn: int = 0) -> Sample:
        """Behind the first token of every text."""
        tokens = [self._tokenizer.bos, *tokens]
        sees = 0 if pixels is None else tokens.index(self._tokenizer.image)
        return Sample(pixels, tokens, sees, drawn)

    def question(self, text: str, picture_first: bool) -> list[int]:
        """What a user asks about a picture, up to where the answer begins."""
        end = [self._tokenizer.end_of_utterance] if self._tokenizer.end_of_utterance >= 0 else []
        asked = ([*self.picture, *self.of(f"User: {text}")] if picture_first else
                 [*self.of(f"User: {text}"), *self.picture])
        return [*asked, *end, *self.of("\nAssistant:")]


def read_samples(source: str, config: CheckpointConfig, tokenizer: Tokenizer) -> list[Sample]:
    """`source`: SYNTHETIC, or a folder of pictures; a NAME.txt beside one is read behind it,
    others are talked about by the model itself."""
    words = _Words(tokenizer)
    if source == SYNTHETIC:
        return _synthetic(config, words)
    files = _picture_files(source)
    samples = []
    for file, picture in zip(files, seen_pictures(files), strict=True):
        text = file.with_suffix(".txt")
        tokens = words.of(text.read_text("utf-8"))[:_MOST_TOKENS] if text.is_file() else []
        samples.append(words.sample(_normalised(picture, config), [*words.picture, *tokens],
                                    0 if tokens else _DRAWN_TOKENS))
    return samples


def read_pictures(source: str, config: CheckpointConfig) -> list[Tensor]:
    """Those of read_samples, [3, S, S] f32 each, normalised."""
    pictures = (_drawn_pictures(config.processor["image_size"])
                if source == SYNTHETIC else seen_pictures(_picture_files(source)))
    return [_normalised(picture, config) for picture in pictures]


def _picture_files(source: str) -> list[Path]:
    """Some of those of a folder."""
    folder = Path(source)
    if not folder.is_dir():
        raise ExportError(f"--calibrate {source} is neither a folder nor \"{SYNTHETIC}\" nor "
                          f"\"{NOTHING}\"")
    files = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _SUFFIXES]
    if not files:
        raise ExportError(f"{source} holds no picture to calibrate with: expected files named "
                          f"{', '.join(f'*{suffix}' for suffix in _SUFFIXES)}")
    return files[::-(-len(files) // _PICTURES)]


def _synthetic(config: CheckpointConfig, words: _Words) -> list[Sample]:
    """Questions about drawn pictures, texts, half of them behind a picture, and pictures alone."""
    pictures = read_pictures(SYNTHETIC, config)
    questions = [
        words.sample(picture, words.question(text, i % 2 == 1), _DRAWN_ANSWER)
        for i, (picture, text) in enumerate(zip(pictures, _QUESTIONS, strict=True))]
    texts = [
        words.sample(picture, [*words.picture, *words.of(text)]) if i % 2 else
        words.sample(None, words.of(text))
        for i, (picture, text) in enumerate(zip(pictures, _TEXTS, strict=True))]
    alone = [words.sample(picture, words.picture, _DRAWN_TOKENS) for picture in pictures[::2]]
    return questions + texts + alone


def _normalised(picture: Tensor, config: CheckpointConfig) -> Tensor:
    """[3, S, S] of 0 … 1."""
    mean, std = (torch.tensor(config.processor[key])[:, None, None]
                 for key in ("image_mean", "image_std"))
    return (picture - mean) / std


def _drawn_pictures(size: int) -> list[Tensor]:
    """Soft grounds with discs, boxes and stripes, [3, S, S] each."""
    random = torch.Generator().manual_seed(0)
    y, x = torch.meshgrid(torch.linspace(0, 1, size), torch.linspace(0, 1, size), indexing="ij")
    pictures = []
    for _ in range(_PICTURES):
        ground = torch.rand(1, 3, 4, 4, generator=random)
        picture = torch.nn.functional.interpolate(ground, (size, size), mode="bicubic")[0]
        for _ in range(6):
            u, v, r, bent, *color = torch.rand(7, generator=random).tolist()
            inside = [(x - u).square() + (y - v).square() < (r / 4)**2,
                      ((x - u).abs() < r / 4) & ((y - v).abs() < bent / 4),
                      ((x * bent + y * r) * 40 % 2 < 1) & ((x - u).abs() < r / 4)][int(3 * bent)]
            picture = torch.where(inside, torch.tensor(color)[:, None, None], picture)
        noise = torch.randn(3, size, size, generator=random) * 0.03
        pictures.append((picture + noise).clamp(0, 1))
    return pictures


def seen_pictures(files: list[Path]) -> list[Tensor]:
    """What the server sees of picture files, [3, S, S] of 0 … 1 each."""
    server = os.environ.get("IDEFICS_SERVER")
    if not server:
        raise ExportError("the server, which reads the pictures, is not named by IDEFICS_SERVER: "
                          "run scripts/export.sh, which builds it")
    pictures = []
    with tempfile.TemporaryDirectory() as scratch:
        for number, file in enumerate(files):
            out = Path(scratch) / str(number)
            out.mkdir()
            done = subprocess.run([server, "preprocess", str(file), "--out", str(out)],
                                  capture_output=True, text=True)
            made = list(out.iterdir())
            if done.returncode or len(made) != 1:
                last = (done.stderr.strip() or "no picture").splitlines()[-1]
                raise ExportError(f"{file} cannot be read: {last}")
            pictures.append(_read_png(made[0].read_bytes()))
    return pictures


def _read_png(data: bytes) -> Tensor:
    """[3, H, W] of 0 … 1 of a file that the server wrote: 8 bits, RGB, not interlaced."""
    width, height = (int.from_bytes(data[at:at + 4], "big") for at in (16, 20))
    packed, at = b"", 8
    while at < len(data):
        length = int.from_bytes(data[at:at + 4], "big")
        if data[at + 4:at + 8] == b"IDAT":
            packed += data[at + 8:at + 8 + length]
        at += 12 + length
    raw, stride = zlib.decompress(packed), 3 * width
    rows = [bytearray(stride)]
    for y in range(height):
        line = bytearray(raw[y * (stride + 1) + 1:(y + 1) * (stride + 1)])
        _unfilter(raw[y * (stride + 1)], line, rows[-1])
        rows.append(line)
    pixels = torch.frombuffer(bytearray(b"".join(rows[1:])), dtype=torch.uint8)
    return pixels.view(height, width, 3).permute(2, 0, 1).float() / 255


def _unfilter(kind: int, line: bytearray, above: bytearray) -> None:
    """Undoes PNG's filter of one line."""
    for i in range(len(line)):
        a, b, c = (line[i - 3], above[i], above[i - 3]) if i >= 3 else (0, above[i], 0)
        by_distance = [(abs(b - c), 0, a), (abs(a - c), 1, b), (abs(a + b - 2 * c), 2, c)]
        line[i] = (line[i] + (0, a, b, (a + b) // 2, min(by_distance)[2])[kind]) & 255
