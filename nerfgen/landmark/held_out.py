"""Errors of a trained estimator in held-out images."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen.image import (
    InputImage,
    UnreadableImageError,
)
from nerfgen.landmark import similarity
from nerfgen.landmark.estimator_file import TrainedEstimator
from nerfgen.landmark.network_estimator import ObjectDetector
from nerfgen.landmark.training_images import AnnotatedImages
from nerfgen.landmark.union import LandmarkUnion
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress


@dataclass(frozen=True)
class HeldOutErrors:
    """Held-out images.

    Attributes:
        paths, names: the images.
        truth, points: annotated and estimated landmarks, pixels; NaN where there are none.
        errors: their distance in units of the class.
        scores: of the objects found; 0 for none.
        found: whether an object of the right class was found with a sufficient score.
        true_labels, labels: classes of the objects, from 1; 0 where none was found with a sufficient score.
    """

    paths: list[Path]
    names: list[str]
    truth: Float[np.ndarray, "image landmark 2"]
    points: Float[np.ndarray, "image landmark 2"]
    errors: Float[np.ndarray, "image landmark"]
    scores: Float[np.ndarray, " image"]
    found: Bool[np.ndarray, " image"]
    true_labels: Int[np.ndarray, " image"]
    labels: Int[np.ndarray, " image"]


def measure_held_out(
    trained: TrainedEstimator,
    gathered: AnnotatedImages,
    chosen: Bool[np.ndarray, " image"],
    progress: Progress,
) -> HeldOutErrors:
    """Find the object in each of the chosen images as `nerfgen landmark` does.

    Of several objects the one at the annotated position counts, whatever its score.
    """
    rows = np.flatnonzero(chosen)
    detector = ObjectDetector(trained)
    truth = gathered.points[rows]
    points = np.full(truth.shape, np.nan)
    scores, labels = np.zeros(len(rows)), np.zeros(len(rows), np.int64)
    for place, row in enumerate(rows):
        try:
            objects = detector.objects(InputImage(gathered.paths[row]))
        except UnreadableImageError:
            objects = []
        middle = np.nanmean(truth[place], axis=0)
        near = [
            item
            for item in objects
            if np.linalg.norm(np.nanmean(item.points, axis=0) - middle) < item.size / 2
        ]
        if near:
            points[place], scores[place] = near[0].points, near[0].score
            labels[place] = near[0].label if near[0].score >= trained.threshold else 0
        progress(place + 1, len(rows))
    errors = np.linalg.norm(points - truth, axis=-1) / _units(trained, truth, gathered.labels[rows])[:, None]
    return HeldOutErrors(
        [gathered.paths[row] for row in rows],
        [gathered.names[row] for row in rows],
        truth,
        points,
        errors,
        scores,
        labels == gathered.labels[rows],
        gathered.labels[rows],
        labels,
    )


def error_summary(measured: HeldOutErrors, classes: Sequence[ObjectClass]) -> dict[str, Any]:
    """Percentage of objects that were found, and mean errors in percent of the class's unit.

    Objects with an insufficient score count for the errors too. Of several classes, the classes' own figures are under
    ``classes``, and ``class_percent`` is how many of the objects with a sufficient score have the right class.
    """
    if not len(measured.names):
        return {}
    landmarks = LandmarkUnion.of(classes)
    if landmarks.is_shared:
        figures = _figures(measured, np.ones(len(measured.names), bool), classes[0], landmarks.names)
    else:
        figures = {
            "found_percent": 100 * float(measured.found.mean()),
            "error_percent": _percent(measured.errors),
        }
    if len(classes) > 1:
        sufficient = measured.labels > 0
        right = (measured.labels == measured.true_labels)[sufficient]
        figures["class_percent"] = 100 * float(right.mean()) if right.size else float("nan")
        figures["classes"] = {
            described.name: _figures(measured, measured.true_labels == label, described, landmarks.names)
            for label, described in enumerate(classes, 1)
            if (measured.true_labels == label).any()
        }
    return figures


def _figures(
    measured: HeldOutErrors, chosen: Bool[np.ndarray, " image"], described: ObjectClass, names: Sequence[str]
) -> dict[str, Any]:
    """The figures of one class's images."""
    place = {name: index for index, name in enumerate(names)}
    errors = measured.errors[chosen]
    groups = {
        f"{name}_error_percent": errors[:, [place[member] for member in members]]
        for name, members in described.groups.items()
    }
    own = [place[name] for name in described.landmark_names]
    each = {name: _percent(errors[:, place[name]]) for name in described.landmark_names}
    return {
        "found_percent": 100 * float(measured.found[chosen].mean()),
        "error_percent": _percent(errors[:, own]),
        **{name: _percent(errors) for name, errors in groups.items()},
        **{
            f"{name}_error_percent": value
            for name, value in each.items()
            if f"{name}_error_percent" not in groups
        },
    }


def _units(
    trained: TrainedEstimator,
    truth: Float[np.ndarray, "image landmark 2"],
    labels: Int[np.ndarray, " image"],
) -> Float[np.ndarray, " image"]:
    """The class's unit in each image; where its landmarks are missing, that of the mean shape fitted to the others."""
    found = np.full(len(truth), np.nan)
    for label, described in enumerate(trained.classes, 1):
        rows, own = np.flatnonzero(labels == label), trained.landmarks.places[label - 1]
        points, shape = truth[rows][:, own], trained.shapes[label - 1, own]
        units = described.units(points)
        fitted = described.units(similarity.apply(similarity.fit(shape, points), shape[None]))
        found[rows] = np.where(np.isfinite(units), units, fitted)
    return found


def _percent(errors: Float[np.ndarray, "..."]) -> float:
    known = errors[np.isfinite(errors)]
    return 100 * float(known.mean()) if known.size else float("nan")
