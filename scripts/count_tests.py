#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Adds up JUnit files of check.sh, ctest and pytest: prints "N passed, N failed, N skipped" last.

ctest knows only whole programs; the test cases inside are read from Catch2's closing line.
A missing file counts as one failure: its runner did not get so far.
"""

import pathlib
import re
import sys
import xml.etree.ElementTree

CATCH_ALL = re.compile(r"^All tests passed \(.* in (\d+) test cases?\)", re.M)
NOT_XML = re.compile("[^\t\n\r -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
CATCH_SOME = re.compile(r"^test cases: *(\d+)(.*)$", re.M)


def catch_counts(output):
    """Returns (passed, failed, skipped) of one Catch2 program's output, or None if it has none."""
    whole = CATCH_ALL.search(output)
    if whole:
        return int(whole.group(1)), 0, 0
    line = CATCH_SOME.search(output)
    if not line:
        return None
    named = {word: int(number) for number, word in re.findall(r"(\d+) ([a-z]+)", line.group(2))}
    failed = named.get("failed", 0)
    skipped = named.get("skipped", 0)
    return int(line.group(1)) - failed - skipped, failed, skipped


def case_counts(case):
    bad = any(case.find(tag) is not None for tag in ("failure", "error"))
    counts = catch_counts(case.findtext("system-out") or "")
    if counts:
        # A program may fail without a failed case: a crash at exit, a sanitizer's report.
        return (counts[0], max(counts[1], 1), counts[2]) if bad else counts
    if bad:
        return 0, 1, 0
    if case.find("skipped") is not None or case.get("status") in ("disabled", "notrun"):
        return 0, 0, 1
    return 1, 0, 0


def main(paths):
    total = [0, 0, 0]
    for path in map(pathlib.Path, paths):
        if not path.exists():
            print(f"{path.name}: its tests did not run")
            counts = [(0, 1, 0)]
        else:
            # A test's output may hold bytes that XML does not allow.
            text = NOT_XML.sub("?", path.read_text(encoding="utf-8", errors="replace"))
            root = xml.etree.ElementTree.fromstring(text)
            counts = [case_counts(case) for case in root.iter("testcase")]
        own = [sum(column) for column in zip(*counts, strict=True)] or [0, 0, 0]
        print(f"{path.stem}: {own[0]} passed, {own[1]} failed, {own[2]} skipped")
        total = [a + b for a, b in zip(total, own, strict=True)]
    print(f"{total[0]} passed, {total[1]} failed, {total[2]} skipped")
    return 0 if total[1] == 0 and total[0] > 0 else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
