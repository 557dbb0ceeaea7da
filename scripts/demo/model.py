# SPDX-License-Identifier: Apache-2.0
"""A small IDEFICS for training: the mathematics and parameter names of transformers'
IdeficsForVisionText2Text, arranged for speed on a CPU.

Differences are in arrangement only: text rows are packed (no padding in linear layers),
the latents of a picture are computed once for all its rows, and pictures come at half
the side with half the patch (`export.py` widens the patch weights exactly).
"""
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from .vocabulary import CHARACTERS, CLASSES, COLOR_NAMES, WORDS


@dataclass(frozen=True)
class Dims:
    """Sizes of the model; `image` and `patch` are those of training (half of the export)."""
    vocab: int = 1000
    extra: int = 3
    image: int = 112
    patch: int = 14
    vision: int = 160
    vision_layers: int = 5
    vision_heads: int = 5
    vision_mlp: int = 640
    latents: int = 16
    perceiver_heads: int = 6
    perceiver_head: int = 32
    hidden: int = 192
    layers: int = 4
    heads: int = 6
    mlp: int = 256

    @property
    def grid(self) -> int:
        return self.image // self.patch


MEAN = torch.tensor([0.48145466, 0.4578275, 0.40821073]) * 255
STD = torch.tensor([0.26862954, 0.26130258, 0.27577711]) * 255


class RMSNorm(nn.Module):
    def __init__(self, size: int):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))

    def forward(self, x):
        return F.rms_norm(x, (x.shape[-1],), self.weight, 1e-6)


def _holder(**modules) -> nn.Module:
    """A module that only groups others under the names transformers uses."""
    holder = nn.Module()
    for name, module in modules.items():
        setattr(holder, name, module)
    return holder


class VisionLayer(nn.Module):
    """Pre-norm transformer layer with biases and gelu."""

    def __init__(self, d: Dims):
        super().__init__()
        n = d.vision
        self.heads = d.vision_heads
        self.self_attn = _holder(**{f"{k}_proj": nn.Linear(n, n) for k in ("q", "k", "v", "out")})
        self.layer_norm1, self.layer_norm2 = nn.LayerNorm(n), nn.LayerNorm(n)
        self.mlp = _holder(fc1=nn.Linear(n, d.vision_mlp), fc2=nn.Linear(d.vision_mlp, n))

    def forward(self, x):
        a = self.self_attn
        y = self.layer_norm1(x)
        def split(t):
            return t.view(*t.shape[:2], self.heads, -1).transpose(1, 2)

        y = F.scaled_dot_product_attention(split(a.q_proj(y)), split(a.k_proj(y)),
                                           split(a.v_proj(y)))
        x = x + a.out_proj(y.transpose(1, 2).flatten(2))
        return x + self.mlp.fc2(F.gelu(self.mlp.fc1(self.layer_norm2(x))))


class Vision(nn.Module):
    """ViT: [M, S, S, 3] uint8 pictures -> [M, 1 + grid*grid, width]."""

    def __init__(self, d: Dims):
        super().__init__()
        self.dims = d
        self.embeddings = nn.Module()
        self.embeddings.class_embedding = nn.Parameter(torch.randn(d.vision) * 0.1)
        self.embeddings.patch_embedding = nn.Conv2d(3, d.vision, d.patch, d.patch, bias=False)
        self.embeddings.position_embedding = nn.Embedding(1 + d.grid ** 2, d.vision)
        self.pre_layrnorm = nn.LayerNorm(d.vision)
        self.encoder = _holder(layers=nn.ModuleList(VisionLayer(d) for _ in range(d.vision_layers)))
        self.post_layernorm = nn.LayerNorm(d.vision)      # in the checkpoint, never used

    def forward(self, pictures):
        d, e = self.dims, self.embeddings
        x = (pictures.float() - MEAN) / STD
        x = x.view(-1, d.grid, d.patch, d.grid, d.patch, 3).permute(0, 1, 3, 5, 2, 4)
        x = x.reshape(-1, d.grid ** 2, 3 * d.patch ** 2)
        x = F.linear(x, e.patch_embedding.weight.flatten(1))
        x = torch.cat([e.class_embedding.expand(x.shape[0], 1, -1), x], 1)
        x = self.pre_layrnorm(x + e.position_embedding.weight)
        for layer in self.encoder.layers:
            x = layer(x)
        return x


class Resampler(nn.Module):
    """Perceiver of depth one: [M, tokens, width] -> [M, latents, width]."""

    def __init__(self, d: Dims):
        super().__init__()
        n, inner = d.vision, d.perceiver_heads * d.perceiver_head
        self.heads = d.perceiver_heads
        self.latents = nn.Parameter(torch.randn(d.latents, n) * 0.5)
        attention = _holder(context_layer_norm=nn.LayerNorm(n),
                            latents_layer_norm=nn.LayerNorm(n),
                            q_layer_norm=nn.LayerNorm(d.perceiver_head),
                            k_layer_norm=nn.LayerNorm(d.perceiver_head),
                            q_proj=nn.Linear(n, inner, bias=False),
                            k_proj=nn.Linear(n, inner, bias=False),
                            v_proj=nn.Linear(n, inner, bias=False),
                            output_proj=nn.Linear(inner, n, bias=False))
        mlp = _holder(ln=nn.LayerNorm(n), fc=nn.Linear(n, 4 * n, bias=False),
                      c_proj=nn.Linear(4 * n, n, bias=False))
        self.blocks = nn.ModuleList([nn.ModuleList([attention, mlp])])
        self.layer_norm = nn.LayerNorm(n)

    def forward(self, context):
        a, mlp = self.blocks[0]
        x = self.latents.expand(context.shape[0], -1, -1)
        latents = a.latents_layer_norm(x)
        keys = torch.cat([a.context_layer_norm(context), latents], 1)
        def split(t):
            return t.view(*t.shape[:2], self.heads, -1)
        q = a.q_layer_norm(split(a.q_proj(latents))).transpose(1, 2)
        k = a.k_layer_norm(split(a.k_proj(keys))).transpose(1, 2)
        y = F.scaled_dot_product_attention(q, k, split(a.v_proj(keys)).transpose(1, 2))
        x = x + a.output_proj(y.transpose(1, 2).flatten(2))
        x = x + mlp.c_proj(F.relu(mlp.fc(mlp.ln(x))))
        return self.layer_norm(x)


def _swiglu(d: Dims) -> nn.Module:
    return _holder(gate_proj=nn.Linear(d.hidden, d.mlp, bias=False),
                   up_proj=nn.Linear(d.hidden, d.mlp, bias=False),
                   down_proj=nn.Linear(d.mlp, d.hidden, bias=False))


def _mlp(mlp, x):
    return mlp.down_proj(F.silu(mlp.gate_proj(x)) * mlp.up_proj(x))


@dataclass
class Packed:
    """Text rows packed end to end.

    ids, position: [N]. grid: [R, T] packed index of each row's tokens, N where padded.
    back: [N] place of a token in the flattened grid. by_picture: [P, S] packed index of the
    tokens that see each picture, N where padded. target: [K] packed indices whose next
    token is learnt, label: [K] that token.
    """
    ids: torch.Tensor
    position: torch.Tensor
    grid: torch.Tensor
    back: torch.Tensor
    by_picture: torch.Tensor
    sees: torch.Tensor          # [G] packed indices of tokens that see a picture
    sees_back: torch.Tensor     # [G] their places in flattened by_picture
    target: torch.Tensor
    label: torch.Tensor


class DecoderLayer(nn.Module):
    """LLaMA layer on packed tokens."""

    def __init__(self, d: Dims):
        super().__init__()
        n = d.hidden
        self.heads = d.heads
        self.self_attn = _holder(**{f"{k}_proj": nn.Linear(n, n, bias=False) for k in "qkvo"})
        self.mlp = _swiglu(d)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(n), RMSNorm(n)

    def forward(self, x, p: Packed, cos, sin, only=None):
        """`only`: packed indices to go on with (the last layer needs no others)."""
        a = self.self_attn
        y = self.input_layernorm(x)
        def split(t):
            return t.view(t.shape[0], self.heads, -1)
        def turn(t):
            return t * cos + torch.cat([-t[..., t.shape[-1] // 2:], t[..., :t.shape[-1] // 2]],
                                       -1) * sin

        qkv = torch.stack([turn(split(a.q_proj(y))),
                           turn(split(a.k_proj(y))),
                           split(a.v_proj(y))], 1)
        qkv = F.pad(qkv, (0, 0, 0, 0, 0, 0, 0, 1)).index_select(0, p.grid.flatten())
        q, k, v = qkv.view(*p.grid.shape, 3, self.heads, -1).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        back = p.back if only is None else p.back.index_select(0, only)
        y = y.transpose(1, 2).reshape(p.grid.numel(), -1).index_select(0, back)
        x = (x if only is None else x.index_select(0, only)) + a.o_proj(y)
        return x + _mlp(self.mlp, self.post_attention_layernorm(x))


class CrossLayer(nn.Module):
    """Gated cross-attention: each token sees the latents of one picture, or none."""

    def __init__(self, d: Dims):
        super().__init__()
        n, head = d.hidden, d.hidden // d.heads
        self.heads = d.heads
        self.cross_attn = _holder(
            q_proj=nn.Linear(n, n, bias=False), k_proj=nn.Linear(d.vision, n, bias=False),
            v_proj=nn.Linear(d.vision, n, bias=False), o_proj=nn.Linear(n, n, bias=False),
            q_layer_norm=RMSNorm(head), k_layer_norm=RMSNorm(head))
        self.mlp = _swiglu(d)
        self.input_layernorm, self.post_attention_layernorm = RMSNorm(n), RMSNorm(n)
        self.alpha_cross_attn = nn.Parameter(torch.full((1,), 0.7))
        self.alpha_dense = nn.Parameter(torch.full((1,), 0.7))

    def forward(self, x, p: Packed, latents):
        a = self.cross_attn
        if p.sees.numel():
            y = self.input_layernorm(x)
            def split(t):
                return t.view(*t.shape[:2], self.heads, -1)
            q = F.pad(a.q_proj(y), (0, 0, 0, 1)).index_select(0, p.by_picture.flatten())
            q = a.q_layer_norm(split(q.view(*p.by_picture.shape, -1))).transpose(1, 2)
            k = a.k_layer_norm(split(a.k_proj(latents))).transpose(1, 2)
            y = F.scaled_dot_product_attention(q, k, split(a.v_proj(latents)).transpose(1, 2))
            y = y.transpose(1, 2).reshape(p.by_picture.numel(), -1).index_select(0, p.sees_back)
            x = x.index_add(0, p.sees, torch.tanh(self.alpha_cross_attn) * a.o_proj(y))
        return x + torch.tanh(self.alpha_dense) * _mlp(self.mlp, self.post_attention_layernorm(x))


class Language(nn.Module):
    """`model.` of the checkpoint: embeddings, decoder and cross layers, vision, perceiver."""

    def __init__(self, d: Dims):
        super().__init__()
        self.embed_tokens = nn.Embedding(d.vocab, d.hidden)
        self.embed_tokens.additional_embedding = nn.Embedding(d.extra, d.hidden)
        self.vision_model = Vision(d)
        self.perceiver_resampler = Resampler(d)
        self.layers = nn.ModuleList(DecoderLayer(d) for _ in range(d.layers))
        self.gated_cross_attn_layers = nn.ModuleList(CrossLayer(d) for _ in range(d.layers))
        self.norm = RMSNorm(d.hidden)


class Heads(nn.Module):
    """Throwaway heads that tell the latents (and patches) what to hold."""

    def __init__(self, d: Dims):
        super().__init__()
        self.patch = nn.Linear(d.vision, len(CLASSES) + 1 + len(COLOR_NAMES) + 1)
        self.cell = nn.Linear(d.vision, len(CLASSES) + 1 + len(COLOR_NAMES) + 1)
        self.word = nn.Linear(d.vision, len(WORDS) + 1)
        self.digit = nn.Linear(d.vision, 11)
        self.text_color = nn.Linear(d.vision, len(COLOR_NAMES) + 1)
        self.count = nn.Linear(d.vision, 6)
        self.char = nn.Linear(d.vision, len(CHARACTERS) + 1)
        self.letters = nn.Linear(d.vision, 6 * 27)


class SmallIdefics(nn.Module):
    """The whole model with its training heads (`heads.*`, not exported)."""

    def __init__(self, d: Dims = Dims()):
        super().__init__()
        self.dims = d
        self.model = Language(d)
        self.lm_head = nn.Linear(d.hidden, d.vocab, bias=False)
        self.lm_head.additional_fc = nn.Linear(d.hidden, d.extra, bias=False)
        self.heads = Heads(d)
        half = d.hidden // d.heads // 2
        rate = 10000 ** (-torch.arange(half).float() / half)
        angle = torch.outer(torch.arange(512).float(), rate)
        angle = torch.cat([angle, angle], -1)
        self.cos, self.sin = angle.cos(), angle.sin()

    def see(self, pictures):
        """(patch features, latents) of uint8 pictures."""
        features = self.model.vision_model(pictures)
        return features, self.model.perceiver_resampler(features)

    def logits(self, p: Packed, latents):
        """Logits [K, vocab + extra] at the learnt places."""
        m = self.model
        table = torch.cat([m.embed_tokens.weight, m.embed_tokens.additional_embedding.weight])
        x = F.embedding(p.ids, table)
        cos, sin = self.cos[p.position][:, None], self.sin[p.position][:, None]
        for cross, layer in zip(m.gated_cross_attn_layers, m.layers, strict=False):
            only = p.target if layer is m.layers[-1] else None
            x = layer(cross(x, p, latents), p, cos, sin, only)
        return F.linear(m.norm(x),
                        torch.cat([self.lm_head.weight, self.lm_head.additional_fc.weight]))


def place_codes(d: Dims):
    """Smooth codes of the patch places [grid*grid, 16] and of the nine thirds [9, 16]."""
    centers = (torch.arange(8).float() + 0.5) / 8
    def bump(v):
        return torch.exp(-((v[:, None] - centers) / 0.11) ** 2)

    line, third = bump((torch.arange(d.grid).float() + 0.5) / d.grid), bump(
        (torch.arange(3).float() + 0.5) / 3)
    def cross(t):
        return torch.cat([t[:, None].expand(-1, len(t), -1), t[None].expand(len(t), -1, -1)], -1)
    return cross(line).flatten(0, 1), cross(third).flatten(0, 1)


def initialise(model: SmallIdefics, seed: int) -> None:
    """Seeded start values; nine latents are anchored on the nine thirds of the picture."""
    torch.manual_seed(seed)
    d = model.dims
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.normal_(module.weight, std=0.7 / math.sqrt(module.in_features))
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.Embedding):
            nn.init.normal_(module.weight, std=0.3)
    nn.init.normal_(model.lm_head.weight, std=0.02)
    nn.init.normal_(model.heads.cell.weight, std=0.02)
    with torch.no_grad():
        patch_code, cell_code = place_codes(d)
        vision, resampler = model.model.vision_model, model.model.perceiver_resampler
        position = vision.embeddings.position_embedding.weight
        position.normal_(std=0.05)
        position[1:, :16] = 1.5 * patch_code
        nn.init.normal_(vision.embeddings.patch_embedding.weight,
                        std=1 / math.sqrt(3 * d.patch ** 2))
        rows, columns = torch.randn(3, d.vision), torch.randn(3, d.vision)
        code = 0.5 * (rows[:, None] + columns[None]).flatten(0, 1)
        code[:, 16:32] = 1.5 * cell_code
        resampler.latents[:9] = code
        resampler.latents[:, :16] = -1.0
        attention = resampler.blocks[0][0]
        # Queries read the code at 16-31 and keys at 0-15, where latents are
        # negative, so that they look at patches and not at each other.
        for projection, first in ((attention.q_proj, 16), (attention.k_proj, 0)):
            weight = projection.weight.view(d.perceiver_heads, d.perceiver_head, d.vision)
            weight[:4] *= 0.1
            for i in range(16):
                weight[:4, 2 * i, first + i] += 1.0
        attention.q_layer_norm.weight.fill_(1.8)
