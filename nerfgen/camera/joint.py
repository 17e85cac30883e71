"""Canonical keypoints and a shared focal length, estimated together with all cameras.

A bundle adjustment with a rigid shape that all images share. The camera blocks are eliminated from the
normal equations (Schur complement), so that the size of the linear system depends on the shape alone, not on the
number of images.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg
from jaxtyping import Array, Float

from nerfgen.camera.solve import (
    CameraFit,
    Pose,
    double_precision,
    moved,
    project_pose,
    projection_jacobian,
    relative_views,
    solve_cameras,
    weighted_residual,
)
from nerfgen.geometry import invert_rigid, similarity_between

_ITERATIONS = 30
# Two hundred images determine the shape; more only cost time.
_MOST_IMAGES = 200


@dataclass(frozen=True)
class JointFit:
    """Result of :func:`refine`.

    Attributes:
        canonical: keypoints in the frame and scale of the template.
        focal_factor: factor of all focal lengths.
        cost: robust cost before and after, mean over images.
    """

    canonical: Float[np.ndarray, "points 3"]
    focal_factor: float
    cost: tuple[float, float]


def refine(
    landmarks: Float[np.ndarray, "images points 2"],
    canonical: Float[np.ndarray, "points 3"],
    focal: Float[np.ndarray, "images"],
    center: Float[np.ndarray, "images 2"],
    *,
    depth: Float[np.ndarray, "images points"] | None = None,
    depth_weight: float = 1.0,
    free_shape: bool = True,
    free_focal: bool = False,
    robust: float = 0.05,
    shape_spread: float = 0.1,
    focal_spread: float = 0.3,
    pull: tuple[Float[np.ndarray, "points 3"], Float[np.ndarray, "points 3"]] | None = None,
    most_images: int = _MOST_IMAGES,
) -> JointFit:
    """Adjust the canonical keypoints and (or) one factor of all focal lengths to the landmarks of all images.

    Args:
        landmarks, canonical, focal, center, depth, depth_weight, robust: as for
            :func:`nerfgen.camera.solve.solve_cameras`.
        shape_spread: standard deviation of a point from its initial position, world units; it fixes the gauge,
            because turning and scaling shape and cameras together changes no image.
        focal_spread: standard deviation of the logarithm of the factor.
        pull: in place of ``shape_spread``, the centre of a quadratic prior on the shape, and its weight in units of
            the cost summed over images.
        most_images: a regular subset of at most this many images is used.
    """
    every = max(1, -(-len(landmarks) // most_images))
    landmarks, focal, center = landmarks[::every], focal[::every], center[::every]
    depth = None if depth is None else depth[::every]
    fit = solve_cameras(
        landmarks, canonical, focal, center, depth=depth, depth_weight=depth_weight, robust=robust
    )
    if not fit.in_front.all():
        # One lost camera would make the cost infinite.
        kept = fit.in_front
        landmarks, focal, center = landmarks[kept], focal[kept], center[kept]
        depth = None if depth is None else depth[kept]
        fit = CameraFit(**{name: values[kept] for name, values in vars(fit).items()})
    points = len(canonical)
    # Prior of the shared unknowns (shape, log factor): its minimum, and its weights.
    if pull is None:
        pull = canonical, np.full_like(canonical, len(landmarks) ** 0.5 / shape_spread**2)
    preferred = np.append((pull[0] - canonical).ravel(), 0.0)
    weight = np.append(pull[1].ravel(), len(landmarks) / focal_spread**2)
    free = np.concatenate([np.full(3 * points, free_shape), [free_focal]])
    shared = np.zeros(3 * points + 1)
    with double_precision():
        world_to_cam = invert_rigid(fit.cam_to_world)
        poses = Pose(
            jnp.asarray(world_to_cam[:, :3, :3]),
            jnp.asarray(world_to_cam[:, :3, 3]),
            jnp.log(jnp.asarray(fit.focal)),
        )
        # Depths stay relative to the middle of the template, whose own depth is not observed.
        middle = jnp.asarray(canonical.mean(0), jnp.float64)
        views, unit = (
            jnp.asarray(array, jnp.float64)
            for array in relative_views(landmarks, center, depth, depth_weight)
        )

        def total(poses: Pose, shared: np.ndarray) -> float:
            shape = canonical + shared[:-1].reshape(-1, 3)
            cost = _costs(poses, jnp.asarray(shape), middle, views, unit, jnp.asarray(shared[-1]), robust)
            return float(cost) + 0.5 * float(weight @ (shared - preferred) ** 2)

        cost = first_cost = total(poses, shared)
        damping = 1e-4
        for _ in range(_ITERATIONS):
            shape = jnp.asarray(canonical + shared[:-1].reshape(-1, 3))
            blocks = _normal_blocks(
                poses, shape, middle, views, unit, jnp.asarray(shared[-1]), damping, robust
            )
            reduced, right, own, cross, own_right = (np.array(block) for block in blocks)
            reduced[np.diag_indices_from(reduced)] += weight * (1 + damping)
            right = right - weight * (shared - preferred)
            step = np.zeros_like(shared)
            chosen = np.ix_(free, free)
            step[free] = scipy.linalg.solve(reduced[chosen], right[free], assume_a="pos")
            pose_steps = np.linalg.solve(own, (own_right - cross @ step)[..., None])[..., 0]
            trial_poses = _moved(poses, jnp.asarray(pose_steps))
            trial = shared + step
            trial_cost = total(trial_poses, trial)
            if not trial_cost < cost:
                damping *= 10
                continue
            gain = (cost - trial_cost) / cost
            poses, shared, cost, damping = trial_poses, trial, trial_cost, damping * 0.2
            if gain < 1e-5:
                break
    moved_shape = canonical + shared[:-1].reshape(-1, 3)
    scale, rotation, shift = similarity_between(moved_shape, canonical)
    return JointFit(
        scale * moved_shape @ rotation.T + shift,
        float(np.exp(shared[-1])),
        (first_cost / len(landmarks), cost / len(landmarks)),
    )


@partial(jax.jit, static_argnames="robust")
def _costs(
    poses: Pose, shape: Array, middle: Array, views: Array, unit: Array, log_factor: Array, robust: float
) -> Array:
    def one(pose: Pose, points: Array, size: Array) -> Array:
        expected, local = project_pose(pose._replace(log_focal=pose.log_focal + log_factor), shape, middle)
        rho = weighted_residual(expected, points, size, robust)[2]
        return jnp.where(jnp.any(local[:, 2] <= 1e-6), jnp.inf, rho)

    return jax.vmap(one)(poses, views, unit).sum()


@partial(jax.jit, static_argnames="robust")
def _normal_blocks(
    poses: Pose,
    shape: Array,
    middle: Array,
    views: Array,
    unit: Array,
    log_factor: Array,
    damping: Array,
    robust: float,
) -> tuple[Array, Array, Array, Array, Array]:
    """Reduced matrix and right-hand side of the shared unknowns; camera blocks, their coupling and right-hand sides."""

    def one(pose: Pose, points: Array, size: Array) -> tuple[Array, ...]:
        pose = pose._replace(log_focal=pose.log_focal + log_factor)
        residual, weight, _ = weighted_residual(project_pose(pose, shape, middle)[0], points, size, robust)
        by_pose, by_point = projection_jacobian(pose, shape, middle)
        by_pose, by_point = by_pose / size[None, :, None], by_point / size[None, :, None]
        weighted_pose, weighted_point = by_pose * weight[:, None, None], by_point * weight[:, None, None]
        own = jnp.einsum("pri,prj->ij", weighted_pose, by_pose)
        coupling = jnp.einsum("pri,prj->ipj", weighted_pose, by_point).reshape(7, -1)
        return (
            own,
            coupling,
            -jnp.einsum("pri,pr->i", weighted_pose, residual),
            jnp.einsum("pri,prj->pij", weighted_point, by_point),
            -jnp.einsum("pri,pr->pi", weighted_point, residual).reshape(-1),
        )

    own, coupling, own_right, point_blocks, point_right = jax.vmap(one)(poses, views, unit)
    # The seventh number, the log focal length, is shared: it joins the shape.
    cross = jnp.concatenate([coupling[:, :6], own[:, :6, 6:]], axis=-1)
    count = 3 * shape.shape[0]
    index = jnp.arange(shape.shape[0])
    matrix = jnp.zeros((shape.shape[0], 3, shape.shape[0], 3)).at[index, :, index].set(point_blocks.sum(0))
    matrix = matrix.reshape(count, count)
    with_focal = coupling[:, 6].sum(0)
    matrix = jnp.block([[matrix, with_focal[:, None]], [with_focal[None], own[:, 6, 6].sum()[None, None]]])
    right = jnp.concatenate([point_right.sum(0), own_right[:, 6].sum()[None]])
    matrix = matrix + damping * jnp.diag(jnp.diag(matrix))
    pose_blocks = own[:, :6, :6]
    pose_blocks = (
        pose_blocks + damping * jnp.eye(6)[None] * jnp.diagonal(pose_blocks, axis1=1, axis2=2)[:, None]
    )
    factor = jnp.linalg.cholesky(pose_blocks)
    half = jax.vmap(partial(jax.scipy.linalg.solve_triangular, lower=True))(factor, cross)
    half_right = jax.vmap(partial(jax.scipy.linalg.solve_triangular, lower=True))(factor, own_right[:, :6])
    flat = half.reshape(-1, count + 1)
    return (
        matrix - flat.T @ flat,
        right - flat.T @ half_right.reshape(-1),
        pose_blocks,
        cross,
        own_right[:, :6],
    )


@jax.jit
def _moved(poses: Pose, steps: Array) -> Pose:
    return jax.vmap(lambda pose, step: moved(pose, jnp.append(step, 0.0)))(poses, steps)
