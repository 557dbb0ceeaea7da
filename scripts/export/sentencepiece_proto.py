# SPDX-License-Identifier: Apache-2.0
"""The few fields of sentencepiece's ModelProto that an export needs, read and written without
protobuf.

ModelProto: pieces = 1 {piece = 1, score = 2, type = 3}, trainer_spec = 2, normalizer_spec = 3.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = range(1, 7)
_BPE = 2
_VARINT, _FIXED64, _LENGTH, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class Piece:
    text: str
    score: float
    kind: int


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("a number is too long")


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, value: int or bytes) of one message; ValueError or IndexError where it is
    none."""
    at = 0
    while at < len(data):
        key, at = _varint(data, at)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, at = _varint(data, at)
        else:
            size: int | None = {_FIXED64: 8, _FIXED32: 4}.get(kind)
            if kind == _LENGTH:
                size, at = _varint(data, at)
            if size is None or at + size > len(data):
                raise ValueError("a field leaves its message")
            value, at = data[at:at + size], at + size
        yield key >> 3, value


def _piece(data: bytes) -> Piece:
    text, score, kind = b"", 0.0, NORMAL
    for number, value in _fields(data):
        if number == 1:
            text = value
        elif number == 2:
            score = struct.unpack("<f", value)[0]
        elif number == 3:
            kind = value
    return Piece(text.decode("utf-8"), score, kind)


def read_pieces(data: bytes) -> list[Piece]:
    """Pieces by id. Raises ValueError where `data` is no sentencepiece model."""
    try:
        return [_piece(value) for number, value in _fields(data) if number == 1]
    except (ValueError, IndexError, TypeError, AttributeError, struct.error) as error:
        raise ValueError(str(error)) from None


def _key(number: int, kind: int) -> bytes:
    return _number(number << 3 | kind)


def _number(value: int) -> bytes:
    value &= 2**64 - 1
    out = bytearray()
    while value >= 0x80:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(out + bytes([value]))


def _int_field(number: int, value: int) -> bytes:
    return _key(number, _VARINT) + _number(value)


def _bytes_field(number: int, value: bytes) -> bytes:
    return _key(number, _LENGTH) + _number(len(value)) + value


def bpe_model(pieces: list[Piece], unk: int = 0, bos: int = 1, eos: int = 2) -> bytes:
    """A tokenizer.model as LLaMA's: BPE, byte fallback, no normalisation, a dummy prefix."""
    out = bytearray()
    for piece in pieces:
        out += _bytes_field(1, _bytes_field(1, piece.text.encode()) + _key(2, _FIXED32)
                            + struct.pack("<f", piece.score) + _int_field(3, piece.kind))
    out += _bytes_field(
        2,
        _int_field(3, _BPE) + _int_field(4, len(pieces)) + _int_field(35, 1) + _int_field(40, unk)
        + _int_field(41, bos) + _int_field(42, eos) + _int_field(43, -1))
    out += _bytes_field(
        3,
        _bytes_field(1, b"identity") + _int_field(3, 1) + _int_field(4, 0) + _int_field(5, 1))
    return bytes(out)
