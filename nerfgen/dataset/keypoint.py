"""Landmarks of an object that never existed."""

from __future__ import annotations

import numpy as np
import scipy.ndimage
from jaxtyping import Float

from nerfgen.field import Model
from nerfgen.generate import render_views
from nerfgen.geometry import pixel_rays, project, turned_cameras

# Edge of the frontal picture whose depth tells the surface, pixels.
_SIZE = 64
# Farther from a canonical point, world units, the ray has missed what the point is on.
_FARTHEST = 0.3


def surface_landmarks(
    model: Model, latent: Float[np.ndarray, "latent"], canonical: Float[np.ndarray, "landmarks 3"]
) -> Float[np.ndarray, "landmarks 3"]:
    """The class's canonical landmarks on an object's own surface, world units.

    Each point moves along the ray on which the frontal camera sees it, to the depth that is rendered there. A point
    without a surface nearby stays.
    """
    camera = turned_cameras(np.zeros(1), np.zeros(1), model.distance)
    matrix, pose = camera.matrices(_SIZE)[0], camera.cam_to_world[0]
    depth = render_views(model, latent[None], matrix[None], pose[None], _SIZE).depth[0]
    pixels, expected = project(canonical, matrix, pose)
    # Between the four pixels about a point only if all have a surface.
    places = pixels[:, ::-1].T - 0.5
    found = scipy.ndimage.map_coordinates(depth, places, order=1)
    solid = scipy.ndimage.map_coordinates((depth > 0).astype(float), places, order=1) > 0.999
    origins, directions = pixel_rays(pixels, matrix, pose)
    moved = origins + directions * (found / (directions @ pose[:3, 2]))[:, None]
    near = solid & (np.abs(found - expected) < _FARTHEST)
    return np.where(near[:, None], moved, canonical)
