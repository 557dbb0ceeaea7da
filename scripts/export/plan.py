# SPDX-License-Identifier: Apache-2.0
"""Which tensors a bundle holds, in load order, and from which tensors of the checkpoint each is
made.

Names on the left are attribute paths in modules.py, on the right those of
docs/model.md#weight-names.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from .config import CheckpointConfig
from .errors import ExportError
from .modules import ModelShape

Shape = tuple[int, ...]


@dataclass(frozen=True)
class SourceTensor:
    name: str
    shape: Shape


@dataclass(frozen=True)
class TargetTensor:
    """`parts` concatenated along the first axis; `shape` may regroup the axes of a single part."""
    name: str  # of a linear: of its module, below which its tensors are
    shape: Shape
    parts: tuple[SourceTensor, ...]
    tanh: bool = False  # a gate: tanh of the stored alpha, in the bundle's dtype
    linear: bool = False  # W [n, k] of a linear, stored as packing.py says
    quantized: bool = False  # a linear that is stored in the width asked for


# Present in some checkpoints, used by no forward pass (docs/model.md#weight-names).
_IGNORED = re.compile(
    r"(\.rotary_emb\.(inv_freq|cos_cached|sin_cached)"
    r"|\.embeddings\.position_ids|\.vision_model\.post_layernorm\.(weight|bias))$")


def is_ignored(name: str, tied: bool) -> bool:
    return bool(
        _IGNORED.search(name)) or (tied
                                   and name in ("lm_head.weight", "lm_head.additional_fc.weight"))


def _one(target: str, source: str, shape: Shape) -> TargetTensor:
    return TargetTensor(target, shape, (SourceTensor(source, shape),))


def _stack(target: str, sources: Sequence[str], shape: Shape) -> TargetTensor:
    """Sources of one shape, concatenated."""
    parts = tuple(SourceTensor(source, shape) for source in sources)
    return TargetTensor(target, (len(parts) * shape[0],) + shape[1:], parts)


def _linear(target: TargetTensor, quantized: bool = True) -> TargetTensor:
    return replace(target, linear=True, quantized=quantized)


def _biased_linear(target: str, source: str, weight: Shape) -> list[TargetTensor]:
    return [
        _linear(_one(target, f"{source}.weight", weight)),
        _one(f"{target}_bias", f"{source}.bias", weight[:1])
    ]


def _weight_and_bias(target: str, source: str, weight: Shape) -> list[TargetTensor]:
    return [
        _one(f"{target}_weight", f"{source}.weight", weight),
        _one(f"{target}_bias", f"{source}.bias", weight[:1])
    ]


def _vision_layer(shape: ModelShape, i: int) -> list[TargetTensor]:
    e, f = shape.vision.embed_dim, shape.vision.intermediate_size
    to, source = f"vision.layers.{i}", f"model.vision_model.encoder.layers.{i}"
    qkv = [f"{source}.self_attn.{part}_proj" for part in "qkv"]
    return [
        *_weight_and_bias(f"{to}.norm1", f"{source}.layer_norm1", (e,)),
        _linear(_stack(f"{to}.qkv", [f"{name}.weight" for name in qkv], (e, e))),
        _stack(f"{to}.qkv_bias", [f"{name}.bias" for name in qkv], (e,)),
        *_biased_linear(f"{to}.out", f"{source}.self_attn.out_proj", (e, e)),
        *_weight_and_bias(f"{to}.norm2", f"{source}.layer_norm2", (e,)),
        *_biased_linear(f"{to}.fc1", f"{source}.mlp.fc1", (f, e)),
        *_biased_linear(f"{to}.fc2", f"{source}.mlp.fc2", (e, f)),
    ]


def _perceiver_block(shape: ModelShape, i: int) -> list[TargetTensor]:
    perceiver, e = shape.perceiver, shape.vision.embed_dim
    inner, d = perceiver.num_heads * perceiver.head_dim, perceiver.head_dim
    to = f"vision.blocks.{i}"
    source = f"model.perceiver_resampler.blocks.{i}"
    attention, mlp = f"{source}.0", f"{source}.1"
    tensors = [
        *_weight_and_bias(f"{to}.context_norm", f"{attention}.context_layer_norm", (e, )),
        *_weight_and_bias(f"{to}.latents_norm", f"{attention}.latents_layer_norm", (e, )),
        _linear(_one(f"{to}.q", f"{attention}.q_proj.weight", (inner, e))),
        _linear(
            _stack(f"{to}.kv", [f"{attention}.k_proj.weight", f"{attention}.v_proj.weight"],
                   (inner, e))),
    ]
    if perceiver.qk_layer_norms:
        tensors += _weight_and_bias(f"{to}.q_norm", f"{attention}.q_layer_norm", (d,))
        tensors += _weight_and_bias(f"{to}.k_norm", f"{attention}.k_layer_norm", (d,))
    return tensors + [
        _linear(_one(f"{to}.out", f"{attention}.output_proj.weight", (e, inner))),
        *_weight_and_bias(f"{to}.mlp_norm", f"{mlp}.ln", (e,)),
        _linear(_one(f"{to}.fc", f"{mlp}.fc.weight", (4 * e, e))),
        _linear(_one(f"{to}.proj", f"{mlp}.c_proj.weight", (e, 4 * e))),
    ]


def _image_kv(shape: ModelShape, i: int) -> list[TargetTensor]:
    source = f"model.gated_cross_attn_layers.{i}.cross_attn"
    sizes = (shape.hidden_size, shape.vision.embed_dim)
    tensors = [
        _linear(
            _stack(f"vision.cross.{i}.kv", [f"{source}.k_proj.weight", f"{source}.v_proj.weight"],
                   sizes))
    ]
    if shape.qk_layer_norms:
        tensors.append(
            _one(f"vision.cross.{i}.k_norm", f"{source}.k_layer_norm.weight", (shape.head_dim, )))
    return tensors


def _vision(shape: ModelShape) -> list[TargetTensor]:
    vision, e, source = shape.vision, shape.vision.embed_dim, "model.vision_model"
    positions = (vision.image_size // vision.patch_size) ** 2 + 1
    patch = (vision.num_channels, vision.patch_size, vision.patch_size)
    patches = SourceTensor(f"{source}.embeddings.patch_embedding.weight", (e, *patch))
    tensors = [
        _linear(TargetTensor("vision.patch_embedding", (e, math.prod(patch)), (patches, )),
                quantized=False),
        _one("vision.class_embedding", f"{source}.embeddings.class_embedding", (e, )),
        _one("vision.position_embedding", f"{source}.embeddings.position_embedding.weight",
             (positions, e)), *_weight_and_bias("vision.pre_norm", f"{source}.pre_layrnorm", (e, )),
    ]
    for i in range(vision.num_layers):
        tensors += _vision_layer(shape, i)
    if shape.use_resampler:
        tensors.append(
            _one("vision.latents", "model.perceiver_resampler.latents",
                 (shape.perceiver.num_latents, e)))
        for i in range(shape.perceiver.depth):
            tensors += _perceiver_block(shape, i)
        tensors += _weight_and_bias("vision.final_norm", "model.perceiver_resampler.layer_norm",
                                    (e, ))
    for i in range(shape.num_cross_layers):
        tensors += _image_kv(shape, i)
    return tensors


def _mlp(to: str, source: str, shape: ModelShape) -> list[TargetTensor]:
    h, f = shape.hidden_size, shape.intermediate_size
    return [
        _one(f"{to}.post_norm", f"{source}.post_attention_layernorm.weight", (h, )),
        _linear(
            _stack(f"{to}.gate_up", [f"{source}.mlp.{part}_proj.weight" for part in ("gate", "up")],
                   (f, h))),
        _linear(_one(f"{to}.down", f"{source}.mlp.down_proj.weight", (h, f))),
    ]


def _gate(target: str, source: str, shape: ModelShape, stored: Mapping[str, Shape]) -> TargetTensor:
    """Scalar [1] or one value a channel [1, 1, h]; both are stored flat."""
    vector = (1, 1, shape.hidden_size)
    size = vector if stored.get(source) == vector else (1,)
    return TargetTensor(target, size[-1:], (SourceTensor(source, size),), tanh=True)


def _cross_layer(shape: ModelShape, g: int, stored: Mapping[str, Shape]) -> list[TargetTensor]:
    h, to = shape.hidden_size, f"decoder.groups.{g}.cross"
    source = f"model.gated_cross_attn_layers.{g}"
    tensors = [
        _one(f"{to}.input_norm", f"{source}.input_layernorm.weight", (h,)),
        _linear(_one(f"{to}.q", f"{source}.cross_attn.q_proj.weight", (h, h))),
        _linear(_one(f"{to}.o", f"{source}.cross_attn.o_proj.weight", (h, h))),
        _gate(f"{to}.attn_gate", f"{source}.alpha_cross_attn", shape, stored),
        *_mlp(to, source, shape),
        _gate(f"{to}.mlp_gate", f"{source}.alpha_dense", shape, stored),
    ]
    if shape.qk_layer_norms:
        tensors.insert(
            2, _one(f"{to}.q_norm", f"{source}.cross_attn.q_layer_norm.weight", (shape.head_dim, )))
    return tensors


def _decoder_layer(shape: ModelShape, group: int, within: int) -> list[TargetTensor]:
    h = shape.hidden_size
    to, i = f"decoder.groups.{group}.layers.{within}", group * shape.cross_layer_interval + within
    source = f"model.layers.{i}"
    return [
        _one(f"{to}.input_norm", f"{source}.input_layernorm.weight", (h, )),
        _linear(
            _stack(f"{to}.qkv", [f"{source}.self_attn.{part}_proj.weight" for part in "qkv"],
                   (h, h))),
        _linear(_one(f"{to}.o", f"{source}.self_attn.o_proj.weight", (h, h))),
        *_mlp(to, source, shape),
    ]


def _vocabulary(target: str, base: str, additional: str, config: CheckpointConfig) -> TargetTensor:
    h = config.shape.hidden_size
    parts = [SourceTensor(base, (config.base_vocab_size, h))]
    if config.additional_vocab_size:
        parts.append(SourceTensor(additional, (config.additional_vocab_size, h)))
    return TargetTensor(target, (config.shape.vocab_size, h), tuple(parts))


def build_plan(config: CheckpointConfig, stored: Mapping[str, Shape]) -> list[TargetTensor]:
    """`stored`: shapes in the checkpoint; only those of the gates decide anything, check_sources
    compares the rest."""
    shape = config.shape
    embedding = ("model.embed_tokens.weight", "model.embed_tokens.additional_embedding.weight")
    head = embedding if config.tie_word_embeddings else ("lm_head.weight",
                                                         "lm_head.additional_fc.weight")
    tensors = _vision(shape) + [_vocabulary("decoder.embed", *embedding, config)]
    for group in range(shape.num_cross_layers):
        tensors += _cross_layer(shape, group, stored)
        for within in range(shape.cross_layer_interval):
            tensors += _decoder_layer(shape, group, within)
    return tensors + [_one("decoder.norm", "model.norm.weight", (shape.hidden_size,)),
                      _linear(_vocabulary("decoder.lm_head", *head, config), quantized=False)]


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 1} more" if len(names) > 1 else ""
    return f"{sorted(names)[0]}{more}"


def check_sources(plan: list[TargetTensor], stored: Mapping[str, Shape], tied: bool) -> None:
    """Refuses a checkpoint with a missing, an unknown or a mis-shaped tensor."""
    wanted: dict[str, Shape] = {part.name: part.shape for target in plan for part in target.parts}
    missing = [name for name in wanted if name not in stored]
    if missing:
        raise ExportError(
            f"the checkpoint lacks the tensor {_some(missing)}: its config.json and its weights "
            f"are "
            "not of one model, or a weight file is missing")
    unknown = [name for name in stored if name not in wanted and not is_ignored(name, tied)]
    if unknown:
        raise ExportError(
            f"the checkpoint has the tensor {_some(unknown)}, which an IDEFICS model of its "
            "config.json does not have: the two are not of one model")
    for name, shape in wanted.items():
        if stored[name] != shape:
            raise ExportError(
                f"the tensor {name} has the shape {list(stored[name])}, config.json makes it "
                f"{list(shape)}: the two are not of one model")
