#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Checks that references resolve: every page of docs/ that a file names by its path from the root,
in code and prose alike, with or without an #anchor; every relative Markdown link; and every path
from the root that a Markdown file writes as code, such as `scripts/check_links.py` (NAME, LABEL,
PRESET and * stand for anything, a suffix may be missing). An anchor is the slug that GitHub gives
to a heading. Nothing but a test may name documents or data outside the repository.

Prints one line a broken reference; exit status 1 if there is any.
"""

import functools
import glob
import os
import pathlib
import re
import subprocess
import sys
from collections.abc import Iterator

DOCUMENT = re.compile(r"(?<![\w./-])(docs/[\w./-]*\w\.md)(?:#([\w-]+))?")
LINK = re.compile(r"\[[^\]\[]*\]\(\s*<?([^)\s>]+)>?[^)]*\)|^\[[^\]]+\]:\s*(\S+)", re.M)
FENCE = re.compile(r"^( *)(```|~~~).*?^ *\2[^\n]*$", re.M | re.S)
INLINE = re.compile(r"`([^`\n]*)`")
PATH = re.compile(r"(?:cmake|common|docker|docs|predictor|scripts|server|tests|weights)/[\w./*-]+")
HEADING = re.compile(r"^#{1,6}\s+(.+?)\s*#*\s*$", re.M)
OUTSIDE = re.compile(r"\bspec [0-9]|\.\./shared")
SKIPPED = ("build", ".git")


def tracked_files() -> list[pathlib.Path]:
    """What git tracks or would track; every file outside build/ where this is no repository."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listing = subprocess.run(command, capture_output=True, check=True, text=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return sorted(path for path in pathlib.Path(".").rglob("*")
                      if path.is_file() and path.parts[0] not in SKIPPED)
    return sorted(
        pathlib.Path(name) for name in listing.split("\0") if name and os.path.isfile(name))


def slug(heading: str) -> str:
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).replace("`", "").replace("*", "")
    return re.sub(r"[^\w\- ]", "", text.strip().lower()).replace(" ", "-")


def without(code: re.Pattern[str], text: str) -> str:
    """Markdown in which such code is blank; offsets and lines stay."""
    return code.sub(lambda match: re.sub(r"[^\n]", " ", match[0]), text)


@functools.cache
def anchors(path: str) -> frozenset[str]:
    found: dict[str, int] = {}
    result = set()
    for heading in HEADING.findall(without(FENCE, pathlib.Path(path).read_text(encoding="utf-8"))):
        name = slug(heading)
        seen = found.get(name, 0)
        found[name] = seen + 1
        result.add(f"{name}-{seen}" if seen else name)
    return frozenset(result)


def broken(target: str, anchor: str | None) -> str | None:
    """Why the file `target`, a path from the root, or the anchor in it does not exist; None if it
    does."""
    if not os.path.exists(target):
        return f"there is no {target}"
    if anchor and target.endswith(".md") and anchor not in anchors(target):
        return f"{target} has no heading #{anchor}"
    return None


def references(path: pathlib.Path, text: str) -> Iterator[tuple[int, str, str | None]]:
    """(offset, path from the root, anchor) of every reference in the file."""
    for match in DOCUMENT.finditer(text):
        yield match.start(), match[1], match[2]
    if path.suffix != ".md":
        return
    prose = without(FENCE, text)
    for match in INLINE.finditer(prose):
        pattern = re.sub("NAME|LABEL|PRESET", "*", match[1])
        if PATH.fullmatch(match[1]) and not glob.glob(pattern) and not glob.glob(pattern + ".*"):
            yield match.start(), match[1], None
    for match in LINK.finditer(without(INLINE, prose)):
        target, _, anchor = (match[1] or match[2]).partition("#")
        if not re.match(r"[a-zA-Z][\w+.-]*:", target):
            yield match.start(), os.path.normpath(path.parent
                                                  / target) if target else str(path), anchor


def main() -> int:
    found, count = [], 0
    for path in tracked_files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        if path.parts[0] != "tests":
            found += [f"{path}: '{match[0]}' leads outside" for match in OUTSIDE.finditer(text)]
        for offset, target, anchor in references(path, text):
            count += 1
            if why := broken(target, anchor):
                line = text.count("\n", 0, offset) + 1
                found.append(f"{path}:{line}: {why}")
    print("\n".join(found) or f"links: {count} references resolve")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
