# SPDX-License-Identifier: Apache-2.0
"""Which width of the weights suits the machine that exports."""

import os
from pathlib import Path

import torch

from .plan import TargetTensor
from .weight_files import WeightForm, stored_bytes
from .wide_linears import wide_linears

_SHARE = 0.7  # of the memory for weights: the rest is for the KV cache, pictures, the system
_GPUS = Path("/proc/driver/nvidia/gpus")


def recommended_width(plan: list[TargetTensor], dtype: torch.dtype) -> str:
    """A sentence. On a CPU a token takes as long as its weights take to read, so int8, whose
    answers are nearly those of 16 bit, and int4 where int8 does not fit."""
    if _GPUS.is_dir() and any(_GPUS.iterdir()):
        return "this machine has a GPU: --weights bf16 if its memory holds that, else int8"
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for width in ("int8", "int4"):
        wide = frozenset(wide_linears(plan, width))
        size = sum(stored_bytes(target, WeightForm(dtype, width, "int8", wide)) for target in plan)
        if size < _SHARE * memory:
            return (f"for this machine: --weights {width} ({size / 1e9:.2f} GB of weights in "
                    f"{memory / 1e9:.1f} GB of memory)")
    return (f"this machine's memory of {memory / 1e9:.1f} GB is too small for the model: int4 has "
            f"{size / 1e9:.2f} GB of weights")
