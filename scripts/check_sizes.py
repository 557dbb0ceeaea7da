#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks sizes of our C++, Python, shell, CMake and page: files, functions, parameters, lines.

A file may have 400 lines (600 with a first comment that says "Long because"), a header 200, a
function 60 lines (a table: any, with such a comment before it) and in C++ 6 parameters, a line 130
columns (clang-format holds C++ to 100).
Prints one line a violation; exit status 1 if there is any. Functions of C++ are found by their
braces, not by a compiler; a TEST_CASE counts as one.
"""

import ast
import pathlib
import re
import sys

FILE_LINES, LONG_FILE_LINES, HEADER_LINES = 400, 600, 200
FUNCTION_LINES, PARAMETERS, COLUMNS = 60, 6, 130
SUFFIXES = (".h", ".cc", ".cu", ".cuh", ".py", ".sh", ".cmake", ".js", ".css", ".html")
NOT_FUNCTIONS = {"if", "for", "while", "switch", "catch", "return", "sizeof", "alignas", "decltype",
                 "noexcept", "requires"}


def blanked(text):
    """The text with comments, strings and preprocessor lines overwritten by spaces; newlines
    stay."""
    pattern = re.compile(r'//[^\n]*|/\*.*?\*/|R"\((?:.*?)\)"|"(?:\\.|[^"\\\n])*"|'
                         r"(?<![0-9a-fA-F])'(?:\\.|[^'\\\n])+'|^[ \t]*#(?:[^\n\\]|\\.|\\\n)*",
                         re.S | re.M)
    return pattern.sub(lambda match: re.sub(r"[^\n]", " ", match.group()), text)


def opening(text, close):
    """The position of the parenthesis that text[close] closes."""
    depth = 0
    for at in range(close, -1, -1):
        depth += {")": 1, "(": -1}.get(text[at], 0)
        if depth == 0:
            return at
    return -1


def parameter_count(inside):
    depth, commas = 0, 0
    for character in inside:
        depth += 1 if character in "(<[{" else -1 if character in ")>]}" else 0
        commas += character == "," and depth == 0
    return commas + 1 if inside.strip() else 0


def header_of(head):
    """Returns (name, parameters) if `head`, the text before a brace, declares a function."""
    tail = re.sub(r"->[^(){}]*$", "", head)
    # A constructor's initialisers come between the parameters and the brace.
    initialisers = re.search(r"\)\s*:\s*[A-Za-z_]\w*\s*[({]", tail)
    if initialisers:
        tail = tail[:initialisers.start() + 1]
    match = re.search(r"\)\s*(?:const|noexcept|override|final|mutable|&|\s)*$", tail)
    if not match:
        return None
    close = tail.index(")", match.start())
    start = opening(tail, close)
    name = re.search(r"([A-Za-z_~][\w:~]*|operator\S+|\])\s*$", tail[:max(start, 0)])
    if not name or name.group(1) in NOT_FUNCTIONS:
        return None
    return name.group(1), parameter_count(tail[start + 1:close])


def cpp_functions(text):
    """Yields (line, name, lines, parameters) of each function body."""
    text = blanked(text)
    stack = []
    head_start = 0
    for at, character in enumerate(text):
        if character == "{":
            stack.append((at, header_of(text[head_start:at])))
        elif character == "}" and stack:
            opened, function = stack.pop()
            if function:
                first = text.count("\n", 0, opened) + 1
                yield first, function[0], text.count("\n", opened, at) + 1, function[1]
        if character in "{};":
            head_start = at + 1


def python_functions(text):
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            yield node.lineno, node.name, (node.end_lineno or 0) - node.lineno + 1, 0


def violations(path, text):
    lines = text.split("\n")
    limit = HEADER_LINES if path.endswith((".h", ".cuh")) else FILE_LINES
    if limit == FILE_LINES and "Long because" in "\n".join(lines[:12]):
        limit = LONG_FILE_LINES
    if len(lines) - 1 > limit:
        yield f"{path}: {len(lines) - 1} lines, the limit is {limit}"
    if not any("SPDX-License-Identifier: Apache-2.0" in line for line in lines[:3]):
        yield (f"{path}: its first lines do not name the licence (SPDX-License-Identifier: "
               f"Apache-2.0)")
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS:
            yield f"{path}:{number}: {len(line)} columns, the limit is {COLUMNS}"
    if path.endswith((".h", ".cc", ".cu", ".cuh")):
        functions = cpp_functions(text)
    elif path.endswith(".py"):
        functions = python_functions(text)
    else:
        functions = ()
    for line, name, length, parameters in functions:
        if length > FUNCTION_LINES and "Long because" not in "\n".join(
                lines[max(line - 4, 0):line]):
            yield f"{path}:{line}: {name} has {length} lines, the limit is {FUNCTION_LINES}"
        if parameters > PARAMETERS:
            yield f"{path}:{line}: {name} has {parameters} parameters, the limit is {PARAMETERS}"


def main():
    found = []
    for path in sorted(pathlib.Path(".").rglob("*")):
        hidden = any(part.startswith(".") for part in path.parts)
        source = path.suffix in SUFFIXES or path.name == "CMakeLists.txt"
        if source and path.parts[0] != "build" and not hidden:
            found += violations(str(path), path.read_text())
    print("\n".join(found) or "sizes: every file and function is within its limit")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
