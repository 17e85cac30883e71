"""The camera stage on files: landmarks.h5 in, cameras.h5 out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.camera.joint import refine
from nerfgen.camera.solve import CameraFit, solve_cameras
from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix, sphere_window
from nerfgen.objectclass import ObjectClass

# Prior on the logarithm of a focal length. The solvers measure it in units of their residuals, whose noise is
# about Huber's scale: divided by that scale, it weighs as much as one landmark that is off by its noise.
_FOCAL_SPREAD = 0.3

Intrinsics = Literal["fixed", "shared", "per-image"]
Points = Literal["mesh", "landmarks"]


@dataclass(frozen=True)
class Observed:
    """Landmarks of a folder's images, with what is needed to fit cameras to them; the mesh has depths too."""

    images: list[str]
    status: list[str]
    image_size: np.ndarray
    points: Float[np.ndarray, "images points 2"]
    depth: Float[np.ndarray, "images points"] | None
    index: np.ndarray
    canonical: Float[np.ndarray, "points 3"]


def fit_folder(
    data: Path,
    output: Path,
    *,
    landmarks: Path | None = None,
    intrinsics: Intrinsics = "fixed",
    points: Points = "mesh",
    depth_weight: float = 1.0,
    focal: float | None = None,
    refine_canonical: bool = False,
    canonical: tuple[np.ndarray, np.ndarray] | None = None,
    robust: float = 0.05,
    max_error: float = 0.3,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Fit the camera and the window of every image that has landmarks; write ``cameras/1``.

    Args:
        landmarks: file of the landmark stage, by default ``data/landmarks.h5``.
        intrinsics: ``fixed`` focal lengths; one factor for all (``shared``); or one each (``per-image``).
        points: fit to the dense mesh where there is one, or to the class's landmarks only.
        depth_weight: weight of the mesh's relative depths, as estimated by the landmarker; 0 leaves them out.
        focal: focal length in units of a photograph's longer side; by default that of the class.
        refine_canonical: re-estimate the canonical points together with the cameras first.
        canonical: (index, keypoints) of an earlier fit to use in place of the class's own.
        robust: Huber's scale, in units of the landmarks' spread.
        max_error: largest reprojection error that is accepted, in units of the landmarks' spread.

    Returns:
        Summary: images, fitted, reprojection_rmse_px_median, statuses, kept (an equal output was there).
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
            described, points = _with_canonical(described, *canonical)
            parameters["canonical"] = canonical[1].tolist()
        observed = _observed(file, described, points)
    inputs = [artifact.file_record(source)]
    about: artifact.About = {"object_class": described, "parameters": parameters, "inputs": inputs}
    kept = artifact.is_current(output, "cameras/1", **about, overwrite=overwrite)
    if not kept:
        _fit_and_write(output, about, observed, described, parameters)
    return summarise(output) | {"kept": kept}


def summarise(path: Path) -> dict[str, Any]:
    """What a cameras file holds, in numbers."""
    with artifact.reading(path, "cameras/1") as file:
        status = artifact.strings(file["status"])
        usable = artifact.usable(status)
        error = file["reprojection_rmse"][:][usable]
    return {
        "images": len(status),
        "fitted": int(usable.sum()),
        "reprojection_rmse_px_median": float(np.median(error)) if len(error) else None,
        "statuses": dict(Counter(status)),
        "output": str(path),
    }


def _with_canonical(
    described: ObjectClass, index: np.ndarray, keypoints: np.ndarray
) -> tuple[ObjectClass, Points]:
    """The class with other canonical keypoints, and which kind of points they are."""
    if len(index) == len(described.canonical):
        return replace(described, canonical=keypoints), "landmarks"
    return replace(described, mesh_index=index, mesh_canonical=keypoints), "mesh"


def _observed(file: Any, described: ObjectClass, points: Points) -> Observed:
    """Reads a landmarks file; the mesh's points beyond those of the class's template are left out."""
    if points == "mesh" and "mesh" in file and len(described.mesh_index):
        # Irises move with the gaze, the rest of the mesh with the head.
        index = np.array([i for i in file["mesh_index"][:] if i in set(described.mesh_index) and i < 468])
        place = {int(value): row for row, value in enumerate(described.mesh_index)}
        mesh = file["mesh"][:][:, [list(file["mesh_index"][:]).index(i) for i in index]].astype(np.float64)
        seen, depth = mesh[..., :2], mesh[..., 2]
        canonical = described.mesh_canonical[[place[int(i)] for i in index]]
    else:
        names = artifact.strings(file["landmark_names"])
        if tuple(names) != described.landmark_names or len(names) < 3:
            raise InputError(
                f"{file.filename}: its landmarks ({', '.join(names)}) are not those of class {described.name} "
                f"({', '.join(described.landmark_names) or 'which has none'})"
            )
        seen, canonical, index = (
            file["landmarks"][:].astype(np.float64),
            described.canonical,
            np.arange(len(names)),
        )
        depth = None
    return Observed(
        artifact.strings(file["image"]),
        artifact.strings(file["status"]),
        file["image_size"][:],
        seen,
        depth,
        index,
        canonical,
    )


def _fit_and_write(
    output: Path,
    about: artifact.About,
    observed: Observed,
    described: ObjectClass,
    parameters: dict[str, Any],
) -> None:
    count = len(observed.images)
    rows = np.flatnonzero(artifact.usable(observed.status))
    seen, size = observed.points[rows], observed.image_size[rows].astype(float)
    depth = None if observed.depth is None else observed.depth[rows]
    center, canonical = size / 2, observed.canonical
    focal = size.max(axis=1) * (parameters["focal"] or described.focal)
    robust, intrinsics = parameters["robust"], parameters["intrinsics"]
    depth_weight = parameters["depth_weight"]
    shared = intrinsics == "shared"
    if len(rows) and (parameters["refine_canonical"] or shared):
        joint = refine(
            seen,
            canonical,
            focal,
            center,
            depth=depth,
            depth_weight=depth_weight,
            free_shape=parameters["refine_canonical"],
            free_focal=shared,
            robust=robust,
            focal_spread=_FOCAL_SPREAD / robust,
        )
        canonical, focal = joint.canonical, focal * joint.focal_factor
    status = [s if s in artifact.USABLE else ("skipped" if s == "ok" else s) for s in observed.status]
    arrays = {
        "intrinsics": np.full((count, 3, 3), np.nan),
        "cam_to_world": np.full((count, 4, 4), np.nan),
        "window": np.full((count, 3), np.nan),
        "reprojection_rmse": np.full(count, np.nan),
        "iterations": np.zeros(count, np.int32),
    }
    if len(rows):
        fit = solve_cameras(
            seen,
            canonical,
            focal,
            center,
            depth=depth,
            depth_weight=depth_weight,
            robust=robust,
            free_focal=intrinsics == "per-image",
            focal_spread=_FOCAL_SPREAD / robust,
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


def acceptable(fit: CameraFit, largest_angle: float, max_error: float) -> np.ndarray:
    """Which fits are cameras: finite, before the object, not turned inside out, and close to the landmarks.

    Args:
        largest_angle: of the camera's position from the frontal direction (+z), degrees.
        max_error: of the reprojection error in units of the landmarks' spread.
    """
    position = fit.cam_to_world[:, :3, 3]
    distance = np.linalg.norm(position, axis=-1)
    with np.errstate(invalid="ignore"):
        angle = np.degrees(np.arccos(np.clip(position[:, 2] / distance, -1, 1)))
        finite = np.isfinite(fit.cam_to_world).all((1, 2))
        return (
            finite
            & fit.in_front
            & (angle <= largest_angle)
            & (fit.relative_rmse <= max_error)
            & (distance > 1.0)
        )
