"""Cameras from landmarks: derivatives, the solver against scipy, outliers, shared shape and focal, files."""

from __future__ import annotations

from dataclasses import replace

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.optimize
from edited import edited
from scipy.spatial.transform import Rotation

from nerfgen import storage
from nerfgen.camera import (
    CameraFit,
    CameraSettings,
    acceptable,
    fit_cameras,
    fit_folder,
    observe,
    refine,
    solve_cameras,
)
from nerfgen.camera.solve import Pose, double_precision, huber, project_pose, projection_jacobian, spread
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import (
    intrinsic_matrix,
    invert_rigid,
    project,
    rotation_angle,
    similarity_between,
    sphere_window,
    turned_camera,
)
from nerfgen.objectclass import object_class

FACE = object_class("face")
# Some forty points all over the face: enough to tell the focal length.
SHAPE = FACE.mesh_canonical[::12]
ROBUST = 0.05


@pytest.fixture
def rng():
    return np.random.default_rng(9)


def some_portraits(rng, count, shape=SHAPE, *, largest_yaw=50.0, roll=20.0, distance=(2.5, 6.0)):
    """Landmarks, focal lengths, principal points and true cameras of ``count`` images."""
    poses = turned_camera(
        rng.uniform(-largest_yaw, largest_yaw, count),
        rng.uniform(-20, 20, count),
        rng.uniform(*distance, count),
        rng.uniform(-roll, roll, count),
    )
    # The head is not in the middle of the photograph.
    poses[:, :3, 3] += np.einsum(
        "nij,nj->ni", poses[:, :3, :3], rng.uniform(-0.4, 0.4, (count, 3)) * [1, 1, 0]
    )
    focal, center = rng.uniform(200, 900, count), rng.uniform(100, 300, (count, 2))
    landmarks, _ = project(
        np.broadcast_to(shape, (count, *shape.shape)), intrinsic_matrix(focal, center), poses
    )
    return landmarks, focal, center, poses


def spoilt(rng, landmarks, noise=0.01, outliers=0):
    """Landmarks with noise and some outliers, in units of their spread."""
    unit = spread(landmarks)[:, None, None]
    landmarks = landmarks + unit * rng.normal(0, noise, landmarks.shape)
    landmarks[:, :outliers] += unit * rng.uniform(0.5, 1.0, (len(landmarks), outliers, 2))
    return landmarks


def test_jacobian_agrees_with_finite_differences(rng):
    rotation = Rotation.from_rotvec([3.0, 0.2, -0.3])
    translation, focal, middle = np.array([0.1, -0.2, 4.0]), np.log(300.0), np.array([0.05, 0.1, 0.3])

    def views(change, points):
        turned = (Rotation.from_rotvec(change[:3]) * rotation).as_matrix()
        local = points @ turned.T + translation + change[3:6]
        away = (turned @ middle + translation + change[3:6])[2]
        size = np.exp(focal + change[6])
        return np.column_stack([size * local[:, :2] / local[:, 2:], size * (local[:, 2] - away) / away])

    with double_precision():
        pose = Pose(*map(jnp.asarray, (rotation.as_matrix(), translation, np.float64(focal))))
        points, center = jnp.asarray(SHAPE), jnp.asarray(middle)
        by_pose, by_point = map(np.asarray, projection_jacobian(pose, points, center))
        expected = views(np.zeros(7), SHAPE)
        np.testing.assert_allclose(project_pose(pose, points, center)[0], expected, rtol=1e-9, atol=1e-9)
    for number in range(7):
        step = 1e-6 * np.eye(7)[number]
        numeric = (views(step, SHAPE) - views(-step, SHAPE)) / 2e-6
        np.testing.assert_allclose(by_pose[..., number], numeric, rtol=1e-5, atol=1e-5)
    for axis in range(3):
        step = 1e-6 * np.eye(3)[axis]
        numeric = (views(np.zeros(7), SHAPE + step) - views(np.zeros(7), SHAPE - step)) / 2e-6
        np.testing.assert_allclose(by_point[..., axis], numeric, rtol=1e-5, atol=1e-5)


def test_huber_is_quadratic_then_linear():
    with double_precision():
        rho, weight = huber(jnp.asarray([0.0, 0.03, 0.05, 0.4]) ** 2, 0.05)
    np.testing.assert_allclose(rho, [0, 0.03**2 / 2, 0.05**2 / 2, 0.05 * (0.4 - 0.025)], atol=1e-12)
    np.testing.assert_allclose(weight, [1, 1, 1, 0.125], rtol=1e-12)


def scipy_cost(landmarks, shape, focal, center, start, free_focal):
    """The least robust cost that scipy's solver finds from the true camera."""
    unit = spread(landmarks[None])[0]
    world_to_cam = invert_rigid(start)

    def residuals(x):
        rotation = Rotation.from_rotvec(x[:3]).as_matrix() @ world_to_cam[:3, :3]
        local = shape @ rotation.T + world_to_cam[:3, 3] + x[3:6]
        away = (np.exp(np.log(focal) + x[6]) * local[:, :2] / local[:, 2:] + center - landmarks) / unit
        distance = np.linalg.norm(away, axis=-1)
        rho = np.where(distance <= ROBUST, distance**2 / 2, ROBUST * (distance - ROBUST / 2))
        return np.append((away * (np.sqrt(2 * rho) / distance)[:, None]).ravel(), x[6] / 0.3)

    def fixed(x):
        return residuals(np.append(x, 0.0))

    options = {"xtol": 1e-15, "ftol": 1e-15, "gtol": 1e-15, "x_scale": "jac", "max_nfev": 4000}
    if free_focal:
        return scipy.optimize.least_squares(residuals, np.zeros(7), **options).cost
    return scipy.optimize.least_squares(fixed, np.zeros(6), **options).cost


@pytest.mark.parametrize("free_focal", [False, True])
@pytest.mark.parametrize("outliers", [0, 6])
def test_the_solver_finds_the_minimum_that_scipy_finds(rng, free_focal, outliers):
    landmarks, focal, center, poses = some_portraits(rng, 8)
    landmarks = spoilt(rng, landmarks, 0.015, outliers)
    fit = solve_cameras(landmarks, SHAPE, focal, center, robust=ROBUST, free_focal=free_focal)
    for k in range(8):
        expected = scipy_cost(landmarks[k], SHAPE, focal[k], center[k], poses[k], free_focal)
        assert fit.cost[k] == pytest.approx(expected, rel=1e-6)
    assert fit.in_front.all()
    if not free_focal:
        np.testing.assert_allclose(fit.focal, focal, rtol=1e-12)


def test_cameras_without_noise_are_recovered_exactly(rng):
    landmarks, focal, center, poses = some_portraits(rng, 40, roll=180)
    fit = solve_cameras(landmarks, SHAPE, focal, center)
    assert rotation_angle(fit.cam_to_world[:, :3, :3], poses[:, :3, :3]).max() < 1e-4
    np.testing.assert_allclose(fit.cam_to_world[:, :3, 3], poses[:, :3, 3], atol=1e-5)
    assert fit.rmse.max() < 1e-3
    assert (fit.iterations < 60).all()


def relative_depths(shape, focal, poses):
    """How deep the points lie behind their middle, in pixels at its distance."""
    local = shape @ poses[:, :3, :3] + invert_rigid(poses)[:, None, :3, 3]
    middle = local[..., 2].mean(1, keepdims=True)
    return focal[:, None] * (local[..., 2] - middle) / middle


def test_depths_agree_with_the_camera_that_sees_them(rng):
    landmarks, focal, center, poses = some_portraits(rng, 20)
    # Where a landmarker sets its zero is of no account.
    depth = relative_depths(SHAPE, focal, poses) + rng.uniform(-50, 50, (20, 1))
    fit = solve_cameras(landmarks, SHAPE, focal, center, depth=depth)
    assert rotation_angle(fit.cam_to_world[:, :3, :3], poses[:, :3, :3]).max() < 1e-4
    np.testing.assert_allclose(fit.cam_to_world[:, :3, 3], poses[:, :3, 3], atol=1e-5)


def test_depths_mend_what_noise_in_the_picture_does_to_the_rotation(rng):
    landmarks, focal, center, poses = some_portraits(rng, 40)
    depth = relative_depths(SHAPE, focal, poses)
    depth += spread(landmarks)[:, None] * rng.normal(0, 0.03, depth.shape)
    noisy = spoilt(rng, landmarks, 0.03)

    def error(**options):
        fit = solve_cameras(noisy, SHAPE, focal, center, **options)
        return np.mean(rotation_angle(fit.cam_to_world[:, :3, :3], poses[:, :3, :3]))

    assert error(depth=depth) < 0.75 * error()
    assert error(depth=depth, depth_weight=0.0) == pytest.approx(error(), abs=1e-6)


def test_five_landmarks_suffice(rng):
    landmarks, focal, center, poses = some_portraits(rng, 20, FACE.canonical, largest_yaw=35)
    fit = solve_cameras(landmarks, FACE.canonical, focal, center)
    assert rotation_angle(fit.cam_to_world[:, :3, :3], poses[:, :3, :3]).max() < 1e-3


def test_reprojection_error_is_that_of_the_camera_that_is_returned(rng):
    landmarks, focal, center, _ = some_portraits(rng, 6)
    landmarks = spoilt(rng, landmarks, 0.03)
    fit = solve_cameras(landmarks, SHAPE, focal, center, free_focal=True)
    seen, _ = project(
        np.broadcast_to(SHAPE, (6, *SHAPE.shape)), intrinsic_matrix(fit.focal, center), fit.cam_to_world
    )
    rmse = np.sqrt(((seen - landmarks) ** 2).sum(-1).mean(-1))
    np.testing.assert_allclose(fit.rmse, rmse, rtol=1e-6)
    np.testing.assert_allclose(fit.relative_rmse, rmse / spread(landmarks), rtol=1e-6)


def test_outliers_turn_a_robust_fit_less_than_a_plain_one(rng):
    landmarks, focal, center, poses = some_portraits(rng, 20)
    landmarks = spoilt(rng, landmarks, 0.005, outliers=5)
    errors = {
        robust: rotation_angle(
            solve_cameras(landmarks, SHAPE, focal, center, robust=robust).cam_to_world[:, :3, :3],
            poses[:, :3, :3],
        )
        for robust in (ROBUST, 100.0)
    }
    assert np.median(errors[ROBUST]) < 0.25 * np.median(errors[100.0])


def test_one_image_is_fitted_as_in_company(rng):
    landmarks, focal, center, _ = some_portraits(rng, 5)
    together = solve_cameras(landmarks, SHAPE, focal, center)
    alone = solve_cameras(landmarks[3:4], SHAPE, focal[3:4], center[3:4])
    np.testing.assert_allclose(alone.cam_to_world[0], together.cam_to_world[3], atol=1e-6)


def test_what_is_no_camera_is_not_accepted(rng):
    poses = turned_camera(np.array([0.0, 20, 130, 0, 0, 0, 0]), 0, np.array([4.0, 4, 4, 4, 4, 0.5, 4]))
    good = np.ones(7)
    fit = CameraFit(poses, 500 * good, good, 0.01 * good, good, good.astype(int), good > 0)
    fit.in_front[3], fit.relative_rmse[4], fit.cam_to_world[6, 0, 0] = False, 0.5, np.nan
    np.testing.assert_array_equal(
        acceptable(fit, 100.0, 0.3), [True, True, False, False, False, False, False]
    )
    assert acceptable(replace(fit, cam_to_world=poses), 180.0, 1.0)[2]


def shape_error(found, true):
    """Distance of two shapes after the best similarity."""
    scale, rotation, shift = similarity_between(found, true)
    return np.sqrt((((scale * found @ rotation.T + shift) - true) ** 2).sum(-1).mean())


def test_refining_approaches_the_true_shape(rng):
    true = SHAPE + rng.normal(0, 0.02, SHAPE.shape)
    landmarks, focal, center, _ = some_portraits(rng, 60, true)
    joint = refine(spoilt(rng, landmarks, 0.005), SHAPE, focal, center, shape_spread=1.0)
    assert joint.cost[1] < 0.3 * joint.cost[0]
    assert shape_error(joint.canonical, true) < 0.4 * shape_error(SHAPE, true)
    assert joint.focal_factor == pytest.approx(1)
    # It stays in the frame and scale of the template.
    scale, rotation, shift = similarity_between(joint.canonical, SHAPE)
    assert scale == pytest.approx(1, abs=1e-6)
    assert float(rotation_angle(rotation, np.eye(3))) < 1e-3
    np.testing.assert_allclose(shift, 0, atol=1e-6)


def test_depths_show_a_shape_that_no_camera_turns_around(rng):
    # All from the front: how deep the points lie, no picture tells.
    true = SHAPE * [1.0, 1.0, 1.2]
    landmarks, focal, center, poses = some_portraits(rng, 60, true, largest_yaw=3.0)
    depth = relative_depths(true, focal, poses)
    blind, seeing = (
        refine(spoilt(rng, landmarks, 0.005), SHAPE, focal, center, depth=some, shape_spread=1.0)
        for some in (None, depth)
    )
    assert shape_error(seeing.canonical, true) < 0.3 * shape_error(blind.canonical, true)


def test_a_shared_focal_factor_is_found(rng):
    landmarks, focal, center, _ = some_portraits(rng, 60, distance=(2.2, 3.0))
    joint = refine(
        spoilt(rng, landmarks, 0.002),
        SHAPE,
        focal / 1.3,
        center,
        free_shape=False,
        free_focal=True,
        focal_spread=100.0,
    )
    assert joint.focal_factor == pytest.approx(1.3, rel=0.03)
    np.testing.assert_allclose(joint.canonical, SHAPE, atol=1e-9)


NAMES = [f"{folder}/{number}.jpg" for folder in "ab" for number in range(5)]
SIDE = 400


@pytest.fixture
def folder(tmp_path, rng):
    """A folder with a landmarks file and the true cameras: one image without a face, one mirrored, one of noise."""
    count = len(NAMES)
    poses = turned_camera(rng.uniform(-30, 30, count), rng.uniform(-10, 10, count), rng.uniform(4, 7, count))
    matrices = intrinsic_matrix(
        np.full(count, FACE.focal * SIDE), np.tile([SIDE / 2, SIDE * 3 / 8], (count, 1))
    )
    seen, _ = project(np.broadcast_to(FACE.canonical, (count, 5, 3)), matrices, poses)
    status = ["ok"] * count
    status[2], seen[2] = "no_object", np.nan
    status[3] = "ok_largest"
    seen[4, :, 0] = SIDE - seen[4, :, 0]
    seen[5] = rng.uniform(0, SIDE, (5, 2))
    with storage.Stage(tmp_path / "landmarks.h5", "landmarks/1", "face").create() as file:
        for name, value in {
            "image": NAMES,
            "status": status,
            "image_size": np.tile([SIDE, SIDE * 3 // 4], (count, 1)),
            "image_bytes": np.ones(count),
            "image_sha256": ["0"] * count,
            "landmark_names": list(FACE.landmark_names),
            "landmarks": seen,
            "score": np.ones(count),
            "num_objects": np.ones(count),
        }.items():
            storage.put(file, name, value)
    return tmp_path, poses


def test_a_folder_is_fitted(folder):
    data, poses = folder
    summary = fit_folder(data, data / "cameras.h5")
    good = [0, 1, 3, 6, 7, 8, 9]
    assert summary["images"] == 10
    assert summary["fitted"] == 7
    assert summary["kept"] is False
    with storage.reading(data / "cameras.h5", "cameras/1") as file:
        assert storage.strings(file["image"]) == NAMES
        status = storage.strings(file["status"])
        assert [status[k] for k in good] == ["ok", "ok", "ok_largest", "ok", "ok", "ok", "ok"]
        assert (status[2], status[4], status[5]) == ("no_object", "not_converged", "not_converged")
        found, matrices, window = (file[name][:] for name in ("cam_to_world", "intrinsics", "window"))
    assert rotation_angle(found[good, :3, :3], poses[good, :3, :3]).max() < 0.05
    np.testing.assert_allclose(found[good, :3, 3], poses[good, :3, 3], atol=0.02)
    np.testing.assert_allclose(
        window[good], sphere_window(matrices[good], found[good], FACE.reach), rtol=1e-12
    )
    np.testing.assert_allclose(matrices[good, :2, 2], [[SIDE / 2, SIDE * 3 / 8]] * 7)
    np.testing.assert_allclose(matrices[good, 0, 0], FACE.focal * SIDE)
    bad = [2, 4, 5]
    for values in (found, matrices, window):
        assert np.isnan(values[bad]).all()


def test_focal_modes_of_a_folder(folder):
    data, _ = folder
    for mode in ("shared", "per-image"):
        fit_folder(data, data / f"{mode}.h5", CameraSettings(intrinsics=mode, focal=1.8))
        with storage.reading(data / f"{mode}.h5", "cameras/1") as file:
            good = storage.usable(storage.strings(file["status"]))
            focal = file["intrinsics"][:][good, 0, 0]
        assert good.sum() >= 6
        assert (np.ptp(focal) < 1e-6) == (mode == "shared")


def test_an_equal_output_is_kept_and_another_is_refused(folder):
    data, _ = folder
    output = data / "cameras.h5"
    fit_folder(data, output)
    before = output.read_bytes()
    assert fit_folder(data, output)["kept"] is True
    assert output.read_bytes() == before
    with pytest.raises(OutputExistsError, match="parameter max_error"):
        fit_folder(data, output, CameraSettings(max_error=0.1))
    with pytest.raises(OutputExistsError, match="parameter robust"):
        fit_folder(data, output, CameraSettings(robust=0.2))
    assert output.read_bytes() == before
    with pytest.raises(InputError, match="no image gets a camera"):
        fit_folder(data, output, CameraSettings(max_error=1e-9), overwrite=True)
    assert output.read_bytes() == before
    with edited(data / "landmarks.h5") as file:
        file["landmarks"][0, 0, 0] += 1
    with pytest.raises(OutputExistsError, match=r"input landmarks\.h5"):
        fit_folder(data, output)


def test_missing_landmarks_name_the_command(tmp_path):
    with pytest.raises(InputError, match=r"landmarks\.h5 does not exist.*nerfgen landmark"):
        fit_folder(tmp_path, tmp_path / "cameras.h5")


def test_landmarks_of_another_kind_are_refused(folder):
    data, _ = folder
    with edited(data / "landmarks.h5") as file:
        file["landmark_names"][0] = "tail"
    with pytest.raises(InputError, match=r"tail.*eye_left"):
        fit_folder(data, data / "cameras.h5")
    assert not (data / "cameras.h5").exists()


def test_cameras_of_landmarks_in_memory_are_those_of_the_folder(folder):
    data, _ = folder
    fit_folder(data, data / "cameras.h5")
    with storage.reading(data / "landmarks.h5", "landmarks/1") as file:
        observed = observe(
            storage.strings(file["image"]),
            storage.strings(file["status"]),
            file["image_size"][:],
            # What an estimator computed before it was rounded for the file.
            file["landmarks"][:].astype(np.float64) * (1 + 1e-9),
            FACE,
        )
    fitted = fit_cameras(observed, FACE)
    with storage.reading(data / "cameras.h5", "cameras/1") as file:
        assert fitted.status == storage.strings(file["status"])
        for name in ("intrinsics", "cam_to_world", "window", "reprojection_rmse", "canonical"):
            np.testing.assert_array_equal(getattr(fitted, name), file[name][:])


def test_settings_that_exclude_each_other_are_refused():
    with pytest.raises(InputError, match="`estimate_canonical` excludes `refine_canonical`"):
        CameraSettings(estimate_canonical=True, refine_canonical=True)
    with pytest.raises(InputError, match="`robust`"):
        CameraSettings(robust=0.0)


def test_a_class_with_a_mesh_is_fitted_to_its_landmarks_where_the_estimator_gives_no_mesh(folder):
    data, _ = folder
    with storage.reading(data / "landmarks.h5", "landmarks/1") as file:
        found = [file[name][:] for name in ("image_size", "landmarks")]
        names = storage.strings(file["image"]), storage.strings(file["status"])
    count = len(names[0])
    observed = observe(
        *names, *found, FACE, mesh=np.zeros((count, 0, 3), np.float32), mesh_index=np.zeros(0, np.int32)
    )
    assert observed.depth is None
    np.testing.assert_array_equal(observed.points, found[1].astype(np.float64))


def test_no_images_have_no_cameras():
    landmarks, none = np.zeros((0, len(FACE.landmark_names), 2)), np.zeros((0, 2), np.int32)
    fit = solve_cameras(landmarks, FACE.canonical, np.zeros(0), none.astype(float))
    assert len(fit.cam_to_world) == len(fit.focal) == len(acceptable(fit, 90.0, 0.3)) == 0
    fitted = fit_cameras(observe([], [], none, landmarks, FACE), FACE)
    assert (len(fitted.intrinsics), fitted.status) == (0, [])
