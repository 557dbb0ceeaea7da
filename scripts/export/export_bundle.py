# SPDX-License-Identifier: Apache-2.0
"""The export itself, in the order in which things can go wrong cheaply: config, tokenizer, tensor
names, disk."""

import hashlib
import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch

from .adjustment import Adjustment, adjustments, is_adjusted
from .calibration import Calibration, bytes_of_samples, bytes_read, looks
from .config import CheckpointConfig, read_config
from .errors import ExportError
from .hub_weights import HubShards
from .linears import Widths
from .manifest import manifest_json
from .plan import TargetTensor, build_plan, check_sources
from .progress import Progress
from .recommended import recommended_width
from .samples import NOTHING, SYNTHETIC, read_pictures, read_samples
from .scripted import load_operators, script_files
from .source import Source, open_source
from .tokenizer_files import Tokenizer, read_tokenizer
from .weight_files import WeightForm, planned_files, stored_bytes, stored_tensors
from .weight_writer import WeightWriter
from .wide_linears import wide_linears
from .writer import BundleFolder, check_free_space, write_file

DTYPES = {"f32": torch.float32, "bf16": torch.bfloat16, "f16": torch.float16}
QUANTIZED = ("int8", "int4")
# F16 activations overflow in the 80b: only when asked for.
_DEFAULT = {"F32": "f32", "BF16": "bf16", "F16": "bf16"}
_SLACK_BYTES = 64 << 20  # TorchScript, tokenizer, manifest, the file system's own


@dataclass(frozen=True)
class ExportOptions:
    checkpoint: str | Path  # a folder, or ORG/NAME[@REVISION] on the hub
    bundle: Path
    dtype: str | None = None  # of what is not quantized; None: the checkpoint's own, bf16 for f16
    # Of the decoder's linears: a dtype, "int8" or "int4"; None: as dtype.
    weights: str | None = None
    # Of the linears that look at pictures: the dtype, or "int8"; None: int8 where the decoder's are
    # quantized.
    vision: str | None = None
    # What int4 weights, and int8 ones of vision, are rounded by: samples.py, or NOTHING; None:
    # SYNTHETIC.
    calibrate: str | None = None
    name: str | None = None  # None: the checkpoint folder's
    force: bool = False


@dataclass(frozen=True)
class ExportSummary:
    name: str
    weights: str
    source_dtype: str
    tensors: int
    weight_bytes: int
    recommended: str  # which width suits this machine


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


@dataclass(frozen=True)
class _Plan:
    """All that is known before the first weight is read."""

    config: CheckpointConfig
    tokenizer: Tokenizer
    form: WeightForm
    names: dict[str, str]  # as manifest_json takes them
    targets: list[TargetTensor]
    int8_linears: list[str]  # wide_linears.py
    scripts: dict[str, bytes]
    files: list[tuple[str, list[TargetTensor]]]  # of weights
    num_tensors: int

    @property
    def weights(self) -> str:
        return self.names["dtype" if self.names["quantization"] == "none" else "quantization"]

    @property
    def weight_bytes(self) -> int:
        return sum(self.stored(target) for target in self.targets)

    def stored(self, target: TargetTensor) -> int:
        return stored_bytes(target, self.form)


def _plan(options: ExportOptions, source: Source) -> _Plan:
    config = read_config(source.folder)
    tokenizer = read_tokenizer(source.folder, config)
    stored = source.checkpoint.shapes()
    plan = build_plan(config, stored)
    check_sources(plan, stored, config.tie_word_embeddings)
    source_dtype = source.checkpoint.dtype()
    dtype, quantization = _forms(options, source_dtype)
    vision = _vision_form(options.vision, dtype, quantization)
    wide = wide_linears(plan, quantization)
    form = WeightForm(DTYPES[dtype], quantization, vision, frozenset(wide))
    tensors = [tensor.name for target in plan for tensor in stored_tensors(target, form)]
    load_operators()
    decoder = Widths(quantization, form.int8).of("decoder")
    names = {
        "name": options.name or source.name,
        "dtype": dtype,
        "quantization": quantization,
        "vision_quantization": vision,
        "source": source.name,
        "source_dtype": source_dtype.lower(),
    }
    if source.commit:
        names |= {"repository": source.repository, "revision": source.commit}
    return _Plan(
        config,
        tokenizer,
        form,
        names,
        plan,
        wide,
        script_files(config.shape, Widths(vision), decoder, tensors),
        planned_files(plan, form),
        len(tensors),
    )


def _resume_key(plan: _Plan, source: Source, calibrate: str) -> str:
    """Of everything that decides the bytes of the bundle; "" where reading them again is cheap."""
    if not source.shards:
        return ""
    programs = b"".join(path.read_bytes() for path in sorted(Path(__file__).parent.glob("*.py")))
    return hashlib.sha256(
        json.dumps([plan.names, calibrate, torch.__version__]).encode() + programs
    ).hexdigest()


def _announce(plan: _Plan, shards: HubShards, bundle: Path) -> None:
    print(
        f"export: {shards.repo.describe(len(shards.files), shards.download_bytes())}; "
        f"the bundle {bundle} will have {plan.weight_bytes / 1e9:.2f} GB, "
        f"and {shards.disk_bytes() / 1e9:.2f} GB are on the disk at most",
        file=sys.stderr,
    )


def _begin(
    plan: _Plan,
    source: Source,
    partial: BundleFolder,
    final: Path,
    seen: list[TargetTensor],
    left: list[TargetTensor],
) -> int:
    """Says what is to come and sees that the disk has room for it. Returns the bytes to fetch, to
    look with and to write. `seen`: what a calibration reads before; `left`: what no earlier export
    of the same finished."""
    needed = written = sum(plan.stored(target) for target in left)
    fetched = 0
    if source.shards:
        source.shards.plan(seen, left, plan.stored)
        _announce(plan, source.shards, final)
        partial.keep()
        fetched = source.shards.download_bytes()
        needed = source.shards.disk_bytes() - sum(
            path.stat().st_size for path in partial.scratch.iterdir()
        )
    check_free_space(final.parent, needed + _SLACK_BYTES)
    return bytes_read(seen, plan.form.dtype) + written + fetched


def _calibration(options: ExportOptions) -> str:
    """What samples.py is asked for, NOTHING for other widths."""
    sees_in_int8 = options.vision == "int8" or (options.weights == "int8" and not options.vision)
    if options.weights == "int4" or sees_in_int8:
        return options.calibrate or SYNTHETIC
    if options.calibrate not in (None, NOTHING):
        raise ExportError(
            "--calibrate is for int4 weights and for pictures that are seen in int8: give "
            "--weights int4 or int8, or leave it out"
        )
    return NOTHING


def _by_samples(plan: _Plan, source: Source, calibrate: str) -> Mapping[str, Adjustment]:
    samples = read_samples(calibrate, plan.config, plan.tokenizer)
    dtype = plan.form.dtype
    progress = Progress("calibrating", bytes_of_samples(plan.targets, dtype))
    calibration = Calibration(plan.config, plan.targets, source.checkpoint, dtype, progress)
    moments = calibration.of_samples(samples)
    progress.close()
    return adjustments(plan.targets, source.checkpoint, plan.form, moments)


def _by_pictures(
    plan: _Plan, source: Source, calibrate: str, progress: Progress
) -> Mapping[str, Adjustment]:
    calibration = Calibration(
        plan.config, plan.targets, source.checkpoint, plan.form.dtype, progress
    )
    moments = calibration.of_pictures(read_pictures(calibrate, plan.config))
    return adjustments(plan.targets, source.checkpoint, plan.form, moments)


def _write(
    plan: _Plan, source: Source, partial: BundleFolder, final: Path, calibrate: str
) -> None:
    finished = {name: partial.finished(name) for name, _ in plan.files}
    left = [target for name, targets in plan.files if not finished[name] for target in targets]
    calibrates = calibrate != NOTHING and any(is_adjusted(t, plan.form) for t in left)
    reads = calibrates and plan.form.quantization == "int4"
    seen = looks(plan.targets) if calibrates and not reads else []
    total = _begin(plan, source, partial, final, seen, left)
    adjusted = _by_samples(plan, source, calibrate) if reads else {}
    what = "fetching and exporting" if source.shards else "exporting"
    progress = Progress(f"{what} {plan.names['name']} as {plan.weights}", total)
    if source.shards:
        source.shards.begin(partial.scratch, progress.advance)
    if seen:
        adjusted = _by_pictures(plan, source, calibrate, progress)
    files = {
        name: write_file(partial.path / name, data)
        for name, data in {**plan.scripts, "tokenizer.model": plan.tokenizer.model}.items()
    }
    writer = WeightWriter(source.checkpoint, plan.form, progress, adjusted)
    for name, targets in plan.files:
        files[name] = finished[name] or writer.write(partial.path / name, targets)
        partial.finish(name, files[name])
    progress.close()
    manifest = manifest_json(plan.config, plan.tokenizer, plan.names, plan.int8_linears, files)
    write_file(partial.path / "bundle.json", manifest)


def export_bundle(options: ExportOptions) -> ExportSummary:
    """Raises ExportError or OSError; then options.bundle is as it was before. What came from the
    hub and was finished is kept beside it for the next export of the same."""
    calibrate = _calibration(options)
    # A calibration with texts reads all weights, more than once, before they are written.
    whole = calibrate != NOTHING and options.weights == "int4"
    with open_source(str(options.checkpoint), whole=whole) as source:
        plan = _plan(options, source)
        final = options.bundle.absolute()
        with BundleFolder(final, options.force, _resume_key(plan, source, calibrate)) as partial:
            _write(plan, source, partial, final, calibrate)
            partial.commit()
    return ExportSummary(
        plan.names["name"],
        plan.weights,
        plan.names["source_dtype"].upper(),
        plan.num_tensors,
        plan.weight_bytes,
        recommended_width(plan.targets, plan.form.dtype),
    )
