"""Normals of depth maps, and angles between normals."""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float

from nerfgen.geometry import pixel_centers

# Neighbours whose depths differ by more than this share of their distance lie on two surfaces.
_JUMP = 0.05


def depth_normals(
    depth: Float[np.ndarray, "size size"],
    intrinsics: Float[np.ndarray, "3 3"],
    solid: Bool[np.ndarray, "size size"],
) -> tuple[Float[np.ndarray, "size size 3"], Bool[np.ndarray, "size size"]]:
    """Unit normals of the surface that a depth map shows, towards the camera and in its axes, and where there are any.

    They are cross products of central differences of the back-projected pixels; none stands at a pixel with a neighbour
    that is not ``solid`` or lies on another surface.

    Args:
        depth: along the optical axis.
        intrinsics: pinhole matrix of the depth map, without skew.
    """
    size = len(depth)
    plane = (pixel_centers(size) - intrinsics[:2, 2]) / np.diag(intrinsics)[:2]
    rays = np.concatenate([plane, np.ones((size**2, 1))], axis=1).reshape(size, size, 3)
    points = rays * np.asarray(depth, np.float64)[..., None]
    normals = np.zeros((size, size, 3))
    there = np.zeros((size, size), bool)
    middle, ahead, behind = slice(1, -1), slice(2, None), slice(None, -2)
    across = points[middle, ahead] - points[middle, behind]
    down = points[ahead, middle] - points[behind, middle]
    # x right, y down, z forward: down x across looks back at the camera.
    cross = np.cross(down, across)
    length = np.linalg.norm(cross, axis=-1)
    around = ((middle, ahead), (middle, behind), (ahead, middle), (behind, middle))
    near = np.abs(np.stack([depth[place] - depth[middle, middle] for place in around])).max(0)
    whole = solid[middle, middle] & np.all([solid[place] for place in around], axis=0)
    there[middle, middle] = whole & (near < _JUMP * depth[middle, middle]) & (length > 0)
    normals[middle, middle] = cross / np.maximum(length, 1e-12)[..., None]
    return np.where(there[..., None], normals, 0.0), there


def angles_between(
    first: Float[np.ndarray, "normals 3"], second: Float[np.ndarray, "normals 3"]
) -> Float[np.ndarray, "normals"]:
    """Angles in degrees between unit vectors."""
    return np.degrees(
        np.arctan2(np.linalg.norm(np.cross(first, second), axis=-1), np.einsum("...i,...i", first, second))
    )
