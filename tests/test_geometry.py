"""Cameras and poses: projection against rays, rotations against scipy, signs of angles, windows."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nerfgen.geometry import (
    evenly_chosen,
    intrinsic_matrix,
    invert_rigid,
    keypoint_displacement,
    optical_axis,
    pixel_centers,
    pixel_rays,
    project,
    rigid,
    rotation_angle,
    rotation_from_vector,
    similarity_between,
    sphere_window,
    turned_camera,
    window_intrinsics,
    yaw_pitch_roll,
)


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def some_cameras(rng, count):
    """Random poses and intrinsics with different focal lengths along x and y."""
    poses = rigid(Rotation.random(count, random_state=1).as_matrix(), rng.normal(0, 2, (count, 3)))
    matrices = intrinsic_matrix(rng.uniform(20, 300, count), rng.uniform(-20, 90, (count, 2)))
    matrices[:, 1, 1] *= rng.uniform(0.7, 1.4, count)
    return matrices, poses


def test_points_of_a_pixels_ray_project_to_that_pixel(rng):
    matrices, poses = some_cameras(rng, 9)
    pixels = rng.uniform(-30, 120, (9, 13, 2))
    distance = rng.uniform(0.1, 20, (9, 13, 1))
    origins, directions = pixel_rays(pixels, matrices, poses)
    np.testing.assert_allclose(np.linalg.norm(directions, axis=-1), 1)
    seen, depth = project(origins + distance * directions, matrices, poses)
    np.testing.assert_allclose(seen, pixels, atol=1e-8)
    along_axis = np.einsum("npi,ni->np", distance * directions, optical_axis(poses))
    np.testing.assert_allclose(depth, along_axis, atol=1e-10)


def test_rays_through_projected_points_meet_them(rng):
    matrices, poses = some_cameras(rng, 9)
    local = np.concatenate([rng.normal(size=(9, 13, 2)), rng.uniform(0.2, 8, (9, 13, 1))], axis=-1)
    points = local @ np.swapaxes(poses[:, :3, :3], 1, 2) + poses[:, None, :3, 3]
    pixels, depth = project(points, matrices, poses)
    np.testing.assert_allclose(depth, local[..., 2])
    origins, directions = pixel_rays(pixels, matrices, poses)
    distance = np.linalg.norm(points - origins, axis=-1, keepdims=True)
    np.testing.assert_allclose(origins + distance * directions, points, atol=1e-8)


def test_points_behind_the_camera_have_negative_depth():
    camera = turned_camera(0, 0, 4)
    _, depth = project(np.array([[0, 0, 5.0], [0, 0, 3.0]]), np.eye(3), camera)
    assert depth[0] < 0 < depth[1]


def test_numpy_and_jax_agree_and_keep_their_kind(rng):
    matrices, poses = some_cameras(rng, 4)
    windows = rng.uniform(5, 50, (4, 3))
    calls = [
        (
            project,
            (rng.normal(size=(4, 6, 3)) + poses[:, None, :3, 3] + 5 * poses[:, None, :3, 2], matrices, poses),
        ),
        (pixel_rays, (rng.uniform(0, 64, (4, 6, 2)), matrices, poses)),
        (invert_rigid, (poses,)),
        (rotation_from_vector, (rng.normal(size=(4, 3)),)),
        (rotation_angle, (poses[:, :3, :3], poses[::-1, :3, :3].copy())),
        (window_intrinsics, (matrices, windows, 32)),
        (sphere_window, (matrices, turned_camera(20, 10, np.array([2.0, 3, 4, 5])))),
    ]
    for function, arguments in calls:
        expected = function(*arguments)
        given = [jnp.asarray(a, jnp.float32) if isinstance(a, np.ndarray) else a for a in arguments]
        found = function(*given)
        for one, other in zip(jax.tree.leaves(expected), jax.tree.leaves(found), strict=True):
            assert isinstance(one, np.ndarray), function
            assert isinstance(other, jax.Array), function
            np.testing.assert_allclose(other, one, rtol=2e-4, atol=2e-3, err_msg=function.__name__)


def test_pixel_centers_lie_at_half_row_by_row():
    centers = pixel_centers(3)
    assert centers.shape == (9, 2)
    np.testing.assert_array_equal(centers[:4], [[0.5, 0.5], [1.5, 0.5], [2.5, 0.5], [0.5, 1.5]])


@pytest.mark.parametrize("size", [1e-12, 1e-6, 0.9e-4, 1.1e-4, 0.3, 2.0, np.pi, 9.0])
def test_rotations_agree_with_scipy(rng, size):
    vectors = rng.normal(size=(50, 3))
    vectors *= size / np.linalg.norm(vectors, axis=-1, keepdims=True)
    np.testing.assert_allclose(
        rotation_from_vector(vectors), Rotation.from_rotvec(vectors).as_matrix(), atol=1e-13
    )


def test_rotation_is_differentiable_at_zero():
    derivative = jax.jacobian(rotation_from_vector)(jnp.zeros(3))
    for axis in range(3):
        # d exp([w]x) / dw_k is the generator of rotations about axis k.
        generator = np.cross(np.eye(3)[axis], np.eye(3)).T
        np.testing.assert_allclose(derivative[..., axis], generator, atol=1e-7)


def test_angle_between_rotations(rng):
    degrees = np.array([0, 1e-5, 0.1, 30, 90, 179.9, 180])
    axes = rng.normal(size=(7, 3))
    axes /= np.linalg.norm(axes, axis=-1, keepdims=True)
    first = Rotation.random(7, random_state=2)
    second = first * Rotation.from_rotvec(np.radians(degrees)[:, None] * axes)
    np.testing.assert_allclose(rotation_angle(first.as_matrix(), second.as_matrix()), degrees, atol=1e-5)


def test_turned_cameras_give_their_angles_back(rng):
    angles = rng.uniform([-180, -89, -180], [180, 89, 180], (300, 3))
    distance = rng.uniform(0.5, 9, 300)
    poses = turned_camera(angles[:, 0], angles[:, 1], distance, angles[:, 2])
    np.testing.assert_allclose(yaw_pitch_roll(poses), angles, atol=1e-9)
    np.testing.assert_allclose(np.linalg.norm(poses[:, :3, 3], axis=-1), distance)
    # The origin lies straight ahead.
    np.testing.assert_allclose(optical_axis(poses), -poses[:, :3, 3] / distance[:, None], atol=1e-12)
    again = turned_camera(*yaw_pitch_roll(poses)[:, :2].T, distance, yaw_pitch_roll(poses)[:, 2])
    np.testing.assert_allclose(again, poses, atol=1e-9)


def test_a_frontal_camera_shows_up_as_up_and_right_as_right():
    right, up = project(np.array([[0.5, 0, 0], [0, 0.5, 0]]), np.eye(3), turned_camera(0, 0, 4))[0]
    np.testing.assert_allclose(right, [0.125, 0])
    np.testing.assert_allclose(up, [0, -0.125])


def test_signs_of_yaw_pitch_and_roll():
    nose = np.array([[0, 0, 0.9]])
    x, y = project(nose, np.eye(3), turned_camera(20, 0, 4))[0][0]
    assert x > 0.05, "positive yaw turns a face to the viewer's right"
    assert abs(y) < 1e-12
    x, y = project(nose, np.eye(3), turned_camera(0, 20, 4))[0][0]
    assert y > 0.05, "positive pitch nods: the nose moves down"
    assert abs(x) < 1e-12
    assert turned_camera(0, 20, 4)[1, 3] > 0, "the object is seen from above"
    x, y = project(np.array([[0.9, 0, 0]]), np.eye(3), turned_camera(0, 0, 4, 20))[0][0]
    assert y < -0.05, "positive roll is counter-clockwise in the picture: what is right moves up"
    assert x > 0


def outline(intrinsics, pose, radius):
    """Pixels of the outline of a sphere about the origin: the tangent circle, densely."""
    center = pose[:3, 3]
    distance = np.linalg.norm(center)
    toward = center / distance
    side = np.cross(toward, [0.3, -0.5, 0.8])
    side /= np.linalg.norm(side)
    angle = np.linspace(0, 2 * np.pi, 720)[:, None]
    ring = np.sqrt(radius**2 - radius**4 / distance**2)
    points = toward * radius**2 / distance + ring * (
        np.cos(angle) * side + np.sin(angle) * np.cross(toward, side)
    )
    return project(points, intrinsics, pose)[0]


@pytest.mark.parametrize("radius", [0.4, 1.0])
def test_window_of_a_camera_that_looks_at_the_origin_holds_the_sphere_exactly(rng, radius):
    poses = turned_camera(rng.uniform(-90, 90, 8), rng.uniform(-40, 40, 8), rng.uniform(1.2, 8, 8), 33)
    matrices = intrinsic_matrix(rng.uniform(50, 400, 8), rng.uniform(10, 90, (8, 2)))
    for window, matrix, pose in zip(sphere_window(matrices, poses, radius), matrices, poses, strict=True):
        pixels = outline(matrix, pose, radius)
        tolerance = 1e-3 * window[2]
        np.testing.assert_allclose(pixels.min(0), window[:2], atol=tolerance)
        np.testing.assert_allclose(pixels.max(0), window[:2] + window[2], atol=tolerance)


def test_windows_stay_finite_for_cameras_inside_the_sphere():
    window = sphere_window(intrinsic_matrix(100.0, [50, 50]), turned_camera(0, 0, 0.3))
    assert np.isfinite(window).all()
    assert window[2] > 0


def test_window_intrinsics_project_into_the_resampled_window(rng):
    matrices, poses = some_cameras(rng, 5)
    windows = np.stack([rng.uniform(-40, 40, 5), rng.uniform(-40, 40, 5), rng.uniform(9, 90, 5)], axis=-1)
    points = rng.normal(size=(5, 8, 3)) + poses[:, None, :3, 3] + 6 * poses[:, None, :3, 2]
    photo, _ = project(points, matrices, poses)
    raster, _ = project(points, window_intrinsics(matrices, windows, 48), poses)
    np.testing.assert_allclose(
        raster, (photo - windows[:, None, :2]) * (48 / windows[:, 2])[:, None, None], atol=1e-9
    )


def test_inverse_of_a_rigid_motion(rng):
    poses = rigid(Rotation.random(20, random_state=3).as_matrix(), rng.normal(size=(20, 3)))
    np.testing.assert_allclose(invert_rigid(poses), np.linalg.inv(poses), atol=1e-12)


def test_a_known_similarity_is_recovered(rng):
    source = rng.normal(size=(12, 3))
    rotation, shift = Rotation.random(random_state=4).as_matrix(), np.array([3.0, -1, 0.5])
    scale, found, moved = similarity_between(source, 0.37 * source @ rotation.T + shift)
    assert scale == pytest.approx(0.37)
    np.testing.assert_allclose(found, rotation, atol=1e-12)
    np.testing.assert_allclose(moved, shift, atol=1e-12)


def test_a_similarity_never_mirrors(rng):
    source = rng.normal(size=(30, 3))
    _, rotation, _ = similarity_between(source, source * [1, 1, -1])
    assert np.linalg.det(rotation) == pytest.approx(1)


def test_noisy_points_give_the_least_squares_similarity(rng):
    source = rng.normal(size=(40, 3))
    target = 2 * source @ Rotation.random(random_state=5).as_matrix().T + rng.normal(0, 0.3, (40, 3))
    scale, rotation, shift = similarity_between(source, target)

    def cost(scale, rotation, shift):
        return ((scale * source @ rotation.T + shift - target) ** 2).sum()

    best = cost(scale, rotation, shift)
    for _ in range(50):
        turn = Rotation.from_rotvec(rng.normal(0, 1e-2, 3)).as_matrix()
        other = (scale * rng.normal(1, 1e-2), turn @ rotation, shift + rng.normal(0, 1e-2, 3))
        assert cost(*other) > best


def test_displacement_is_the_reprojection_error_that_a_move_makes(rng):
    points = rng.normal(size=(40, 3)) * 0.4
    before = turned_camera(np.array([20.0, -5.0]), np.array([5.0, 10.0]), 4.0)
    turn = rigid(
        rotation_from_vector(np.array([[0.02, 0.0, 0.0], [0.0, -0.03, 0.01]])), np.full((2, 3), 0.01)
    )
    matrices = np.tile(intrinsic_matrix(128.0, (32, 32)), (2, 1, 1))
    moved = keypoint_displacement(points, matrices, before, turn @ before)
    for number in range(2):
        seen, after = (
            project(points, matrices[number], pose)[0]
            for pose in (before[number], turn[number] @ before[number])
        )
        assert moved[number] == pytest.approx(np.mean(np.sum((after - seen) ** 2, axis=1)))
    assert (keypoint_displacement(points, matrices, before, before) == 0).all()
    np.testing.assert_array_equal(evenly_chosen(points, 40), points)
    assert evenly_chosen(points, 7).shape == (7, 3)
