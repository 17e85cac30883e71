"""A study: figures of models that differ in one setting, as a value and as a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerfgen import artifact
from nerfgen.metric import Estimate
from nerfgen.report.catalogue import METRICS, TABLES, in_order
from nerfgen.report.file import plain_estimate, put_entries, read_entries

SCHEMA = "study/1"


@dataclass(frozen=True)
class Point:
    """One model of a study.

    Attributes:
        setting: value of the setting, as it was given.
        images: photographs that the model was trained on.
        steps: of its training.
        figures: of its report, by table and metric.
    """

    setting: str
    images: int
    steps: int
    figures: dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class Study:
    """Models that differ in one setting.

    Attributes:
        name: of the setting, such as ``images`` or ``lambda_hard``.
        points: in the order that was asked for.
        about: parameters and inputs, as the file records them.
    """

    name: str
    points: list[Point]
    about: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The figures for JSON, an object per point with one per table; NaN is None."""
        return {
            "setting": self.name,
            "points": [
                {"value": point.setting, "images": point.images, "steps": point.steps}
                | {
                    table: {metric: plain_estimate(figure) for metric, figure in figures.items()}
                    for table, figures in point.figures.items()
                }
                for point in self.points
            ],
        }

    def metrics(self) -> dict[str, list[str]]:
        """The metrics that any point has, by table, in the order of the catalogue."""
        there = [
            (t, metric) for point in self.points for t, found in point.figures.items() for metric in found
        ]
        return {
            table: in_order(METRICS, (metric for other, metric in there if other == table))
            for table in in_order(TABLES, (table for table, _ in there))
        }


def save_study(path: Path, study: Study, about: artifact.About) -> None:
    """Write ``study/1``."""
    entries = [
        (number, table, metric, figure)
        for number, point in enumerate(study.points)
        for table, figures in point.figures.items()
        for metric, figure in figures.items()
    ]
    with artifact.create(path, SCHEMA, **about) as file:
        file.attrs["name"] = study.name
        put_entries(file, [entry[1:] for entry in entries])
        artifact.put(file, "point", [number for number, *_ in entries])
        artifact.put(file, "setting", [point.setting for point in study.points])
        artifact.put(file, "images", [point.images for point in study.points])
        artifact.put(file, "steps", [point.steps for point in study.points])


def load_study(path: Path) -> Study:
    """Read a study.

    Raises:
        InputError: it is missing or none.
    """
    with artifact.reading(path, SCHEMA, made_by="nerfgen evaluate DATA --sweep NAME=VALUES") as file:
        of = file["point"][:]
        points = [
            Point(setting, images, steps, read_entries(file, of == number))
            for number, (setting, images, steps) in enumerate(
                zip(
                    artifact.strings(file["setting"]),
                    file["images"][:].tolist(),
                    file["steps"][:].tolist(),
                    strict=True,
                )
            )
        ]
        about = {name: str(file.attrs[name]) for name in ("class", "parameters", "inputs")}
        return Study(str(file.attrs["name"]), points, about)
