"""The table *cameras*: how well the training photographs' cameras fit their landmarks, and the truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nerfgen import artifact
from nerfgen.camera.observed import Observed, read_observed, with_canonical
from nerfgen.camera.picture import camera_cell
from nerfgen.errors import InputError
from nerfgen.evaluate.sources import choose
from nerfgen.evaluate.subject import Subject
from nerfgen.geometry import project, rigid, yaw_pitch_roll
from nerfgen.metric import frame_rotation, rotation_errors, translation_errors
from nerfgen.parallel import Progress, silent
from nerfgen.photo import UnreadableImageError, decode
from nerfgen.report.table import Measured, Pictures, Points, Table, merged

_ANGLES = ("yaw", "pitch")


def cameras_table(subject: Subject, progress: Progress = silent) -> Table:
    """The model's cameras of its training photographs: canonical points that they reproject beside the landmarks, and
    their angles and places beside the true ones."""
    model, settings = subject.model, subject.settings
    chosen = choose(model.images, settings.images, settings.seed)
    notes = [f"{len(chosen)} of {len(model.images)} training photographs"]
    if model.further_images:
        notes[0] += (
            f", those that the rows are named by; {len(model.further_images)} further views are not looked at"
        )
    parts = [
        Table(values={}, notes=notes),
        _attempted(_reprojection, subject, chosen),
        _attempted(_against_truth, subject, chosen),
    ]
    progress(len(chosen), len(chosen))
    return merged(parts)


def _attempted(part: Callable[..., Table], subject: Subject, *arguments: Any) -> Table:
    """A part of the table, or what it lacks."""
    try:
        return part(subject, *arguments)
    except InputError as error:
        return Table(values={}, missing=[subject.told(error)])


def _reprojection(subject: Subject, chosen: Int[np.ndarray, "chosen"]) -> Table:
    """By the model's cameras, with pictures, and by those before training."""
    model = subject.model
    observed = _observed(subject)
    at = artifact.positions(model.images, observed.images)
    values = _rmse(observed, at, model.canonical, model.intrinsics, model.cam_to_world)[chosen]
    refined = Table(
        values={"reprojection_px": Measured([model.images[row] for row in chosen], values)},
        notes=_lacking("landmarks.h5", at[chosen]),
        pictures=_drawn(subject, chosen[np.isfinite(values)], observed, at),
    )
    return merged([refined, _attempted(_fitted_reprojection, subject, chosen, observed)])


def _fitted_reprojection(subject: Subject, chosen: Int[np.ndarray, "chosen"], observed: Observed) -> Table:
    """By the cameras that landmarks alone gave."""
    model, data = subject.model, subject.sources.data
    with artifact.reading(
        data / "cameras.h5", "cameras/1", made_by=f"nerfgen fit-cameras {data.name}"
    ) as file:
        if "canonical" not in file or not np.array_equal(file["canonical_index"][:], model.canonical_index):
            raise InputError("cameras.h5 is not of the canonical points that the model was trained with")
        images, canonical = artifact.strings(file["image"]), file["canonical"][:]
        intrinsics, poses = file["intrinsics"][:], file["cam_to_world"][:]
    row = artifact.positions(model.images, images)
    there = row[chosen] >= 0
    kept = row[chosen[there]]
    at = artifact.positions([images[place] for place in kept], observed.images)
    values = np.full(len(chosen), np.nan)
    values[there] = _rmse(observed, at, canonical, intrinsics[kept], poses[kept])
    turned = np.nanmean(rotation_errors(poses[kept], model.cam_to_world[chosen[there]]))
    return Table(
        values={"fitted_reprojection_px": Measured([model.images[row] for row in chosen], values)},
        notes=[
            *_lacking("cameras.h5", row[chosen]),
            f"training turned the cameras by {turned:.1f} degrees on average, beyond one rotation of them all",
        ],
    )


def _against_truth(subject: Subject, chosen: Int[np.ndarray, "chosen"]) -> Table:
    """Beside the cameras of ``truth.h5``, after the alignment of all rows."""
    model = subject.model
    truth = subject.sources.data / "truth.h5"
    if not truth.is_file():
        raise InputError("truth.h5 does not exist: true cameras are known of synthetic photographs only")
    with artifact.reading(truth, "truth/1") as file:
        place = artifact.positions(model.images, artifact.strings(file["image"]))
        known = np.flatnonzero(place >= 0)
        true = file["cam_to_world"][:][place[known]]
    if len(known) < 3:
        raise InputError(f"truth.h5 holds {len(known)} of the training photographs, and 3 are needed")
    estimated = model.cam_to_world[known]
    frame = frame_rotation(estimated, true)
    looked_at = np.isin(known, chosen)
    errors = {
        "rotation_error_deg": rotation_errors(estimated, true, frame)[looked_at],
        "translation_error": translation_errors(estimated, true)[looked_at],
    }
    items = [model.images[row] for row in known[looked_at]]
    aligned = rigid(frame @ estimated[:, :3, :3], estimated[:, :3, 3])
    angles, true_angles = (yaw_pitch_roll(poses)[looked_at] for poses in (aligned, true))
    return Table(
        values={name: Measured(items, values) for name, values in errors.items()},
        notes=[
            f"aligned with the truth by all {len(known)} rows",
            *_lacking("truth.h5", place[chosen]),
        ],
        points={
            f"true and estimated {name}": points_of_angles(
                true_angles[:, axis], angles[:, axis], f"true {name}", f"estimated {name}"
            )
            for axis, name in enumerate(_ANGLES)
        },
    )


def points_of_angles(
    x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"], x_label: str, y_label: str
) -> Points:
    """Angles in degrees beside each other; the slope of the line through them is in words at the axis."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    slope = f", slope {np.polyfit(x, y, 1)[0]:.2f}" if len(x) > 1 and np.ptp(x) > 0 else ""
    return Points(x, y, f"{x_label}, degrees", f"{y_label}, degrees{slope}")


def _observed(subject: Subject) -> Observed:
    """Landmarks of the points that the model's cameras were fitted to.

    Raises:
        InputError: the cameras came from elsewhere, or there are no such landmarks.
    """
    model, data = subject.model, subject.sources.data
    if not len(model.canonical):
        raise InputError("reprojection: the model's cameras were given, not fitted to landmarks")
    described, points = with_canonical(model.object_class, model.canonical_index, model.canonical)
    with artifact.reading(
        data / "landmarks.h5", "landmarks/1", made_by=f"nerfgen landmark {data.name}"
    ) as file:
        observed = read_observed(file, described, points)
    if not np.array_equal(observed.index, model.canonical_index):
        raise InputError("landmarks.h5 lacks points that the model's cameras were fitted to; make it anew")
    return observed


def _rmse(
    observed: Observed,
    at: Int[np.ndarray, "rows"],
    canonical: Float[np.ndarray, "points 3"],
    intrinsics: Float[np.ndarray, "rows 3 3"],
    cam_to_world: Float[np.ndarray, "rows 4 4"],
) -> Float[np.ndarray, "rows"]:
    """Root mean square distance in pixels of the landmarks that there are to the reprojected points, row by row.

    Args:
        at: place of each row's photograph in ``observed``; NaN comes of -1.
    """
    projected, _ = project(np.broadcast_to(canonical, (len(at), *canonical.shape)), intrinsics, cam_to_world)
    squared = ((projected - observed.points[at]) ** 2).sum(-1)
    seen = np.isfinite(squared) & (at >= 0)[:, None]
    total = np.where(seen, squared, 0.0).sum(1)
    return np.sqrt(np.where(seen.any(1), total / np.maximum(seen.sum(1), 1), np.nan))


def _drawn(
    subject: Subject,
    rows: Int[np.ndarray, "rows"],
    observed: Observed,
    at: Int[np.ndarray, "all"],
) -> dict[str, Pictures]:
    """Some photographs with their landmarks and the canonical points that the model's cameras reproject."""
    model = subject.model
    cells: dict[str, np.ndarray] = {}
    for row in rows:
        try:
            photo = decode(subject.sources.data / model.images[row])
        except UnreadableImageError:
            continue
        projected, _ = project(model.canonical, model.intrinsics[row], model.cam_to_world[row])
        cells[model.images[row]] = camera_cell(photo, model.window[row], observed.points[at[row]], projected)
        if len(cells) == subject.settings.shown:
            break
    if not cells:
        return {}
    columns = ["landmarks (green) and reprojected points (red)"]
    return {"reprojection": Pictures(list(cells), columns, np.stack(list(cells.values()))[:, None])}


def _lacking(name: str, place: Int[np.ndarray, "chosen"]) -> list[str]:
    """A note of photographs that a file lacks."""
    count = int((place < 0).sum())
    return [f"{count} of the photographs are not in {name}"] if count else []
