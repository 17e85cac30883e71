"""Plots as SVG for pages. Text and colours are those of the page and follow its light or dark scheme."""

from __future__ import annotations

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib import rc_context, rcdefaults, rcParams
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from nerfgen.metric import Estimate, pearson

# Colours that stand for variables of the page's style sheet; no plot uses them otherwise.
_VARIABLES = {
    "#0a0b00": "--ink",
    "#0a0b01": "--soft",
    "#0a0b02": "--line",
    **{f"#0a0c0{k}": f"--series-{k + 1}" for k in range(6)},
}
_INK, _SOFT, _LINE, *_SERIES = _VARIABLES
_MARKERS = "osD^vP"
_DASHES = ("-", "--", "-.", ":")
_DRAWN = 1500
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "text.parse_math": False,
    "svg.hashsalt": "nerfgen",
    "font.size": 8.5,
    "text.color": _INK,
    "axes.labelcolor": _SOFT,
    "axes.edgecolor": _LINE,
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "xtick.color": _LINE,
    "ytick.color": _LINE,
    "xtick.labelcolor": _SOFT,
    "ytick.labelcolor": _SOFT,
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "legend.fontsize": 8,
}


@dataclass(frozen=True)
class Curve:
    """Estimates over a setting, such as one metric of one table."""

    label: str
    x: Sequence[float]
    estimates: Sequence[Estimate]


def histogram(
    values: Sequence[Float[np.ndarray, "_"]], labels: Sequence[str], x_label: str, name: str
) -> str:
    """Histogram of single values with a line at each mean; several reports are drawn as outlines.

    Args:
        labels: letters of the reports; hidden for a single one.
        name: unique name of the plot in its page.
    """
    with _style():
        figure, axes = _axes(3.1, 1.75)
        series = [each[np.isfinite(each)] for each in values]
        edges = np.histogram_bin_edges(np.concatenate(series), bins=16).tolist()
        for place, each in enumerate(series):
            color, dash = _SERIES[place % 6], _DASHES[place % 4]
            axes.hist(
                each,
                edges,
                histtype="stepfilled" if len(series) == 1 else "step",
                color=color,
                alpha=0.55 if len(series) == 1 else 1,
                linestyle=dash,
                linewidth=1.3,
            )
            if len(each):
                own = color if len(series) > 1 else _INK
                axes.axvline(each.mean(), color=own, linestyle=dash, label=f"{labels[place]}, mean")
        axes.set_xlabel(x_label)
        axes.set_ylabel("items")
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        if len(series) > 1:
            axes.legend(loc="best", handlelength=1.6)
        return _svg(figure, name, f"Distribution of {x_label}")


def scatter(
    pairs: Sequence[tuple[Float[np.ndarray, "_"], Float[np.ndarray, "_"]]],
    labels: Sequence[str],
    x_label: str,
    y_label: str,
    name: str,
    *,
    small: bool = False,
    fitted: bool = True,
) -> str:
    """Scatter plot with least-squares lines, and with the line y = x if both axes have similar ranges.

    Args:
        pairs: x and y of each series; at most 1500 evenly spaced points are drawn.
        labels: letters of the reports; hidden for a single one.
        name: unique name of the plot in its page.
        small: make a smaller plot.
        fitted: draw the least-squares line of each series.
    """
    with _style():
        figure, axes = _axes(3.1, 2.7) if small else _axes(4.4, 3.5)
        finite = [(x[both], y[both]) for x, y in pairs for both in [np.isfinite(x) & np.isfinite(y)]]
        for place, (x, y) in enumerate(finite):
            color = _SERIES[place % 6]
            chosen = np.linspace(0, len(x) - 1, min(len(x), _DRAWN)).round().astype(int)
            axes.plot(
                x[chosen],
                y[chosen],
                _MARKERS[place % 6],
                color=color,
                markersize=3,
                alpha=0.6,
                markeredgewidth=0,
                label=labels[place] if len(pairs) > 1 else None,
            )
            if fitted and len(x) > 2 and np.ptp(x) > 0:
                slope, offset = np.polyfit(x, y, 1)
                ends = np.array([x.min(), x.max()])
                axes.plot(
                    ends,
                    slope * ends + offset,
                    color=color if len(pairs) > 1 else _INK,
                    linewidth=1.2,
                    linestyle=_DASHES[place % 4],
                    label=f"least squares, r = {pearson(x, y):.2f}",
                )
        _identity(axes, finite)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if axes.get_legend_handles_labels()[0]:
            axes.legend(loc="best", handlelength=2)
        return _svg(figure, name, f"{y_label} over {x_label}")


def curves(
    lines: Sequence[Curve], x_label: str, y_label: str, name: str, ticks: Sequence[str], logarithmic: bool
) -> str:
    """Estimates over a setting, with confidence intervals as bands or bars.

    Args:
        name: unique name of the plot in its page.
        ticks: labels at 0, 1, ... for settings that are not numbers; empty for numbers.
        logarithmic: use a logarithmic x axis.
    """
    with _style():
        figure, axes = _axes(4.4, 2.7) if len(lines) > 1 else _axes(3.1, 2.2)
        for place, curve in enumerate(lines):
            color = _SERIES[place % 6]
            bounds = np.array([[each.low, each.high] for each in curve.estimates])
            means = [each.mean for each in curve.estimates]
            if ticks:
                axes.errorbar(
                    curve.x,
                    means,
                    np.abs(bounds.T - means),
                    fmt=_MARKERS[place % 6],
                    color=color,
                    capsize=3,
                    markersize=4,
                    label=curve.label,
                )
                continue
            axes.fill_between(curve.x, *bounds.T, color=color, alpha=0.2, linewidth=0)
            axes.plot(
                curve.x,
                means,
                marker=_MARKERS[place % 6],
                linestyle=_DASHES[place % 4],
                color=color,
                markersize=4,
                linewidth=1.4,
                label=curve.label,
            )
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlim(-0.5, len(ticks) - 0.5)
        else:
            if logarithmic:
                axes.set_xscale("log")
            places = sorted({x for curve in lines for x in curve.x})
            axes.set_xticks(places, [f"{x:g}" for x in places])
            axes.set_xticks([], minor=True)
        axes.grid(axis="y", color=_LINE, linewidth=0.5)
        axes.set_xlabel(x_label)
        axes.set_ylabel(y_label)
        if len(lines) > 1:
            axes.legend(loc="best")
        return _svg(figure, name, f"{y_label} over {x_label}")


@contextmanager
def _style() -> Iterator[None]:
    """The style of all plots, independent of the user's configuration."""
    with rc_context():
        rcdefaults()
        rcParams.update(_STYLE)
        yield


def _axes(width: float, height: float) -> tuple[Figure, Axes]:
    """An empty plot; size in inches."""
    figure = Figure(figsize=(width, height))
    FigureCanvasSVG(figure)
    return figure, figure.add_subplot()


def _identity(axes: Axes, pairs: Sequence[tuple[np.ndarray, np.ndarray]]) -> None:
    """Draw y = x if the common range is more than half of the whole."""
    if not (x := np.concatenate([x for x, _ in pairs])).size:
        return
    y = np.concatenate([y for _, y in pairs])
    low, high = max(x.min(), y.min()), min(x.max(), y.max())
    if high - low > 0.5 * (max(x.max(), y.max()) - min(x.min(), y.min())):
        axes.plot([low, high], [low, high], color=_SOFT, linewidth=0.8, linestyle=(0, (2, 2)), label="y = x")


def _svg(figure: Figure, name: str, label: str) -> str:
    """The plot as an element of a page. Its ids are prefixed: a page has many plots."""
    stream = io.StringIO()
    figure.savefig(
        stream, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
    )
    text = stream.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>\s*", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\s*", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    # Names of tables and metrics are those of a file.
    name = re.sub(r"[^A-Za-z0-9_-]", "_", name)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r'(href="#|url\(#)', rf"\1{name}-", text)
    for color, variable in _VARIABLES.items():
        text = text.replace(color, f"var({variable})")
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r"<svg \1 ROLE>", text, count=1)
    title = label.replace("&", "&amp;").replace("<", "&lt;").replace('"', "&quot;")
    return text.replace("ROLE", f'role="img" aria-label="{title}"', 1)
