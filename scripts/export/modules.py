# SPDX-License-Identifier: Apache-2.0
"""The two TorchScript modules of a bundle, without weights
(docs/architecture.md#the-torchscript-boundary).

Every parameter is an empty tensor; the server puts the tensors of the bundle's safetensors files in
by name (`setattr`), so a scripted module is a few hundred KB for any model size. Signatures are
static and ragged: the `T` tokens of all rows of a step are concatenated, nothing is padded, nothing
depends on data. No number of heads or of columns is a constant of the code: where the model is
divided among devices, each runs the same code with its part of the weights, and `all_reduce` adds
what the parts give (docs/gpu.md#several-devices). The modules stay in the subset that torch.export
also accepts. Formulas: docs/model.md.
"""

from dataclasses import dataclass
from typing import Final

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .linears import Widths, declare


@dataclass(frozen=True)
class VisionShape:
    image_size: int
    patch_size: int
    num_channels: int
    embed_dim: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    layer_norm_eps: float
    hidden_act: str  # "gelu" or "quick_gelu"


@dataclass(frozen=True)
class PerceiverShape:
    num_latents: int
    depth: int
    num_heads: int
    head_dim: int
    qk_layer_norms: bool


@dataclass(frozen=True)
class ModelShape:
    vocab_size: int  # base and additional rows together
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    cross_layer_interval: int
    qk_layer_norms: bool
    rms_norm_eps: float
    use_resampler: bool
    vision: VisionShape
    perceiver: PerceiverShape

    @property
    def head_dim(self) -> int:
        return self.hidden_size // self.num_heads

    @property
    def num_cross_layers(self) -> int:
        return self.num_layers // self.cross_layer_interval


def attend_all(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """q [M, H, Q, d], k, v [M, H, P, d] -> [M, Q, H·d]. On a CPU in f32: libtorch multiplies bf16
    in plain loops where there is no instruction for it."""
    if q.is_cuda:
        mixed = F.scaled_dot_product_attention(q, k, v)
    else:
        mixed = F.scaled_dot_product_attention(q.float(), k.float(), v.float()).to(q.dtype)
    return mixed.transpose(1, 2).flatten(2)


class VisionLayer(nn.Module):
    """Pre-norm ViT block; docs/model.md#vision-tower. [M, P, E] -> [M, P, E]."""

    num_heads: Final[int]
    eps: Final[float]
    quick_gelu: Final[bool]

    def __init__(self, shape: VisionShape, widths: Widths):
        super().__init__()
        self.num_heads = shape.num_heads
        self.eps = shape.layer_norm_eps
        self.quick_gelu = shape.hidden_act == "quick_gelu"
        linear, e = widths.linear, shape.embed_dim
        declare(self, "norm1_weight", "norm1_bias", "qkv_bias", "out_bias", "norm2_weight",
                "norm2_bias", "fc1_bias", "fc2_bias")
        self.qkv, self.out = linear("qkv", 3 * e), linear("out", e)
        self.fc1, self.fc2 = linear("fc1", shape.intermediate_size), linear("fc2", e)

    def forward(self, x: Tensor) -> Tensor:
        m, p, e = x.shape
        y = F.layer_norm(x, [e], self.norm1_weight, self.norm1_bias, self.eps)
        qkv = self.qkv(y) + self.qkv_bias
        q, k, v = qkv.view(m, p, 3, self.num_heads, e // self.num_heads).permute(2, 0, 3, 1,
                                                                                 4).unbind(0)
        x = x + (self.out(attend_all(q, k, v)) + self.out_bias)
        y = F.layer_norm(x, [e], self.norm2_weight, self.norm2_bias, self.eps)
        y = self.fc1(y) + self.fc1_bias
        y = y * torch.sigmoid(1.702 * y) if self.quick_gelu else F.gelu(y)
        return x + (self.fc2(y) + self.fc2_bias)


class PerceiverBlock(nn.Module):
    """Latents attend to the image and to themselves; docs/model.md#perceiver-resampler.
    Layer norms: eps 1e-5, not in the config."""

    num_heads: Final[int]
    head_dim: Final[int]
    qk_norm: Final[bool]

    def __init__(self, shape: PerceiverShape, embed_dim: int, widths: Widths):
        super().__init__()
        self.num_heads = shape.num_heads
        self.head_dim = shape.head_dim
        self.qk_norm = shape.qk_layer_norms
        linear, inner = widths.linear, shape.num_heads * shape.head_dim
        declare(self, "context_norm_weight", "context_norm_bias", "latents_norm_weight",
                "latents_norm_bias", "mlp_norm_weight", "mlp_norm_bias")
        self.q, self.kv = linear("q", inner), linear("kv", 2 * inner)
        self.out = linear("out", embed_dim)
        self.fc, self.proj = linear("fc", 4 * embed_dim), linear("proj", embed_dim)
        if shape.qk_layer_norms:
            declare(self, "q_norm_weight", "q_norm_bias", "k_norm_weight", "k_norm_bias")

    def forward(self, latents: Tensor, context: Tensor) -> Tensor:
        """latents [M, L, E], context [M, P, E] (the raw ViT output) -> [M, L, E]."""
        m, l, e = latents.shape
        h, d = self.num_heads, self.head_dim
        c = F.layer_norm(context, [e], self.context_norm_weight, self.context_norm_bias, 1e-5)
        y = F.layer_norm(latents, [e], self.latents_norm_weight, self.latents_norm_bias, 1e-5)
        q = self.q(y).view(m, l, h, d).transpose(1, 2)
        kv = self.kv(torch.cat([c, y], 1))
        k, v = kv.view(m, -1, 2, h, d).permute(2, 0, 3, 1, 4).unbind(0)
        if self.qk_norm:
            q = F.layer_norm(q, [d], self.q_norm_weight, self.q_norm_bias, 1e-5)
            k = F.layer_norm(k, [d], self.k_norm_weight, self.k_norm_bias, 1e-5)
        latents = latents + self.out(attend_all(q, k, v))
        y = F.layer_norm(latents, [e], self.mlp_norm_weight, self.mlp_norm_bias, 1e-5)
        return latents + self.proj(torch.relu(self.fc(y)))


class ImageKv(nn.Module):
    """Keys and values of one gated cross-attention layer for an image, without RoPE;
    docs/model.md#gated-cross-attention."""

    head_dim: Final[int]
    eps: Final[float]
    qk_norm: Final[bool]

    def __init__(self, shape: ModelShape, widths: Widths):
        super().__init__()
        self.head_dim = shape.head_dim
        self.eps = shape.rms_norm_eps
        self.qk_norm = shape.qk_layer_norms
        self.kv = widths.linear("kv", 2 * shape.hidden_size)
        if shape.qk_layer_norms:
            declare(self, "k_norm")

    def forward(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """[M, L, E] -> K, V [M, H, L, d]."""
        m, l, _ = latents.shape
        k, v = self.kv(latents).view(m, l, 2, -1, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if self.qk_norm:
            k = torch.ops.idefics.rms_norm(k, self.k_norm, self.eps)
        return k.contiguous(), v.contiguous()


class Vision(nn.Module):
    """Everything that is computed once per distinct image: ViT, perceiver, cross-attention K and V.
    The server runs embed, each of layers, pool and image_kv, so that decode steps run between
    them."""

    patch_size: Final[int]
    eps: Final[float]
    use_resampler: Final[bool]

    def __init__(self, shape: ModelShape, widths: Widths):
        super().__init__()
        vision = shape.vision
        self.patch_size = vision.patch_size
        self.eps = vision.layer_norm_eps
        self.use_resampler = shape.use_resampler
        self.patch_embedding = Widths("none").linear("patch_embedding", vision.embed_dim)  # small
        declare(self, "class_embedding", "position_embedding", "pre_norm_weight", "pre_norm_bias")
        self.layers = nn.ModuleList(
            [VisionLayer(vision, widths) for _ in range(vision.num_layers)])
        blocks = []
        if shape.use_resampler:
            declare(self, "latents", "final_norm_weight", "final_norm_bias")
            blocks = [
                PerceiverBlock(shape.perceiver, vision.embed_dim, widths)
                for _ in range(shape.perceiver.depth)
            ]
        self.blocks = nn.ModuleList(blocks)
        self.cross = nn.ModuleList(
            [ImageKv(shape, widths) for _ in range(shape.num_cross_layers)])

    @torch.jit.export
    def embed(self, pixels: Tensor) -> Tensor:
        """pixels [M, 3, S, S] f32, normalised -> the first layer's input [M, P, E]."""
        m, c, s = pixels.size(0), pixels.size(1), self.patch_size
        rows, columns = pixels.size(2) // s, pixels.size(3) // s
        patches = pixels[:, :, :rows * s, :columns * s].reshape(m, c, rows, s, columns, s)
        patches = patches.permute(0, 2, 4, 1, 3, 5).reshape(m, rows * columns, c * s * s)
        x = self.patch_embedding(patches.to(self.class_embedding.dtype))
        e = x.size(2)
        cls = self.class_embedding.view(1, 1, e).expand(x.size(0), 1, e)
        x = torch.cat([cls, x], 1) + self.position_embedding
        return F.layer_norm(x, [e], self.pre_norm_weight, self.pre_norm_bias, self.eps)

    @torch.jit.export
    def pool(self, x: Tensor) -> Tensor:
        """The last layer's output [M, P, E] -> latents [M, L, E] (without resampler: [M, P, E])."""
        if self.use_resampler:
            latents = self.latents.unsqueeze(0).expand(x.size(0), -1, -1)
            for block in self.blocks:
                latents = block(latents, x)
            return F.layer_norm(latents, [x.size(2)], self.final_norm_weight, self.final_norm_bias,
                                1e-5)
        return x

    @torch.jit.export
    def image_kv(self, latents: Tensor) -> tuple[Tensor, Tensor]:
        """latents [M, L, E] -> K, V [cross layers, M, H, L, d]."""
        keys: list[Tensor] = []
        values: list[Tensor] = []
        for layer in self.cross:
            k, v = layer(latents)
            keys.append(k)
            values.append(v)
        return torch.stack(keys), torch.stack(values)


class CrossLayer(nn.Module):
    """Gated cross-attention block, runs before decoder layers 0, interval, ...;
    docs/model.md#gated-cross-attention, Flamingo (arXiv 2204.14198) section 2.2. The gates are
    stored after tanh."""

    head_dim: Final[int]
    eps: Final[float]
    qk_norm: Final[bool]

    def __init__(self, shape: ModelShape, widths: Widths):
        super().__init__()
        self.head_dim = shape.head_dim
        self.eps = shape.rms_norm_eps
        self.qk_norm = shape.qk_layer_norms
        linear, h = widths.linear, shape.hidden_size
        declare(self, "input_norm", "attn_gate", "post_norm", "mlp_gate")
        self.q, self.o = linear("q", h), linear("o", h)
        self.gate_up = linear("gate_up", 2 * shape.intermediate_size)
        self.down = linear("down", h)
        if shape.qk_layer_norms:
            declare(self, "q_norm")

    def forward(self, x: Tensor, delta: Tensor | None, image_k: Tensor, image_v: Tensor,
                image_slots: Tensor) -> tuple[Tensor, Tensor]:
        """x, delta [T, h]; image_k, image_v [slots, H, L, d]; image_slots [T] (-1: sees no image).
        The next block adds mlp_gate times the second result."""
        if delta is None:
            y = torch.ops.idefics.rms_norm(x, self.input_norm, self.eps)
        else:
            x, y = torch.ops.idefics.add_norm(x, delta, None, self.input_norm, self.eps)
        q = self.q(y).view(x.size(0), -1, self.head_dim)
        if self.qk_norm:
            q = torch.ops.idefics.rms_norm(q, self.q_norm, self.eps)
        mixed = torch.ops.idefics.attend_image(q, image_k, image_v, image_slots)
        added = torch.ops.idefics.all_reduce(self.o(mixed))
        x, y = torch.ops.idefics.add_norm(x, added, self.attn_gate, self.post_norm, self.eps)
        mlp = self.down(torch.ops.idefics.swiglu(self.gate_up(y)))
        return x, torch.ops.idefics.all_reduce(mlp)


class DecoderLayer(nn.Module):
    """LLaMA block; docs/model.md#decoder-layer."""

    eps: Final[float]

    def __init__(self, shape: ModelShape, widths: Widths):
        super().__init__()
        self.eps = shape.rms_norm_eps
        linear, h = widths.linear, shape.hidden_size
        declare(self, "input_norm", "post_norm")
        self.qkv, self.o = linear("qkv", 3 * h), linear("o", h)
        self.gate_up = linear("gate_up", 2 * shape.intermediate_size)
        self.down = linear("down", h)

    def forward(self, x: Tensor, delta: Tensor, gate: Tensor | None, cos: Tensor, sin: Tensor,
                kv_slots: Tensor, row_starts: Tensor, kv_starts: Tensor, kv_lengths: Tensor,
                k_cache: Tensor, v_cache: Tensor) -> tuple[Tensor, Tensor]:
        """x, delta [T, h]: the block's input is x + gate · delta; the next block adds the second
        result. k_cache, v_cache [slots, H, d] of this layer, written at kv_slots [T]."""
        x, y = torch.ops.idefics.add_norm(x, delta, gate, self.input_norm, self.eps)
        qkv = self.qkv(y)
        q = torch.ops.idefics.rope_write(qkv, cos, sin, kv_slots, k_cache, v_cache)
        mixed = torch.ops.idefics.attend(q, k_cache, v_cache, row_starts, kv_starts, kv_lengths)
        added = torch.ops.idefics.all_reduce(self.o(mixed))
        x, y = torch.ops.idefics.add_norm(x, added, None, self.post_norm, self.eps)
        mlp = self.down(torch.ops.idefics.swiglu(self.gate_up(y)))
        return x, torch.ops.idefics.all_reduce(mlp)


class LayerGroup(nn.Module):
    """One gated cross-attention block and the `interval` decoder layers that follow it."""

    interval: Final[int]

    def __init__(self, shape: ModelShape, widths: Widths):
        super().__init__()
        self.interval = shape.cross_layer_interval
        self.cross = CrossLayer(shape, widths.of("cross"))
        self.layers = nn.ModuleList([
            DecoderLayer(shape, widths.of(f"layers.{i}")) for i in range(shape.cross_layer_interval)
        ])

    def forward(self, x: Tensor, delta: Tensor | None, cos: Tensor, sin: Tensor, kv_slots: Tensor,
                image_slots: Tensor, row_starts: Tensor, kv_starts: Tensor, kv_lengths: Tensor,
                k_arena: Tensor, v_arena: Tensor, image_k: Tensor,
                image_v: Tensor) -> tuple[Tensor, Tensor]:
        """x, delta [T, h]: the group's input is their sum, and so is its output: a residual is
        added where the next norm reads it. k_arena, v_arena [interval, slots, H, d]; image_k,
        image_v [image slots, H, L, d]."""
        x, added = self.cross(x, delta, image_k, image_v, image_slots)
        gate: Tensor | None = self.cross.mlp_gate
        for i, layer in enumerate(self.layers):
            x, added = layer(x, added, gate, cos, sin, kv_slots, row_starts, kv_starts, kv_lengths,
                             k_arena[i], v_arena[i])
            gate = None
        return x, added


class Decoder(nn.Module):
    """Tokens of any number of rows -> logits of the rows that ask for them."""

    interval: Final[int]
    head_dim: Final[int]
    eps: Final[float]

    def __init__(self, shape: ModelShape, widths: Widths):
        super().__init__()
        self.interval = shape.cross_layer_interval
        self.head_dim = shape.head_dim
        self.eps = shape.rms_norm_eps
        declare(self, "embed", "norm")
        # In 16 bit unless it is named: every token depends on it.
        self.lm_head = Widths("none", widths.int8).linear("lm_head", shape.vocab_size)
        self.groups = nn.ModuleList(
            [LayerGroup(shape, widths.of(f"groups.{g}")) for g in range(shape.num_cross_layers)])

    def rotary(self, positions: Tensor) -> tuple[Tensor, Tensor]:
        """positions [T] -> cos, sin [T, d/2] f32; RoPE base 10000 (arXiv 2104.09864)."""
        even = torch.arange(0, self.head_dim, 2, dtype=torch.int64, device=positions.device).float()
        inv_freq = 1.0 / torch.pow(10000.0, even / self.head_dim)
        angles = positions.float().unsqueeze(1) * inv_freq.unsqueeze(0)
        return angles.cos(), angles.sin()

    def forward(self, tokens: Tensor, positions: Tensor, kv_slots: Tensor, image_slots: Tensor,
                row_starts: Tensor, kv_starts: Tensor, kv_lengths: Tensor, sample_rows: Tensor,
                k_arena: Tensor, v_arena: Tensor, image_k: Tensor, image_v: Tensor) -> Tensor:
        """All index tensors are i32.

        tokens, positions, kv_slots, image_slots [T]; row_starts [R + 1]; kv_starts, kv_lengths [R,
        2] (shared keys, own keys: predictor/ops/README.md); sample_rows [S], indices into the T
        tokens; k_arena, v_arena [layers, slots, H, d]; image_k, image_v [cross layers, image slots,
        H, L, d]. Returns logits [S, vocab] f32.
        """
        cos, sin = self.rotary(positions)
        x = F.embedding(tokens, self.embed)
        delta: Tensor | None = None
        for g, group in enumerate(self.groups):
            first = g * self.interval
            x, delta = group(x, delta, cos, sin, kv_slots, image_slots, row_starts, kv_starts,
                             kv_lengths, k_arena[first:first + self.interval],
                             v_arena[first:first + self.interval], image_k[g], image_v[g])
        assert delta is not None
        _, x = torch.ops.idefics.add_norm(x.index_select(0, sample_rows),
                                          delta.index_select(0, sample_rows), None, self.norm,
                                          self.eps)
        return self.lm_head(x).float()


def script_modules(shape: ModelShape, vision: Widths,
                   decoder: Widths) -> tuple[torch.jit.ScriptModule, torch.jit.ScriptModule]:
    """(vision, decoder) as weightless TorchScript. REQUIRES: the idefics operators are loaded."""
    return torch.jit.script(Vision(shape, vision).eval()), torch.jit.script(
        Decoder(shape, decoder).eval())
