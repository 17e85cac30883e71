"""A study: metrics of models that differ in one setting, as values and as a ``study/1`` file."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from nerfgen import storage
from nerfgen.metric import Estimate
from nerfgen.report.catalogue import METRICS, TABLES, sort_names
from nerfgen.report.report_file import (
    estimate_as_dict,
    put_entries,
    read_entries,
    read_names,
    read_provenance,
    read_text,
)
from nerfgen.untrusted import content_of

STUDY_SCHEMA = "study/1"


@dataclass(frozen=True)
class Point:
    """One model of a study.

    Attributes:
        setting: value of the setting, as given.
        images: number of training images.
        steps: number of training steps.
        estimates: of its report, by table and metric.
    """

    setting: str
    images: int
    steps: int
    estimates: dict[str, dict[str, Estimate]]


@dataclass(frozen=True)
class Study:
    """Models that differ in one setting.

    Attributes:
        name: name of the setting, such as ``images`` or ``lambda_hard``.
        points: one per value, in the order given.
        provenance: class, parameters and inputs, as recorded in the file.
    """

    name: str
    points: list[Point]
    provenance: storage.Record = field(default_factory=dict)

    def as_dict(self) -> storage.Record:
        """The estimates for JSON, an object per point with one per table, and None for NaN."""
        return {
            "setting": self.name,
            "points": [
                {"value": point.setting, "images": point.images, "steps": point.steps}
                | {
                    table: {metric: estimate_as_dict(estimate) for metric, estimate in metrics.items()}
                    for table, metrics in point.estimates.items()
                }
                for point in self.points
            ],
        }

    def metrics(self) -> dict[str, list[str]]:
        """The metrics of all points by table, in the order of the catalogue."""
        pairs = [
            (table, metric)
            for point in self.points
            for table, metrics in point.estimates.items()
            for metric in metrics
        ]
        return {
            table: sort_names(METRICS, (metric for other, metric in pairs if other == table))
            for table in sort_names(TABLES, (table for table, _ in pairs))
        }


def save_study(stage: storage.Stage, study: Study) -> None:
    """Write ``study/1``."""
    entries = [
        (number, table, metric, estimate)
        for number, point in enumerate(study.points)
        for table, metrics in point.estimates.items()
        for metric, estimate in metrics.items()
    ]
    with stage.create() as file:
        file.attrs["name"] = study.name
        put_entries(file, [entry[1:] for entry in entries])
        storage.put(file, "point", [number for number, *_ in entries])
        storage.put(file, "setting", [point.setting for point in study.points])
        storage.put(file, "images", [point.images for point in study.points])
        storage.put(file, "steps", [point.steps for point in study.points])


def load_study(path: Path) -> Study:
    """Read a study.

    Raises:
        InputError: the file is missing or not a study.
    """
    made_by = "nerfgen evaluate DATA --sweep NAME=VALUES"
    with (
        storage.reading(path, STUDY_SCHEMA, made_by=made_by) as file,
        content_of(path, f"re-create it with `{made_by}`"),
    ):
        number = file["point"][:]
        settings, images, steps = read_names(file, "setting"), file["images"][:], file["steps"][:]
        points = [
            Point(setting, images, steps, read_entries(file, number == place))
            for place, (setting, images, steps) in enumerate(
                zip(settings, images.tolist(), steps.tolist(), strict=True)
            )
        ]
        return Study(read_text(file, "name"), points, read_provenance(file))
