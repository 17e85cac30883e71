"""Cameras from 2D landmarks: one robust least squares per image, all images solved at once.

    argmin_{R, t, f}  sum_m  rho(| l_m - project(p_m; R, t, f) |)

with Huber's rho, by Levenberg-Marquardt on the six numbers of the pose and, by choice, the logarithm of
the focal length. Residuals are measured in units of the landmarks' own spread in the image, so that the
robust scale means the same in a thumbnail and in a large photograph.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from nerfgen.geometry import FRONTAL_ROTATION, invert_rigid, rigid, rotation_from_vector, skew

MAX_ITERATIONS = 60
_BATCH = 128
_TOLERANCE = 1e-10


@dataclass(frozen=True)
class CameraFit:
    """Cameras of N images.

    Attributes:
        cam_to_world: poses (N, 4, 4).
        focal: focal lengths (N,), pixels.
        rmse: root mean square reprojection distance over all points (N,), pixels.
        relative_rmse: the same in units of the landmarks' spread.
        cost: sum of rho over points (N,), in units of spread squared.
        iterations: until converged, at most ``MAX_ITERATIONS``.
        in_front: whether all points lie before the camera.
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


def double_precision() -> contextlib.AbstractContextManager[None]:
    """Context in which JAX computes in float64, under its name in old and new releases."""
    if hasattr(jax, "enable_x64"):
        return jax.enable_x64(True)
    from jax.experimental import enable_x64

    return enable_x64()


def spread(landmarks: Float[np.ndarray, "images points 2"]) -> Float[np.ndarray, "images"]:
    """Root mean square distance of an image's landmarks from their centroid, pixels."""
    centred = landmarks - landmarks.mean(axis=1, keepdims=True)
    return np.sqrt((centred**2).sum(-1).mean(-1))


def project_pose(pose: Pose, points: Float[Array, "points 3"]) -> tuple[Array, Array]:
    """Pixels relative to the principal point, and camera coordinates, of world points."""
    local = points @ pose.rotation.T + pose.translation
    return jnp.exp(pose.log_focal) * local[:, :2] / local[:, 2:], local


def projection_jacobian(
    pose: Pose, points: Float[Array, "points 3"]
) -> tuple[Float[Array, "points 2 7"], Float[Array, "points 2 3"]]:
    """Derivatives of the pixels: by (rotation, translation, log focal), and by the world points.

    The rotation is perturbed from the left, exp([w]x) R.
    """
    pixels, local = project_pose(pose, points)
    focal = jnp.exp(pose.log_focal)
    depth = local[:, 2]
    zero = jnp.zeros_like(depth)
    by_local = jnp.stack(
        [
            jnp.stack([focal / depth, zero, -pixels[:, 0] / depth], -1),
            jnp.stack([zero, focal / depth, -pixels[:, 1] / depth], -1),
        ],
        axis=1,
    )
    by_rotation = -by_local @ skew(local - pose.translation)
    return jnp.concatenate([by_rotation, by_local, pixels[:, :, None]], axis=-1), by_local @ pose.rotation


def huber(
    squared: Float[Array, "points"], scale: float
) -> tuple[Float[Array, "points"], Float[Array, "points"]]:
    """Huber's rho of squared distances (half the square within ``scale``, linear beyond) and its weight rho'/r."""
    distance = jnp.sqrt(jnp.maximum(squared, 1e-30))
    outlying = distance > scale
    rho = jnp.where(outlying, scale * (distance - 0.5 * scale), 0.5 * squared)
    return rho, jnp.where(outlying, scale / distance, 1.0)


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

    Landmarks are relative to the principal point.
    """
    flat = canonical[:, :2] * jnp.array([1.0, -1.0])
    shape, seen = flat - flat.mean(0), landmarks - landmarks.mean(0)
    # Complex regression seen ~ s exp(i a) shape.
    cosine = jnp.sum(shape * seen)
    sine = jnp.sum(shape[:, 0] * seen[:, 1] - shape[:, 1] * seen[:, 0])
    scale = jnp.maximum(jnp.hypot(cosine, sine), 1e-12) / jnp.sum(shape**2)
    angle = jnp.arctan2(sine, cosine)
    rotation = rotation_from_vector(angle * jnp.array([0.0, 0.0, 1.0])) @ jnp.asarray(FRONTAL_ROTATION)
    depth = jnp.exp(log_focal) / scale
    middle = rotation @ canonical.mean(0)
    center = landmarks.mean(0) / scale
    return Pose(rotation, jnp.array([center[0], center[1], depth]) - middle, log_focal)


class _Search(NamedTuple):
    pose: Pose
    cost: Array
    damping: Array
    iterations: Array
    done: Array


def _solve_one(
    landmarks: Array,
    canonical: Array,
    unit: Array,
    start: Pose,
    prior: Array,
    robust: float,
    free_focal: bool,
) -> tuple[Pose, Array, Array, Array]:
    """Levenberg-Marquardt for one image; ``prior`` is (mean, standard deviation) of the log focal length."""

    def cost_of(pose: Pose) -> Array:
        pixels, local = project_pose(pose, canonical)
        rho, _ = huber(jnp.sum(((pixels - landmarks) / unit) ** 2, -1), robust)
        behind = jnp.any(local[:, 2] <= 1e-6)
        tie = 0.5 * ((pose.log_focal - prior[0]) / prior[1]) ** 2 if free_focal else 0.0
        return jnp.where(behind, jnp.inf, rho.sum() + tie)

    def iterate(search: _Search) -> _Search:
        pose = search.pose
        pixels, _ = project_pose(pose, canonical)
        residual = (pixels - landmarks) / unit
        _, weight = huber(jnp.sum(residual**2, -1), robust)
        jacobian = projection_jacobian(pose, canonical)[0] / unit
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
    pixels, local = project_pose(last.pose, canonical)
    rmse = jnp.sqrt(jnp.mean(jnp.sum((pixels - landmarks) ** 2, -1)))
    return last.pose, last.cost, rmse, last.iterations * jnp.where(jnp.all(local[:, 2] > 0), 1, -1)


@partial(jax.jit, static_argnames=("robust", "free_focal"))
def _solve_batch(
    landmarks: Array,
    canonical: Array,
    unit: Array,
    log_focal: Array,
    focal_spread: Array,
    robust: float,
    free_focal: bool,
) -> tuple[Pose, Array, Array, Array]:
    def solve(points: Array, size: Array, focal: Array) -> tuple[Pose, Array, Array, Array]:
        start = frontal_start(points, canonical, focal)
        prior = jnp.stack([focal, focal_spread])
        return _solve_one(points, canonical, size, start, prior, robust, free_focal)

    return jax.vmap(solve)(landmarks, unit, log_focal)


def solve_cameras(
    landmarks: Float[np.ndarray, "images points 2"],
    canonical: Float[np.ndarray, "points 3"],
    focal: Float[np.ndarray, "images"],
    center: Float[np.ndarray, "images 2"],
    *,
    robust: float = 0.05,
    free_focal: bool = False,
    focal_spread: float = 0.3,
) -> CameraFit:
    """Fit a camera to each image's landmarks, from a frontal start.

    Args:
        landmarks: pixels; no NaN.
        canonical: world units, in the same order.
        focal: focal lengths in pixels, kept or, with ``free_focal``, the mean of a log-normal prior.
        center: principal points, pixels.
        robust: Huber's scale in units of the landmarks' spread.
        focal_spread: standard deviation of that prior on the logarithm, in the same units as a residual of
            one spread.
    """
    relative = landmarks - center[:, None]
    unit = spread(landmarks)
    parts = []
    with double_precision():
        for begin in range(0, len(landmarks), _BATCH):
            part = slice(begin, begin + _BATCH)
            # The last batch is filled up by repetition, so that one shape is compiled.
            rows = np.resize(np.arange(len(landmarks))[part], min(_BATCH, max(len(landmarks), 1)))
            result = _solve_batch(
                jnp.asarray(relative[rows], jnp.float64),
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
        relative_rmse=rmse / unit,
        cost=cost,
        iterations=np.abs(iterations),
        in_front=iterations > 0,
    )
