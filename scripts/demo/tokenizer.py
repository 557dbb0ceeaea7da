# SPDX-License-Identifier: Apache-2.0
"""The demo's own tokenizer: a small sentencepiece BPE vocabulary with byte fallback.

`build` trains it on sentences of the world and writes the Hugging Face files; `Encoder`
gives the ids of an IDEFICS prompt exactly as transformers' legacy LLaMA tokenizer does
(each stretch between special tokens is encoded on its own), but with a cache.
"""
import io
import json
import os
import re

import numpy as np
import sentencepiece

from . import questions
from .vocabulary import CLASSES, COLOR_NAMES, PLACES, WORDS
from .world import sample_scene

SPECIAL = ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
FAKE, IMAGE, END = SPECIAL
BASE_SIZE = 1000
MODEL_TYPE = "idefics"


def corpus(count: int = 6000) -> list:
    """Plain sentences of the world, without special tokens."""
    rng = np.random.default_rng(5)
    lines = ["1Assistant:", "1User:"] * 400      # as pieces without a space before them
    lines += ["Assistant:", "User: hello"] * 50
    lines += ["4", "42 7 19"] * 20
    for word in WORDS + CLASSES + COLOR_NAMES + PLACES:
        lines += [f"is {word} in the {word}"] * 30
    for question, answer in questions.TALK:
        lines += [question, question[0].upper() + question[1:], answer] * 12
    while len(lines) < 2500 + count * 2:
        scenes = [sample_scene(int(rng.integers(2**31))) for _ in range(2)]
        row = questions.sample_row(scenes, rng)
        text = "".join(i for i in row.items if isinstance(i, str))
        lines += re.split(r"\n|<end_of_utterance>", text) + [row.answer]
    return [line.strip() for line in lines if line.strip()]


def train_model() -> bytes:
    """The serialised sentencepiece model."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus()), model_writer=out, model_type="bpe",
        vocab_size=BASE_SIZE, byte_fallback=True, split_digits=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False,
        unk_id=0, bos_id=1, eos_id=2, pad_id=-1, character_coverage=1.0,
        hard_vocab_limit=False, num_threads=2, minloglevel=2)
    return out.getvalue()


def build(folder: str) -> None:
    """Write tokenizer.model and transformers' tokenizer files into `folder`."""
    from tokenizers import AddedToken
    from transformers import LlamaTokenizerFast
    os.makedirs(folder, exist_ok=True)
    path = os.path.join(folder, "tokenizer.model")
    with open(path, "wb") as file:
        file.write(train_model())
    tokenizer = LlamaTokenizerFast(vocab_file=path, legacy=True, add_prefix_space=True,
                                   add_bos_token=True, pad_token="<unk>",
                                   model_max_length=2048)
    tokens = [AddedToken(t, lstrip=False, rstrip=False, normalized=False, special=True)
              for t in SPECIAL]
    tokenizer.add_special_tokens({"additional_special_tokens": tokens})
    tokenizer.padding_side = "left"
    tokenizer.save_pretrained(folder)
    # Left in place, add_prefix_space makes every load convert the .model again (protobuf).
    config_path = os.path.join(folder, "tokenizer_config.json")
    with open(config_path) as file:
        config = json.load(file)
    config.pop("add_prefix_space", None)
    with open(config_path, "w") as file:
        json.dump(config, file, indent=2, ensure_ascii=False)
        file.write("\n")


class Encoder:
    """Prompt items to ids, as IdeficsProcessor and its tokenizer make them."""

    def __init__(self, folder: str):
        path = os.path.join(folder, "tokenizer.model")
        self.model = sentencepiece.SentencePieceProcessor(model_file=path)
        self.base = self.model.get_piece_size()
        self.special = {t: self.base + i for i, t in enumerate(SPECIAL)}
        self.special["<s>"] = 1
        self.cache = {}
        self.head = len(self.model.encode("\nAssistant:"))

    def segment(self, text: str) -> list:
        """Ids of a stretch without special tokens."""
        ids = self.cache.get(text)
        if ids is None:
            ids = self.model.encode(text)
            if len(self.cache) < 300000:
                self.cache[text] = ids
        return ids

    def row(self, row) -> tuple:
        """(ids, picture of each token or -1, learn mask) of a row with its answer."""
        text, last_image = "<s>", False
        for item in row.items:
            if isinstance(item, str):
                text += item.strip(" ")
            else:
                text += IMAGE + FAKE if last_image else FAKE + IMAGE + FAKE
            last_image = not isinstance(item, str)
        text += f" {row.answer}{END}"
        pictures = [i for i in row.items if not isinstance(i, str)]
        ids, seen, learn, current, used = [], [], [], -1, 0
        last = text.rfind("\nAssistant:")
        position = 0
        for part in re.split(r"(<s>|<fake_token_around_image>|<image>|<end_of_utterance>)", text):
            if not part:
                continue
            if part in self.special:
                if part == IMAGE:
                    current, used = pictures[used], used + 1
                new = [self.special[part]]
                mask = [bool(part == END and learn and learn[-1])]
            else:
                new = self.segment(part)
                taught = part.startswith("\nAssistant: ") and (row.learn_all or position == last)
                mask = [taught and k >= self.head for k in range(len(new))]
            ids += new
            seen += [current] * len(new)
            learn += mask
            position += len(part)
        return ids, seen, learn
