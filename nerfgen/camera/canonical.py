"""Canonical keypoints from 2D landmarks alone, for classes without a template.

Factorisation gives a start (:mod:`nerfgen.camera.factorise`); the joint least squares of
:mod:`nerfgen.camera.joint` then has perspective and robust weights. If objects have a mirror plane, every image
also counts as the image of its mirror twin, which makes the shape symmetric. Gauge freedoms are fixed as follows:

- of the two shapes that are each other's reversal in depth, the one is chosen in which the class's ``nearest``
  landmarks lie nearer than the centroid; without any, the middle of the frontal view is nearer than its rim;
- the frame: the mean of all cameras looks along -z, x points along the symmetry; centroid and spread are given;
- depths that the images hardly determine are drawn to a shallow dome by a weak prior.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from nerfgen.camera.factorise import factorise, mean_rotation, mean_view
from nerfgen.camera.joint import refine
from nerfgen.camera.solve import CameraFit, acceptable, solve_cameras, spread
from nerfgen.geometry import FRONTAL_ROTATION

LEAST_IMAGES = 10
LEAST_POINTS = 4
# These numbers of images determine a shape; more only cost time. Dense points give many values per image.
_MOST_IMAGES, _MOST_IMAGES_DENSE, _DENSE = 1000, 200, 100
_ROUNDS = 4
# The dome: root mean square depth in units of the spread. By its weight, depths e times too large or too small cost
# as much as this fraction of the remaining cost.
_DOME_DEPTH = 0.3
_DOME_SHARE = 0.05
# Weight that ties x and y to their positions, so that shape and cameras cannot turn and move together.
_FRAME_WEIGHT = 1e-4
# Depths are uncertain if cameras differ by less than these degrees (root mean square; differences in shape look like
# turns), or if a factor of sqrt(2) on depths changes the cost by less than this fraction.
_LEAST_TURN = 4.0
_LEAST_CHANGE = 0.006
_MOST_COST = 1e3


@dataclass(frozen=True)
class CanonicalEstimate:
    """Result of :func:`estimate_canonical`.

    Attributes:
        canonical: keypoints, world units.
        certain: whether the images determine the depths; if not, they mostly come from the prior.
    """

    canonical: Float[np.ndarray, "points 3"]
    certain: bool


@dataclass(frozen=True)
class _Images:
    """Arguments of the solvers; mirrored images follow the others."""

    landmarks: Float[np.ndarray, "images points 2"]
    focal: Float[np.ndarray, "images"]
    center: Float[np.ndarray, "images 2"]
    depth: Float[np.ndarray, "images points"] | None
    depth_weight: float
    robust: float

    def fit(self, shape: Float[np.ndarray, "points 3"]) -> CameraFit:
        return solve_cameras(
            self.landmarks,
            shape,
            self.focal,
            self.center,
            depth=self.depth,
            depth_weight=self.depth_weight,
            robust=self.robust,
        )


@dataclass(frozen=True)
class _Frame:
    """Gauge of a shape: its frame and size, which of its two sides is near, and the dome."""

    mirrored: Int[np.ndarray, "points"] | None
    nearest: Int[np.ndarray, "_"]
    spread: float
    middle: Float[np.ndarray, "3"]

    def placed(self, shape: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points 3"]:
        """The shape made symmetric, with its near side to the viewer, centred and scaled."""
        if self.mirrored is not None:
            shape = 0.5 * (shape + shape[self.mirrored] * [-1.0, 1.0, 1.0])
        shape = shape - shape.mean(0)
        near = shape[self.nearest, 2].mean() if len(self.nearest) else shape[:, 2] @ self.dome(shape)
        if near < 0:
            shape = shape * [1.0, 1.0, -1.0]
        return self.middle + shape * self.spread / np.sqrt((shape**2).sum(-1).mean())

    def dome(self, shape: Float[np.ndarray, "points 3"]) -> Float[np.ndarray, "points"]:
        """Depths of a shallow dome over x and y: nearest at the ``nearest`` landmarks, or in the middle."""
        flat = shape[:, :2]
        apex = flat[self.nearest].mean(0) if len(self.nearest) else flat.mean(0)
        height = -((flat - apex) ** 2).sum(-1)
        height -= height.mean()
        return height * _DOME_DEPTH * self.spread / np.sqrt((height**2).mean() + 1e-12)


def images_for_shape(landmarks: Float[np.ndarray, "images points 2"]) -> Int[np.ndarray, "_"]:
    """Indices of images with enough landmarks, a regular subset where there are very many."""
    rows = np.flatnonzero(np.isfinite(landmarks).all(-1).sum(1) >= LEAST_POINTS)
    most = _MOST_IMAGES_DENSE if landmarks.shape[1] > _DENSE else _MOST_IMAGES
    return rows[np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(int)] if len(rows) else rows


def estimate_canonical(
    landmarks: Float[np.ndarray, "images points 2"],
    focal: Float[np.ndarray, "images"],
    center: Float[np.ndarray, "images 2"],
    *,
    mirrored: Int[np.ndarray, "points"] | None,
    nearest: Int[np.ndarray, "_"],
    spread: float,
    middle: Float[np.ndarray, "3"],
    depth: Float[np.ndarray, "images points"] | None = None,
    depth_weight: float = 1.0,
    robust: float = 0.05,
    max_error: float = 0.3,
) -> CanonicalEstimate:
    """Canonical keypoints that explain the landmarks of all images with a camera each.

    Args:
        landmarks, focal, center, depth, depth_weight, robust: as for
            :func:`nerfgen.camera.solve.solve_cameras`; at least ``LEAST_IMAGES`` images with ``LEAST_POINTS``.
        mirrored, nearest, spread, middle: as in :class:`nerfgen.camera.observations.Observations`.
        max_error: images with a larger error are left out, see :func:`nerfgen.camera.solve.acceptable`.
    """
    frame = _Frame(mirrored, nearest, spread, middle)
    images = _Images(landmarks, focal, center, depth, depth_weight, robust)
    if mirrored is not None:
        images = _with_twins(images, mirrored)
    shape = _start(images, frame)
    for _ in range(_ROUNDS):
        fit = images.fit(shape)
        good = acceptable(fit, 180.0, max_error)
        if good.sum() < LEAST_IMAGES:
            good[:] = fit.in_front
        shape = frame.placed(_refined(images, fit, good, _frontal(fit, good, shape), frame))
    fit = images.fit(shape)
    good = acceptable(fit, 180.0, max_error)
    shape = frame.placed(_frontal(fit, good, shape))
    return CanonicalEstimate(shape, _certain(images, fit, good, shape))


def _with_twins(images: _Images, mirrored: Int[np.ndarray, "points"]) -> _Images:
    twin = images.landmarks[:, mirrored] * [-1.0, 1.0]
    twin[..., 0] += 2 * images.center[:, None, 0]
    return _Images(
        np.concatenate([images.landmarks, twin]),
        np.tile(images.focal, 2),
        np.tile(images.center, (2, 1)),
        None if images.depth is None else np.concatenate([images.depth, images.depth[:, mirrored]]),
        images.depth_weight,
        images.robust,
    )


def _start(images: _Images, frame: _Frame) -> Float[np.ndarray, "points 3"]:
    """The factorised shape or, if that explains the images worse, the mean view as a dome."""
    seen = images.landmarks
    unit = spread(seen)[:, None, None]
    relative = (seen - np.nanmean(seen, axis=1, keepdims=True)) / unit * [1.0, -1.0]
    flat = np.pad(mean_view(relative)[0], ((0, 0), (0, 1)))
    flat = frame.placed(flat)
    dome = flat + np.outer(frame.dome(flat), [0.0, 0.0, 1.0])
    shapes = [frame.placed(factorise(relative, images.robust).shape), frame.placed(dome)]
    costs = [_cost(images, shape) for shape in shapes]
    away = [((shape[:, 2] - shape[:, 2].mean() - frame.dome(shape)) ** 2).sum() for shape in shapes]
    prior = _dome_weight(min(costs), frame, len(dome)) / 2
    return shapes[int(np.argmin([cost + prior * part for cost, part in zip(costs, away, strict=True)]))]


def _frontal(
    fit: CameraFit, good: np.ndarray, shape: Float[np.ndarray, "points 3"]
) -> Float[np.ndarray, "points 3"]:
    """The shape turned so that the mean camera looks along -z, upright."""
    turns = FRONTAL_ROTATION @ np.swapaxes(fit.cam_to_world[good, :3, :3], 1, 2)
    return shape @ mean_rotation(turns).T if good.any() else shape


def _refined(
    images: _Images, fit: CameraFit, good: np.ndarray, shape: Float[np.ndarray, "points 3"], frame: _Frame
) -> Float[np.ndarray, "points 3"]:
    """One joint least squares from a shape, with the dome's prior on depths."""
    tie = _FRAME_WEIGHT * good.sum() / frame.spread**2
    prior = _dome_weight(fit.cost[good].sum(), frame, len(shape))
    target, weight = shape.copy(), np.full_like(shape, tie)
    dome = shape[:, 2].mean() + frame.dome(shape)
    target[:, 2] = (tie * shape[:, 2] + prior * dome) / (tie + prior)
    weight[:, 2] += prior
    return refine(
        images.landmarks[good],
        shape,
        images.focal[good],
        images.center[good],
        depth=None if images.depth is None else images.depth[good],
        depth_weight=images.depth_weight,
        robust=images.robust,
        pull=(target, weight),
        most_images=len(images.landmarks),
    ).canonical


def _dome_weight(cost: float, frame: _Frame, count: int) -> float:
    """Weight of a point's squared depth above the dome: a flat shape costs a fixed fraction of the remaining cost."""
    return 2 * _DOME_SHARE * cost / (count * (_DOME_DEPTH * frame.spread) ** 2)


def _cost(images: _Images, shape: Float[np.ndarray, "points 3"]) -> float:
    """Robust cost of a shape, summed over images and limited for each, because a camera may be lost."""
    return float(np.minimum(images.fit(shape).cost, _MOST_COST).sum())


def _certain(images: _Images, fit: CameraFit, good: np.ndarray, shape: Float[np.ndarray, "points 3"]) -> bool:
    """Whether cameras differ, and deeper and shallower shapes explain the images worse."""
    forward = -fit.cam_to_world[good, :3, 2]
    turned = np.degrees(np.sqrt((forward[:, :2] ** 2).sum(-1).mean())) if good.any() else 0.0
    middle = shape.mean(0)
    other = [_cost(images, middle + (shape - middle) * [1.0, 1.0, factor]) for factor in (2**0.5, 0.5**0.5)]
    return bool(turned >= _LEAST_TURN and min(other) >= (1 + _LEAST_CHANGE) * _cost(images, shape))
