# SPDX-License-Identifier: Apache-2.0
"""bundle.json. Read by weights/manifest.cc; keep in step."""

import dataclasses
import json
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from .config import CheckpointConfig
from .tokenizer_files import Tokenizer
from .writer import WrittenFile

FORMAT = "cog-idefics-bundle"
FORMAT_VERSION = 6
_VERSIONS = dict(line.split() for line in Path(__file__).parents[2].joinpath("VERSION").open())
EXPORTER_VERSION = _VERSIONS["cog-idefics"]


def _model(config: CheckpointConfig) -> dict[str, Any]:
    values = dataclasses.asdict(config.shape)
    values["vocab_size"] = config.base_vocab_size
    values["additional_vocab_size"] = config.additional_vocab_size
    values["max_position_embeddings"] = config.max_position_embeddings
    return values


def _tokenizer(tokenizer: Tokenizer) -> dict[str, Any]:
    values = dataclasses.asdict(tokenizer)
    del values["model"]
    return {"file": "tokenizer.model", **values}


def manifest_json(config: CheckpointConfig, tokenizer: Tokenizer, names: Mapping[str, str],
                  int8_linears: list[str], files: Mapping[str, WrittenFile]) -> bytes:
    """`names`: name, dtype, quantization and vision_quantization (of the bundle), source (folder
    name), source_dtype, and repository and revision where it comes from the hub."""
    manifest = {
        "format": FORMAT, "format_version": FORMAT_VERSION, "name": names["name"], "created_with": {
            "cog-idefics-export": EXPORTER_VERSION, "torch": torch.__version__,
            "python": platform.python_version()
        }, "source": {
            "path": names["source"], "architecture": config.architecture,
            "dtype": names["source_dtype"],
            **{key: names[key] for key in ("repository", "revision") if key in names}
        }, "dtype": names["dtype"], "quantization": names["quantization"],
        "vision_quantization": names["vision_quantization"], "int8_linears": int8_linears,
        "model": _model(config),
        "processor": config.processor, "tokenizer": _tokenizer(tokenizer),
        "generation": config.generation,
        "files": {name: dataclasses.asdict(file)
                  for name, file in files.items()},
    }
    return (json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode()
