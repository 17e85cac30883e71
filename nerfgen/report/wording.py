"""How figures are told: titles, numbers with the digits that they deserve, and which of two is better."""

from __future__ import annotations

import math
import string

from nerfgen.metric import Estimate
from nerfgen.report.catalogue import METRICS, Figure

NONE = "–"


def figure_of(metric: str) -> Figure:
    """What the catalogue says of a metric, or its bare name if a later version wrote it."""
    return METRICS.get(metric) or Figure(metric, "", 3, "", "")


def titled(metric: str) -> str:
    """The metric with its unit, such as ``PSNR, dB``."""
    figure = figure_of(metric)
    return f"{figure.title}, {figure.unit}" if figure.unit else figure.title


def value_text(metric: str, value: float, signed: bool = False) -> str:
    """The number with the metric's digits; a dash for NaN."""
    if not math.isfinite(value):
        return NONE
    digits = figure_of(metric).digits
    # Adding zero takes the sign from what rounds to zero.
    return f"{round(value, digits) + 0.0:{'+' if signed else ''}.{digits}f}"


def interval_text(metric: str, figure: Estimate, signed: bool = False) -> str:
    """The bounds of the interval; a dash if there is none."""
    if not (math.isfinite(figure.low) and math.isfinite(figure.high)):
        return NONE
    return f"{value_text(metric, figure.low, signed)} to {value_text(metric, figure.high, signed)}"


def verdict(metric: str, difference: Estimate) -> str:
    """What a difference to another report says, in words: only an interval without zero says anything."""
    if not math.isfinite(difference.mean):
        return ""
    if difference.n < 2 or difference.low <= 0 <= difference.high:
        return "no clear difference"
    way = "higher" if difference.mean > 0 else "lower"
    better = figure_of(metric).better
    if not better:
        return way
    return "better" if way == better else "worse"


def letter(place: int) -> str:
    """What a report of several is called in columns that have no room for its name: A, B, ..., Z, A2, ..."""
    turn, which = divmod(place, 26)
    return string.ascii_uppercase[which] + (str(turn + 1) if turn else "")
