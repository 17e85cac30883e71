"""From a field to a mesh: an isosurface of the density with colours and normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen.errors import InputError
from nerfgen.geometry import Cameras
from nerfgen.mesh.density_grid import DensityGrid, Field, sample_density, solid, visible_level
from nerfgen.mesh.settings import MeshSettings


@dataclass(frozen=True)
class Mesh:
    """Triangles with a normal and a colour at every vertex.

    Attributes:
        vertices: world units.
        faces: indices of vertices, counter-clockwise as seen from outside.
        normals: unit vectors, outward.
        colors: sRGB, as in images.
    """

    vertices: Float[np.ndarray, "vertices 3"]
    faces: Int[np.ndarray, "faces 3"]
    normals: Float[np.ndarray, "vertices 3"]
    colors: UInt8[np.ndarray, "vertices 3"]

    @property
    def watertight(self) -> bool:
        """Whether every edge is shared by exactly two faces with opposite directions along it."""
        starts, ends = self.faces.reshape(-1), np.roll(self.faces, -1, axis=1).reshape(-1)
        count = len(self.vertices)
        along, against = starts.astype(np.int64) * count + ends, ends.astype(np.int64) * count + starts
        once = len(np.unique(along)) == len(along)
        return len(along) > 0 and once and bool(np.isin(along, against).all())


class NoSurfaceError(InputError):
    """No density of the object reaches the level of the surface."""


@dataclass(frozen=True)
class Surface:
    """A mesh and the properties of its extraction.

    Attributes:
        level: density of the surface, per world unit.
        parts: number of separate parts at this level, including removed ones.
    """

    mesh: Mesh
    level: float
    parts: int


def extract_surface(
    field: Field,
    half: tuple[float, float, float],
    cameras: Cameras,
    meshing: MeshSettings = MeshSettings(),
    *,
    grain: float = 0.0,
) -> Surface:
    """The isosurface of a field's density within the box [-half, half].

    Args:
        half: half sizes x, y, z, world units.
        cameras: the level is chosen by what they see.
        grain: length over which normals are smoothed, world units; at least two cells.

    Raises:
        NoSurfaceError: no camera sees anything, or no density reaches the level.
    """
    grid = sample_density(field, half, meshing.resolution)
    level = meshing.level or visible_level(grid, cameras)
    if not 0 < level < grid.density.max():
        raise NoSurfaceError(
            f"no density reaches the level {level:g}" if level else "no camera sees the object"
        )
    grid, parts = solid(grid, level, largest=meshing.largest)
    if meshing.watertight:
        grid = grid.enclosed()
    if grid.density.min() >= level:
        raise NoSurfaceError(f"the density exceeds the level {level:g} everywhere")
    box = np.array(half)
    vertices, faces = _marched(grid, level)
    # The closing surface lies on the box, not within a cell beyond it.
    vertices = vertices.clip(-box, box)
    if meshing.faces and meshing.faces < len(faces):
        vertices, faces = _simplified(vertices, faces, meshing.faces)
        vertices = vertices.clip(-box, box)
    mesh = Mesh(
        vertices=vertices.astype(np.float32),
        faces=faces.astype(np.int32),
        normals=_normals(grid, vertices, faces, box, 0.5 * grain).astype(np.float32),
        colors=np.round(field(vertices)[1].clip(0, 1) * 255).astype(np.uint8),
    )
    return Surface(mesh, level, parts)


def _marched(
    grid: DensityGrid, level: float
) -> tuple[Float[np.ndarray, "vertices 3"], Int[np.ndarray, "faces 3"]]:
    """Marching cubes: vertices in the world, and faces counter-clockwise as seen from outside."""
    from skimage.measure import marching_cubes

    spacing = tuple(float(value) for value in grid.spacing)
    vertices, faces, _, _ = marching_cubes(grid.density, level, spacing=spacing, gradient_direction="ascent")
    return vertices + grid.first, faces


def _simplified(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"], count: int
) -> tuple[Float[np.ndarray, "fewer 3"], Int[np.ndarray, "faces_left 3"]]:
    """Edges collapsed by least quadric error (Garland and Heckbert 1997) until ``count`` faces are left.

    Collapses that would tear or pinch the surface are skipped: a closed surface stays closed.
    """
    import igl

    fewer, left, _, _ = igl.qslim(vertices.astype(np.float64), faces.astype(np.int64), count)
    return fewer, left.view(np.int64)


def _normals(
    grid: DensityGrid,
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    box: Float[np.ndarray, "3"],
    step: float,
) -> Float[np.ndarray, "vertices 3"]:
    """Negative gradient of the density; face normals on the box and where the gradient points inward."""
    normals = -unit(grid.gradient(vertices, max(step, float(grid.spacing.max()))))
    of_faces = face_normals(vertices, faces)
    outward = np.sum(normals * of_faces, axis=-1) > 0
    on_box = (np.abs(vertices) > (1 - 1e-4) * box).any(axis=-1)
    return np.where((outward & ~on_box)[:, None], normals, of_faces)


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
