# SPDX-License-Identifier: Apache-2.0
"""What is compared with transformers: small models, pictures, prompts and generation settings, all
by formula.

Shared by make_model_goldens.py, which asks transformers, and tests/model, which asks our program.
No transformers here.
"""

import os
import random
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

GOLDENS = Path(os.environ.get("IDEFICS_GOLDENS") or ROOT / "tests/goldens")
DEMO = Path(os.environ.get("IDEFICS_DEMO_CHECKPOINT") or ROOT / "weights/demo")
NUM_COLUMNS = 8  # logits per position that a golden keeps; of the last position it keeps all
NEAR_TIE = 1e-4  # of f32 logits: closer than this, either token is right


@dataclass(frozen=True)
class ModelCase:
    name: str
    seed: int
    shape: dict[str, Any]
    flags: tuple[str, ...] = ()
    end_of_utterance: bool = True
    num_changed: int = 36  # greedy generations with processors
    num_beams: int = 24  # beam searches


def _shape(hidden, heads, layers, interval, vision, perceiver, vocab=320):
    """vision: (embed_dim, image_size, patch_size, heads); perceiver: (latents, heads, head_dim, qk
    norms or None)."""
    embed, image, patch, vision_heads = vision
    latents, perceiver_heads, head_dim, norms = perceiver
    return {
        "vocab_size": vocab, "hidden_size": hidden, "intermediate_size": 96,
        "num_hidden_layers": layers, "num_attention_heads": heads, "cross_layer_interval": interval,
        "vision_config": {
            "embed_dim": embed, "image_size": image, "patch_size": patch, "num_hidden_layers": 2,
            "num_attention_heads": vision_heads, "intermediate_size": 48
        }, "perceiver_config": {
            "resampler_n_latents": latents, "resampler_depth": 2,
            "resampler_n_heads": perceiver_heads, "resampler_head_dim": head_dim,
            **({} if norms is None else {"qk_layer_norms_perceiver": norms})
        }
    }


MODELS = [
    ModelCase("instruct", 101, _shape(64, 4, 4, 2, (32, 28, 14, 4), (4, 2, 24, None))),
    ModelCase("base_vector_alpha",
              102,
              _shape(48, 4, 3, 1, (32, 28, 7, 2), (5, 3, 10, None)),
              ("--vocabulary", "base", "--alpha", "vector"),
              end_of_utterance=False),
    ModelCase("no_norms_head_10", 103, _shape(40, 4, 4, 4, (24, 28, 14, 3), (3, 2, 7, None)),
              ("--no-qk-norms", )),
    ModelCase("patch_2_perceiver_plain", 104, _shape(60, 5, 4, 2, (32, 30, 2, 4),
                                                     (16, 2, 8, False))),
    ModelCase("no_resampler",
              105,
              _shape(64, 8, 6, 3, (32, 28, 14, 4), (4, 2, 24, None)),
              ("--no-resampler", "--vocabulary", "base", "--vision-act", "quick_gelu"),
              end_of_utterance=False),
]


DEMO_CASE = ModelCase("demo", 7, {}, num_changed=15, num_beams=8)


def make_checkpoint(case: ModelCase, folder: Path) -> Path:
    """Random weights with large token embeddings: else the prompt outweighs each new token and one
    is repeated."""
    from safetensors.numpy import load_file, save_file

    import make_checkpoint as maker
    maker.SHAPES[case.name] = case.shape
    options = maker.parse(
        [str(folder), "--shape", case.name, "--seed",
         str(case.seed), *case.flags])
    maker.make_checkpoint(options)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name in tensors:
        if ".embed_tokens." in name:
            tensors[name] = tensors[name] * numpy.float32(8)
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


PICTURES = {
    "a": (48, 64, 0), "b": (33, 50, 91), "c": (224, 224, 17), "d": (100, 80, 160), "e": (7, 200, 5)
}


def picture(name: str) -> numpy.ndarray:
    """[H, W, 3] uint8; the formula of docs/model.md#golden-images, shifted."""
    height, width, shift = PICTURES[name]
    y, x, c = numpy.ogrid[:height, :width, :3]
    return ((7 * x + 13 * y + 29 * c + 5 * ((x * y) % 31) + shift) % 256).astype(numpy.uint8)


def write_pictures(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name in PICTURES:
        pixels = picture(name)
        head = b"P6 %d %d 255\n" % (pixels.shape[1], pixels.shape[0])
        (folder / f"{name}.ppm").write_bytes(head + pixels.tobytes())


@dataclass(frozen=True)
class Prompt:
    """parts: text, or ("image", name). All literals in text are special, as in transformers."""
    name: str
    parts: tuple[Any, ...]
    add_end_of_utterance: bool = False


def _image(name: str) -> tuple[str, str]:
    return ("image", name)


PROMPTS = [
    Prompt("text only", ("The colour of the sky is", )),
    Prompt("one image",
           ("User: What is in this image?", _image("a"), "<end_of_utterance>", "\nAssistant:")),
    Prompt("two images side by side",
           ("Compare", _image("b"), _image("c"), "Which is brighter? Answer:")),
    Prompt("few-shot", ("User:", _image("a"), "Describe this image.\nAssistant: stripes\n", "User:",
                        _image("d"), "Describe this image.\nAssistant:")),
    Prompt("image first", (_image("d"), "Question: how many? Answer:")),
    Prompt("image last", ("Look:  ", _image("b"))),
    Prompt("image alone", (_image("e"), )),
    Prompt("end of sequence in the middle", (_image("a"), "one</s>two", _image("b"), "three</s>")),
    Prompt("literal <image> before a real one",
           ("forged <image> here", _image("c"), "and after it")),
    Prompt("literal special tokens",
           ("<s>a<unk>b<fake_token_around_image>c</s> d<s>", _image("a"), "<end_of_utterance>")),
    Prompt("empty strings", ("", _image("a"), "", _image("b"), "   ", "x", "")),
    Prompt("one empty string", ("", )),
    Prompt("bytes",
           ("h\u00e9llo \u65e5\u672c \U0001f600\t\n\n  z", _image("d"), "\u00e9\u0301\ufffd")),
    Prompt("dialogue", ("User: hi", "Assistant: hello", _image("a"), "User: more", "Assistant:"),
           True),
    Prompt("four images", (_image("a"), "1", _image("b"), "2", _image("c"), "3", _image("d"), "4")),
]


def columns(position: int, vocab: int) -> list[int]:
    """Which logits of a position a golden keeps."""
    return [(position * 31 + j * 41 + 7) % vocab for j in range(NUM_COLUMNS)]


def special_ids(vocab: int, end_of_utterance: bool) -> dict[str, int]:
    ids = {"eos": 2, "fake": vocab, "image": vocab + 1}
    return {**ids, "eou": vocab + 2} if end_of_utterance else ids


def base_sampling(vocab: int, end_of_utterance: bool, new_tokens: int = 16) -> dict[str, Any]:
    ids = special_ids(vocab, end_of_utterance)
    return {"max_new_tokens": new_tokens, "eos_token_id": [ids.get("eou", ids["eos"])],
            "bad_words_ids": [[ids["image"]], [ids["fake"]]]}


def changed_settings(rng: random.Random, base: dict[str, Any], greedy: list[int]) -> dict[str, Any]:
    """One greedy setting whose processors act on the tokens that plain greedy decoding gave."""
    sampling = {**base, "bad_words_ids": list(base["bad_words_ids"])}
    if rng.random() < 0.5:
        sampling["repetition_penalty"] = rng.choice([0.7, 0.9, 1.1, 1.3, 2.0, 5.0])
    if rng.random() < 0.4:
        sampling["no_repeat_ngram_size"] = rng.choice([1, 2, 3, 4])
    if len(greedy) > 4 and rng.random() < 0.6:
        at = rng.randrange(len(greedy) - 3)
        sampling["bad_words_ids"].append(greedy[at:at + rng.choice([1, 2, 3])])
    if greedy and rng.random() < 0.5:
        sampling["eos_token_id"] = sorted(
            set(rng.choices(greedy, k=rng.choice([1, 2, 3])) + base["eos_token_id"]))
        sampling["min_new_tokens"] = rng.choice([0, 3, 7, base["max_new_tokens"]])
    if rng.random() < 0.2:
        sampling["max_new_tokens"] = rng.choice([1, 2, 9, 30])
        sampling["min_new_tokens"] = min(sampling.get("min_new_tokens", 0),
                                         sampling["max_new_tokens"])
    return sampling


def beam_settings(rng: random.Random, base: dict[str, Any], greedy: list[int]) -> dict[str, Any]:
    sampling = changed_settings(rng, base, greedy) if rng.random() < 0.4 else dict(base)
    if greedy and rng.random() < 0.8:  # ends that are really reached
        sampling["eos_token_id"] = sorted(set(rng.choices(greedy, k=rng.choice([1, 2, 3]))))
    sampling["num_beams"] = rng.choice([2, 3, 4])
    sampling["length_penalty"] = rng.choice([-1.0, 0.0, 0.5, 1.0, 1.0, 2.0])
    sampling["early_stopping"] = rng.choice([False, True, "never"])
    return sampling
