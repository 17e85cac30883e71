"""A study: figures of models that differ in one setting."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from nerfgen.evaluate.catalogue import METRICS, TABLES, in_order
from nerfgen.metric import Estimate


@dataclass(frozen=True)
class Point:
    """A model of a study.

    Attributes:
        setting: value of the setting that is swept.
        images: photographs that the model was trained on.
        steps, seconds: of its training.
        figures: by table and metric.
    """

    setting: str
    images: int
    steps: int
    seconds: float
    figures: dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class Study:
    """Models that differ in one setting.

    Attributes:
        name: the setting, such as ``images``.
        points: a model each.
        about: parameters and inputs, as the file records them.
    """

    name: str
    points: list[Point]
    about: dict[str, Any] = field(default_factory=dict)


def study_figures(study: Study) -> dict[str, list[str]]:
    """The metrics that any point has, by table, both in the order of the catalogue."""
    there = [
        (table, metric)
        for point in study.points
        for table, found in point.figures.items()
        for metric in found
    ]
    tables = in_order(TABLES, (table for table, _ in there))
    return {
        table: in_order(METRICS, (metric for other, metric in there if other == table)) for table in tables
    }
