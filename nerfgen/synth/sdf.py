"""Signed distances of simple solids, and how to join them.

Points come as three float32 arrays x, y, z of one shape, and distances in the same unit: numpy works
on contiguous arrays several times faster than on the columns of an (N, 3) array. Parameters are
Python floats, which leave float32 arrays float32.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

Values = Float[np.ndarray, " points"]
Distance = Callable[[Values, Values, Values], Values]
Triple = tuple[float, float, float]


def sphere(x: Values, y: Values, z: Values, center: Triple, radius: float) -> Values:
    """Exact distance to a sphere."""
    dx, dy, dz = x - center[0], y - center[1], z - center[2]
    return np.sqrt(dx * dx + dy * dy + dz * dz) - radius


def ellipsoid(x: Values, y: Values, z: Values, center: Triple, radii: Triple) -> Values:
    """Distance to an axis-aligned ellipsoid, exact to first order at its surface."""
    ax, ay, az = (x - center[0]) / radii[0], (y - center[1]) / radii[1], (z - center[2]) / radii[2]
    bx, by, bz = ax / radii[0], ay / radii[1], az / radii[2]
    scaled = np.sqrt(ax * ax + ay * ay + az * az)
    slope = np.sqrt(bx * bx + by * by + bz * bz)
    return scaled * (scaled - 1.0) / np.maximum(slope, 1e-6)


def capsule(
    x: Values,
    y: Values,
    z: Values,
    start: Triple,
    end: Triple,
    radius: float,
    end_radius: float | None = None,
) -> Values:
    """Distance to the segment from ``start`` to ``end``, less a radius that may change along it."""
    ex, ey, ez = end[0] - start[0], end[1] - start[1], end[2] - start[2]
    dx, dy, dz = x - start[0], y - start[1], z - start[2]
    along = np.clip((dx * ex + dy * ey + dz * ez) / (ex * ex + ey * ey + ez * ez), 0.0, 1.0)
    dx, dy, dz = dx - along * ex, dy - along * ey, dz - along * ez
    distance = np.sqrt(dx * dx + dy * dy + dz * dz)
    if end_radius is None:
        return distance - radius
    return distance - (radius + along * (end_radius - radius))


def rounded_box(x: Values, y: Values, z: Values, center: Triple, half: Triple, rounding: float) -> Values:
    """Exact distance to a box of half sizes ``half``, its edges rounded off by ``rounding``."""
    qx = np.abs(x - center[0]) - (half[0] - rounding)
    qy = np.abs(y - center[1]) - (half[1] - rounding)
    qz = np.abs(z - center[2]) - (half[2] - rounding)
    inside = np.minimum(np.maximum(np.maximum(qx, qy), qz), 0.0)
    qx, qy, qz = np.maximum(qx, 0.0), np.maximum(qy, 0.0), np.maximum(qz, 0.0)
    return np.sqrt(qx * qx + qy * qy + qz * qz) + inside - rounding


def axle_cylinder(
    x: Values, y: Values, z: Values, center: Triple, radius: float, half_width: float, rounding: float
) -> Values:
    """Exact distance to a cylinder along x with rounded rims."""
    dy, dz = y - center[1], z - center[2]
    radial = np.sqrt(dy * dy + dz * dz) - (radius - rounding)
    axial = np.abs(x - center[0]) - (half_width - rounding)
    inside = np.minimum(np.maximum(radial, axial), 0.0)
    radial, axial = np.maximum(radial, 0.0), np.maximum(axial, 0.0)
    return np.sqrt(radial * radial + axial * axial) + inside - rounding


def slanted_plane(y: Values, z: Values, height: float, slope: float) -> Values:
    """Distance above the plane y = height + slope z (negative below it)."""
    return (y - height - slope * z) / math.sqrt(1.0 + slope * slope)


def smooth_min(a: Values, b: Values, k: float) -> Values:
    """Union whose joint is blended over a width ``k``: a quadratic polynomial minimum."""
    blend = np.maximum(k - np.abs(a - b), 0.0)
    return np.minimum(a, b) - blend * blend * (0.25 / k)


def smooth_max(a: Values, b: Values, k: float) -> Values:
    """Intersection blended over a width ``k``; ``smooth_max(a, -b, k)`` takes b away from a."""
    blend = np.maximum(k - np.abs(a - b), 0.0)
    return np.maximum(a, b) + blend * blend * (0.25 / k)


def step(values: Values, low: float, high: float) -> Values:
    """0 below ``low``, 1 above ``high`` and smooth between (reversed when ``low > high``)."""
    t = np.clip((values - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


def bump(values: Values, width: float) -> Values:
    """A smooth bump: 1 at zero, with standard deviation ``width``."""
    return np.exp(-0.5 * (values / width) ** 2)
