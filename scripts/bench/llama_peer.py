# SPDX-License-Identifier: Apache-2.0
"""llama.cpp as a rival: its programs, built from the source archive of llama-cpp-python (pinned by
hash, in the cache, never in the checkout), and models of random weights in its format.
"""

import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from common import note

CACHE = Path(os.environ.get("COG_IDEFICS_CACHE") or Path.home() / ".cache/cog-idefics")
FOLDER = CACHE / "llama_cpp"
REQUIREMENTS = Path(__file__).with_name("requirements-llama.txt")
PROGRAMS = ("llama-bench", "llama-server")
OPTIONS = ("CMAKE_BUILD_TYPE=Release", "LLAMA_OPENSSL=OFF", "LLAMA_BUILD_TESTS=OFF",
           "LLAMA_BUILD_EXAMPLES=OFF", "LLAMA_BUILD_UI=OFF")
# Of our instruction sets; "": what this CPU has.
FLAGS = {
    "": ("GGML_NATIVE=ON", ),
    "avx2": ("GGML_NATIVE=OFF", "GGML_AVX2=ON", "GGML_FMA=ON", "GGML_F16C=ON", "GGML_BMI2=ON")
}
# kind: values of a block, bytes of a block, where its f16 scale stands, the scale.
BLOCKS = {"Q4_0": (32, 18, 0, 0.004), "Q8_0": (32, 34, 0, 0.0005)}


@dataclass(frozen=True)
class Shape:
    """Of a LLaMA; `vocab` tokens."""
    layers: int
    hidden: int
    ffn: int
    heads: int
    vocab: int

    @property
    def step_weights(self) -> int:
        """That one decode step reads: all but the embedding."""
        layer = 4 * self.hidden * self.hidden + 3 * self.hidden * self.ffn
        return self.layers * layer + self.vocab * self.hidden


def _source() -> Path:
    """The unpacked source of llama.cpp."""
    found = list(FOLDER.glob("llama_cpp_python-*/vendor/llama.cpp"))
    if found:
        return found[0]
    if not list(FOLDER.glob("*.tar.gz")):  # pip puts it there once its hash is right
        note("fetching llama.cpp's source (some minutes)")
        FOLDER.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, "-m", "pip", "download", "--quiet", "--require-hashes",
                        "--no-deps", "--no-binary", ":all:", "-r", str(REQUIREMENTS), "-d",
                        str(FOLDER)], check=True)
    subprocess.run(["tar", "-xzf", next(FOLDER.glob("*.tar.gz")), "-C", FOLDER], check=True)
    return next(FOLDER.glob("llama_cpp_python-*/vendor/llama.cpp"))


def programs(instruction_set: str = "") -> Path:
    """The folder of llama-bench and llama-server for this CPU, or for one of an older set; builds
    them once (a quarter of an hour on two cores)."""
    build = FOLDER / f"build-{instruction_set or 'native'}"
    folder = build / "bin"
    if all((folder / name).exists() for name in PROGRAMS):
        return folder
    source = _source()
    note(f"building llama.cpp in {build} (a quarter of an hour on two cores)")
    subprocess.run(["cmake", "-S", source, "-B", build, "-G", "Ninja",
                    *(f"-D{option}" for option in (*OPTIONS, *FLAGS[instruction_set]))],
                   check=True, stdout=sys.stderr)
    subprocess.run(["cmake", "--build", build, "--target", *PROGRAMS], check=True,
                   stdout=sys.stderr)
    return folder


def _matrix(rng: np.random.Generator, kind: str, rows: int, columns: int) -> np.ndarray:
    values, size, scale_at, scale = BLOCKS[kind]
    blocks = rng.integers(0, 256, (rows, columns // values, size), dtype=np.uint8)
    blocks[:, :, scale_at:scale_at + 2] = np.array([scale], np.float16).view(np.uint8)
    return blocks.reshape(rows, -1)


def _add_vocabulary(writer: Any, gguf: Any, tokenizer: Path | None, count: int) -> None:
    writer.add_vocab_size(count)
    if tokenizer is None:
        writer.add_tokenizer_model("no_vocab")
        return
    import sentencepiece
    pieces = sentencepiece.SentencePieceProcessor(model_file=str(tokenizer))
    kinds = [gguf.TokenType.NORMAL] * pieces.vocab_size()
    for i in range(pieces.vocab_size()):
        for test, kind in ((pieces.is_control, gguf.TokenType.CONTROL),
                           (pieces.is_unknown, gguf.TokenType.UNKNOWN),
                           (pieces.is_byte, gguf.TokenType.BYTE)):
            kinds[i] = kind if test(i) else kinds[i]
    extra = count - pieces.vocab_size()
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*(pieces.id_to_piece(i) for i in range(pieces.vocab_size())),
                           *(f"<extra_{i}>" for i in range(extra))])
    writer.add_token_scores([*(pieces.get_score(i) for i in range(pieces.vocab_size())),
                             *[0.0] * extra])
    writer.add_token_types([*kinds, *[gguf.TokenType.CONTROL] * extra])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def write_model(path: Path, kind: str, shape: Shape, tokenizer: Path | None = None) -> None:
    """Random weights of `kind` (a key of BLOCKS); without a tokenizer only llama-bench reads it."""
    sys.path.insert(0, str(_source() / "gguf-py"))
    import gguf
    quantized = gguf.GGMLQuantizationType[kind]
    rng = np.random.default_rng(0)
    part = path.with_suffix(".part")
    writer = gguf.GGUFWriter(part, "llama")
    writer.add_block_count(shape.layers)
    writer.add_context_length(4096)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.ffn)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_dimension_count(shape.hidden // shape.heads)
    _add_vocabulary(writer, gguf, tokenizer, shape.vocab)
    made: dict[tuple[int, int], np.ndarray] = {}  # every layer stores the same numbers

    def add(name: str, rows: int, columns: int) -> None:
        if (rows, columns) not in made:
            made[rows, columns] = _matrix(rng, kind, rows, columns)
        writer.add_tensor(f"{name}.weight", made[rows, columns], raw_dtype=quantized)

    def add_norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(shape.hidden, np.float32))

    for name in ("token_embd", "output"):
        add(name, shape.vocab, shape.hidden)
    add_norm("output_norm")
    for layer in range(shape.layers):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            add(f"blk.{layer}.{name}", shape.hidden, shape.hidden)
        for name in ("ffn_gate", "ffn_up"):
            add(f"blk.{layer}.{name}", shape.ffn, shape.hidden)
        add(f"blk.{layer}.ffn_down", shape.hidden, shape.ffn)
        add_norm(f"blk.{layer}.attn_norm")
        add_norm(f"blk.{layer}.ffn_norm")
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    part.rename(path)


def model(kind: str, shape: Shape, tokenizer: Path | None = None) -> Path:
    """In the cache; written where it is not there."""
    vocabulary = "" if tokenizer is None else f"-{tokenizer.parent.name}"
    path = FOLDER / (f"{shape.layers}x{shape.hidden}x{shape.ffn}-{shape.vocab}{vocabulary}-"
                     f"{kind}.gguf")
    if not path.exists():
        note(f"writing {path.name}")
        write_model(path, kind, shape, tokenizer)
    return path
