"""What a table of a report holds: figures item by item, and pictures and points to look at."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen.metric import Estimate, Mean


@dataclass(frozen=True)
class Pictures:
    """A grid of pictures, a row for each item.

    Attributes:
        items: what each row is of.
        columns: what each column shows, such as ``photograph``.
        rgb: the pictures.
    """

    items: list[str]
    columns: list[str]
    rgb: UInt8[np.ndarray, "items columns size size 3"]


@dataclass(frozen=True)
class Points:
    """Pairs of numbers for a plot, ``y`` over ``x``, with the words at its axes."""

    x: Float[np.ndarray, "points"]
    y: Float[np.ndarray, "points"]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class Measured:
    """One value an item, NaN where it could not be measured."""

    items: Sequence[str]
    values: Float[np.ndarray, "items"]


@dataclass(frozen=True)
class Table:
    """One table of a report.

    Attributes:
        values: by the name of the metric (:data:`nerfgen.report.catalogue.METRICS`), what is told as a
            mean over items.
        pooled: the same of figures that are no mean over items.
        notes: of what the table is, in one line each, such as how many photographs could not be used and why.
        missing: what it lacks and how to add it, in one line each.
        pictures, points: to look at, by a short title.
    """

    values: dict[str, Measured]
    pooled: dict[str, Estimate] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    pictures: dict[str, Pictures] = field(default_factory=dict)
    points: dict[str, Points] = field(default_factory=dict)

    def summary(self, seed: int = 0) -> dict[str, Estimate]:
        """Every figure of the table, by its metric."""
        means = {name: Mean(measured.values).estimate(seed) for name, measured in self.values.items()}
        return means | self.pooled


def merged(parts: Sequence[Table]) -> Table:
    """One table of several, whose metrics and titles differ."""
    return Table(
        values={name: measured for part in parts for name, measured in part.values.items()},
        pooled={name: figure for part in parts for name, figure in part.pooled.items()},
        notes=[line for part in parts for line in part.notes],
        missing=[line for part in parts for line in part.missing],
        pictures={title: pictures for part in parts for title, pictures in part.pictures.items()},
        points={title: points for part in parts for title, points in part.points.items()},
    )
