"""Metrics of image pairs, named by what is compared, such as ``turned_white_matched_psnr_db``."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple


class ComparedImage(NamedTuple):
    """What is compared with the target of a pair.

    Attributes:
        title: a few words.
        description: what the image shows.
        baseline: whether no merit of the model is measured by it.
    """

    title: str
    description: str
    baseline: bool = False


COMPARED = {
    "turned": ComparedImage("turned", "latent code of the source, seen from the target's fitted camera"),
    "turned_landmark_camera": ComparedImage(
        "turned, landmark camera", "latent code of the source, seen from the target's camera before its fit"
    ),
    "itself": ComparedImage("itself", "latent code of the target, seen from its fitted camera"),
    "class_mean": ComparedImage(
        "class mean", "mean latent code, seen from the target's fitted camera", baseline=True
    ),
    "unturned": ComparedImage("unturned", "the source image as it is, framed", baseline=True),
}
BACKGROUNDS = {"white": "over white", "own": "own background"}
# Of a metric after the best gain and offset of each colour channel.
_MATCHED = "matched"

# The longest names come first: one is the beginning of another.
_NAME = re.compile(
    rf"({'|'.join(sorted(COMPARED, key=len, reverse=True))})_({'|'.join(BACKGROUNDS)})_({_MATCHED}_)?(.+)"
)


@dataclass(frozen=True)
class PairMetric:
    """A measure of one of the :data:`COMPARED` images against the target.

    Attributes:
        compared: key of :data:`COMPARED`.
        background: key of :data:`BACKGROUNDS`.
        matched: after the best gain and offset of each colour channel.
        measure: metric of two images, such as ``psnr_db``.
    """

    compared: str
    background: str
    matched: bool
    measure: str

    @property
    def name(self) -> str:
        """Name of the metric in reports."""
        matched = [_MATCHED] if self.matched else []
        return "_".join([self.compared, self.background, *matched, self.measure])

    @property
    def condition(self) -> str:
        """Background and matching as a title."""
        return f"{BACKGROUNDS[self.background]}{', matched' if self.matched else ''}"

    @property
    def description(self) -> str:
        """What is compared with the target, as a phrase."""
        matched = ", after the best gain and offset of each colour channel" if self.matched else ""
        return f"{COMPARED[self.compared].description}, {BACKGROUNDS[self.background]}{matched}"


def parse_pair_metric(name: str) -> PairMetric | None:
    """The metric of this name; None for others."""
    found = _NAME.fullmatch(name)
    return PairMetric(found[1], found[2], bool(found[3]), found[4]) if found else None


@dataclass(frozen=True)
class MetricMatrix:
    """Metrics of one measure, to be shown as a matrix.

    Attributes:
        measure: metric of two images, such as ``psnr_db``.
        columns: headings of the columns.
        rows: heading of each row, and its metric in each column.
    """

    measure: str
    columns: list[str]
    rows: list[tuple[str, list[str]]]


def metric_matrices(names: Iterable[str]) -> tuple[list[MetricMatrix], list[str]]:
    """Metrics of pairs as one matrix per measure, with compared images in rows and conditions in columns; and the names
    of all other metrics."""
    others, parsed = [], []
    for name in names:
        metric = parse_pair_metric(name)
        if metric:
            parsed.append(metric)
        else:
            others.append(name)
    matrices = []
    for measure in dict.fromkeys(metric.measure for metric in parsed):
        own = [metric for metric in parsed if metric.measure == measure]
        conditions = {(metric.background, metric.matched): metric.condition for metric in own}
        rows = [
            (COMPARED[compared].title, [PairMetric(compared, *key, measure).name for key in conditions])
            for compared in COMPARED
            if any(metric.compared == compared for metric in own)
        ]
        matrices.append(MetricMatrix(measure, list(conditions.values()), rows))
    return matrices, others
