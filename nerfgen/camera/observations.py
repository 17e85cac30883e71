"""Landmarks of many images as the camera fit uses them, with the canonical keypoints that they belong to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float, Float32, Float64, Int

from nerfgen import storage
from nerfgen.camera.settings import Points
from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass

# Pixels: no image has points that are farther from its corner, and no object of a smaller extent has a camera.
_FARTHEST, _LEAST_EXTENT = 1e7, 0.01
# Points of the face mesh from this one on are irises: they move with the gaze, the others with the head.
_FIRST_IRIS = 468
# Images that are read at a time.
_ROWS = 1024


@dataclass(frozen=True)
class Observations:
    """Observed points of images, pixels, and what the fit has to know of each point.

    Points are kept in the precision of files, because those of many images take much memory; :meth:`points_of` and
    :meth:`depth_of` give those of some images in the precision of the fit.

    Attributes:
        points: x and y, float32.
        depth: float32; relative depth of the points, in pixels; larger is farther. None where it is not observed.
        names: of the points, for messages.
        index: landmark or mesh point that each one is.
        canonical: canonical keypoints, world units; no rows where the class has none.
        mirrored: index of each point's mirror twin; None for classes without mirror plane.
        nearest: indices of points that lie nearer to a frontal camera than the centroid; may be empty.
        spread, middle: root mean square distance of estimated canonical keypoints from their centroid, and the
            centroid, world units.
    """

    images: list[str]
    status: list[str]
    image_size: Int[np.ndarray, "images 2"]
    points: Float32[np.ndarray, "images points 2"]
    depth: Float32[np.ndarray, "images points"] | None
    names: list[str]
    index: Int[np.ndarray, "points"]
    canonical: Float[np.ndarray, "_ 3"]
    mirrored: Int[np.ndarray, "points"] | None
    nearest: Int[np.ndarray, "_"]
    spread: float
    middle: Float[np.ndarray, "3"]

    def points_of(self, rows: Int[np.ndarray, "rows"]) -> Float64[np.ndarray, "rows points 2"]:
        """The points of some images."""
        return self.points[rows].astype(np.float64)

    def depth_of(self, rows: Int[np.ndarray, "rows"]) -> Float64[np.ndarray, "rows points"] | None:
        """The depths of the points of some images."""
        return None if self.depth is None else self.depth[rows].astype(np.float64)

    @property
    def determinate(self) -> Bool[np.ndarray, "images"]:
        """Images that have a size, and points that are not all in one place."""
        if not self.points.shape[1]:
            return np.zeros(len(self.points), bool)
        # NaN counts for nothing here, and no copy of the points is made: there may be many.
        extent = np.fmax.reduce(self.points, axis=1) - np.fmin.reduce(self.points, axis=1)
        return (extent >= _LEAST_EXTENT).any(axis=-1) & (self.image_size > 0).all(axis=-1)


def with_canonical(
    described: ObjectClass, index: Int[np.ndarray, "points"], keypoints: Float[np.ndarray, "points 3"]
) -> tuple[ObjectClass, Points]:
    """The class with the canonical keypoints of an earlier fit, and which kind of points they are."""
    if len(index) == len(described.landmark_names):
        return replace(described, canonical=keypoints), "landmarks"
    return replace(described, mesh_index=index, mesh_canonical=keypoints), "mesh"


def observe(
    images: Sequence[str],
    status: Sequence[str],
    image_size: Int[np.ndarray, "images 2"],
    landmarks: Float[np.ndarray, "images landmarks 2"],
    described: ObjectClass,
    points: Points = "mesh",
    *,
    mesh: Float[np.ndarray, "images mesh 3"] | None = None,
    mesh_index: Int[np.ndarray, "mesh"] | None = None,
) -> Observations:
    """The observations in landmarks of images in memory.

    Args:
        landmarks: of the class, in its order, pixels; rounded to float32, as files hold them.
        points: what to fit to; the landmarks, too, where there is no mesh.
        mesh: pixels and relative depth of the points ``mesh_index`` of the class's mesh.
    """
    common = (list(images), list(status), np.asarray(image_size))
    templates = {int(value): row for row, value in enumerate(described.mesh_index) if value < _FIRST_IRIS}
    columns = (
        [] if mesh_index is None else [place for place, i in enumerate(mesh_index) if int(i) in templates]
    )
    if points == "mesh" and mesh is not None and mesh_index is not None and columns:
        index = mesh_index[columns]
        dense = mesh if len(columns) == mesh.shape[1] else mesh[:, columns]
        dense = np.asarray(dense, np.float32)
        canonical = described.mesh_canonical[[templates[int(value)] for value in index]]
        centred = canonical - canonical.mean(0)
        return Observations(
            *common,
            points=_in_range(dense[..., :2]),
            depth=dense[..., 2],
            names=[str(value) for value in index],
            index=index,
            canonical=canonical,
            mirrored=_mirror_twins(canonical) if described.mirror else None,
            nearest=np.zeros(0, np.int64),
            spread=float(np.sqrt((centred**2).sum(-1).mean())),
            middle=canonical.mean(0),
        )
    names = list(described.landmark_names)
    return Observations(
        *common,
        points=_in_range(np.asarray(landmarks, np.float32)),
        depth=None,
        names=names,
        index=np.arange(len(names)),
        canonical=described.canonical,
        mirrored=described.mirrored if described.mirror and described.symmetry else None,
        nearest=np.array([names.index(name) for name in described.nearest], np.int64),
        spread=described.spread,
        middle=np.array(described.center),
    )


def read_observations(file: h5py.File, described: ObjectClass, points: Points) -> Observations:
    """The observations in an open landmarks file.

    Raises:
        InputError: its landmarks are not those of the class.
    """
    mesh = index = None
    if "mesh" in file and points == "mesh":
        index = file["mesh_index"][:]
        rigid = np.flatnonzero(index < _FIRST_IRIS)
        index, mesh = index[rigid], np.empty((len(file["mesh"]), len(rigid), 3), np.float32)
        for start in range(0, len(mesh), _ROWS):  # without a second copy of what may be a gigabyte
            mesh[start : start + _ROWS] = file["mesh"][start : start + _ROWS][:, rigid]
    found = observe(
        storage.strings(file["image"]),
        storage.strings(file["status"]),
        file["image_size"][:],
        file["landmarks"][:],
        described,
        points,
        mesh=mesh,
        mesh_index=index,
    )
    names = storage.strings(file["landmark_names"])
    if found.depth is None and (tuple(names) != described.landmark_names or len(names) < 3):
        raise InputError(
            f"{file.filename}: its landmarks ({', '.join(names)}) are not those of class {described.name} "
            f"({', '.join(described.landmark_names) or 'which has none'})"
        )
    return found


def _in_range(points: Float[np.ndarray, "images points 2"]) -> Float[np.ndarray, "images points 2"]:
    """The points, NaN where they are not in any image."""
    limits: dict[str, Any] = {"axis": None, "initial": 0.0}
    if np.fmax.reduce(points, **limits) <= _FARTHEST and np.fmin.reduce(points, **limits) >= -_FARTHEST:
        return points
    found = np.array(points)
    found[(np.abs(points) > _FARTHEST).any(axis=-1)] = np.nan
    return found


def _mirror_twins(canonical: Float[np.ndarray, "points 3"]) -> Int[np.ndarray, "points"]:
    """Index of the point nearest to each point's reflection in the plane x = 0."""
    mirrored = canonical * [-1.0, 1.0, 1.0]
    return np.linalg.norm(mirrored[:, None] - canonical, axis=-1).argmin(1)
