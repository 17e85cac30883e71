"""A triangle mesh as a value."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8


@dataclass(frozen=True)
class Mesh:
    """Triangles with a normal and a colour at every vertex.

    Attributes:
        vertices: world units.
        faces: indices of vertices, counter-clockwise as seen from outside.
        normals: unit vectors, outward.
        colors: sRGB, as in photographs.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    normals: Float[np.ndarray, "vertices 3"]
    colors: UInt8[np.ndarray, "vertices 3"]

    @property
    def watertight(self) -> bool:
        """Whether every edge joins exactly two faces, which run along it in opposite directions."""
        starts, ends = self.faces.reshape(-1), np.roll(self.faces, -1, axis=1).reshape(-1)
        count = len(self.vertices)
        along, against = starts.astype(np.int64) * count + ends, ends.astype(np.int64) * count + starts
        once = len(np.unique(along)) == len(along)
        return len(along) > 0 and once and bool(np.isin(along, against).all())


def face_normals(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"]
) -> Float[np.ndarray, "vertices 3"]:
    """Unit normal at every vertex: the mean of its faces' normals, weighted by area; 0 where they cancel."""
    corners = vertices[faces]
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    total = np.zeros(vertices.shape)
    for corner in faces.T:
        np.add.at(total, corner, areas)
    return unit(total)


def unit(vectors: Float[np.ndarray, "*batch 3"]) -> Float[np.ndarray, "*batch 3"]:
    """Vectors of length 1 in the same direction; 0 stays 0."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 0, length, 1.0)
