# SPDX-License-Identifier: Apache-2.0
"""The C++ text code against transformers 4.57, live, on random input.

Needs transformers 4.57 with its LLaMA tokenizer, the built program tests/text/tokenize_lines
(looked for in $IDEFICS_BUILD_DIR, then in build/*) and a vocabulary: LLaMA's, named by
IDEFICS_LLAMA_TOKENIZER, or the demo's in weights/demo. Whatever is missing is named in the reason
of the skip.
"""

import json
import os
import pathlib
import random
import subprocess
import urllib.parse

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LLAMA_MODEL = pathlib.Path(os.environ.get("IDEFICS_LLAMA_TOKENIZER")
                           or ROOT.parent / "shared/data/llama/tokenizer.model")
DEMO = ROOT / "weights/demo"
FAKE, IMAGE, END = "<fake_token_around_image>", "<image>", "<end_of_utterance>"
SPECIAL = ["<unk>", "<s>", "</s>", FAKE, IMAGE, END]
NUM_STRINGS = 6000
NUM_PROMPTS = 300


def find_program() -> pathlib.Path:
    folders = [pathlib.Path(os.environ["IDEFICS_BUILD_DIR"])] if "IDEFICS_BUILD_DIR" in os.environ \
        else sorted(ROOT.glob("build/*"))
    found = [path for folder in folders for path in folder.glob("**/tokenize_lines")]
    if not found:
        pytest.skip("tokenize_lines is not built: build the tests, or set IDEFICS_BUILD_DIR")
    return max(found, key=lambda path: path.stat().st_mtime)


def make_reference(name: str):
    """(path of tokenizer.model, LlamaTokenizerFast with the three IDEFICS tokens)"""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    if not transformers.__version__.startswith("4.57."):
        pytest.skip(f"transformers is {transformers.__version__}, the oracle is 4.57")
    if name == "demo":
        if not (DEMO / "tokenizer.model").exists():
            pytest.skip(f"no {DEMO}/tokenizer.model")
        return DEMO / "tokenizer.model", transformers.LlamaTokenizerFast.from_pretrained(DEMO)
    if not LLAMA_MODEL.exists():
        pytest.skip("no LLaMA vocabulary: set IDEFICS_LLAMA_TOKENIZER to its tokenizer.model")
    pytest.importorskip("google.protobuf", reason="protobuf, which converts the model, is missing")
    # add_prefix_space: rebuilds the tokenizer the legacy way, with a prefix after special tokens
    # too.
    tokenizer = transformers.LlamaTokenizerFast(
        vocab_file=str(LLAMA_MODEL), legacy=True, add_prefix_space=True, pad_token="<unk>")
    tokenizer.add_special_tokens({"additional_special_tokens": [
        transformers.AddedToken(text, lstrip=False, rstrip=False, normalized=False, special=True)
        for text in (FAKE, IMAGE, END)]})
    return LLAMA_MODEL, tokenizer


class Vocabulary:
    """transformers' tokenizer and ours over the same model."""

    def __init__(self, name: str):
        self.program = find_program()
        self.model, self.reference = make_reference(name)
        self.special = {text: self.reference.convert_tokens_to_ids(text) for text in SPECIAL}

    def ours(self, requests: list) -> list:
        lines = "".join(json.dumps(request) + "\n" for request in requests)
        done = subprocess.run([self.program, self.model, json.dumps(self.special)], input=lines,
                              capture_output=True, text=True, check=False, timeout=300)
        assert done.returncode == 0, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.fixture(scope="module", params=["llama", "demo"])
def vocabulary(request) -> Vocabulary:
    return Vocabulary(request.param)


ALPHABETS = [
    "abcdefghijklmnopqrstuvwxyz     ETAOIN.,:;?!'\n",
    "  \t\n\r\x00\x0b\x0c\x1f\x7f\u00a0\u2028\u2581\u3000\ufeff\u200b",
    "<>/s_unkimage",
    "äöüßéñçøÅЖдяλΩ中国日本語한국어עברשעربي½ﬁ²™‰",
    "😀👩‍👩‍👧‍👦🏳️‍🌈🦙\u0301\u0308\ufffd\U0010fffd\ue000",
    "0123456789+-=*/%$#@()[]{}|\\\"`~^&",
]
WORDS = ["User:", "Assistant:", "\nUser: ", "\nAssistant:", "Question", "Answer", "the", "image",
         "What is in this picture?", "Describe", "   ", "\n\n", "<image", "age>", "</s", "s>", "▁"]


def random_text(rng: random.Random) -> str:
    parts = []
    for _ in range(rng.randrange(1, 9)):
        kind = rng.random()
        if kind < 0.2:
            parts.append(rng.choice(SPECIAL))
        elif kind < 0.45:
            parts.append(rng.choice(WORDS))
        elif kind < 0.5:
            code = rng.randrange(0x110000)
            parts.append(chr(code) if not 0xD800 <= code < 0xE000 else "?")
        elif kind < 0.53:
            parts.append(rng.choice("a \n▁<") * rng.randrange(1, 60))
        else:
            alphabet = rng.choice(ALPHABETS)
            parts.append("".join(rng.choice(alphabet) for _ in range(rng.randrange(1, 12))))
    return "".join(parts)


def assert_equal(requests: list, ours: list, reference: list) -> None:
    assert len(ours) == len(reference) == len(requests)
    wrong = [(q, a, b) for q, a, b in zip(requests, ours, reference, strict=True) if a != b]
    assert not wrong, f"{len(wrong)} of {len(requests)} differ, first: {wrong[0]}"


def test_random_strings_have_the_ids_of_transformers(vocabulary):
    rng = random.Random(1)
    requests = [{"encode": random_text(rng), "policy": "all"} for _ in range(NUM_STRINGS)]
    reference = vocabulary.reference(
        [r["encode"] for r in requests], add_special_tokens=False)["input_ids"]
    assert_equal(requests, vocabulary.ours(requests), reference)


def test_random_ids_decode_as_in_transformers(vocabulary):
    rng = random.Random(2)
    special = list(vocabulary.special.values())
    size = len(vocabulary.reference)
    requests = []
    for _ in range(NUM_STRINGS):
        ids = []
        for _ in range(rng.randrange(12)):
            kind = rng.random()
            if kind < 0.3:
                ids.append(rng.randrange(size))
            elif kind < 0.45:
                ids.append(rng.choice(special))
            elif kind < 0.6:
                ids += [3 + byte for byte in rng.choice("é😀中\n ").encode()]
            elif kind < 0.8:
                ids.append(3 + rng.randrange(256))
            else:
                ids += vocabulary.reference.encode(rng.choice(WORDS), add_special_tokens=False)
        requests.append({"decode": ids, "skip": rng.random() < 0.5})
    reference = [vocabulary.reference.decode(r["decode"], skip_special_tokens=r["skip"],
                                             clean_up_tokenization_spaces=False) for r in requests]
    assert_equal(requests, vocabulary.ours(requests), reference)


def test_plain_text_never_gives_a_special_id(vocabulary):
    rng = random.Random(3)
    requests = [{"encode": random_text(rng), "policy": policy}
                for _ in range(1000) for policy in ("none", "turns")]
    for request, ids in zip(requests, vocabulary.ours(requests), strict=True):
        banned = set(vocabulary.special.values()) if request["policy"] == "none" else {
            vocabulary.special[FAKE], vocabulary.special[IMAGE]}
        assert not banned & set(ids), request


def test_random_prompts_are_those_of_the_idefics_processor(vocabulary):
    transformers = pytest.importorskip("transformers")
    image_module = pytest.importorskip("PIL.Image", reason="Pillow is not installed")
    processor = transformers.IdeficsProcessor(
        transformers.IdeficsImageProcessor(image_size=14), vocabulary.reference)
    picture = image_module.new("RGB", (14, 14))
    rng = random.Random(4)
    requests, reference = [], []
    for _ in range(NUM_PROMPTS):
        items = [None if rng.random() < 0.4 else rng.choice(["", " ", random_text(rng)])
                 for _ in range(rng.randrange(1, 8))]
        # A text that transformers would fetch, or that urlparse refuses, is no text there.
        items = ["x " + item if item and "//" in item else item for item in items]
        add_end = rng.random() < 0.5
        requests.append({"prompt": items, "add_end_of_utterance": add_end})
        answer = processor(text=[picture if item is None else item for item in items],
                           add_end_of_utterance_token=add_end, return_tensors="pt")
        seen = [row.index(1) if 1 in row else -1 for row in answer["image_attention_mask"][0].int()
                .tolist()]
        reference.append([answer["input_ids"][0].tolist(), seen])
    assert_equal(requests, vocabulary.ours(requests), reference)


def test_urls_are_told_from_text_as_in_transformers(vocabulary):
    module = pytest.importorskip("transformers.models.idefics.processing_idefics")

    def is_url(text: str):
        try:
            return module.is_url(text)
        except ValueError:
            return "error"

    rng = random.Random(5)
    pieces = [
        "http", "https", "User", "a+b-.1", "1x", "é", ":", ":", "://", "://", "//", "/", "?", "#",
        "@", "[", "]", "[::1]", "[1::", "1.2.3.4", "[1:2:3:4:5:6:7:8]", "[::1.2.3.4]",
        "[::01.2.3.4]", "[fe80::1%e]", "%", "v1.x", "[v1.x]", "::", "1:", "ffff", "12345", " ",
        "\t", "\n", "\r", "\x00", "\x1f", "\x7f", "\u00a0", "\u2100", "\uff0f", "\u2048", "\ufe55",
        "x", "host", ".jpg", "\u3000", "ℵ", "²"
    ]
    texts = ["".join(rng.choice(pieces) for _ in range(rng.randrange(8))) for _ in range(20000)]
    if hasattr(urllib.parse, "_check_bracketed_netloc"):  # newer Python: stricter around brackets
        texts = [text for text in texts if "[" not in text]
    requests = [{"url": text} for text in texts]
    assert_equal(requests, vocabulary.ours(requests), [is_url(text) for text in texts])
