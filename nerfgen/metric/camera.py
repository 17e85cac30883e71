"""How far estimated cameras are from true ones, when the frame of the world is not to be known."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from nerfgen.geometry import rotation_angle


def rotation_errors(
    estimated: Float[np.ndarray, "images 4 4"], true: Float[np.ndarray, "images 4 4"]
) -> Float[np.ndarray, "images"]:
    """Angle in degrees between estimated and true rotations, after the best global alignment.

    One rotation A of the world is free: it is the minimiser of sum |A R_est - R_true|^2 (Wahba's problem),
    then once more over the better half of the images, so that outliers do not tilt the frame.
    """
    first, second = estimated[:, :3, :3], true[:, :3, :3]
    chosen = np.ones(len(first), bool)
    errors = np.zeros(len(first))
    for _ in range(2):
        left, _, right = np.linalg.svd(np.einsum("nij,nkj->ik", second[chosen], first[chosen]))
        alignment = left @ np.diag([1, 1, np.linalg.det(left @ right)]) @ right
        errors = rotation_angle(alignment @ first, second)
        chosen = errors <= np.median(errors)
    return errors
