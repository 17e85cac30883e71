"""Table *cameras*: reprojection errors of the training cameras, and their errors against ground truth."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from nerfgen import storage
from nerfgen.camera import Observations, camera_cell, read_observations, with_canonical
from nerfgen.errors import InputError
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.inputs import choose_subset, folder_name
from nerfgen.geometry import project, rigid, yaw_pitch_roll
from nerfgen.image import InputImage, UnreadableImageError, local_folder
from nerfgen.metric import frame_rotation, reprojection_errors, rotation_errors, translation_errors
from nerfgen.parallel import Progress, silent
from nerfgen.report import ImageGrid, ItemValues, ScatterPoints, Table, merge_tables

_ANGLES = ("yaw", "pitch")


def cameras_table(context: EvaluationContext, progress: Progress = silent) -> Table:
    """The model's cameras of its training images: distances of reprojected canonical points to the landmarks, and
    errors of rotation and position against ground truth."""
    model, settings = context.model, context.settings
    chosen = choose_subset(model.images, settings.images, settings.seed)
    notes = [f"{len(chosen)} of {len(model.images)} training images"]
    if model.further_images:
        notes[0] += f", one per row of the table; {len(model.further_images)} further views are left out"
    parts = [
        Table(values={}, notes=notes),
        _table_or_missing(_reprojection, context, chosen),
        _table_or_missing(_against_truth, context, chosen),
    ]
    progress(len(chosen), len(chosen))
    return merge_tables(parts)


def _table_or_missing(part: Callable[..., Table], context: EvaluationContext, *arguments: Any) -> Table:
    """A part of the table, or what it lacks."""
    try:
        return part(context, *arguments)
    except InputError as error:
        return Table(values={}, missing=[context.portable_message(error)])


def _reprojection(context: EvaluationContext, chosen: Int[np.ndarray, "chosen"]) -> Table:
    """Reprojection errors of the model's cameras, with figures, and of the cameras before training."""
    model = context.model
    observed = _observed_landmarks(context)
    at = storage.positions(model.images, observed.images)
    values = _rmse(observed, at, model.canonical, model.intrinsics, model.cam_to_world)[chosen]
    refined = Table(
        values={"reprojection_px": ItemValues([model.images[row] for row in chosen], values)},
        notes=_absent_note("landmarks.h5", at[chosen]),
        grids=_reprojection_grid(context, chosen[np.isfinite(values)], observed, at),
    )
    return merge_tables([refined, _table_or_missing(_fitted_reprojection, context, chosen, observed)])


def _fitted_reprojection(
    context: EvaluationContext, chosen: Int[np.ndarray, "chosen"], observed: Observations
) -> Table:
    """Reprojection errors of the cameras fitted to landmarks, before training."""
    model, data = context.model, context.inputs.data
    with storage.reading(
        local_folder(data) / "cameras.h5", "cameras/1", made_by=f"nerfgen fit-cameras {folder_name(data)}"
    ) as file:
        if "canonical" not in file or not np.array_equal(file["canonical_index"][:], model.canonical_index):
            raise InputError("cameras.h5 has other canonical points than the model was trained with")
        images, canonical = storage.strings(file["image"]), file["canonical"][:]
        intrinsics, poses = file["intrinsics"][:], file["cam_to_world"][:]
    row = storage.positions(model.images, images)
    present = row[chosen] >= 0
    kept = row[chosen[present]]
    at = storage.positions([images[place] for place in kept], observed.images)
    values = np.full(len(chosen), np.nan)
    values[present] = _rmse(observed, at, canonical, intrinsics[kept], poses[kept])
    turned = np.nanmean(rotation_errors(poses[kept], model.cam_to_world[chosen[present]]))
    return Table(
        values={"fitted_reprojection_px": ItemValues([model.images[row] for row in chosen], values)},
        notes=[
            *_absent_note("cameras.h5", row[chosen]),
            f"training rotated the cameras by {turned:.1f} degrees on average, apart from one global rotation",
        ],
    )


def _against_truth(context: EvaluationContext, chosen: Int[np.ndarray, "chosen"]) -> Table:
    """Errors against the cameras of ``truth.h5``, after alignment over all rows."""
    model = context.model
    truth = local_folder(context.inputs.data) / "truth.h5"
    if not truth.is_file():
        raise InputError("truth.h5 does not exist; true cameras are known for synthetic images only")
    with storage.reading(truth, "truth/1") as file:
        place = storage.positions(model.images, storage.strings(file["image"]))
        known = np.flatnonzero(place >= 0)
        true = file["cam_to_world"][:][place[known]]
    if len(known) < 3:
        raise InputError(f"truth.h5 has {len(known)} of the training images; at least 3 are required")
    estimated = model.cam_to_world[known]
    frame = frame_rotation(estimated, true)
    reported = np.isin(known, chosen)
    errors = {
        "rotation_error_deg": rotation_errors(estimated, true, frame)[reported],
        "translation_error": translation_errors(estimated, true)[reported],
    }
    items = [model.images[row] for row in known[reported]]
    aligned = rigid(frame @ estimated[:, :3, :3], estimated[:, :3, 3])
    angles, true_angles = (yaw_pitch_roll(poses)[reported] for poses in (aligned, true))
    return Table(
        values={name: ItemValues(items, values) for name, values in errors.items()},
        notes=[
            f"aligned with the ground truth over all {len(known)} rows",
            *_absent_note("truth.h5", place[chosen]),
        ],
        points={
            f"true and estimated {name}": angle_points(
                true_angles[:, axis], angles[:, axis], f"true {name}", f"estimated {name}"
            )
            for axis, name in enumerate(_ANGLES)
        },
    )


def angle_points(
    x: Float[np.ndarray, "points"], y: Float[np.ndarray, "points"], x_label: str, y_label: str
) -> ScatterPoints:
    """Pairs of angles in degrees; the y label states the slope of the regression line."""
    finite = np.isfinite(x) & np.isfinite(y)
    x, y = x[finite], y[finite]
    slope = f", slope {np.polyfit(x, y, 1)[0]:.2f}" if len(x) > 1 and np.ptp(x) > 0 else ""
    return ScatterPoints(x, y, f"{x_label}, degrees", f"{y_label}, degrees{slope}")


def _observed_landmarks(context: EvaluationContext) -> Observations:
    """Landmarks of the points that the model's cameras were fitted to.

    Raises:
        InputError: the cameras were given, or these landmarks are absent.
    """
    model, data = context.model, context.inputs.data
    if not len(model.canonical):
        raise InputError("reprojection_px: the model's cameras were given, not fitted to landmarks")
    described, points = with_canonical(model.object_class, model.canonical_index, model.canonical)
    with storage.reading(
        local_folder(data) / "landmarks.h5", "landmarks/1", made_by=f"nerfgen landmark {folder_name(data)}"
    ) as file:
        observed = read_observations(file, described, points)
    if not np.array_equal(observed.index, model.canonical_index):
        raise InputError(
            "landmarks.h5 lacks points that the model's cameras were fitted to; re-create it with "
            f"`nerfgen landmark {folder_name(data)}`"
        )
    return observed


def _rmse(
    observed: Observations,
    at: Int[np.ndarray, "rows"],
    canonical: Float[np.ndarray, "points 3"],
    intrinsics: Float[np.ndarray, "rows 3 3"],
    cam_to_world: Float[np.ndarray, "rows 4 4"],
) -> Float[np.ndarray, "rows"]:
    """Root mean square distance of the present landmarks to the reprojected points, pixels, per row.

    Args:
        at: index of each row's image in ``observed``; -1 gives NaN.
    """
    points = np.where(at[:, None, None] >= 0, observed.points_of(at), np.nan)
    return reprojection_errors(points, canonical, intrinsics, cam_to_world)


def _reprojection_grid(
    context: EvaluationContext,
    rows: Int[np.ndarray, "rows"],
    observed: Observations,
    at: Int[np.ndarray, "all"],
) -> dict[str, ImageGrid]:
    """Images with landmarks and the canonical points that the model's cameras reproject."""
    model = context.model
    cells: dict[str, np.ndarray] = {}
    for row in rows:
        projected, _ = project(model.canonical, model.intrinsics[row], model.cam_to_world[row])
        image = InputImage(model.images[row], context.inputs.data)
        try:
            cell = camera_cell(image, model.window[row], observed.points_of(at[row : row + 1])[0], projected)
        except UnreadableImageError:
            continue
        cells[model.images[row]] = cell
        if len(cells) == context.settings.shown:
            break
    if not cells:
        return {}
    columns = ["landmarks (green) and reprojected points (red)"]
    return {"reprojection": ImageGrid(list(cells), columns, np.stack(list(cells.values()))[:, None])}


def _absent_note(name: str, place: Int[np.ndarray, "chosen"]) -> list[str]:
    """A note of the images that a file lacks."""
    count = int((place < 0).sum())
    return [f"{count} of the images are not in {name}"] if count else []
