"""Cameras from 2D landmarks: one robust least squares per image, all images solved at once.

    argmin_{R, t, f}  sum_m  rho(| l_m - project(p_m; R, t, f) |)

with Huber's rho, by Levenberg-Marquardt on the six parameters of the pose and, optionally, the logarithm of
the focal length. Residuals are measured in units of the landmarks' spread in the image, so that the robust scale
means the same in a thumbnail and in a large image.

Landmark estimators that also give relative depths of their points, in pixels, add a third component to each residual.
It constrains pitch, which barely changes the pixels.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nerfgen.geometry import FRONTAL_ROTATION, invert_rigid, rigid, rotation_from_vector, skew
from nerfgen.optimize import host_device

MAX_ITERATIONS = 60
BATCH = 128
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class CameraFit:
    """Cameras of N images.

    Attributes:
        cam_to_world: poses (N, 4, 4).
        focal: focal lengths (N,), pixels.
        rmse: root mean square reprojection distance over all points that are not NaN (N,), pixels.
        relative_rmse: the same in units of the landmarks' spread.
        cost: sum of rho over points (N,), in units of spread squared.
        iterations: until converged, at most ``MAX_ITERATIONS``.
        in_front: whether all points lie in front of the camera.
    """

    cam_to_world: Float[np.ndarray, "images 4 4"]
    focal: Float[np.ndarray, "images"]
    rmse: Float[np.ndarray, "images"]
    relative_rmse: Float[np.ndarray, "images"]
    cost: Float[np.ndarray, "images"]
    iterations: Int[np.ndarray, "images"]
    in_front: Bool[np.ndarray, "images"]


class Pose(NamedTuple):
    """World-to-camera rotation and translation, and the logarithm of the focal length in pixels."""

    rotation: Float[Array, "3 3"]
    translation: Float[Array, "3"]
    log_focal: Float[Array, ""]


@contextlib.contextmanager
def double_precision() -> Iterator[None]:
    """Context in which JAX computes in float64, and on the CPU whatever its default device is.

    TPUs only emulate float64; and cameras are then the same with and without an accelerator.
    """
    if hasattr(jax, "enable_x64"):  # its name in newer releases
        enable_x64 = jax.enable_x64
    else:
        from jax.experimental import enable_x64
    with enable_x64(True), jax.default_device(host_device()):
        yield


def spread(landmarks: Float[np.ndarray, "images points 2"]) -> Float[np.ndarray, "images"]:
    """Root mean square distance of an image's landmarks from their centroid, pixels; NaN values are ignored."""
    centred = landmarks - np.nanmean(landmarks, axis=1, keepdims=True)
    return np.sqrt(np.nanmean((centred**2).sum(-1), axis=-1))


def project_pose(
    pose: Pose, points: Float[Array, "points 3"], middle: Float[Array, "3"]
) -> tuple[Float[Array, "points 3"], Float[Array, "points 3"]]:
    """Views of world points, and their camera coordinates.

    A view is the pixel relative to the principal point, and the depth relative to that of the world point
    ``middle``, in pixels at its distance.
    """
    local = points @ pose.rotation.T + pose.translation[None]
    focal, center = jnp.exp(pose.log_focal), pose.rotation @ middle + pose.translation
    pixels = focal * local[:, :2] / local[:, 2:]
    return jnp.concatenate([pixels, focal * (local[:, 2:] / center[2] - 1)], -1), local


def projection_jacobian(
    pose: Pose, points: Float[Array, "points 3"], middle: Float[Array, "3"]
) -> tuple[Float[Array, "points 3 7"], Float[Array, "points 3 3"]]:
    """Derivatives of the views: by (rotation, translation, log focal), and by the world points.

    The rotation is perturbed from the left, exp([w]x) R.
    """
    views, local = project_pose(pose, points, middle)
    focal, center = jnp.exp(pose.log_focal), pose.rotation @ middle + pose.translation
    depth = local[:, 2]
    zero = jnp.zeros_like(depth)
    by_local = jnp.stack(
        [
            jnp.stack([focal / depth, zero, -views[:, 0] / depth], -1),
            jnp.stack([zero, focal / depth, -views[:, 1] / depth], -1),
            jnp.stack([zero, zero, zero + focal / center[2]], -1),
        ],
        axis=1,
    )
    by_center = (-focal * depth / center[2] ** 2)[:, None] * jnp.array([[0.0, 0.0, 1.0]])
    by_rotation = -by_local @ skew(local - pose.translation[None])
    by_rotation = by_rotation.at[:, 2].add(-by_center @ skew(center - pose.translation))
    by_translation = by_local.at[:, 2].add(by_center)
    by_pose = jnp.concatenate([by_rotation, by_translation, views[:, :, None]], axis=-1)
    return by_pose, by_local @ pose.rotation


def huber(
    squared: Float[Array, "points"], scale: float
) -> tuple[Float[Array, "points"], Float[Array, "points"]]:
    """Huber's rho of squared distances (half the square within ``scale``, linear beyond) and its weight rho'/r."""
    distance = jnp.sqrt(jnp.maximum(squared, 1e-30))
    outlying = distance > scale
    rho = jnp.where(outlying, scale * (distance - 0.5 * scale), 0.5 * squared)
    return rho, jnp.where(outlying, scale / distance, 1.0)


def weighted_residual(
    expected: Float[Array, "points 3"],
    views: Float[Array, "points 3"],
    unit: Float[Array, "3"],
    robust: float,
) -> tuple[Float[Array, "points 3"], Float[Array, "points"], Float[Array, ""]]:
    """Residuals of one image in ``unit``, their weights, and the sum of rho; 0 for points that are NaN."""
    present = jnp.isfinite(views[:, 0])
    residual = jnp.where(present[:, None], (expected - views) / unit[None], 0.0)
    rho, weight = huber(jnp.sum(residual**2, -1), robust)
    return residual, weight * present, rho.sum()


def moved(pose: Pose, change: Float[Array, "7"]) -> Pose:
    """The pose after a step in the solver's coordinates."""
    return Pose(
        rotation_from_vector(change[:3]) @ pose.rotation,
        pose.translation + change[3:6],
        pose.log_focal + change[6],
    )


def frontal_start(
    landmarks: Float[Array, "points 2"], canonical: Float[Array, "points 3"], log_focal: Float[Array, ""]
) -> Pose:
    """A frontal camera with the roll, scale and position of the best 2D similarity to the landmarks.

    Landmarks are relative to the principal point; NaN values are ignored.
    """
    flat = canonical[:, :2] * jnp.array([[1.0, -1.0]])
    present = jnp.isfinite(landmarks[:, :1])
    fraction = present / jnp.sum(present)
    landmarks = jnp.where(present, landmarks, 0.0)
    middle, seen_middle = jnp.sum(fraction * flat, 0), jnp.sum(fraction * landmarks, 0)
    shape, seen = present * (flat - middle[None]), present * (landmarks - seen_middle[None])
    # Complex regression seen ~ s exp(i a) shape.
    cosine = jnp.sum(shape * seen)
    sine = jnp.sum(shape[:, 0] * seen[:, 1] - shape[:, 1] * seen[:, 0])
    scale = jnp.maximum(jnp.hypot(cosine, sine), 1e-12) / jnp.sum(shape**2)
    angle = jnp.arctan2(sine, cosine)
    rotation = rotation_from_vector(angle * jnp.array([0.0, 0.0, 1.0])) @ jnp.asarray(FRONTAL_ROTATION)
    depth = jnp.exp(log_focal) / scale
    place = rotation @ jnp.sum(fraction * canonical, 0)
    center = seen_middle / scale
    return Pose(rotation, jnp.array([center[0], center[1], depth]) - place, log_focal)


class _Search(NamedTuple):
    pose: Pose
    cost: Array
    damping: Array
    iterations: Array
    done: Array


def _solve_one(
    views: Array,
    canonical: Array,
    unit: Array,
    start: Pose,
    prior: Array,
    robust: float,
    free_focal: bool,
) -> tuple[Pose, Array, Array, Array]:
    """Levenberg-Marquardt for one image.

    Residuals are measured in ``unit``, of each component of a view; ``prior`` is (mean, standard deviation) of
    the log focal length.
    """
    middle = canonical.mean(0)

    def cost_of(pose: Pose) -> Array:
        expected, local = project_pose(pose, canonical, middle)
        rho = weighted_residual(expected, views, unit, robust)[2]
        behind = jnp.any(local[:, 2] <= 1e-6)
        tie = 0.5 * ((pose.log_focal - prior[0]) / prior[1]) ** 2 if free_focal else 0.0
        return jnp.where(behind, jnp.inf, rho + tie)

    def iterate(search: _Search) -> _Search:
        pose = search.pose
        expected = project_pose(pose, canonical, middle)[0]
        residual, weight, _ = weighted_residual(expected, views, unit, robust)
        jacobian = projection_jacobian(pose, canonical, middle)[0] / unit[None, :, None]
        weighted = jacobian * weight[:, None, None]
        normal = jnp.einsum("pri,prj->ij", weighted, jacobian)
        gradient = jnp.einsum("pri,pr->i", weighted, residual)
        if free_focal:
            normal = normal.at[6, 6].add(1 / prior[1] ** 2)
            gradient = gradient.at[6].add((pose.log_focal - prior[0]) / prior[1] ** 2)
        else:
            frozen = jnp.arange(7) == 6
            normal = jnp.where(frozen[:, None] | frozen[None], jnp.eye(7), normal)
            gradient = jnp.where(frozen, 0.0, gradient)
        damped = normal + search.damping * jnp.diag(jnp.diag(normal))
        change = -jnp.linalg.solve(damped, gradient)
        trial = moved(pose, change)
        cost = cost_of(trial)
        better = cost <= search.cost
        gain = search.cost - cost
        finished = better & (gain <= _TOLERANCE * search.cost) | (search.damping > 1e8)
        return _Search(
            jax.tree.map(lambda new, old: jnp.where(better, new, old), trial, pose),
            jnp.where(better, cost, search.cost),
            jnp.where(better, search.damping * 0.1, search.damping * 10.0).clip(1e-12, 1e9),
            search.iterations + 1,
            finished,
        )

    first = _Search(start, cost_of(start), jnp.asarray(1e-3), jnp.asarray(0), jnp.asarray(False))
    last = jax.lax.while_loop(lambda s: ~s.done & (s.iterations < MAX_ITERATIONS), iterate, first)
    expected, local = project_pose(last.pose, canonical, middle)
    rmse = jnp.sqrt(jnp.nanmean(jnp.sum((expected - views)[:, :2] ** 2, -1)))
    return last.pose, last.cost, rmse, last.iterations * jnp.where(jnp.all(local[:, 2] > 0), 1, -1)


@partial(jax.jit, static_argnames=("robust", "free_focal"))
def _solve_batch(
    views: Array,
    canonical: Array,
    unit: Array,
    log_focal: Array,
    focal_spread: Array,
    robust: float,
    free_focal: bool,
) -> tuple[Pose, Array, Array, Array]:
    def solve(points: Array, size: Array, focal: Array) -> tuple[Pose, Array, Array, Array]:
        start = frontal_start(points[:, :2], canonical, focal)
        prior = jnp.stack([focal, focal_spread])
        return _solve_one(points, canonical, size, start, prior, robust, free_focal)

    return jax.vmap(solve)(views, unit, log_focal)


def relative_views(
    landmarks: Float[np.ndarray, "images points 2"],
    center: Float[np.ndarray, "images 2"],
    depth: Float[np.ndarray, "images points"] | None,
    depth_weight: float,
) -> tuple[Float[np.ndarray, "images points 3"], Float[np.ndarray, "images 3"]]:
    """Landmarks and depths as :func:`project_pose` predicts them, and the unit of each component's residual."""
    unit = spread(landmarks)
    if depth is None:
        depth, depth_weight = np.zeros(landmarks.shape[:2]), 0.0
    views = np.concatenate(
        [landmarks - center[:, None], (depth - np.nanmean(depth, axis=1, keepdims=True))[..., None]], -1
    )
    with np.errstate(divide="ignore"):
        return views, unit[:, None] / np.array([1.0, 1.0, depth_weight])


def solve_cameras(
    landmarks: Float[np.ndarray, "images points 2"],
    canonical: Float[np.ndarray, "points 3"],
    focal: Float[np.ndarray, "images"],
    center: Float[np.ndarray, "images 2"],
    *,
    depth: Float[np.ndarray, "images points"] | None = None,
    depth_weight: float = 1.0,
    robust: float = 0.05,
    free_focal: bool = False,
    focal_spread: float = 0.3,
) -> CameraFit:
    """Fit a camera to each image's landmarks, from a frontal start.

    Args:
        landmarks: pixels; NaN where one is missing. At least four per image determine its camera.
        canonical: world units, in the same order.
        focal: focal lengths in pixels; with ``free_focal`` the mean of a log-normal prior, else fixed.
        center: principal points, pixels.
        depth: relative depth of the landmarks, larger is farther, pixels; only differences within an image count.
        depth_weight: weight of a residual in depth relative to one in the image.
        robust: Huber's scale in units of the landmarks' spread.
        focal_spread: standard deviation of that prior on the logarithm, in the same units as a residual of
            one spread.
    """
    if not len(landmarks):
        none = np.zeros(0)
        return CameraFit(
            np.zeros((0, 4, 4)), none, none, none, none, np.zeros(0, np.int64), np.zeros(0, bool)
        )
    views, unit = relative_views(landmarks, center, depth, depth_weight)
    parts = []
    with double_precision():
        for begin in range(0, len(landmarks), BATCH):
            part = slice(begin, begin + BATCH)
            # The last batch is padded by repetition, so that one shape is compiled.
            rows = np.resize(np.arange(len(landmarks))[part], min(BATCH, max(len(landmarks), 1)))
            result = _solve_batch(
                jnp.asarray(views[rows], jnp.float64),
                jnp.asarray(canonical, jnp.float64),
                jnp.asarray(unit[rows], jnp.float64),
                jnp.log(jnp.asarray(focal[rows], jnp.float64)),
                jnp.asarray(focal_spread, jnp.float64),
                robust,
                free_focal,
            )
            kept = len(range(*part.indices(len(landmarks))))
            parts.append(jax.tree.map(lambda value, kept=kept: np.asarray(value)[:kept], result))
    pose, cost, rmse, iterations = jax.tree.map(lambda *values: np.concatenate(values), *parts)
    world_to_cam = rigid(pose.rotation, pose.translation)
    return CameraFit(
        cam_to_world=invert_rigid(world_to_cam),
        focal=np.exp(pose.log_focal),
        rmse=rmse,
        relative_rmse=rmse / unit[:, 0],
        cost=cost,
        iterations=np.abs(iterations),
        in_front=iterations > 0,
    )


def join_fits(parts: Sequence[CameraFit]) -> CameraFit:
    """The fits of consecutive images as one, of one layout in memory: what is computed from it depends on that in
    rounding."""
    names = [field.name for field in fields(CameraFit)]
    joined = {name: np.concatenate([getattr(part, name) for part in parts]) for name in names}
    return CameraFit(**{name: np.ascontiguousarray(values) for name, values in joined.items()})


def acceptable(fit: CameraFit, largest_angle: float, max_error: float) -> np.ndarray:
    """Which fits are valid cameras: finite, in front of the object, not inverted, and close to the landmarks.

    Args:
        largest_angle: of the camera's position from the frontal direction (+z), degrees.
        max_error: of the reprojection error in units of the landmarks' spread.
    """
    position = fit.cam_to_world[:, :3, 3]
    distance = np.linalg.norm(position, axis=-1)
    with np.errstate(invalid="ignore"):
        angle = np.degrees(np.arccos(np.clip(position[:, 2] / distance, -1, 1)))
        finite = np.isfinite(fit.cam_to_world).all((1, 2))
        return (
            finite
            & fit.in_front
            & (angle <= largest_angle)
            & (fit.relative_rmse <= max_error)
            & (distance > 1.0)
        )
