# SPDX-License-Identifier: Apache-2.0
"""config.json, preprocessor_config.json and generation_config.json of a checkpoint, checked.

A missing key has transformers' class default (docs/model.md#configuration), which is not the 9b's
value.
"""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .errors import ExportError
from .modules import ModelShape, PerceiverShape, VisionShape

ARCHITECTURE = "IdeficsForVisionText2Text"
IMAGE_MEAN = [0.48145466, 0.4578275, 0.40821073]
IMAGE_STD = [0.26862954, 0.26130258, 0.27577711]
BICUBIC = 3  # PIL.Image.BICUBIC


@dataclass(frozen=True)
class CheckpointConfig:
    shape: ModelShape
    base_vocab_size: int
    additional_vocab_size: int
    tie_word_embeddings: bool
    max_position_embeddings: int | None
    architecture: str
    bos: int
    eos: int
    pad: int
    processor: dict[str, Any]  # image_size, image_mean, image_std
    generation: dict[str, Any]  # see _GENERATION_KEYS; only what is set


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file; an ExportError where there is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ExportError(
            f"{path.parent} has no {path.name}: give a Hugging Face checkpoint folder") from None
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ExportError(f"{path} is not JSON ({error}): fetch the file again") from None
    if not isinstance(value, dict):
        raise ExportError(
            f"{path} holds a JSON {type(value).__name__}, not an object: fetch the file again")
    return value


class _Section:
    """Typed look-ups in one object of config.json, with the class default where the key is
    missing."""

    def __init__(self, values: dict[str, Any], where: str):
        self._values = values
        self._where = where

    def _fail(self, key: str, value: Any, expected: str) -> ExportError:
        return ExportError(f"{self._where}: {key} is {value!r}, expected {expected}")

    def count(self, key: str, default: int, least: int = 1) -> int:
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= 2**31 - 1:
            raise self._fail(key, value, f"a whole number from {least} to {2**31 - 1}")
        return value

    def flag(self, key: str, default: bool) -> bool:
        value = self._values.get(key, default)
        if not isinstance(value, bool):
            raise self._fail(key, value, "true or false")
        return value

    def epsilon(self, key: str, default: float) -> float:
        value = self._values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 < value < 1:
            raise self._fail(key, value, "a number between 0 and 1")
        return float(value)

    def choice(self, key: str, default: str, allowed: list[str]) -> str:
        value = self._values.get(key, default)
        if value not in allowed:
            raise self._fail(key, value, " or ".join(allowed))
        return value

    def section(self, key: str) -> "_Section":
        value = self._values.get(key)
        if value is not None and not isinstance(value, dict):
            raise self._fail(key, value, "an object")
        return _Section(value or {}, f"{self._where}, {key}")

    def has(self, key: str) -> bool:
        return self._values.get(key) is not None


def _check_architecture(config: dict[str, Any]) -> str:
    model_type = config.get("model_type")
    names = config.get("architectures") or []
    name = names[0] if isinstance(names, list) and names else None
    known = model_type == "idefics" and (name is None or name == ARCHITECTURE)
    if not known:
        raise ExportError(
            f"config.json describes a model of type {model_type!r} ({name}), expected 'idefics' "
            f"({ARCHITECTURE}): only IDEFICS version 1 can be exported")
    if config.get("quantization_config") is not None:
        raise ExportError(
            "config.json has a quantization_config: give the checkpoint that is not quantized")
    return ARCHITECTURE


def _vision_shape(section: _Section) -> VisionShape:
    # transformers maps the attribute hidden_size to embed_dim.
    alias = "hidden_size" if section.has(
        "hidden_size") and not section.has("embed_dim") else "embed_dim"
    shape = VisionShape(image_size=section.count("image_size", 224),
                        patch_size=section.count("patch_size", 14),
                        num_channels=section.count("num_channels", 3),
                        embed_dim=section.count(alias, 768),
                        num_layers=section.count("num_hidden_layers", 32),
                        num_heads=section.count("num_attention_heads", 16),
                        intermediate_size=section.count("intermediate_size", 5120),
                        layer_norm_eps=section.epsilon("layer_norm_eps", 1e-5),
                        hidden_act=section.choice("hidden_act", "gelu", ["gelu", "quick_gelu"]))
    if shape.num_channels != 3:
        raise ExportError(
            f"config.json, vision_config: num_channels is {shape.num_channels}, expected 3 (RGB)")
    if shape.patch_size > shape.image_size:
        raise ExportError(
            f"config.json, vision_config: patch_size {shape.patch_size} is over image_size "
            f"{shape.image_size}")
    _check_heads(shape.embed_dim, shape.num_heads, "vision_config: embed_dim")
    return shape


def _check_heads(width: int, heads: int, what: str) -> None:
    if width % heads:
        raise ExportError(
            f"config.json, {what} {width} is not a multiple of num_attention_heads {heads}")


def _model_shape(config: _Section) -> ModelShape:
    perceiver = config.section("perceiver_config")
    shape = ModelShape(vocab_size=config.count("vocab_size", 32000)
                       + config.count("additional_vocab_size", 0, least=0),
                       hidden_size=config.count("hidden_size", 4096),
                       intermediate_size=config.count("intermediate_size", 11008),
                       num_layers=config.count("num_hidden_layers", 32),
                       num_heads=config.count("num_attention_heads", 32),
                       cross_layer_interval=config.count("cross_layer_interval", 1),
                       qk_layer_norms=config.flag("qk_layer_norms", False),
                       rms_norm_eps=config.epsilon("rms_norm_eps", 1e-6),
                       use_resampler=config.flag("use_resampler", False),
                       vision=_vision_shape(config.section("vision_config")),
                       perceiver=PerceiverShape(
                           num_latents=perceiver.count("resampler_n_latents", 64),
                           depth=perceiver.count("resampler_depth", 6),
                           num_heads=perceiver.count("resampler_n_heads", 16),
                           head_dim=perceiver.count("resampler_head_dim", 96),
                           qk_layer_norms=perceiver.flag("qk_layer_norms_perceiver", False)))
    config.choice("hidden_act", "silu", ["silu"])
    _check_heads(shape.hidden_size, shape.num_heads, "hidden_size")
    if shape.head_dim % 2:
        raise ExportError(
            f"config.json: a head has {shape.head_dim} values (hidden_size / num_attention_heads), "
            "rotary positions need an even number")
    if shape.num_layers % shape.cross_layer_interval:
        raise ExportError(
            f"config.json: num_hidden_layers {shape.num_layers} is not a multiple of "
            f"cross_layer_interval {shape.cross_layer_interval}: transformers cannot run such a "
            "model either")
    return shape


def _numbers(values: Any, where: str) -> list[float]:
    good = isinstance(values, list) and len(values) == 3 and all(
        isinstance(v, (int, float)) and not isinstance(v, bool) and math.isfinite(v)
        for v in values)
    if not good:
        raise ExportError(
            f"preprocessor_config.json: {where} is {values!r}, expected three numbers")
    return [float(v) for v in values]


def _processor(folder: Path, image_size: int) -> dict[str, Any]:
    path = folder / "preprocessor_config.json"
    values = read_json(path) if path.exists() else {"image_size": image_size}
    size = values.get("image_size", 224)
    if size != image_size:
        raise ExportError(
            f"preprocessor_config.json makes images of image_size {size!r}, the model's "
            f"vision_config takes {image_size}: the two files are not of one checkpoint")
    for key, expected in (("do_rescale", True), ("do_normalize", True), ("do_resize", True),
                          ("do_convert_rgb", True), ("resample", BICUBIC)):
        if values.get(key, expected) not in (expected, None):
            raise ExportError(
                f"preprocessor_config.json: {key} is {values[key]!r}, only {expected!r} is "
                f"supported"
            )
    factor = values.get("rescale_factor", 1 / 255)
    if not isinstance(factor, (int, float)) or not math.isclose(factor, 1 / 255, rel_tol=1e-9):
        raise ExportError(
            f"preprocessor_config.json: rescale_factor is {factor!r}, only 1/255 is supported")
    std = _numbers(values.get("image_std", IMAGE_STD), "image_std")
    if min(std) <= 0:
        raise ExportError(f"preprocessor_config.json: image_std is {std}, expected numbers over 0")
    return {
        "image_size": image_size, "image_mean": _numbers(values.get("image_mean", IMAGE_MEAN),
                                                         "image_mean"), "image_std": std
    }


_INT, _FLOAT, _BOOL = (int,), (int, float), (bool,)
_GENERATION_KEYS = {
    "max_new_tokens": _INT, "max_length": _INT, "min_new_tokens": _INT, "do_sample": _BOOL,
    "temperature": _FLOAT, "top_k": _INT, "top_p": _FLOAT, "min_p": _FLOAT, "typical_p": _FLOAT,
    "repetition_penalty": _FLOAT, "no_repeat_ngram_size": _INT, "num_beams": _INT,
    "length_penalty": _FLOAT,
}


def _ids(values: Any, vocab_size: int, where: str) -> list[int]:
    values = [values] if isinstance(values, int) else values
    good = isinstance(values, list) and values and all(
        isinstance(v, int) and not isinstance(v, bool) and 0 <= v < vocab_size for v in values)
    if not good:
        raise ExportError(f"{where} is {values!r}, expected token ids from 0 to {vocab_size - 1}")
    return values


def _generation(folder: Path, config: dict[str, Any], vocab_size: int) -> dict[str, Any]:
    """What is set, by transformers' names; which file counts: docs/model.md#generation-defaults."""
    path = folder / "generation_config.json"
    values, name = (dict(read_json(path)), path.name) if path.exists() else (dict(config),
                                                                             "config.json")
    if path.exists() and values.get("_from_model_config") is True and config.get(
            "max_length") is not None:
        values["max_length"] = config["max_length"]
    result: dict[str, Any] = {}
    for key, kinds in _GENERATION_KEYS.items():
        value = values.get(key)
        if value is None:
            continue
        if not isinstance(value, kinds) or (isinstance(value, bool) and kinds is not _BOOL):
            raise ExportError(f"{name}: {key} is {value!r}, expected a {kinds[-1].__name__}")
        result[key] = value
    if values.get("eos_token_id") is not None:
        result["eos_token_id"] = _ids(values["eos_token_id"], vocab_size, f"{name}: eos_token_id")
    words = values.get("bad_words_ids")
    if words is not None:
        if not isinstance(words, list):
            raise ExportError(
                f"{name}: bad_words_ids is {words!r}, expected a list of lists of token ids")
        result["bad_words_ids"] = [
            _ids(word, vocab_size, f"{name}: bad_words_ids") for word in words
        ]
    return result


def read_config(folder: Path) -> CheckpointConfig:
    """REQUIRES: `folder` exists. Refuses, with one sentence, every model the modules cannot
    compute."""
    values = read_json(folder / "config.json")
    architecture = _check_architecture(values)
    config = _Section(values, "config.json")
    shape = _model_shape(config)
    eos = values.get("eos_token_id", 2)
    eos = eos[0] if isinstance(eos, list) and eos else eos
    special = _Section({**values, "eos_token_id": eos}, "config.json")
    limit = config.count("max_position_embeddings",
                         0) if config.has("max_position_embeddings") else None
    return CheckpointConfig(shape=shape,
                            base_vocab_size=config.count("vocab_size", 32000),
                            additional_vocab_size=config.count("additional_vocab_size", 0, least=0),
                            tie_word_embeddings=config.flag("tie_word_embeddings", False),
                            max_position_embeddings=limit,
                            architecture=architecture,
                            bos=special.count("bos_token_id", 1, least=0),
                            eos=special.count("eos_token_id", 2, least=0),
                            pad=special.count("pad_token_id", 0, least=0),
                            processor=_processor(folder, shape.vision.image_size),
                            generation=_generation(folder, values, shape.vocab_size))
