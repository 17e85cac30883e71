"""What a landmarks file has of each image that cameras can be fitted to."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, Int

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass

Points = Literal["mesh", "landmarks"]


@dataclass(frozen=True)
class Observed:
    """Landmarks of a folder's images, with what is needed to fit cameras to them; the mesh has depths too.

    Attributes:
        names: of the points, for messages.
        index: which landmark or dense point each one is.
        canonical: template, world units; no rows where the class has none.
        mirrored: place of the point that each one becomes in a mirrored photograph; None if objects have no mirror
            plane.
        nearest: places of points that lie nearer to a frontal camera than the centroid of all; may be none.
        spread, middle: of canonical points that are estimated: root mean square distance from their centroid, and
            where that lies, world units.
    """

    images: list[str]
    status: list[str]
    image_size: Int[np.ndarray, "images 2"]
    points: Float[np.ndarray, "images points 2"]
    depth: Float[np.ndarray, "images points"] | None
    names: list[str]
    index: Int[np.ndarray, "points"]
    canonical: Float[np.ndarray, "_ 3"]
    mirrored: Int[np.ndarray, "points"] | None
    nearest: Int[np.ndarray, "_"]
    spread: float
    middle: Float[np.ndarray, "3"]


def with_canonical(
    described: ObjectClass, index: np.ndarray, keypoints: np.ndarray
) -> tuple[ObjectClass, Points]:
    """The class with other canonical keypoints, and which kind of points they are."""
    if len(index) == len(described.landmark_names):
        return replace(described, canonical=keypoints), "landmarks"
    return replace(described, mesh_index=index, mesh_canonical=keypoints), "mesh"


def read_observed(file: Any, described: ObjectClass, points: Points) -> Observed:
    """Reads a landmarks file; the mesh's points beyond those of the class's template are left out.

    Raises:
        InputError: its landmarks are not those of the class.
    """
    common = (artifact.strings(file["image"]), artifact.strings(file["status"]), file["image_size"][:])
    if points == "mesh" and "mesh" in file and len(described.mesh_index):
        # Irises move with the gaze, the rest of the mesh with the head.
        index = np.array([i for i in file["mesh_index"][:] if i in set(described.mesh_index) and i < 468])
        place = {int(value): row for row, value in enumerate(described.mesh_index)}
        mesh = file["mesh"][:][:, [list(file["mesh_index"][:]).index(i) for i in index]].astype(np.float64)
        canonical = described.mesh_canonical[[place[int(i)] for i in index]]
        centred = canonical - canonical.mean(0)
        return Observed(
            *common,
            points=mesh[..., :2],
            depth=mesh[..., 2],
            names=[str(i) for i in index],
            index=index,
            canonical=canonical,
            mirrored=_partners(canonical) if described.mirror else None,
            nearest=np.zeros(0, np.int64),
            spread=float(np.sqrt((centred**2).sum(-1).mean())),
            middle=canonical.mean(0),
        )
    names = artifact.strings(file["landmark_names"])
    if tuple(names) != described.landmark_names or len(names) < 3:
        raise InputError(
            f"{file.filename}: its landmarks ({', '.join(names)}) are not those of class {described.name} "
            f"({', '.join(described.landmark_names) or 'which has none'})"
        )
    return Observed(
        *common,
        points=file["landmarks"][:].astype(np.float64),
        depth=None,
        names=names,
        index=np.arange(len(names)),
        canonical=described.canonical,
        mirrored=described.mirrored if described.mirror and described.symmetry else None,
        nearest=np.array([names.index(name) for name in described.nearest], np.int64),
        spread=described.spread,
        middle=np.array(described.center),
    )


def _partners(canonical: Float[np.ndarray, "points 3"]) -> Int[np.ndarray, "points"]:
    """Which point of a mirror-symmetric template lies where the mirror plane x = 0 shows each."""
    mirrored = canonical * [-1.0, 1.0, 1.0]
    return np.linalg.norm(mirrored[:, None] - canonical, axis=-1).argmin(1)
