# SPDX-License-Identifier: Apache-2.0
"""Whether a series is flat, and its picture.

Judged are the last two thirds of the run, cut into 24 pieces of equal length, each by its median.
The growth is the median of the slopes between any two pieces (Theil and Sen's line: a few odd
pieces do not tilt it) times the length of what is judged. Flat: at most a share of the median, or
an absolute allowance where that is more.
"""

import itertools
import statistics
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

NUM_PIECES = 24
WIDTH, PANEL_HEIGHT, LEFT, GAP = 720, 110, 90, 34
NUM_POINTS = 240  # of a drawn line


@dataclass(frozen=True)
class Allowance:
    share: float
    absolute: float


@dataclass(frozen=True)
class Verdict:
    median: float
    growth: float  # over what is judged
    most: float

    @property
    def flat(self) -> bool:
        return self.growth <= self.most


@dataclass(frozen=True)
class Line:
    seconds: Sequence[float]
    values: Sequence[float]


def medians(values: Sequence[float], count: int) -> list[float]:
    """Of `count` pieces, or of single values where there are fewer."""
    count = min(count, len(values))
    edges = [len(values) * i // count for i in range(count + 1)]
    return [statistics.median(values[a:b]) for a, b in itertools.pairwise(edges)]


def judge(values: Sequence[float], allowance: Allowance) -> Verdict:
    pieces = medians(values[len(values) // 3:], NUM_PIECES)
    slopes = [(b - a) / (j - i)
              for (i, a), (j, b) in itertools.combinations(enumerate(pieces), 2)]
    middle = statistics.median(pieces)
    growth = statistics.median(slopes) * (len(pieces) - 1) if slopes else 0.0
    return Verdict(middle, growth, max(allowance.share * abs(middle), allowance.absolute))


def draw(title: str, panels: dict[str, list[Line]], path: Path) -> None:
    """From zero up, over minutes; medians of equal pieces of time. A panel's second line is
    dashed."""
    height = GAP + len(panels) * (PANEL_HEIGHT + GAP)
    end = max(line.seconds[-1] for lines in panels.values() for line in lines)
    root = ET.Element("svg", xmlns="http://www.w3.org/2000/svg", width=str(WIDTH),
                      height=str(height), viewBox=f"0 0 {WIDTH} {height}")
    style = ET.SubElement(root, "style")
    style.text = ("text{font:12px sans-serif;fill:#444}path{fill:none;stroke:#0b6fb8;"
                  "stroke-width:1.5}path.rest{stroke-dasharray:5 3;stroke:#c2571a}"
                  "rect{fill:none;stroke:#bbb}svg{background:#fff}")

    def write(x: float, y: float, text: str, anchor: str = "start") -> None:
        label = ET.SubElement(root, "text", {"x": f"{x:g}", "y": f"{y:g}", "text-anchor": anchor})
        label.text = text

    write(LEFT, 18, title)
    inner = WIDTH - LEFT - 20
    for number, (name, lines) in enumerate(panels.items()):
        top = GAP + number * (PANEL_HEIGHT + GAP)
        highest = max(*(max(line.values) for line in lines), 1e-9) * 1.1
        ET.SubElement(root, "rect", x=str(LEFT), y=str(top), width=str(inner),
                      height=str(PANEL_HEIGHT))
        for line, kind in zip(lines, ("load", "rest"), strict=False):
            steps = [f"{LEFT + inner * t / end:.1f} {top + PANEL_HEIGHT * (1 - v / highest):.1f}"
                     for t, v in zip(medians(line.seconds, NUM_POINTS),
                                     medians(line.values, NUM_POINTS), strict=True)]
            ET.SubElement(root, "path", {"class": kind, "d": "M" + "L".join(steps)})
        write(LEFT - 6, top + 10, f"{highest:.3g}", "end")
        write(LEFT - 6, top + PANEL_HEIGHT, "0", "end")
        write(LEFT + 6, top + PANEL_HEIGHT - 6, name)
        if number == len(panels) - 1:
            write(LEFT, top + PANEL_HEIGHT + 16, "0")
            write(LEFT + inner, top + PANEL_HEIGHT + 16, f"{end / 60:.3g} min", "end")
    path.write_text(ET.tostring(root, encoding="unicode") + "\n")
