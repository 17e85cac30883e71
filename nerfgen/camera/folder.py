"""The camera stage on files: landmarks.h5 in, cameras.h5 out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.camera.canonical import LEAST_IMAGES, LEAST_POINTS, estimate_canonical, images_for_shape
from nerfgen.camera.joint import refine
from nerfgen.camera.observed import Observed, Points, read_observed, with_canonical
from nerfgen.camera.solve import acceptable, solve_cameras
from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix, sphere_window
from nerfgen.objectclass import ObjectClass

# Prior on the logarithm of a focal length. The solvers measure it in units of their residuals, whose noise is
# about Huber's scale: divided by that scale, it weighs as much as one landmark that is off by its noise.
_FOCAL_SPREAD = 0.3

Intrinsics = Literal["fixed", "shared", "per-image"]


def fit_folder(
    data: Path,
    output: Path,
    *,
    landmarks: Path | None = None,
    intrinsics: Intrinsics = "fixed",
    points: Points = "mesh",
    depth_weight: float = 1.0,
    focal: float | None = None,
    estimate: bool = False,
    refine_canonical: bool = False,
    canonical: tuple[np.ndarray, np.ndarray] | None = None,
    robust: float = 0.05,
    max_error: float = 0.3,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Fit the camera and the window of every image that has landmarks; write ``cameras/1``.

    Args:
        landmarks: file of the landmark stage, by default ``data/landmarks.h5``.
        intrinsics: ``fixed`` focal lengths; one factor for all (``shared``); or one each (``per-image``).
        points: fit to the dense mesh where there is one, or to the class's landmarks only.
        depth_weight: weight of the mesh's relative depths, as estimated by the landmarker; 0 leaves them out.
        focal: focal length in units of a photograph's longer side; by default that of the class.
        estimate: find the canonical points from the landmarks alone, as for a class that has none.
        refine_canonical: re-estimate the canonical points together with the cameras first, from those of the class.
        canonical: (index, keypoints) of an earlier fit to use in place of the class's own.
        robust: Huber's scale, in units of the landmarks' spread.
        max_error: largest reprojection error that is accepted, in units of the landmarks' spread.
        say: told, in one line each, that canonical points are estimated and whether they are uncertain.

    Returns:
        Summary: images, fitted, reprojection_rmse_px_median, statuses, canonical (points, images that they were
        estimated from, depth_extent), kept (an equal output was there).

    Raises:
        InputError: the landmarks are missing, not those of the class, or too few to estimate canonical points.
    """
    source = landmarks or data / "landmarks.h5"
    parameters = {
        "intrinsics": intrinsics,
        "points": points,
        "depth_weight": depth_weight,
        "focal": focal,
        "refine_canonical": refine_canonical,
        "robust": robust,
        "max_error": max_error,
    }
    with artifact.reading(source, "landmarks/1", made_by=f"nerfgen landmark {data}") as file:
        described = artifact.class_of(file)
        if canonical is not None and len(canonical[0]):
            described, points = with_canonical(described, *canonical)
            parameters["canonical"] = canonical[1].tolist()
        observed = read_observed(file, described, points)
    parameters["estimate"] = estimate = estimate or not len(observed.canonical)
    rows = np.flatnonzero(artifact.usable(observed.status))
    chosen = _rows_for_shape(source, observed, rows) if estimate else rows[:0]
    inputs = [artifact.file_record(source)]
    about: artifact.About = {"object_class": described, "parameters": parameters, "inputs": inputs}
    kept = artifact.is_current(output, "cameras/1", **about, overwrite=overwrite)
    if not kept:
        _fit_and_write(output, about, observed, described, parameters, rows, chosen, say)
    summary = summarise(output)
    summary["canonical"]["images"] = len(chosen)
    return summary | {"kept": kept}


def summarise(path: Path) -> dict[str, Any]:
    """What a cameras file holds, in numbers."""
    with artifact.reading(path, "cameras/1") as file:
        status = artifact.strings(file["status"])
        usable = artifact.usable(status)
        error = file["reprojection_rmse"][:][usable]
        canonical = file["canonical"][:]
    return {
        "images": len(status),
        "fitted": int(usable.sum()),
        "reprojection_rmse_px_median": float(np.median(error)) if len(error) else None,
        "statuses": dict(Counter(status)),
        "canonical": {"points": len(canonical), "depth_extent": float(np.ptp(canonical[:, 2]))},
        "output": str(path),
    }


def _rows_for_shape(source: Path, observed: Observed, rows: np.ndarray) -> np.ndarray:
    """The images that canonical points are estimated from, checked to be enough."""
    remedy = "or give the class's file canonical points (`canonical`)"
    if len(observed.names) < LEAST_POINTS:
        raise InputError(
            f"{source}: {len(observed.names)} landmarks don't tell a shape; annotate at least {LEAST_POINTS}, {remedy}"
        )
    chosen = rows[images_for_shape(observed.points[rows])]
    if len(chosen) < LEAST_IMAGES:
        raise InputError(
            f"{source}: {len(chosen)} images have {LEAST_POINTS} landmarks or more, and canonical points are estimated "
            f"from at least {LEAST_IMAGES}; add photographs, {remedy}"
        )
    seen = np.isfinite(observed.points[chosen]).all(-1).sum(0)
    if seen.min() < LEAST_IMAGES:
        raise InputError(
            f"{source}: landmark {observed.names[seen.argmin()]} is there in {seen.min()} images, and its canonical "
            f"point is estimated from at least {LEAST_IMAGES}; add photographs, {remedy}"
        )
    return chosen


def _fit_and_write(
    output: Path,
    about: artifact.About,
    observed: Observed,
    described: ObjectClass,
    parameters: dict[str, Any],
    rows: np.ndarray,
    chosen: np.ndarray,
    say: Callable[[str], None],
) -> None:
    count = len(observed.images)
    enough = np.isfinite(observed.points).all(-1).sum(1) >= min(LEAST_POINTS, len(observed.names))
    status = [s if s in artifact.USABLE else ("skipped" if s == "ok" else s) for s in observed.status]
    for row in rows[~enough[rows]]:
        status[row] = "not_converged"
    rows = rows[enough[rows]]
    canonical, focal = _shared(observed, described, parameters, rows, chosen, say)
    arrays = {
        "intrinsics": np.full((count, 3, 3), np.nan),
        "cam_to_world": np.full((count, 4, 4), np.nan),
        "window": np.full((count, 3), np.nan),
        "reprojection_rmse": np.full(count, np.nan),
        "iterations": np.zeros(count, np.int32),
    }
    if len(rows):
        center = observed.image_size[rows] / 2
        fit = solve_cameras(
            observed.points[rows],
            canonical,
            focal[rows],
            center,
            depth=None if observed.depth is None else observed.depth[rows],
            depth_weight=parameters["depth_weight"],
            robust=parameters["robust"],
            free_focal=parameters["intrinsics"] == "per-image",
            focal_spread=_FOCAL_SPREAD / parameters["robust"],
        )
        accepted = acceptable(fit, described.largest_angle, parameters["max_error"])
        for row, good in zip(rows, accepted, strict=True):
            if not good:
                status[row] = "not_converged"
        matrices = intrinsic_matrix(fit.focal, center)
        good = rows[accepted]
        arrays["intrinsics"][good] = matrices[accepted]
        arrays["cam_to_world"][good] = fit.cam_to_world[accepted]
        arrays["window"][good] = sphere_window(matrices, fit.cam_to_world, described.reach)[accepted]
        arrays["reprojection_rmse"][rows] = fit.rmse
        arrays["iterations"][rows] = fit.iterations
    with artifact.create(output, "cameras/1", **about) as file:
        artifact.put(file, "image", observed.images)
        artifact.put(file, "status", status)
        artifact.put(file, "image_size", observed.image_size)
        for name, values in arrays.items():
            artifact.put(file, name, values)
        artifact.put(file, "canonical_index", observed.index)
        artifact.put(file, "canonical", canonical)


def _shared(
    observed: Observed,
    described: ObjectClass,
    parameters: dict[str, Any],
    rows: np.ndarray,
    chosen: np.ndarray,
    say: Callable[[str], None],
) -> tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "images"]]:
    """Canonical points, and focal lengths of all images, pixels: what all images determine together."""
    size = observed.image_size.astype(float)
    focal = size.max(axis=1) * (parameters["focal"] or described.focal)
    robust, depth_weight = parameters["robust"], parameters["depth_weight"]
    canonical, estimate = observed.canonical, parameters["estimate"]
    if estimate:
        why = "" if len(canonical) else f"class {described.name} has no canonical points: "
        say(f"{why}estimating {len(observed.names)} canonical points from {len(chosen)} images")
        found = estimate_canonical(
            observed.points[chosen],
            focal[chosen],
            size[chosen] / 2,
            mirrored=observed.mirrored,
            nearest=observed.nearest,
            spread=observed.spread,
            middle=observed.middle,
            depth=None if observed.depth is None else observed.depth[chosen],
            depth_weight=depth_weight,
            robust=robust,
            max_error=parameters["max_error"],
        )
        canonical = found.canonical
        if not found.certain:
            say(
                "warning: the photographs hardly tell how deep the landmarks lie, because they show objects from too "
                "similar directions; depths are drawn to a shallow dome"
            )
    shared = parameters["intrinsics"] == "shared"
    if len(rows) and (parameters["refine_canonical"] or shared):
        joint = refine(
            observed.points[rows],
            canonical,
            focal[rows],
            size[rows] / 2,
            depth=None if observed.depth is None else observed.depth[rows],
            depth_weight=depth_weight,
            free_shape=parameters["refine_canonical"] or estimate,
            free_focal=shared,
            robust=robust,
            focal_spread=_FOCAL_SPREAD / robust,
        )
        canonical, focal = joint.canonical, focal * joint.focal_factor
    return canonical, focal
