#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a Hugging Face IDEFICS checkpoint folder with seeded random weights, at any shape up to
the full 80b.

For tests and measurements: the tensors have the names, shapes and types of the real ones, the
answers are noise. Weights are written tensor by tensor: a 9b (18 GB) needs about 0.5 GB of memory.

    make_checkpoint.py OUT --shape tiny --seed 1 make_checkpoint.py OUT --shape 9b --distribution
    normal --dtype bf16 --shards 4 --tokenizer tokenizer.model
"""

import argparse
import hashlib
import json
import math
import string
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).resolve().parent))
import phrase_weights
from export.config import IMAGE_MEAN, IMAGE_STD, read_config
from export.plan import SourceTensor, build_plan
from export.progress import Progress
from export.sentencepiece_proto import BYTE, CONTROL, NORMAL, UNKNOWN, Piece, bpe_model, read_pieces
from export.tokenizer_files import RELEASED, derived_merges

DTYPES = {"f32": (torch.float32, "F32", "float32"), "bf16": (torch.bfloat16, "BF16", "bfloat16"),
          "f16": (torch.float16, "F16", "float16")}
CHUNK = 8 << 20  # elements

_LARGE_VISION = {"embed_dim": 1280, "image_size": 224, "patch_size": 14, "num_hidden_layers": 32,
                 "num_attention_heads": 16, "intermediate_size": 5120}
_LARGE_PERCEIVER = {
    "resampler_n_latents": 64, "resampler_depth": 6, "resampler_n_heads": 16,
    "resampler_head_dim": 96
}
SHAPES: dict[str, dict[str, Any]] = {
    "tiny": {  # docs/model.md#the-tiny-golden-model
        "vocab_size": 320, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 4,
        "num_attention_heads": 4, "cross_layer_interval": 2, "vision_config": {
            "embed_dim": 32, "image_size": 28, "patch_size": 14, "num_hidden_layers": 2,
            "num_attention_heads": 4, "intermediate_size": 48
        }, "perceiver_config": {
            "resampler_n_latents": 4, "resampler_depth": 2, "resampler_n_heads": 2,
            "resampler_head_dim": 24
        }
    },
    "mid": {  # 0.5 GB in f32: large enough to measure memory
        "vocab_size": 32000, "hidden_size": 1024, "intermediate_size": 2752, "num_hidden_layers": 4,
        "num_attention_heads": 8, "cross_layer_interval": 2, "vision_config": {
            "embed_dim": 320, "image_size": 224, "patch_size": 14, "num_hidden_layers": 4,
            "num_attention_heads": 4, "intermediate_size": 1280
        }, "perceiver_config": {
            "resampler_n_latents": 64, "resampler_depth": 2, "resampler_n_heads": 4,
            "resampler_head_dim": 96
        }
    },
    "9b": {
        "vocab_size": 32000, "hidden_size": 4096, "intermediate_size": 11008,
        "num_hidden_layers": 32, "num_attention_heads": 32, "cross_layer_interval": 4,
        "vision_config": _LARGE_VISION, "perceiver_config": _LARGE_PERCEIVER
    },
    "80b": {
        "vocab_size": 32000, "hidden_size": 8192, "intermediate_size": 22016,
        "num_hidden_layers": 80, "num_attention_heads": 64, "cross_layer_interval": 4,
        "vision_config": _LARGE_VISION, "perceiver_config": _LARGE_PERCEIVER
    },
}


def _config(options: argparse.Namespace) -> dict[str, Any]:
    shape = SHAPES[options.shape]
    config = {
        **shape, "architectures": ["IdeficsForVisionText2Text"], "model_type": "idefics",
        "additional_vocab_size": 3 if options.vocabulary == "instruct" else 2, "hidden_act": "silu",
        "rms_norm_eps": 1e-6, "qk_layer_norms": options.qk_norms, "alpha_type": options.alpha,
        "alpha_initializer": "zeros", "alphas_initializer_range": 0.0,
        "use_resampler": options.resampler, "tie_word_embeddings": options.tied,
        "max_position_embeddings": 2048, "torch_dtype": DTYPES[options.dtype][2], "bos_token_id": 1,
        "eos_token_id": 2, "pad_token_id": 0, "use_cache": True, "vision_config": {
            **shape["vision_config"], "model_type": "idefics_vision", "num_channels": 3,
            "hidden_act": options.vision_act, "layer_norm_eps": 1e-5
        }, "perceiver_config": {
            "model_type": "idefics_perciever", "qk_layer_norms_perceiver": options.qk_norms,
            **shape["perceiver_config"]
        }
    }
    for key, value in (("cross_layer_interval", options.interval), ("num_hidden_layers",
                                                                    options.layers),
                       ("hidden_size", options.hidden), ("num_attention_heads", options.heads)):
        if value:
            config[key] = value
    return config


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def made_pieces(count: int) -> list[Piece]:
    """A byte-fallback BPE of exactly `count` pieces: merges of two letters first, then single
    characters."""
    letters = [
        *string.ascii_lowercase, *string.ascii_uppercase, *string.digits, *string.punctuation
    ]
    singles = ["\u2581", *letters][:max(1, (count - 259) * 2 // 3)]
    pairs = [left + right for left in singles for right in singles if right != "\u2581"]
    # CJK, Hangul.
    pairs += [chr(code) for code in range(0x4E00, 0xD7A4) if not 0xA4D0 <= code < 0xAC00]
    normal = pairs[:count - 259 - len(singles)] + singles
    if count < 260 or len(normal) < count - 259:
        raise SystemExit(
            f"make_checkpoint.py: a made tokenizer has 260 to 40000 pieces, the shape has "
            f"{count}: give "
            "--tokenizer")
    pieces = [Piece("<unk>", 0.0, UNKNOWN), Piece("<s>", 0.0, CONTROL), Piece("</s>", 0.0, CONTROL)]
    pieces += [Piece(f"<0x{byte:02X}>", 0.0, BYTE) for byte in range(256)]
    return pieces + [Piece(text, float(-i), NORMAL) for i, text in enumerate(normal)]


def tokenizer_json(pieces: list[Piece], added: list[str]) -> dict[str, Any]:
    """transformers' fast legacy LLaMA tokenizer over `pieces`, with `added` behind them."""
    def token(number: int, text: str) -> dict[str, Any]:
        return {
            "id": number, "content": text, "single_word": False, "lstrip": False, "rstrip": False,
            "normalized": False, "special": True
        }

    names = [piece.text for piece in pieces[:3]]
    tokens = [token(i, text) for i, text in enumerate(names)]
    tokens += [token(len(pieces) + i, text) for i, text in enumerate(added)]
    return {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": tokens,
        "normalizer": {
            "type": "Sequence",
            "normalizers": [{"type": "Prepend", "prepend": "\u2581"},
                            {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}]
        }, "pre_tokenizer": None, "post_processor": {
            "type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}},
                                                     {"Sequence": {"id": "A", "type_id": 0}}],
            "pair": [{"SpecialToken": {"id": "<s>",
                                       "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}},
                     {"SpecialToken": {"id": "<s>",
                                       "type_id": 1}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}}
        }, "decoder": {
            "type": "Sequence",
            "decoders": [{"type": "Replace", "pattern": {"String": "\u2581"},
                          "content": " "}, {"type": "ByteFallback"}, {"type": "Fuse"},
                         {"type": "Strip", "content": " ", "start": 1, "stop": 0}]
        }, "model": {
            "type": "BPE", "dropout": None, "unk_token": "<unk>", "continuing_subword_prefix": None,
            "end_of_word_suffix": None, "fuse_unk": True, "byte_fallback": True,
            "ignore_merges": False, "vocab": {piece.text: i
                                              for i, piece in enumerate(pieces)},
            "merges": [f"{left} {right}" for left, right in derived_merges(pieces)]
        }
    }


def write_tokenizer(folder: Path, options: argparse.Namespace, config: dict[str, Any]) -> None:
    if options.tokenizer:
        model = options.tokenizer.read_bytes()
        pieces = read_pieces(model)
    else:
        pieces = made_pieces(config["vocab_size"])
        model = bpe_model(pieces)
    if len(pieces) != config["vocab_size"]:
        raise SystemExit(
            f"make_checkpoint.py: {options.tokenizer} has {len(pieces)} pieces, the shape has "
            f"{config['vocab_size']}")
    added = RELEASED[:config["additional_vocab_size"]]
    (folder / "tokenizer.model").write_bytes(model)
    table = tokenizer_json(pieces, added)
    _write_json(folder / "tokenizer.json", table)
    decoder = {
        str(token["id"]): {k: v
                           for k, v in token.items() if k != "id"}
        for token in table["added_tokens"]
    }
    names = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<unk>"}
    _write_json(folder / "special_tokens_map.json", {**names, "additional_special_tokens": added})
    _write_json(
        folder / "tokenizer_config.json", {
            **names, "additional_special_tokens": added, "added_tokens_decoder": decoder,
            "add_bos_token": True, "add_eos_token": False, "clean_up_tokenization_spaces": False,
            "legacy": True, "model_max_length": 2048, "padding_side": "left",
            "processor_class": "IdeficsProcessor", "tokenizer_class": "LlamaTokenizerFast"
        })


def _scale(tensor: SourceTensor) -> tuple[float, float]:
    """(centre, half width) of the uniform distribution: activations of unit size at any shape."""
    name, last = tensor.name, tensor.name.rsplit(".", 1)[-1]
    if last.startswith("alpha"):
        return 0.5, 0.25
    if last == "bias":
        return 0.0, 0.05
    if "norm" in name or ".ln." in name:
        return 1.0, 0.1
    if last == "latents" or any(
            part in name for part in ("position_embedding", "class_embedding", "embed_tokens")):
        return 0.0, 0.5
    fan_in = math.prod(tensor.shape[1:])
    return 0.0, math.sqrt(3 / fan_in)


def random_chunks(tensor: SourceTensor, options: argparse.Namespace) -> Iterator[torch.Tensor]:
    """Flat pieces, by the name, the seed, the distribution and the kind of device."""
    dtype = DTYPES[options.dtype][0]
    digest = hashlib.sha256(f"{options.seed}:{tensor.name}".encode()).digest()
    seed = int.from_bytes(digest[:8], "little") >> 1
    generator = torch.Generator(options.device).manual_seed(seed)
    centre, half = _scale(tensor)
    count = math.prod(tensor.shape)
    for begin in range(0, count, CHUNK):
        piece = torch.empty(min(CHUNK, count - begin), device=options.device)
        if options.distribution == "normal":
            piece.normal_(centre, half / math.sqrt(3), generator=generator)
        else:
            piece.uniform_(centre - half, centre + half, generator=generator)
        piece = piece.cpu()
        if options.phrases:
            piece *= phrase_weights.scale_of(tensor.name)
            phrase_weights.replace_rows(tensor.name, tensor.shape, begin, piece)
        yield piece.to(dtype)


def _header(tensors: list[SourceTensor], stored_name: str, element: int) -> bytes:
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    offset = 0
    for tensor in tensors:
        end = offset + math.prod(tensor.shape) * element
        entries[tensor.name] = {
            "dtype": stored_name, "shape": list(tensor.shape), "data_offsets": [offset, end]
        }
        offset = end
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text


def write_safetensors(path: Path, tensors: list[SourceTensor], options: argparse.Namespace,
                      progress: Progress) -> None:
    dtype, stored_name, _ = DTYPES[options.dtype]
    with open(path, "wb") as file:
        file.write(_header(tensors, stored_name, dtype.itemsize))
        for tensor in tensors:
            for piece in random_chunks(tensor, options):
                file.write(_bytes(piece))
                progress.advance(piece.nbytes)


def _bytes(piece: torch.Tensor) -> bytearray:
    out = bytearray(piece.nbytes)
    torch.frombuffer(out, dtype=piece.dtype).copy_(piece)
    return out


def write_torch(path: Path, tensors: list[SourceTensor], options: argparse.Namespace,
                progress: Progress) -> None:
    state = {t.name: torch.cat(list(random_chunks(t, options))).view(t.shape) for t in tensors}
    torch.save(state, path)
    progress.advance(sum(value.nbytes for value in state.values()))


def _shards(tensors: list[SourceTensor], count: int) -> list[list[SourceTensor]]:
    total = sum(math.prod(t.shape) for t in tensors)
    shards: list[list[SourceTensor]] = [[] for _ in range(count)]
    done = 0
    for tensor in tensors:
        shards[min(count - 1, done * count // total)].append(tensor)
        done += math.prod(tensor.shape)
    return [shard for shard in shards if shard]


def write_weights(folder: Path, tensors: list[SourceTensor], options: argparse.Namespace) -> None:
    element = DTYPES[options.dtype][0].itemsize
    total = sum(math.prod(t.shape) for t in tensors) * element
    stem, suffix = ("model",
                    "safetensors") if options.format == "safetensors" else ("pytorch_model", "bin")
    write = write_safetensors if options.format == "safetensors" else write_torch
    shards = _shards(tensors, options.shards)
    progress = Progress(f"writing {folder.name}", total)
    weight_map = {}
    for i, shard in enumerate(shards):
        name = f"{stem}.{suffix}" if len(
            shards) == 1 else f"{stem}-{i + 1:05d}-of-{len(shards):05d}.{suffix}"
        write(folder / name, shard, options, progress)
        weight_map.update({tensor.name: name for tensor in shard})
    progress.close()
    if len(shards) > 1:
        _write_json(folder / f"{stem}.{suffix}.index.json",
                    {"metadata": {"total_size": total}, "weight_map": weight_map})


def make_checkpoint(options: argparse.Namespace) -> None:
    folder = options.out
    folder.mkdir(parents=True)
    config = _config(options)
    _write_json(folder / "config.json", config)
    _write_json(
        folder / "preprocessor_config.json", {
            "image_processor_type": "IdeficsImageProcessor", "processor_class": "IdeficsProcessor",
            "image_size": config["vision_config"]["image_size"], "image_num_channels": 3,
            "image_mean": IMAGE_MEAN, "image_std": IMAGE_STD
        })
    _write_json(folder / "generation_config.json",
                {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0})
    write_tokenizer(folder, options, config)
    checked = read_config(folder)
    h = checked.shape.hidden_size
    gates = {
        f"model.gated_cross_attn_layers.{i}.{name}": (1, 1, h)
        for i in range(checked.shape.num_cross_layers)
        for name in ("alpha_cross_attn", "alpha_dense")
    } if options.alpha == "vector" else {}
    parts = [part for target in build_plan(checked, gates) for part in target.parts]
    # Real checkpoints have this layer norm, which no forward pass uses.
    parts += [
        SourceTensor(f"model.vision_model.post_layernorm.{last}",
                     (checked.shape.vision.embed_dim, )) for last in ("weight", "bias")
    ]
    write_weights(folder, list({part.name: part for part in parts}.values()), options)


def parse(argv=None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Writes a synthetic IDEFICS checkpoint with seeded random weights.")
    add = parser.add_argument
    add("out", type=Path, help="folder to make; it must not exist")
    add("--shape", choices=sorted(SHAPES), default="tiny")
    add("--seed", type=int, default=0)
    add("--distribution", choices=["uniform", "normal"], default="uniform",
        help="of every weight; normal has the outliers that quantization meets in trained weights")
    add("--phrases",
        action="store_true",
        help="answers of a few phrases that come again (phrase_weights.py), not noise")
    add("--dtype", choices=sorted(DTYPES), default="f32")
    add("--device", default="cpu", help="where the numbers are made: cuda takes seconds for a 9b")
    add("--shards", type=int, default=1)
    add("--format",
        choices=["safetensors", "bin"],
        default="safetensors",
        help="bin holds a shard in memory")
    add("--tokenizer", type=Path, help="a tokenizer.model; default: a made one of the shape's size")
    add("--vocabulary", choices=["base", "instruct"], default="instruct")
    add("--qk-norms", action=argparse.BooleanOptionalAction, default=True)
    add("--alpha", choices=["float", "vector"], default="float")
    add("--resampler", action=argparse.BooleanOptionalAction, default=True)
    add("--tied", action="store_true", help="one table for input and output embeddings")
    add("--vision-act", choices=["gelu", "quick_gelu"], default="gelu")
    for name in ("interval", "layers", "hidden", "heads"):
        add(f"--{name}", type=int, help="overrides the shape's")
    return parser.parse_args(argv)


if __name__ == "__main__":
    make_checkpoint(parse())
