#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks what nvcc refuses and the kernels' run on the host cannot show: that code of the device
calls a function of the host alone, one without __device__, constexpr or not, or of std.

It goes by names: of the functions in predictor/ops/cuda and in what that includes from here. Prints
one line a call; exit status 1 if there is any.
"""

import pathlib
import re
import sys

FOLDER = pathlib.Path("predictor/ops/cuda")
# The host's own: what stands for CUDA there.
EMULATOR = ("cuda_emulator.h", "cuda_emulator.cc", "host_device.h")
COMMENT_OR_STRING = re.compile(r'//[^\n]*|/\*.*?\*/|"(?:\\.|[^"\\\n])*"', re.S)
INCLUDE = re.compile(r'^\s*#\s*include\s*"([^"]+)"', re.M)
NOT_A_NAME = re.compile(r"(?:__launch_bounds__|\balignas|\bdecltype)\((?:[^()]|\([^()]*\))*\)")
PREPROCESSOR = re.compile(r"^[ \t]*#.*$", re.M)
MARK = re.compile(r"[;{}]")
CALL = re.compile(r"((?:\w+::)*)(\w+)\s*(?:<[^;(){}]*>)?\s*\(")


def reached():
    """The kernels' files and the headers of this repository that they include."""
    found = set()
    wanted = {path for path in FOLDER.iterdir() if path.suffix in (".cuh", ".cu", ".h")}
    while wanted:
        path = wanted.pop()
        if path in found or path.name in EMULATOR or not path.is_file():
            continue
        found.add(path)
        wanted.update(map(pathlib.Path, INCLUDE.findall(path.read_text(encoding="utf-8"))))
    return sorted(found)


def without_comments(text):
    """Of the same lines."""
    return COMMENT_OR_STRING.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


def end_of_block(text, at):
    """Behind the brace that closes the one at `at`."""
    depth = 0
    for match in re.compile(r"[{}]").finditer(text, at):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.end()
    return len(text)


def functions(text):
    """-> (head, where its body begins, body) of every function, those of classes too."""
    at = 0
    while match := MARK.search(text, at):
        head, at = NOT_A_NAME.sub("", text[at:match.start()]), match.end()
        if match[0] == "{" and "(" in head:
            at = end_of_block(text, match.start())
            yield head, match.start(), text[match.start():at]


def name_of(head):
    return match[2] if (match := CALL.search(head)) else ""


def main():
    host, device, bodies = {}, set(), []
    for path in reached():
        text = PREPROCESSOR.sub("", without_comments(path.read_text(encoding="utf-8")))
        for head, at, body in functions(text):
            if "__device__" in head or "__global__" in head:
                device.add(name_of(head))
                bodies.append((path, text.count("\n", 0, at) + 1, body))
            else:
                host[name_of(head)] = path
    wrong = []
    for path, line, body in bodies:
        for call in CALL.finditer(body):
            where = f"{path}:{line + body.count(chr(10), 0, call.start())}"
            if call[1] == "std::":
                wrong.append(f"{where}: std::{call[2]} is not for a device")
            elif call[2] in host and call[2] not in device:
                wrong.append(f"{where}: {call[2]} of {host[call[2]]} has no __device__")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
