"""Canonical points from landmarks alone: exact recovery, frame, sides, outliers, missing points, the command."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest

from nerfgen import storage
from nerfgen.camera import CameraSettings, estimate_canonical, fit_folder, refine, solve_cameras
from nerfgen.camera.factorise import factorise
from nerfgen.camera.solve import spread
from nerfgen.errors import InputError
from nerfgen.geometry import intrinsic_matrix, project, rotation_angle, similarity_between, turned_camera
from nerfgen.metric import rotation_errors
from nerfgen.objectclass import object_class

FACE = object_class("face")
# Mirror-symmetric in x; the last two points lie on the mirror plane, and the first of these is the nearest of all.
SIDE = np.array([[-0.3, 0.2, 0.1], [-0.8, 0.1, -0.4], [-0.6, 0.8, -0.2]])
SHAPE = np.concatenate(
    [np.stack([SIDE, SIDE * [-1, 1, 1]], 1).reshape(-1, 3), [[0, -0.5, 0.5], [0, 0.5, 0.2]]]
)
MIRRORED = np.array([1, 0, 3, 2, 5, 4, 6, 7])
MOUTH = np.array([6])
NONE = np.zeros(0, np.int64)


@dataclass(frozen=True)
class Portraits:
    """What cameras are estimated from, and the true cameras."""

    landmarks: np.ndarray
    focal: np.ndarray
    center: np.ndarray
    poses: np.ndarray

    def estimate(self, **options):
        about = {"mirrored": MIRRORED, "nearest": MOUTH, "spread": 0.7, "middle": np.array([0.0, 0.1, 0.2])}
        return estimate_canonical(self.landmarks, self.focal, self.center, **(about | options))

    def errors(self, shape):
        fit = solve_cameras(self.landmarks, shape, self.focal, self.center)
        return rotation_errors(fit.cam_to_world, self.poses)


def portraits(count=80, shape=SHAPE, *, noise=0.0, yaw=25.0, pitch=12.0, differ=0.0, seed=4):
    """Views of one shape or, with ``differ``, of objects that differ symmetrically."""
    rng = np.random.default_rng(seed)
    poses = turned_camera(
        rng.uniform(-yaw, yaw, count),
        rng.uniform(-pitch, pitch, count),
        rng.uniform(3.0, 5.0, count),
        rng.uniform(-15, 15, count),
    )
    focal, center = np.full(count, 300.0), np.tile([64.0, 60.0], (count, 1))
    change = rng.normal(0, differ, (count, *shape.shape))
    change = (change + change[:, MIRRORED] * [-1, 1, 1]) / 2 if differ else change
    landmarks, _ = project(shape + change, intrinsic_matrix(focal, center), poses)
    landmarks = landmarks + spread(landmarks)[:, None, None] * rng.normal(0, noise, landmarks.shape)
    return Portraits(landmarks, focal, center, poses)


def distance(found, true):
    """Of two shapes, root mean square, after the best similarity, which has no mirror; in units of the true one's."""
    scale, rotation, shift = similarity_between(found, true)
    away = scale * found @ rotation.T + shift - true
    return np.sqrt((away**2).sum() / ((true - true.mean(0)) ** 2).sum())


def test_factors_of_views_from_afar_are_exact():
    rng = np.random.default_rng(0)
    turns = turned_camera(*rng.uniform(-30, 30, (2, 50)), 4.0, rng.uniform(-180, 180, 50))[:, :3, :3]
    turns = np.diag([1.0, -1.0, -1.0]) @ np.swapaxes(turns, 1, 2)
    shape = rng.normal(size=(7, 3))
    seen = rng.uniform(0.5, 2, (50, 1, 1)) * (shape @ turns[:, :2].transpose(0, 2, 1))
    seen = (seen + rng.normal(size=(50, 1, 2))) / spread(seen)[:, None, None]
    found = factorise(seen, 0.05)
    reversed_depth = found.shape * [1, 1, -1]
    assert min(distance(found.shape, shape), distance(reversed_depth, shape)) < 1e-6


@pytest.mark.parametrize("mirror", [True, False])
def test_without_noise_shape_and_cameras_are_exact(mirror):
    some = SHAPE if mirror else SHAPE + np.random.default_rng(1).normal(0, 0.1, SHAPE.shape)
    seen = portraits(shape=some)
    found = seen.estimate(mirrored=MIRRORED if mirror else None)
    assert found.certain
    assert distance(found.canonical, some) < 1e-4
    assert seen.errors(found.canonical).max() < 0.02


def test_the_frame_is_that_of_the_mean_camera_and_the_mirror():
    seen = portraits(noise=0.01)
    shape = seen.estimate().canonical
    np.testing.assert_allclose(shape, shape[MIRRORED] * [-1, 1, 1], atol=1e-12)
    np.testing.assert_allclose(shape.mean(0), [0, 0.1, 0.2], atol=1e-12)
    assert np.sqrt(((shape - shape.mean(0)) ** 2).sum(-1).mean()) == pytest.approx(0.7)
    fit = solve_cameras(seen.landmarks, shape, seen.focal, seen.center)
    forward = fit.cam_to_world[:, :3, 2].mean(0)
    # Photographs need not be as many from the left as from the right: only up and down is chosen by them.
    assert abs(forward[1]) < 0.03
    assert forward[2] < -0.8
    assert shape[7, 1] > shape[6, 1]


def test_cameras_are_about_as_good_as_those_of_the_true_template():
    seen = portraits(150, noise=0.03, differ=0.04)
    found = seen.estimate()
    assert found.certain
    assert np.median(seen.errors(found.canonical)) <= 1.1 * np.median(seen.errors(SHAPE))


@pytest.mark.slow
def test_the_class_says_which_side_is_near_and_the_middle_is_where_it_does_not():
    seen = portraits(60, noise=0.02)
    convex = seen.estimate(nearest=NONE).canonical
    np.testing.assert_allclose(convex, seen.estimate().canonical, atol=0.02)
    # Landmarks that lie behind, said to be near, turn the shape inside out.
    inside_out = seen.estimate(nearest=np.array([2, 3])).canonical
    assert inside_out[2, 2] > inside_out[6, 2]


def test_wrong_landmarks_are_outvoted():
    seen, rng = portraits(150, noise=0.01), np.random.default_rng(3)
    wrong = rng.random(seen.landmarks.shape[:2]) < 0.1
    stray = spread(seen.landmarks)[:, None, None] * rng.uniform(-1.5, 1.5, seen.landmarks.shape)
    seen.landmarks[wrong] += stray[wrong]
    seen.landmarks[:8] = seen.landmarks[:8, MIRRORED]
    assert distance(seen.estimate().canonical, SHAPE) < 0.08


@pytest.mark.slow
def test_missing_landmarks_are_left_out():
    seen, rng = portraits(100), np.random.default_rng(5)
    gone = rng.random(seen.landmarks.shape[:2]) < 0.25
    gone[gone.sum(1) > 4] = False
    seen.landmarks[gone] = np.nan
    found = seen.estimate()
    assert distance(found.canonical, SHAPE) < 1e-3
    assert seen.errors(SHAPE).max() < 0.01


def test_a_camera_with_missing_landmarks_is_that_of_the_others():
    seen = portraits(5, noise=0.03)
    seen.landmarks[:, [1, 4]] = np.nan
    there = [0, 2, 3, 5, 6, 7]
    fit = solve_cameras(seen.landmarks, SHAPE, seen.focal, seen.center)
    alone = solve_cameras(seen.landmarks[:, there], SHAPE[there], seen.focal, seen.center)
    np.testing.assert_allclose(fit.cam_to_world, alone.cam_to_world, atol=1e-5)
    np.testing.assert_allclose(fit.relative_rmse, alone.relative_rmse, rtol=1e-5)


def test_views_from_one_side_only_give_a_shallow_dome_and_are_told_of():
    seen = portraits(150, noise=0.03, yaw=3.0, pitch=3.0, differ=0.03)
    found = seen.estimate()
    assert not found.certain
    depth = found.canonical[:, 2] - found.canonical[:, 2].mean()
    assert depth[6] == depth.max()
    assert depth[[2, 3, 4, 5]].max() < 0
    assert 0.1 < np.sqrt((depth**2).mean()) / 0.7 < 0.6


@pytest.mark.slow
def test_four_landmarks_suffice():
    four = SHAPE[[0, 1, 6, 7]] + [0, 0, 0]
    seen = portraits(100, shape=four, noise=0.01)
    found = seen.estimate(mirrored=np.array([1, 0, 2, 3]), nearest=np.array([2]))
    assert np.median(seen.errors(found.canonical)) <= 1.2 * np.median(seen.errors(four))


def test_a_camera_that_is_lost_does_not_stop_the_joint_fit():
    seen = portraits(40, noise=0.01)
    seen.landmarks[:6] = np.random.default_rng(2).normal(64, 1e5, (6, 8, 2))
    start = SHAPE * [1, 1, 0.6]
    assert not solve_cameras(seen.landmarks, start, seen.focal, seen.center).in_front.all()
    joint = refine(seen.landmarks, start, seen.focal, seen.center, shape_spread=20.0)
    assert distance(joint.canonical, SHAPE) < 0.5 * distance(start, SHAPE)


MUG = """
name = "mug"
landmarks = ["rim_left", "rim_right", "side_left", "side_right", "foot_left", "foot_right", "handle", "knob"]
symmetry = [["rim_left", "rim_right"], ["side_left", "side_right"], ["foot_left", "foot_right"]]
nearest = ["handle"]
spread = 0.7
center = [0.0, 0.1, 0.2]
"""


def write_landmarks(folder, seen, text=MUG, count=None):
    """A landmarks file of a class that a file describes; one image has three landmarks, one is unreadable."""
    (folder / "mug.toml").write_text(text)
    described = object_class(folder / "mug.toml")
    landmarks = seen.landmarks[:count, : len(described.landmark_names)].copy()
    number = len(landmarks)
    status = ["ok"] * number
    landmarks[1, 3:] = np.nan
    landmarks[0], status[0] = np.nan, "unreadable"
    with storage.Stage(folder / "landmarks.h5", "landmarks/1", described).create() as file:
        for name, value in {
            "image": [f"{index:03d}.jpg" for index in range(number)],
            "status": status,
            "image_size": np.tile([128, 120], (number, 1)),
            "image_bytes": np.ones(number),
            "image_sha256": ["0"] * number,
            "landmark_names": list(described.landmark_names),
            "landmarks": landmarks,
            "score": np.ones(number),
            "num_objects": np.ones(number),
        }.items():
            storage.put(file, name, value)
    return folder


@pytest.mark.slow
def test_a_class_without_canonical_points_gets_them_from_its_photographs(tmp_path, run):
    seen = portraits(60, noise=0.01)
    data = write_landmarks(tmp_path, seen)
    ran = run("fit-cameras", data, "--focal", 300 / 128, "--json")
    assert ran.code == 0, ran.err
    assert "class mug has no canonical keypoints: estimating 8 canonical keypoints from 58 images" in ran.err
    told = json.loads(ran.out)
    assert told["fitted"] == 58
    assert (told["canonical"]["points"], told["canonical"]["images"]) == (8, 58)
    with storage.reading(data / "cameras.h5", "cameras/1") as file:
        status = storage.strings(file["status"])
        canonical, index = file["canonical"][:], file["canonical_index"][:]
        poses = file["cam_to_world"][:]
    assert status[:3] == ["unreadable", "not_converged", "ok"]
    assert told["canonical"]["depth_extent"] == pytest.approx(np.ptp(canonical[:, 2]))
    assert distance(canonical, SHAPE) < 0.05
    assert np.median(rotation_errors(poses[2:], seen.poses[2:])) < 1.5
    # The same landmarks give the same file.
    first = (data / "cameras.h5").read_bytes()
    fit_folder(data, data / "cameras.h5", CameraSettings(focal=300 / 128), overwrite=True)
    assert (data / "cameras.h5").read_bytes() == first
    # New photographs, here a few of the same, are fitted to the points that are there.
    some = tmp_path / "some"
    some.mkdir()
    write_landmarks(some, seen, count=5)
    summary = fit_folder(
        some, some / "cameras.h5", CameraSettings(focal=300 / 128), canonical=(index, canonical)
    )
    assert summary["fitted"] == 3
    assert summary["canonical"]["images"] == 0
    with storage.reading(some / "cameras.h5", "cameras/1") as file:
        again = file["cam_to_world"][2:]
    assert rotation_angle(again[:, :3, :3], poses[2:5, :3, :3]).max() < 1e-4


def test_too_little_to_estimate_from_is_told(tmp_path):
    seen = portraits(60)
    write_landmarks(tmp_path, seen, count=9)
    with pytest.raises(InputError, match=r"landmarks\.h5: 7 images have 4 landmarks or more.*at least 10"):
        fit_folder(tmp_path, tmp_path / "cameras.h5")
    few = 'name = "mug"\nlandmarks = ["left", "right", "handle"]\n'
    write_landmarks(tmp_path, seen, few)
    with pytest.raises(InputError, match="3 landmarks do not determine a shape"):
        fit_folder(tmp_path, tmp_path / "cameras.h5")
    seen.landmarks[8:, 6] = np.nan
    write_landmarks(tmp_path, seen)
    with pytest.raises(InputError, match="landmark handle is visible in 6 images"):
        fit_folder(tmp_path, tmp_path / "cameras.h5")
    assert not (tmp_path / "cameras.h5").exists()


def test_estimating_excludes_refining(tmp_path, call):
    with pytest.raises(InputError, match="--estimate-canonical excludes --refine-canonical"):
        call("fit-cameras", tmp_path, "--estimate-canonical", "--refine-canonical")


@pytest.mark.slow
@pytest.mark.mediapipe
def test_detected_heads_without_a_template_are_fitted_as_well_as_with_it(tmp_path):
    from nerfgen.landmark import landmark_folder
    from nerfgen.synth import SynthSettings, synthesize

    synthesize("heads", tmp_path, SynthSettings(num_images=60, size=64, views=0, heldout_objects=0, seed=5))
    landmark_folder(tmp_path, tmp_path / "landmarks.h5")
    with storage.reading(tmp_path / "truth.h5", "truth/1") as file:
        true, keypoints = file["cam_to_world"][:], file["keypoints"][:].mean(0)
    errors = {}
    given, estimated = (
        CameraSettings(points="landmarks", estimate_canonical=estimate) for estimate in (False, True)
    )
    fit_folder(tmp_path, tmp_path / "true.h5", given, canonical=(np.arange(5), keypoints))
    fit_folder(tmp_path, tmp_path / "estimated.h5", estimated)
    for name in ("true", "estimated"):
        with storage.reading(tmp_path / f"{name}.h5", "cameras/1") as file:
            good = storage.usable(storage.strings(file["status"]))
            errors[name] = np.median(rotation_errors(file["cam_to_world"][:][good], true[good]))
    assert errors["estimated"] <= 1.5 * errors["true"]
