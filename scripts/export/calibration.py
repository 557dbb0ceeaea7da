# SPDX-License-Identifier: Apache-2.0
"""What the linears see: the moments of their inputs while the checkpoint looks at pictures and
reads.

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
from .linears import PackedLinear, Widths
from .modules import Decoder, Vision
from .plan import TargetTensor
from .progress import Progress
from .rounding import padded_groups
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


def _form(dtype: torch.dtype) -> WeightForm:
    """In which a checkpoint for a bundle of this type runs here."""
    # Operators for f16 are references, far too slow.
    return WeightForm(torch.float32 if dtype == torch.float16 else dtype, "none")


def looks(plan: list[TargetTensor]) -> list[TargetTensor]:
    """What Calibration.of_pictures reads."""
    return [target for target in plan if target.name.startswith("vision.")
            and not target.name.startswith("vision.cross.")]


def bytes_read(targets: list[TargetTensor], dtype: torch.dtype) -> int:
    """How far a pass over `targets` advances the progress."""
    return sum(stored_bytes(target, _form(dtype)) for target in targets)


def bytes_of_samples(plan: list[TargetTensor], dtype: torch.dtype) -> int:
    """How far Calibration.of_samples advances the progress, at most."""
    return (_DRAWS + 1) * bytes_read(plan, dtype)


class Calibration:
    """Runs a checkpoint over pictures and texts. Moments are the mean of x xᵀ of the input x of a
    linear, by the names of plan.py, within each group of rounding.py, [G, 128, 128] bf16; what k
    lacks of a whole group is 0."""

    def __init__(self, config: CheckpointConfig, plan: list[TargetTensor], checkpoint: Checkpoint,
                 dtype: torch.dtype, progress: Progress):
        form = _form(dtype)
        self._dtype = form.dtype
        self._config = config
        self._streamed = _Streamed(plan, WeightWriter(checkpoint, form, progress))
        self._moments: dict[str, Tensor] = {}

    @torch.no_grad()
    def of_pictures(self, pixels: list[Tensor]) -> dict[str, Tensor]:
        """Of each linear that looks at pictures, but for their patches. pixels [3, S, S] f32,
        normalised."""
        self._pool(torch.stack(pixels))
        return self._moments

    @torch.no_grad()
    def of_samples(self, samples: list[Sample]) -> dict[str, Tensor]:
        """Of each linear of the decoder too. At least one sample has a picture."""
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
        self._record(decoder, "decoder")
        self._read(decoder, samples, rows, keys, values)
        return self._moments

    def _record(self, module: nn.Module, name: str) -> None:
        """From now on what the linears of a module see, which is called `name` in the plan."""
        def recorder(of: str) -> Callable[..., None]:
            def record(_: nn.Module, arguments: tuple[Tensor]) -> None:
                self._moments[of] = _moments(arguments[0])
            return record
        for part, inner in module.named_modules():
            if isinstance(inner, PackedLinear):
                inner.register_forward_pre_hook(recorder(f"{name}.{part}"))

    def _pool(self, pixels: Tensor) -> tuple[Vision, Tensor]:
        """What looks at pictures [M, 3, S, S], and what it finds, [M, L, E]."""
        vision = Vision(self._config.shape, Widths("none")).eval()
        parts = [name for name, module in vision.named_modules() if name.count(".") == 1
                 and name.split(".")[0] in ("layers", "blocks", "cross")]
        self._streamed.prepare(vision, "vision", parts)
        x = vision.embed(pixels)
        self._record(vision, "vision")
        for layer in vision.layers:
            x = layer(x)
        latents = vision.pool(x)
        found = _moments(latents)
        self._moments |= {f"vision.cross.{i}.kv": found for i in range(len(vision.cross))}
        return vision, latents

    def _look(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of all pictures, [cross layers, M, H, L, d]."""
        vision, latents = self._pool(pixels)
        return vision.image_kv(latents)

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


def _moments(x: Tensor) -> Tensor:
    """x [..., k] -> [G, 128, 128] bf16"""
    groups = padded_groups(x.flatten(0, -2).float()).transpose(0, 1)  # [G, T, 128]
    return (groups.mT @ groups / groups.size(1)).to(torch.bfloat16)


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
