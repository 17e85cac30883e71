"""Errors of a trained estimator in held-out images."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from nerfgen.image import (
    InputImage,
    UnreadableImageError,
)
from nerfgen.landmark import similarity
from nerfgen.landmark.estimator_file import TrainedEstimator
from nerfgen.landmark.network_estimator import ObjectDetector
from nerfgen.landmark.training_images import AnnotatedImages
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
    """

    paths: list[Path]
    names: list[str]
    truth: Float[np.ndarray, "image landmark 2"]
    points: Float[np.ndarray, "image landmark 2"]
    errors: Float[np.ndarray, "image landmark"]
    scores: Float[np.ndarray, " image"]
    found: Bool[np.ndarray, " image"]


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
    described = trained.classes[0]
    detector = ObjectDetector(trained)
    truth = gathered.points[rows]
    points = np.full(truth.shape, np.nan)
    scores, found = np.zeros(len(rows)), np.zeros(len(rows), bool)
    for place, row in enumerate(rows):
        try:
            objects = detector.objects(InputImage(gathered.paths[row]))
        except UnreadableImageError:
            objects = []
        middle = np.nanmean(truth[place], axis=0)
        near = [item for item in objects if np.linalg.norm(item.points.mean(axis=0) - middle) < item.size / 2]
        if near:
            points[place], scores[place] = near[0].points, near[0].score
            found[place] = near[0].score >= trained.threshold and near[0].label == gathered.labels[row]
        progress(place + 1, len(rows))
    errors = np.linalg.norm(points - truth, axis=-1) / _units(trained, described, truth)[:, None]
    return HeldOutErrors(
        [gathered.paths[row] for row in rows],
        [gathered.names[row] for row in rows],
        truth,
        points,
        errors,
        scores,
        found,
    )


def error_summary(measured: HeldOutErrors, described: ObjectClass) -> dict[str, Any]:
    """Percentage of objects that were found, and mean errors in percent of the class's unit.

    Objects with an insufficient score count for the errors too.
    """
    if not len(measured.names):
        return {}
    place = {name: index for index, name in enumerate(described.landmark_names)}
    groups = {
        f"{name}_error_percent": measured.errors[:, [place[member] for member in members]]
        for name, members in described.groups.items()
    }
    each = {name: _percent(measured.errors[:, index]) for index, name in enumerate(described.landmark_names)}
    return {
        "found_percent": 100 * float(measured.found.mean()),
        "error_percent": _percent(measured.errors),
        **{name: _percent(errors) for name, errors in groups.items()},
        **{
            f"{name}_error_percent": value
            for name, value in each.items()
            if f"{name}_error_percent" not in groups
        },
    }


def _units(
    trained: TrainedEstimator, described: ObjectClass, truth: Float[np.ndarray, "image landmark 2"]
) -> Float[np.ndarray, " image"]:
    """The class's unit in each image; where its landmarks are missing, that of the mean shape fitted to the others."""
    units = described.units(truth)
    frames = similarity.fit(trained.shape, truth)
    return np.where(np.isfinite(units), units, described.units(similarity.apply(frames, trained.shape[None])))


def _percent(errors: Float[np.ndarray, "..."]) -> float:
    known = errors[np.isfinite(errors)]
    return 100 * float(known.mean()) if known.size else float("nan")
