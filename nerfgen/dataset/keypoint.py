"""Landmarks of an object that never existed."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.field import Model
from nerfgen.generate import ObjectRays

# Farther from a canonical point, world units, the ray has missed what the point is on.
_FARTHEST = 0.3
_SAMPLES = 32


def surface_landmarks(
    model: Model, latent: Float[np.ndarray, "latent"], canonical: Float[np.ndarray, "landmarks 3"]
) -> Float[np.ndarray, "landmarks 3"]:
    """The class's canonical landmarks on an object's own surface, world units.

    Each point moves along the ray on which the frontal camera sees it, to the surface. A point without a surface
    nearby stays.
    """
    camera = np.array([0.0, 0.0, model.distance])
    away = np.linalg.norm(canonical - camera, axis=-1)
    directions = (canonical - camera) / away[:, None]
    origins = np.broadcast_to(camera, directions.shape)
    seen = ObjectRays(model, latent).look(origins, directions, samples=_SAMPLES)
    near = (seen.opacity >= 0.5) & (np.abs(seen.distance - away) < _FARTHEST)
    return np.where(near[:, None], camera + directions * seen.distance[:, None], canonical)
