#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Charts of what RESULTS.md has in its tables, into docs/plots. Nothing is drawn that is not a row
there: run it again when rows change.

    plot.py [--out FOLDER]      needs matplotlib (requirements-plot.txt)
"""

import argparse
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from drawing import BLUE, GREY, ORANGE, beside, legend, save
from matplotlib.axes import Axes
from matplotlib.figure import Figure

RESULTS = Path(__file__).with_name("RESULTS.md")
PLOTS = Path(__file__).resolve().parents[2] / "docs/plots"
NUMBER = r"[\d.]+(?:e[+-]?\d+)?"


@dataclass(frozen=True)
class Cell:
    """Median and the smallest and largest round; a plain number is all three."""
    median: float
    least: float
    most: float

    @classmethod
    def read(cls, text: str) -> "Cell":
        """Of a cell as common.Figure writes it, or of one that begins with a number."""
        match = re.match(rf"\**({NUMBER})(?: \(({NUMBER})–({NUMBER})\))?", text)
        if match is None:
            raise SystemExit(f"plot.py: '{text}' in {RESULTS.name} begins with no number")
        median, least, most = match.groups()
        return cls(float(median), float(least or median), float(most or median))


def table(section: str, *columns: str) -> list[dict[str, str]]:
    """The rows of the first table below the heading that has all these columns."""
    text = RESULTS.read_text()
    start = re.search(rf"^##+ {re.escape(section)}.*$", text, re.M)
    if start is None:
        raise SystemExit(f"plot.py: {RESULTS.name} has no section '{section}'")
    body = re.split(r"^## ", text[start.end():], maxsplit=1, flags=re.M)[0]
    for lines in re.findall(r"(?:^\|.*\n)+", body, re.M):
        header, _, *rows = [[cell.strip() for cell in line.strip().strip("|").split("|")]
                            for line in lines.strip().split("\n")]
        if set(columns) <= set(header):
            return [dict(zip(header, row, strict=True)) for row in rows]
    raise SystemExit(f"plot.py: '{section}' has no table with the columns {', '.join(columns)}")


def bars(panel: Axes, groups: list[str], series: dict[str, list[Cell]],
         colours: list[str]) -> None:
    """A bar a median, with whiskers from the smallest to the largest round."""
    width = 0.8 / len(series)
    for number, ((name, cells), colour) in enumerate(zip(series.items(), colours, strict=False)):
        places = [group + (number - (len(series) - 1) / 2) * width for group in range(len(groups))]
        medians = [cell.median for cell in cells]
        spread = [[cell.median - cell.least for cell in cells],
                  [cell.most - cell.median for cell in cells]]
        panel.bar(places, medians, width * 0.92, yerr=spread, color=colour, label=name, capsize=2,
                  error_kw={"elinewidth": 0.8})
        for place, cell in zip(places, cells, strict=True):
            panel.annotate(f"{cell.median:.3g}" if cell.median < 1000 else f"{cell.median:,.0f}",
                           (place, cell.most), (0, 2), textcoords="offset points", ha="center",
                           fontsize=7)
    panel.set_xticks(range(len(groups)), groups)
    panel.margins(y=0.15)
    panel.grid(axis="x", visible=False)


def shell() -> Figure:
    rows = [row for row in table("HTTP shell against coglet", "figure", "ours", "coglet")
            if row["figure"].startswith("predictions/s")]
    figure, (panel, ) = beside(["Predictions a second by the HTTP shell alone, 2 CPUs"])
    bars(panel, [row["figure"].split(", ")[1] for row in rows],
         {"coglet 0.22": [Cell.read(row["coglet"]) for row in rows],
          "cog-idefics": [Cell.read(row["ours"]) for row in rows]}, [GREY, BLUE])
    legend(panel)
    return figure


def one_request() -> Figure:
    decode = table("One request, 9b", "weights", "tokens/s", "× transformers")
    first = table("One request, 9b", "weights", "new picture, s")
    figure, panels = beside(["Tokens a second, one request, 9b",
                             "Seconds to the first token: 62 tokens, a new picture"])
    for panel, rows, column in zip(panels, (decode, first), ("tokens/s", "new picture, s"),
                                   strict=True):
        rows = sorted(rows, key=lambda row: not row["weights"].startswith("transformers"))
        bars(panel, [row["weights"].replace("9b-", "cog-idefics\n").replace(" bf16", "\nbf16")
                     for row in rows], {column: [Cell.read(row[column]) for row in rows]}, [BLUE])
        panel.patches[0].set_color(GREY)
    return figure


def load() -> Figure:
    figure, (tokens, latency) = beside(["Tokens a second against clients, 9b",
                                        "Median answer, ms, against clients (demo's shape)"], 2.8)
    curves: dict[str, list[tuple[float, Cell]]] = {}
    weights = ""
    for row in table("Many requests", "weights", "clients", "tokens/s"):
        weights = row["weights"] or weights
        curves.setdefault(f"cog-idefics {weights}", []).append(
            (float(row["clients"]), Cell.read(row["tokens/s"])))
    lines(tokens, curves, [BLUE, ORANGE])
    rows = [(float(row[""].split(", ")[2].split()[0]), row)
            for row in table("OpenAI's API", "ours", "llama.cpp") if row[""].startswith("p50")]
    lines(latency, {"llama.cpp's server": [(x, Cell.read(row["llama.cpp"])) for x, row in rows],
                    "cog-idefics": [(x, Cell.read(row["ours"])) for x, row in rows]}, [GREY, BLUE])
    return figure


def lines(panel: Axes, curves: dict[str, list[tuple[float, Cell]]], colours: list[str]) -> None:
    """Medians, joined, in a band from the smallest to the largest round."""
    for (name, points), colour in zip(curves.items(), colours, strict=False):
        x = [place for place, _ in points]
        panel.plot(x, [cell.median for _, cell in points], "o-", color=colour, label=name, ms=3)
        panel.fill_between(x, [cell.least for _, cell in points],
                           [cell.most for _, cell in points], color=colour, alpha=0.2, lw=0)
    panel.set_xscale("log", base=2)
    panel.set_xticks(x, [f"{place:g}" for place in x])
    panel.set_ylim(bottom=0)
    panel.legend(loc="upper left", fontsize=8)


CHARTS: dict[str, Callable[[], Figure]] = {
    "shell.png": shell, "one-request.png": one_request, "load.png": load
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=PLOTS)
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for name, draw in CHARTS.items():
        save(draw(), options.out / name)
        print(options.out / name)


if __name__ == "__main__":
    main()
