# SPDX-License-Identifier: Apache-2.0
"""What the decoder's linears see: the moments of their inputs while the checkpoint looks at
pictures and reads.

The modules of modules.py run here in Python, on the operators of the server. A layer's weights are
read when it runs and dropped behind it, so an 80b needs the memory of one layer. Where there is no
text the model makes its own: all tokens are drawn at once, from what it expects after those of the
pass before (text that a model makes calibrates as well as real text, arXiv 2410.17170).
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from .checkpoint import Checkpoint
from .config import CheckpointConfig
from .int4_codes import padded_groups
from .linears import PackedLinear, Widths
from .modules import Decoder, Vision
from .plan import TargetTensor
from .progress import Progress
from .weight_files import WeightForm, stored_bytes
from .weight_writer import WeightWriter

_DRAWS = 2  # passes in which the model makes text, before the one that is measured


@dataclass(frozen=True)
class Sample:
    """Tokens, and the picture that they see."""
    pixels: Tensor | None  # [3, S, S] f32, normalised; None: they see none
    tokens: list[int]  # of the whole prompt
    sees: int = 0  # the first of them that sees the picture, its <image>
    drawn: int = 0  # tokens behind them that the model makes itself


class _Streamed:
    """Gives parts of a module their weights while they run."""

    def __init__(self, plan: list[TargetTensor], writer: WeightWriter):
        self._plan = plan
        self._writer = writer

    def prepare(self, module: nn.Module, name: str, parts: list[str]) -> None:
        """`parts`: paths in the module, which is called `name` in the plan. What is in none of them
        is read now."""
        targets = [target for target in self._plan if target.name.startswith(f"{name}.")]
        for part in parts:
            prefix = f"{name}.{part}"
            own = [target for target in targets
                   if target.name == prefix or target.name.startswith(f"{prefix}.")]
            targets = [target for target in targets if target not in own]
            inner = module.get_submodule(part)
            inner.register_forward_pre_hook(self._filler(module, name, own))
            inner.register_forward_hook(self._dropper(module, name, own))
        self._filler(module, name, targets)()

    def _filler(self, module: nn.Module, name: str,
                targets: list[TargetTensor]) -> Callable[..., None]:
        def fill(*_: Any) -> None:
            for target in targets:
                _set(module, _path(target, name), self._writer.tensor(target))
        return fill

    def _dropper(self, module: nn.Module, name: str,
                 targets: list[TargetTensor]) -> Callable[..., None]:
        def drop(*_: Any) -> None:
            for target in targets:
                _set(module, _path(target, name), torch.empty(0))
        return drop


def _path(target: TargetTensor, name: str) -> str:
    return target.name.removeprefix(f"{name}.") + (".weight" if target.linear else "")


def _set(module: nn.Module, path: str, value: Tensor) -> None:
    owner, _, last = path.rpartition(".")
    module.get_submodule(owner).register_parameter(last, nn.Parameter(value, requires_grad=False))


class Calibration:
    """Runs a checkpoint over samples."""

    def __init__(self, config: CheckpointConfig, plan: list[TargetTensor], checkpoint: Checkpoint,
                 dtype: torch.dtype):
        # Operators for f16 are references, far too slow.
        form = WeightForm(torch.float32 if dtype == torch.float16 else dtype, "none")
        self._dtype = form.dtype
        self._config = config
        self._progress = Progress("calibrating",
                                  (_DRAWS + 1) * sum(stored_bytes(target, form) for target in plan))
        self._streamed = _Streamed(plan, WeightWriter(checkpoint, form, self._progress))
        self._moments: dict[str, Tensor] = {}

    @torch.no_grad()
    def moments(self, samples: list[Sample]) -> dict[str, Tensor]:
        """Of the input x of each linear of the decoder, by the names of plan.py: the mean of x xᵀ
        within each group of Int4Form, [G, 128, 128] bf16; what k lacks of a whole group is 0.
        At least one sample has a picture."""
        drawn = any(sample.drawn for sample in samples)
        keys, values = self._look(torch.stack(_pictures(samples)))
        decoder = Decoder(self._config.shape, Widths("none")).eval()
        groups = [f"groups.{i}" for i in range(self._config.shape.num_cross_layers)]
        self._streamed.prepare(decoder, "decoder", [*groups, "lm_head"])
        random = torch.Generator().manual_seed(0)
        rows = [_first_tokens(sample, self._config, random) for sample in samples]
        for _ in range(_DRAWS if drawn else 0):
            logits = self._read(decoder, samples, rows, keys, values)
            rows = _drawn(samples, rows, logits, self._config, random)
        for name, module in decoder.named_modules():
            if isinstance(module, PackedLinear):
                module.register_forward_pre_hook(self._recorder(f"decoder.{name}"))
        self._read(decoder, samples, rows, keys, values)
        self._progress.close()
        return self._moments

    def _recorder(self, name: str) -> Callable[..., None]:
        def record(_: nn.Module, arguments: tuple[Tensor]) -> None:
            groups = padded_groups(arguments[0].float()).transpose(0, 1)  # [G, T, 128]
            self._moments[name] = (groups.mT @ groups / groups.size(1)).to(torch.bfloat16)
        return record

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all pictures, [cross layers, M, H, L, d]."""
        vision = Vision(self._config.shape, Widths("none")).eval()
        parts = [name for name, module in vision.named_modules() if name.count(".") == 1
                 and name.split(".")[0] in ("layers", "blocks", "cross")]
        self._streamed.prepare(vision, "vision", parts)
        x = vision.embed(pixels)
        for layer in vision.layers:
            x = layer(x)
        return vision.image_kv(vision.pool(x))

    def _read(self, decoder: Decoder, samples: list[Sample], rows: list[list[int]], keys: Tensor,
              values: Tensor) -> Tensor:
        """The logits of all tokens of all rows, which are those of the samples."""
        shape = self._config.shape
        starts = list(itertools.accumulate([len(row) for row in rows], initial=0))
        total = starts[-1]
        ints = {"dtype": torch.int32}
        own = torch.tensor([[0, start] for start in starts[:-1]], **ints)
        lengths = torch.tensor([[0, len(row)] for row in rows], **ints)
        slots = torch.arange(total, **ints)
        arena = torch.zeros(shape.num_layers, total, shape.num_heads, shape.head_dim,
                            dtype=self._dtype)
        positions = torch.cat([torch.arange(len(row), **ints) for row in rows])
        sees = torch.cat(_pictures_seen(samples, rows))
        return decoder(torch.tensor([token for row in rows for token in row], **ints), positions,
                       slots, sees, torch.tensor(starts, **ints), own, lengths, slots, arena,
                       arena.clone(), keys, values)


def _pictures(samples: list[Sample]) -> list[Tensor]:
    """Each once, in the order of the first samples that see them."""
    return list({id(pixels): pixels for sample in samples
                 if (pixels := sample.pixels) is not None}.values())


def _pictures_seen(samples: list[Sample], rows: list[list[int]]) -> list[Tensor]:
    """Of each token of each row the number of its picture; -1: none."""
    numbers = {id(pixels): i for i, pixels in enumerate(_pictures(samples))}
    seen = []
    for sample, row in zip(samples, rows, strict=True):
        sees = torch.full((len(row),), -1, dtype=torch.int32)
        if sample.pixels is not None:
            sees[sample.sees:] = numbers[id(sample.pixels)]
        seen.append(sees)
    return seen


def _first_tokens(sample: Sample, config: CheckpointConfig, random: torch.Generator) -> list[int]:
    more = torch.randint(3, config.base_vocab_size, (sample.drawn,), generator=random)
    return sample.tokens + more.tolist()


def _drawn(samples: list[Sample], rows: list[list[int]], logits: Tensor, config: CheckpointConfig,
           random: torch.Generator) -> list[list[int]]:
    """The rows with each drawn token drawn anew from the logits of the one before it."""
    odds = logits.softmax(1)
    odds[:, config.base_vocab_size:] = 0  # no tokens of pictures or ends
    odds[:, config.eos] = 0
    chosen = torch.multinomial(odds, 1, generator=random).view(-1).split([len(row) for row in rows])
    return [[*sample.tokens, *new[len(sample.tokens) - 1:-1].tolist()]
            for sample, new in zip(samples, chosen, strict=True)]
