# SPDX-License-Identifier: Apache-2.0
"""Weights that make a random model talk in phrases: text that repeats itself as lists and dialogues
do, at any shape, for measurements of guessed tokens.

Eight phrases of six tokens. Within one the next token is all but certain. After a phrase, and after
any token of none, all eight may begin, with a small preference: greedy text goes round four of them
for ever, as a list does; sampled text has them in random order, as a dialogue its turns of phrase;
at a high temperature nothing is left of them. Attention and MLPs cost what they always cost, but
add next to nothing.
"""

import math
from collections.abc import Sequence

import torch

PHRASES, LENGTH, ROUND = 8, 6, 4
FIRST = 260  # token of the first phrase
FAINT = 1e-3  # what is left of a layer's output
CERTAIN = 11.0  # logit of the next token, beside noise of 1
PREFERENCE = 0.05
_BRANCHES = ("o_proj.weight", "down_proj.weight")


def scale_of(name: str) -> float:
    """Factor of a random tensor."""
    return FAINT if name.endswith(_BRANCHES) and "vision" not in name else 1.0


def _vectors(hidden: int) -> tuple[torch.Tensor, torch.Tensor]:
    """That of each phrase's tokens, [PHRASES, LENGTH, hidden], and that of all other tokens."""
    generator = torch.Generator().manual_seed(PHRASES * LENGTH)
    vectors = torch.rand(PHRASES * LENGTH + 1, hidden, generator=generator) - 0.5
    tokens, other = vectors[:-1].view(PHRASES, LENGTH, hidden), vectors[-1]
    tokens[:, -1] = other + tokens[:, -1] / 2  # the last one: like any other, but known apart
    return tokens, other


def replace_rows(name: str, shape: Sequence[int], begin: int, piece: torch.Tensor) -> None:
    """In place in `piece`, flat, whose first element is number `begin` of the tensor."""
    if name not in ("model.embed_tokens.weight", "lm_head.weight"):
        return
    hidden = shape[1]
    tokens, other = _vectors(hidden)
    rows = piece.view(-1, hidden)
    first = begin // hidden
    if name == "model.embed_tokens.weight":
        rows[:] = other
    for phrase in range(PHRASES):
        for place in range(LENGTH):
            row = FIRST + phrase * LENGTH + place - first
            if not 0 <= row < len(rows):
                continue
            if name == "model.embed_tokens.weight":
                rows[row] = tokens[phrase, place]
                continue
            before = phrase // ROUND * ROUND + (phrase - 1) % ROUND
            seen = tokens[phrase, place - 1] if place > 0 else (
                other + PREFERENCE * (tokens[before, -1] - other))
            rows[row] = seen * CERTAIN / (hidden * math.sqrt(1 / 12))
