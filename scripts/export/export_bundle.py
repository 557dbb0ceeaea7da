# SPDX-License-Identifier: Apache-2.0
"""The export itself, in the order in which things can go wrong cheaply: config, tokenizer, tensor
names, disk."""

from dataclasses import dataclass
from pathlib import Path

import torch

from .checkpoint import Checkpoint
from .config import read_config
from .errors import ExportError
from .manifest import manifest_json
from .plan import build_plan, check_sources
from .progress import Progress
from .scripted import load_operators, script_files
from .tokenizer_files import read_tokenizer
from .weight_files import WeightForm, planned_files, stored_bytes, stored_tensors
from .weight_writer import WeightWriter
from .writer import BundleFolder, WrittenFile, check_free_space, write_file

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
QUANTIZED = ("int8", "int4")
# F16 activations overflow in the 80b: only when asked for.
_DEFAULT = {"F32": "f32", "BF16": "bf16", "F16": "bf16"}
_SLACK_BYTES = 64 << 20  # TorchScript, tokenizer, manifest, the file system's own


@dataclass(frozen=True)
class ExportOptions:
    checkpoint: Path
    bundle: Path
    dtype: str | None = None  # of what is not quantized; None: the checkpoint's own, bf16 for f16
    # Of the decoder's linears: a dtype, "int8" or "int4"; None: as dtype.
    weights: str | None = None
    # Of the linears that look at pictures: the dtype, or "int8"; None: int8 where the decoder's are
    # quantized.
    vision: str | None = None
    name: str | None = None  # None: the checkpoint folder's
    force: bool = False


@dataclass(frozen=True)
class ExportSummary:
    name: str
    weights: str
    source_dtype: str
    tensors: int
    weight_bytes: int


def _default_dtype(stored: str) -> str:
    if stored not in _DEFAULT:
        raise ExportError(
            f"the checkpoint's weights are stored as {stored}, expected {', '.join(_DEFAULT)}: "
            f"give a "
            "checkpoint that is not quantized")
    return _DEFAULT[stored]


def _forms(options: ExportOptions, source_dtype: str) -> tuple[str, str]:
    """(dtype, quantization)"""
    if options.weights in QUANTIZED:
        return options.dtype or _default_dtype(source_dtype), options.weights
    if options.weights and options.dtype not in (None, options.weights):
        raise ExportError(
            f"--weights {options.weights} and --dtype {options.dtype} differ: only int8 and int4 "
            f"weights "
            "have another type beside them")
    return options.weights or options.dtype or _default_dtype(source_dtype), "none"


def _vision_form(asked: str | None, dtype: str, quantization: str) -> str:
    """"none" or "int8"."""
    if asked is None:
        return "none" if quantization == "none" else "int8"
    if asked not in ("int8", dtype):
        raise ExportError(
            f"--vision {asked} and the bundle's {dtype} differ: give --vision int8 or --vision "
            f"{dtype}, or another --dtype")
    return "int8" if asked == "int8" else "none"


def export_bundle(options: ExportOptions) -> ExportSummary:
    """Raises ExportError or OSError; then options.bundle is as it was before."""
    folder = options.checkpoint
    if not folder.is_dir():
        raise ExportError(f"{folder} is not a folder: give a Hugging Face checkpoint folder")
    config = read_config(folder)
    tokenizer = read_tokenizer(folder, config)
    checkpoint = Checkpoint(folder)
    stored = checkpoint.shapes()
    plan = build_plan(config, stored)
    check_sources(plan, stored, config.tie_word_embeddings)
    source_dtype = checkpoint.dtype()
    dtype, quantization = _forms(options, source_dtype)
    vision = _vision_form(options.vision, dtype, quantization)
    form = WeightForm(DTYPES[dtype], quantization, vision)
    tensors = [tensor.name for target in plan for tensor in stored_tensors(target, form)]
    load_operators()
    scripts = script_files(config.shape, quantization, vision, tensors)
    weight_bytes = sum(stored_bytes(target, form) for target in plan)
    name = options.name or folder.resolve().name
    names = {
        "name": name, "dtype": dtype, "quantization": quantization, "vision_quantization": vision,
        "source": folder.resolve().name, "source_dtype": source_dtype.lower()
    }
    weights = dtype if quantization == "none" else quantization
    final = options.bundle.absolute()
    with BundleFolder(final, options.force) as partial:
        check_free_space(final.parent, weight_bytes + _SLACK_BYTES)
        files: dict[str, WrittenFile] = {}
        for file, data in {**scripts, "tokenizer.model": tokenizer.model}.items():
            files[file] = write_file(partial.path / file, data)
        progress = Progress(f"exporting {name} as {weights}", weight_bytes)
        writer = WeightWriter(checkpoint, form, progress)
        for file, targets in planned_files(plan, form):
            files[file] = writer.write(partial.path / file, targets)
        progress.close()
        write_file(partial.path / "bundle.json", manifest_json(config, tokenizer, names, files))
        partial.commit()
    return ExportSummary(name, weights, source_dtype, len(tensors), weight_bytes)
