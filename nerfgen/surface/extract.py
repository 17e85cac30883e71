"""From a field to a mesh: an isosurface of the density, with colours and normals."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.geometry import Cameras
from nerfgen.surface.grid import DensityGrid, Field, sample_density, solid
from nerfgen.surface.level import visible_level
from nerfgen.surface.mesh import Mesh, face_normals, unit


class NoSurfaceError(InputError):
    """An object has no density where a surface was looked for."""


@dataclass(frozen=True)
class Meshing:
    """How a mesh is made.

    Attributes:
        resolution: cells of the grid along the longest edge of the box.
        level: density of the surface, per world unit; 0 for the one that cameras see.
        largest: keep the largest of separate parts alone.
        watertight: close the surface where the box cuts the object.
        faces: simplify to so many triangles; 0 for all.
    """

    resolution: int = 128
    level: float = 0.0
    largest: bool = True
    watertight: bool = False
    faces: int = 0


@dataclass(frozen=True)
class Surface:
    """A mesh, and what was found on the way.

    Attributes:
        level: density of the surface, per world unit.
        parts: separate parts that the object has at this level, those left out included.
    """

    mesh: Mesh
    level: float
    parts: int


def extract_surface(
    field: Field,
    half: tuple[float, float, float],
    cameras: Cameras,
    meshing: Meshing = Meshing(),
    *,
    grain: float = 0.0,
) -> Surface:
    """The isosurface of a field's density within the box [-half, half].

    Args:
        half: half edges x, y, z, world units.
        cameras: by what they see the level is chosen.
        grain: normals are smoothed over this length, world units, and at least over two cells.

    Raises:
        NoSurfaceError: no camera sees anything, or no density reaches the level.
    """
    grid = sample_density(field, half, meshing.resolution)
    level = meshing.level or visible_level(grid, cameras)
    if not 0 < level < grid.density.max():
        raise NoSurfaceError(
            f"no density reaches the level {level:g}" if level else "no camera sees anything of it"
        )
    grid, parts = solid(grid, level, largest=meshing.largest)
    if meshing.watertight:
        grid = grid.enclosed()
    box = np.array(half)
    vertices, faces = _marched(grid, level)
    # The closing surface lies on the box, not a part of a cell beyond it.
    vertices = vertices.clip(-box, box)
    if 0 < meshing.faces < len(faces):
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
    """Marching cubes: vertices in the world, and faces that run counter-clockwise as seen from outside."""
    from skimage.measure import marching_cubes

    spacing = tuple(float(value) for value in grid.spacing)
    vertices, faces, _, _ = marching_cubes(grid.density, level, spacing=spacing, gradient_direction="ascent")
    return vertices + grid.first, faces


def _simplified(
    vertices: Float[np.ndarray, "vertices 3"], faces: Int[np.ndarray, "faces 3"], count: int
) -> tuple[Float[np.ndarray, "fewer 3"], Int[np.ndarray, "faces_left 3"]]:
    """Edges collapsed by least quadric error (Garland and Heckbert 1997) until ``count`` faces are left.

    Collapses that would tear or pinch the surface are not made: what was closed stays closed.
    """
    import igl

    fewer, left, _, _ = igl.qslim(vertices.astype(np.float64), faces.astype(np.int64), count)
    return fewer, left


def _normals(
    grid: DensityGrid,
    vertices: Float[np.ndarray, "vertices 3"],
    faces: Int[np.ndarray, "faces 3"],
    box: Float[np.ndarray, "3"],
    step: float,
) -> Float[np.ndarray, "vertices 3"]:
    """Against the density's gradient; those of the faces on the box, and where the gradient points into them."""
    normals = -unit(grid.gradient(vertices, max(step, float(grid.spacing.max()))))
    of_faces = face_normals(vertices, faces)
    outward = np.sum(normals * of_faces, axis=-1) > 0
    on_box = (np.abs(vertices) > (1 - 1e-4) * box).any(axis=-1)
    return np.where((outward & ~on_box)[:, None], normals, of_faces)
