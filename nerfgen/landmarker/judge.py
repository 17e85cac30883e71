"""How far a trained estimator is off in images that it was not trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, UInt8

from nerfgen.landmarker import frame
from nerfgen.landmarker.file import Landmarker
from nerfgen.landmarker.gather import Gathered
from nerfgen.landmarker.measure import Estimator
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress
from nerfgen.photo import Photograph, UnreadableImageError, resample_window
from nerfgen.picture import contact_sheet, draw_points, save_picture
from nerfgen.picture.draw import GREEN, RED

_CELL = 128


@dataclass(frozen=True)
class Judged:
    """Held-out images.

    Attributes:
        paths, names: the images.
        truth, points: annotated and estimated landmarks, pixels; NaN where there are none.
        errors: their distance in units of the class.
        scores: of the objects found; 0 for none.
        found: whether the score is that of an object, and of the right class.
    """

    paths: list[Path]
    names: list[str]
    truth: Float[np.ndarray, "image landmark 2"]
    points: Float[np.ndarray, "image landmark 2"]
    errors: Float[np.ndarray, "image landmark"]
    scores: Float[np.ndarray, " image"]
    found: Bool[np.ndarray, " image"]


def judge(
    landmarker: Landmarker, gathered: Gathered, chosen: Bool[np.ndarray, " image"], progress: Progress
) -> Judged:
    """Look for the object in each of the chosen photographs as `nerfgen landmark` does.

    Of several objects the one at the annotated place counts, as certain as it may be.
    """
    rows = np.flatnonzero(chosen)
    described = landmarker.classes[0]
    estimator = Estimator(
        landmarker.parameters, landmarker.shape, described.mirrored, len(landmarker.classes)
    )
    truth = gathered.points[rows]
    points = np.full(truth.shape, np.nan)
    scores, found = np.zeros(len(rows)), np.zeros(len(rows), bool)
    for place, row in enumerate(rows):
        try:
            objects = estimator.objects(Photograph(gathered.paths[row]))
        except UnreadableImageError:
            objects = []
        middle = np.nanmean(truth[place], axis=0)
        near = [item for item in objects if np.linalg.norm(item.points.mean(axis=0) - middle) < item.side / 2]
        if near:
            points[place], scores[place] = near[0].points, near[0].score
            found[place] = near[0].score >= landmarker.threshold and near[0].label == gathered.labels[row]
        progress(place + 1, len(rows))
    errors = np.linalg.norm(points - truth, axis=-1) / _units(landmarker, described, truth)[:, None]
    return Judged(
        [gathered.paths[row] for row in rows],
        [gathered.names[row] for row in rows],
        truth,
        points,
        errors,
        scores,
        found,
    )


def error_summary(judged: Judged, described: ObjectClass) -> dict[str, Any]:
    """Percent of objects that were found, and mean errors in percent of the class's unit.

    Errors are those of all objects that were seen at all, however low their score.
    """
    if not len(judged.names):
        return {}
    place = {name: index for index, name in enumerate(described.landmark_names)}
    groups = {
        f"{name}_error_percent": judged.errors[:, [place[member] for member in members]]
        for name, members in described.groups.items()
    }
    each = {name: _percent(judged.errors[:, index]) for index, name in enumerate(described.landmark_names)}
    return {
        "found_percent": 100 * float(judged.found.mean()),
        "error_percent": _percent(judged.errors),
        **{name: _percent(errors) for name, errors in groups.items()},
        **{
            f"{name}_error_percent": value
            for name, value in each.items()
            if f"{name}_error_percent" not in groups
        },
    }


def judged_picture(judged: Judged, picture: Path, count: int = 36) -> None:
    """Held-out images spread evenly: annotated points green, estimated ones red."""
    rows = np.unique(np.linspace(0, len(judged.names) - 1, min(count, len(judged.names))).astype(int))
    cells = [_cell(judged, row) for row in rows]
    save_picture(picture, contact_sheet(cells))


def _cell(judged: Judged, row: int) -> UInt8[np.ndarray, "side side 3"]:
    try:
        image, _ = Photograph(judged.paths[row]).pixels()
    except UnreadableImageError:
        return np.full((_CELL, _CELL, 3), 96, np.uint8)
    low, high = np.nanmin(judged.truth[row], axis=0), np.nanmax(judged.truth[row], axis=0)
    side = 1.8 * max(float((high - low).max()), 1.0)
    corner = (low + high) / 2 - side / 2
    cell, _ = resample_window(image, (*corner, side), _CELL)
    for points, color in ((judged.truth[row], GREEN), (judged.points[row], RED)):
        cell = draw_points(cell, (points - corner) * (_CELL / side), color, 1.8)
    return cell


def _units(
    landmarker: Landmarker, described: ObjectClass, truth: Float[np.ndarray, "image landmark 2"]
) -> Float[np.ndarray, " image"]:
    """The class's unit in each image; where its landmarks are missing, that of the mean shape in the object's place."""
    units = described.units(truth)
    frames = frame.fit_frames(landmarker.shape, truth)
    return np.where(np.isfinite(units), units, described.units(frame.apply(frames, landmarker.shape[None])))


def _percent(errors: Float[np.ndarray, "..."]) -> float:
    there = errors[np.isfinite(errors)]
    return 100 * float(there.mean()) if there.size else float("nan")
