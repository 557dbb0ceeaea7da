# SPDX-License-Identifier: Apache-2.0
"""The table in README.md: case, tag, what coglet and ours did. A run writes the column of its
target."""

import re
from pathlib import Path

import pytest

from cases import Case

README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- written by --table -->\n", "<!-- end -->\n"
HEAD = "| case | what must hold | tag | coglet 0.22.0 | ours |\n|---:|---|---|---|---|\n"
OF_THE_CONTRACT = 174

seen: dict[str, tuple[Case, str]] = {}  # number -> (case, outcome)


def note(declared: Case, report: pytest.TestReport, call: pytest.CallInfo[None]) -> None:
    """Keeps the worst outcome of a case: parameters and teardown count."""
    if report.skipped:
        assert call.excinfo is not None
        outcome = "skipped: " + str(call.excinfo.value.msg)
    elif report.failed:
        assert call.excinfo is not None
        outcome = "differs: " + (declared.coglet or first_line(call.excinfo))
    elif report.when == "call":
        outcome = "pass"
    else:
        return
    before = seen.get(declared.number, (declared, ""))[1]
    rank = ("", "pass", "skipped", "differs")
    if rank.index(outcome.partition(":")[0]) >= rank.index(before.partition(":")[0]):
        seen[declared.number] = (declared, outcome)


def first_line(failure: pytest.ExceptionInfo[BaseException]) -> str:
    text = str(failure.value).strip().splitlines() or [failure.typename]
    return text[0][:140]


def order(number: str) -> tuple[int, str]:
    digits, letter = re.findall(r"^(\d+)(.*)", number)[0]
    return int(digits), letter


def rows_of(text: str) -> dict[str, list[str]]:
    """{number: [number, title, tag, coglet, ours]} of a written table."""
    lines = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    return {
        cells[0]: cells
        for cells in ([cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
                      for line in lines)
    }


def write(column: str) -> None:
    text = README.read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    rows, after = rows_of(rest.partition(END)[0]), rest.partition(END)[2]
    for number, (declared, outcome) in seen.items():
        row = rows.setdefault(number, [number, "", "", "", ""])
        row[1:3] = [escaped(declared.title), declared.tag]
        row[3 if column == "coglet" else 4] = escaped(outcome)
    lines = ["| " + " | ".join(rows[number]) + " |\n" for number in sorted(rows, key=order)]
    text = before + BEGIN + summary(list(rows.values())) + HEAD + "".join(lines) + END + after
    README.write_text(text, encoding="utf-8")


def summary(rows: list[list[str]]) -> str:
    """How many of the contract's cases ours passes, a case with all its parts; and coglet of those
    tagged "c"."""
    ours: dict[int, list[str]] = {}
    for number, _, _, _, outcome in rows:
        ours.setdefault(order(number)[0], []).append(outcome.partition(":")[0])
    judged = [next((word for word in ("differs", "skipped") if word in parts), "pass")
              for case, parts in ours.items() if case <= OF_THE_CONTRACT]
    equal = [coglet.partition(":")[0] for _, _, tag, coglet, _ in rows if tag == "c"]
    return (
        f"Of the contract's {OF_THE_CONTRACT} cases ours passes {judged.count('pass')}, differs in "
        f"{judged.count('differs')}, skips {judged.count('skipped')}. The table has {len(rows)} "
        f"rows (further cases, "
        f"parts of a case); ours passes "
        f"{sum(row[4] == 'pass' for row in rows)} of them, coglet {equal.count('pass')} of the "
        f"{len(equal)} tagged `c`.\n\n"
    )


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")
