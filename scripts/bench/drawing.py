# SPDX-License-Identifier: Apache-2.0
"""How the charts of scripts/bench look. Needs matplotlib (requirements-plot.txt)."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib

matplotlib.use("Agg")

from matplotlib import pyplot
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Of Okabe and Ito: told apart with any eyes, and in grey.
BLUE, ORANGE, GREEN, RED, GREY = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#BBBBBB"
WIDTH = 8.0  # inches
DPI = 130

matplotlib.rcParams.update({
    "font.size": 9, "axes.titlesize": 10, "axes.titlelocation": "left", "axes.spines.top": False,
    "axes.spines.right": False, "axes.grid": True, "grid.alpha": 0.25, "legend.frameon": False,
    "figure.constrained_layout.use": True
})


def panels(titles: Sequence[str], height: float = 2.0) -> tuple[Figure, list[Axes]]:
    """One below the other over the same x; height: of each, in inches."""
    figure, axes = pyplot.subplots(len(titles), 1, sharex=True, squeeze=False,
                                   figsize=(WIDTH, height * len(titles)))
    column = [row[0] for row in axes]
    for panel, title in zip(column, titles, strict=True):
        panel.set_title(title)
    return figure, column


def beside(titles: Sequence[str], height: float = 2.6) -> tuple[Figure, list[Axes]]:
    """One beside the other; height in inches."""
    figure, axes = pyplot.subplots(1, len(titles), squeeze=False, figsize=(WIDTH, height))
    for panel, title in zip(axes[0], titles, strict=True):
        panel.set_title(title)
    return figure, list(axes[0])


def legend(panel: Axes) -> None:
    """Above the panel, beside its title."""
    panel.legend(loc="lower right", bbox_to_anchor=(1, 0.98), ncols=4, fontsize=8)


def save(figure: Figure, path: Path) -> None:
    """The same numbers give the same bytes."""
    figure.savefig(path, dpi=DPI, metadata={"Software": None})
    pyplot.close(figure)
