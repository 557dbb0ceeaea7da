# SPDX-License-Identifier: Apache-2.0
"""The tokenizer of a checkpoint: the bytes of tokenizer.model and the ids of its special tokens,
checked."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .config import CheckpointConfig, read_json
from .errors import ExportError
from .sentencepiece_proto import BYTE, CONTROL, NORMAL, UNKNOWN, Piece, bpe_model, read_pieces

FAKE_IMAGE, IMAGE, END_OF_UTTERANCE = "<fake_token_around_image>", "<image>", "<end_of_utterance>"
# The additional rows of the released models, in this order.
RELEASED = [FAKE_IMAGE, IMAGE, END_OF_UTTERANCE]


@dataclass(frozen=True)
class Tokenizer:
    model: bytes  # tokenizer.model
    special_tokens: list[tuple[str, int]]  # ascending ids
    unk: int
    bos: int
    eos: int
    pad: int
    fake_image: int
    image: int
    end_of_utterance: int  # -1: a base model


def read_tokenizer(folder: Path, config: CheckpointConfig) -> Tokenizer:
    path = folder / "tokenizer.model"
    model = path.read_bytes() if path.exists() else _model_from_json(folder)
    try:
        pieces = read_pieces(model)
    except ValueError as error:
        raise ExportError(
            f"{path} is not a sentencepiece model ({error}): fetch it again") from None
    if not pieces:
        raise ExportError(f"{path} is not a sentencepiece model (it has no pieces): fetch it again")
    if len(pieces) > config.base_vocab_size:
        raise ExportError(
            f"{path} has {len(pieces)} pieces, config.json's vocab_size is "
            f"{config.base_vocab_size}: "
            "the two are not of one model")
    control = _control_ids(path, pieces, config)
    added = _added_tokens(folder, config)
    _check_added(added, pieces, config)
    literals = {**{pieces[i].text: i for i in control}, **added}
    return Tokenizer(model=model,
                     special_tokens=sorted(literals.items(), key=lambda item: item[1]),
                     unk=control[0],
                     bos=config.bos,
                     eos=config.eos,
                     pad=config.pad,
                     fake_image=literals[FAKE_IMAGE],
                     image=literals[IMAGE],
                     end_of_utterance=literals.get(END_OF_UTTERANCE, -1))


def _control_ids(path: Path, pieces: list[Piece], config: CheckpointConfig) -> list[int]:
    """[unk, bos, eos]"""
    unknown = [i for i, piece in enumerate(pieces) if piece.kind == UNKNOWN]
    if len(unknown) != 1:
        raise ExportError(
            f"{path} has {len(unknown)} unknown pieces, expected one (<unk>): fetch it again")
    for name, i in (("bos_token_id", config.bos), ("eos_token_id", config.eos)):
        if i >= len(pieces) or pieces[i].kind != CONTROL:
            raise ExportError(
                f"config.json's {name} is {i}, which is no control token of {path}: the two are "
                f"not of "
                "one model")
    if config.pad >= config.shape.vocab_size:
        raise ExportError(
            f"config.json's pad_token_id is {config.pad}, the model has {config.shape.vocab_size} "
            "tokens: correct it")
    return [unknown[0], config.bos, config.eos]


def _named_in(folder: Path) -> Iterator[tuple[str, str, Any]]:
    """(file, literal, id) of every added token that a tokenizer file gives an id."""
    path = folder / "tokenizer.json"
    if path.exists():
        for entry in _table(read_json(path).get("added_tokens"), list, path, "added_tokens"):
            token = _table(entry, dict, path, "added_tokens")
            yield path.name, token.get("content"), token.get("id")
    path = folder / "tokenizer_config.json"
    if path.exists():
        decoder = _table(
            read_json(path).get("added_tokens_decoder"), dict, path, "added_tokens_decoder")
        for number, entry in decoder.items():
            content = _table(entry, dict, path, "added_tokens_decoder").get("content")
            yield path.name, content, int(number) if number.isdecimal() else number
    path = folder / "added_tokens.json"
    if path.exists():
        for content, number in read_json(path).items():
            yield path.name, content, number


def _table(value: Any, kind: type, path: Path, key: str) -> Any:
    value = kind() if value is None else value
    if not isinstance(value, kind):
        raise ExportError(
            f"{path}: {key} is a {type(value).__name__}, expected a {kind.__name__}: fetch it again"
        )
    return value


def _added_tokens(folder: Path, config: CheckpointConfig) -> dict[str, int]:
    added: dict[str, int] = {}
    for file, literal, number in _named_in(folder):
        if not isinstance(literal, str) or not literal or isinstance(
                number, bool) or not isinstance(number, int):
            raise ExportError(
                f"{folder / file} gives the token {literal!r} the id {number!r}: fetch it again")
        if added.setdefault(literal, number) != number:
            raise ExportError(
                f"the tokenizer files of {folder} give the token {literal} the ids "
                f"{added[literal]} and "
                f"{number}: they are not of one model")
    if FAKE_IMAGE in added or IMAGE in added:
        return added
    # Only tokenizer.model and names without ids: transformers numbers them from the end of the
    # vocabulary.
    names = _names_without_ids(folder) or RELEASED[:config.additional_vocab_size]
    return {**added, **{name: config.base_vocab_size + i for i, name in enumerate(names)}}


def _names_without_ids(folder: Path) -> list[str]:
    for file in ("special_tokens_map.json", "tokenizer_config.json"):
        path = folder / file
        values = read_json(path).get("additional_special_tokens") if path.exists() else None
        if values:
            names = [
                v.get("content") if isinstance(v, dict) else v
                for v in _table(values, list, path, "tokens")
            ]
            return [name for name in names if isinstance(name, str)]
    return []


def _check_added(added: dict[str, int], pieces: list[Piece], config: CheckpointConfig) -> None:
    total = config.shape.vocab_size
    for literal, number in added.items():
        if not 0 <= number < total:
            raise ExportError(
                f"the tokenizer gives the token {literal} the id {number}, the model has {total} "
                f"tokens "
                "(vocab_size + additional_vocab_size): the two are not of one model")
        if number < len(pieces) and pieces[number].text != literal:
            raise ExportError(
                f"the tokenizer gives the token {literal} the id {number}, which is the piece "
                f"{pieces[number].text!r} of tokenizer.model: the files are not of one model")
    for literal in (FAKE_IMAGE, IMAGE):
        if literal not in added:
            raise ExportError(
                f"the tokenizer has no token {literal}: an IDEFICS checkpoint names it in "
                "tokenizer.json, tokenizer_config.json or added_tokens.json")
    unnamed = sorted(set(range(config.base_vocab_size, total)) - set(added.values()))
    if unnamed:
        raise ExportError(
            f"config.json has {config.additional_vocab_size} additional tokens, the tokenizer "
            f"names none "
            f"with the id {unnamed[0]}: the two are not of one model")
    if len(set(added.values())) < len(added):
        raise ExportError("the tokenizer gives two tokens the same id: fetch its files again")


def _model_from_json(folder: Path) -> bytes:
    """tokenizer.model rebuilt from the LLaMA BPE of a tokenizer.json; refused where the two would
    not be equal."""
    path = folder / "tokenizer.json"
    if not path.exists():
        raise ExportError(f"{folder} has no tokenizer.model and no tokenizer.json: fetch them")
    model = _table(read_json(path).get("model"), dict, path, "model")
    vocab, merges = model.get("vocab"), model.get("merges")
    good = (model.get("type") == "BPE" and model.get("byte_fallback") is True
            and isinstance(vocab, dict) and isinstance(merges, list)
            and sorted(vocab.values()) == list(range(len(vocab))))
    if good:
        pieces = [
            _llama_piece(i, text) for i, text in enumerate(sorted(vocab, key=vocab.__getitem__))
        ]
        good = derived_merges(pieces) == [
            tuple(m.split(" ", 1)) if isinstance(m, str) else tuple(m) for m in merges
        ]
    if not good:
        raise ExportError(
            f"{path} is not a LLaMA byte-fallback BPE: put the tokenizer.model of the checkpoint "
            f"beside "
            "it")
    return bpe_model(pieces)


def _llama_piece(number: int, text: str) -> Piece:
    """<unk>, <s>, </s>, 256 bytes, then pieces whose scores fall by one; runs of spaces are merged
    last."""
    if number < 3:
        return Piece(text, 0.0, UNKNOWN if number == 0 else CONTROL)
    if number < 259:
        return Piece(text, 0.0, BYTE)
    return Piece(text, -1e9 if set(text) == {"\u2581"} else float(259 - number), NORMAL)


def derived_merges(pieces: list[Piece]) -> list[tuple[str, str]]:
    """The merge list that transformers derives from a sentencepiece BPE model."""
    ids = {piece.text: i for i, piece in enumerate(pieces)}
    merges = []
    for piece in pieces:
        splits = [(piece.text[:at], piece.text[at:]) for at in range(1, len(piece.text))]
        known = [split for split in splits if split[0] in ids and split[1] in ids]
        merges += [(piece.score, split)
                   for split in sorted(known, key=lambda s: (ids[s[0]], ids[s[1]]))]
    merges.sort(key=lambda entry: entry[0], reverse=True)
    return [split for _, split in merges]
