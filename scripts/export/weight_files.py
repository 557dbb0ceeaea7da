# SPDX-License-Identifier: Apache-2.0
"""Which tensors are in which safetensors file of a bundle, and in which form."""

import json
from dataclasses import dataclass

import torch

from .packing import LinearForm, linear_form
from .plan import TargetTensor
from .rounding import Moments

MAX_FILE_BYTES = 4_000_000_000  # of weights in one file; a larger tensor gets a file of its own
ALIGNMENT = 64  # bytes; a cache line, and what AVX-512 and device copies like
SAFETENSORS_NAMES = {
    torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.uint8: "U8"
}


@dataclass(frozen=True)
class WeightForm:
    """What --dtype, --weights and --vision ask for."""
    dtype: torch.dtype  # of the activations and of every weight that is not quantized
    quantization: str  # of the decoder's linears: "none", "int8", "int4"
    vision: str = "none"  # of the linears of everything that looks at pictures: "none", "int8"
    int8: frozenset[str] = frozenset()  # linears of the decoder that have 8 bits instead

    def width(self, target: TargetTensor) -> str:
        """"none", "int8" or "int4". REQUIRES: target.linear."""
        if target.name in self.int8:
            return "int8"
        asked = self.vision if target.name.startswith("vision.") else self.quantization
        return asked if target.quantized else "none"

    def of(self, target: TargetTensor, moments: Moments | None = None) -> LinearForm:
        """The form of packing.py. `moments`: of the inputs, where they were measured. REQUIRES:
        target.linear."""
        return linear_form(self.dtype, self.width(target), moments)


@dataclass(frozen=True)
class StoredTensor:
    name: str
    dtype: torch.dtype
    shape: tuple[int, ...]

    @property
    def bytes(self) -> int:
        return torch.Size(self.shape).numel() * self.dtype.itemsize


def stored_tensors(target: TargetTensor, form: WeightForm) -> list[StoredTensor]:
    """In the order of their bytes in the file."""
    if not target.linear:
        return [StoredTensor(target.name, form.dtype, target.shape)]
    return [StoredTensor(f"{target.name}.{last}", dtype, shape)
            for last, (dtype, shape) in form.of(target).tensors(*target.shape).items()]


def stored_bytes(target: TargetTensor, form: WeightForm) -> int:
    return sum(tensor.bytes for tensor in stored_tensors(target, form))


def _is_aligned(target: TargetTensor, form: WeightForm) -> bool:
    return all(tensor.bytes % ALIGNMENT == 0 for tensor in stored_tensors(target, form))


def split_into_files(plan: list[TargetTensor], form: WeightForm,
                     limit: int) -> list[list[TargetTensor]]:
    """In load order, except that tensors of an odd size come last in each file, so that all others
    are aligned."""
    files: list[list[TargetTensor]] = [[]]
    size = 0
    for target in plan:
        if files[-1] and size + stored_bytes(target, form) > limit:
            files.append([])
            size = 0
        files[-1].append(target)
        size += stored_bytes(target, form)
    return [sorted(file, key=lambda target: not _is_aligned(target, form)) for file in files]


def safetensors_header(targets: list[TargetTensor], form: WeightForm) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in (tensor for target in targets for tensor in stored_tensors(target, form)):
        end = offset + tensor.bytes
        entries[tensor.name] = {
            "dtype": SAFETENSORS_NAMES[tensor.dtype], "shape": list(tensor.shape),
            "data_offsets": [offset, end]
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-(len(text) + 8) % ALIGNMENT)
    return len(text).to_bytes(8, "little") + text


def file_names(count: int) -> list[str]:
    return [f"weights-{i + 1:05d}-of-{count:05d}.safetensors" for i in range(count)]


def planned_files(plan: list[TargetTensor],
                  form: WeightForm) -> list[tuple[str, list[TargetTensor]]]:
    groups = split_into_files(plan, form, MAX_FILE_BYTES)
    return list(zip(file_names(len(groups)), groups, strict=True))
