"""What a trained model makes, and how it is judged: codes, views, latent fitting, metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import scipy.stats
from scipy.spatial.transform import Rotation

from nerfgen import artifact
from nerfgen.cli.views import angles_of, parse_rows
from nerfgen.errors import InputError
from nerfgen.generate import (
    framing_intrinsics,
    principal_axes,
    render_to_file,
    render_views,
    table_objects,
    truncated_draws,
    turned_cameras,
    turned_views,
)
from nerfgen.generate import views as views_module
from nerfgen.geometry import rigid, sphere_window, turned_camera, window_intrinsics
from nerfgen.metric import camera_errors, intersection_over_union, judge, pearson, psnr, rotation_errors
from nerfgen.train import load_framed


@pytest.fixture
def rng():
    return np.random.default_rng(4)


def test_principal_axes_are_those_of_the_covariance(rng):
    table = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6)) + 3
    principal = principal_axes(table)
    covariance = np.cov(table, rowvar=False)
    rebuilt = principal.axes.T @ np.diag(principal.deviation**2) @ principal.axes
    np.testing.assert_allclose(rebuilt, covariance, atol=1e-10)
    np.testing.assert_allclose(principal.axes @ principal.axes.T, np.eye(6), atol=1e-12)
    np.testing.assert_allclose(principal.mean, table.mean(0))
    assert (np.diff(principal.deviation) <= 0).all()


def test_fewer_components_vary_less(rng):
    table = rng.normal(size=(50, 6)) * [9, 5, 1, 1, 1, 1]
    few = principal_axes(table, 2)
    assert few.axes.shape == (2, 6)
    codes = few.codes(rng.normal(size=(10, 2)))
    centred = codes - few.mean
    np.testing.assert_allclose(centred @ few.axes.T @ few.axes, centred, atol=1e-10)
    np.testing.assert_allclose(few.codes(np.zeros((1, 2)))[0], table.mean(0))
    # More codes than numbers and fewer: both have their axes.
    assert len(principal_axes(table[:3]).deviation) == 3
    assert np.isfinite(principal_axes(table[:1]).deviation).all()


def test_draws_follow_the_table(rng):
    table = rng.normal(size=(500, 3)) @ rng.normal(size=(3, 3)) + 1
    principal = principal_axes(table)
    codes = principal.codes(truncated_draws(4000, 3, 50.0, seed=0))
    np.testing.assert_allclose(np.cov(codes, rowvar=False), np.cov(table, rowvar=False), rtol=0.15, atol=0.15)
    np.testing.assert_allclose(codes.mean(0), table.mean(0), atol=0.15)


@pytest.mark.parametrize("truncation", [0.5, 1.0, 2.5])
def test_draws_are_truncated_normal(truncation):
    draws = truncated_draws(600, 5, truncation, seed=3)
    assert np.abs(draws).max() <= truncation
    expected = scipy.stats.truncnorm(-truncation, truncation)
    assert scipy.stats.kstest(draws.ravel(), expected.cdf).pvalue > 1e-3
    assert np.abs(np.corrcoef(draws.T) - np.eye(5)).max() < 0.2


def test_more_draws_extend_fewer_and_seeds_differ():
    few, many = truncated_draws(3, 4, 0.7, seed=5), truncated_draws(9, 4, 0.7, seed=5)
    np.testing.assert_array_equal(few, many[:3])
    assert np.abs(truncated_draws(3, 4, 0.7, seed=6) - few).max() > 0.01
    assert np.abs(many[0] - many[1]).max() > 0.01
    np.testing.assert_array_equal(truncated_draws(3, 4, 0.0, seed=5), 0)


def test_framing_fills_the_picture_with_the_unit_sphere():
    distance = np.array([1.5, 2.0, 7.0])
    matrices = framing_intrinsics(distance, 96)
    windows = sphere_window(matrices, turned_camera(30, 10, distance))
    np.testing.assert_allclose(windows, np.tile([0.0, 0, 96], (3, 1)), atol=1e-9)
    matrix, pose = turned_views(np.array([0.0, 30]), np.array([5.0, 5]), 3.0, 20)
    np.testing.assert_allclose(matrix[0], framing_intrinsics(3.0, 20))
    np.testing.assert_allclose(pose, turned_camera(np.array([0.0, 30]), 5, 3.0))


@pytest.fixture(scope="module")
def two_views(model):
    """Latents and cameras of two objects, and their pictures of 18 x 18 pixels."""
    cameras = turned_views(np.array([-30.0, 60]), np.array([10.0, 10]), model.distance, 18)
    return (model.latents[:2], *cameras), render_views(model, model.latents[:2], *cameras, 18)


def test_rendering_is_deterministic_and_view_by_view(model, two_views):
    (latents, matrices, poses), views = two_views
    again = render_views(model, latents[1:], matrices[1:], poses[1:], 18)
    for name in ("rgb", "foreground", "opacity", "depth"):
        np.testing.assert_array_equal(getattr(again, name)[0], getattr(views, name)[1])


def test_chunks_change_nothing(model, two_views, monkeypatch):
    """324 rays in chunks of 50: the last is not full."""
    given, views = two_views
    monkeypatch.setattr(views_module, "_RAYS", 50)
    chunked = render_views(model, *given, 18)
    np.testing.assert_allclose(chunked.opacity, views.opacity, atol=1e-4)
    np.testing.assert_allclose(chunked.depth, views.depth, atol=1e-3)
    assert np.abs(chunked.rgb.astype(int) - views.rgb).max() <= 1


def test_pictures_are_plausible(model, two_views):
    _, views = two_views
    assert views.rgb.dtype == np.uint8
    assert views.opacity.min() >= 0
    assert views.opacity.max() <= 1 + 1e-5
    assert (views.foreground <= views.opacity[..., None] + 1e-5).all(), "premultiplied"
    seen = views.depth > 0
    np.testing.assert_array_equal(seen, views.opacity >= 0.5)
    assert seen.any()
    assert (np.abs(views.depth[seen] - model.distance) < np.sqrt(3)).all(), "the car is about the origin"


def test_training_photographs_are_reconstructed(model, cars):
    """From its own camera, its own code shows its own photograph, and another code does not."""
    framed = load_framed(cars, cars / "truth.h5", cars / "truth.h5", model.size)
    at = artifact.positions(model.images, framed.images)
    own = render_views(
        model, model.latents, framed.raster_intrinsics[at], framed.cam_to_world[at], model.size
    ).rgb
    photographs = framed.rgb[at]
    right = np.array([psnr(a / 255, b / 255) for a, b in zip(own, photographs, strict=True)])
    other = render_views(
        model, model.latents[::-1], framed.raster_intrinsics[at], framed.cam_to_world[at], model.size
    ).rgb
    wrong = np.array([psnr(a / 255, b / 255) for a, b in zip(other, photographs, strict=True)])
    assert np.mean(right > wrong) > 0.85
    assert right.mean() > wrong.mean() + 2


def test_a_views_file_holds_the_photographs_own_view_first(model, tmp_path):
    angles = np.array([[20.0, 0], [0, 10]])
    output = tmp_path / "views.h5"
    objects = table_objects(model, [3, 1])
    about = {"object_class": "car", "parameters": {}, "inputs": []}
    cameras = turned_cameras(angles[:, 0], angles[:, 1], 3.0)
    render_to_file(model, objects, output, cameras=cameras, size=16, samples=8, about=about)
    with artifact.reading(output, "views/1") as file:
        assert artifact.strings(file["name"]) == [model.images[3], model.images[1]]
        assert file["rgb"].shape == (2, 3, 16, 16, 3)
        assert np.isnan(file["angles"][0]).all()
        np.testing.assert_array_equal(file["angles"][1:], angles.astype(np.float32))
        np.testing.assert_array_equal(file["cam_to_world"][0, 0], model.cam_to_world[3])
        matrix = window_intrinsics(model.intrinsics[[3]], model.window[[3]], 16)[0]
        np.testing.assert_allclose(file["intrinsics"][0, 0], matrix)
        np.testing.assert_allclose(file["cam_to_world"][1, 1], turned_camera(20, 0, 3.0), atol=1e-12)
        own = render_views(
            model, model.latents[[3]], file["intrinsics"][0, :1], file["cam_to_world"][0, :1], 16, samples=8
        )
        np.testing.assert_array_equal(file["rgb"][0, 0], own.rgb[0])


@pytest.mark.parametrize(
    ("text", "rows"),
    [("0", [0]), ("0,5-7", [0, 5, 6, 7]), ("all", list(range(9))), (" 2 , 1", [2, 1]), ("8-8", [8])],
)
def test_rows_are_read_from_words(text, rows):
    assert parse_rows(text, 9) == rows


@pytest.mark.parametrize("text", ["9", "0-9", "-1", "a", "", "1,,2", "1-", "5-3", "1.5"])
def test_wrong_rows_are_told(text):
    with pytest.raises(InputError, match="--rows"):
        parse_rows(text, 9)


def test_angles_are_every_yaw_at_every_pitch_or_a_closed_path(model):
    np.testing.assert_array_equal(
        angles_of(model, "-40,0,40", "0,15", 0), [(y, p) for p in (0, 15) for y in (-40, 0, 40)]
    )
    around = angles_of(model, "0", "12", 8)
    np.testing.assert_allclose(around[:, 0], np.arange(8) * 45)
    np.testing.assert_array_equal(around[:, 1], 12)
    swing = angles_of(replace(model, object_class="face"), "0", "0", 16)
    assert np.abs(swing[:, 0]).max() == pytest.approx(45)
    assert np.abs(np.diff(swing[:, 0], append=swing[0, 0])).max() < 20, "it closes without a jump"
    with pytest.raises(InputError, match="--yaw"):
        angles_of(model, "left", "0", 0)


def test_psnr_has_its_closed_form(rng):
    first = rng.uniform(size=(8, 8, 3))
    assert psnr(first, first + 0.1) == pytest.approx(20)
    assert psnr(first, first) >= 100
    where = rng.uniform(size=(8, 8)) > 0.5
    second = np.where(where[..., None], first + 0.01, first + 0.5)
    assert psnr(first, second, where) == pytest.approx(40)


def test_psnr_is_that_of_scikit_image(rng):
    metrics = pytest.importorskip("skimage.metrics")
    first, second = rng.uniform(size=(2, 8, 8, 3))
    assert psnr(first, second) == pytest.approx(metrics.peak_signal_noise_ratio(first, second, data_range=1))


def test_intersection_over_union():
    first, second = np.zeros((2, 4, 4), bool)
    first[:2], second[1:3] = True, True
    assert intersection_over_union(first, second) == pytest.approx(1 / 3)
    assert intersection_over_union(first, first) == 1
    assert intersection_over_union(first, ~first) == 0
    assert intersection_over_union(first & second & ~first, second & ~second) == 1


def test_pearson_is_that_of_numpy(rng):
    first, second = rng.normal(size=(2, 100))
    second += first
    assert pearson(first, second) == pytest.approx(np.corrcoef(first, second)[0, 1])
    assert pearson(first, -3 * first + 2) == pytest.approx(-1)
    assert pearson(first, np.ones(100)) == 0


def noisy_cameras(rng, degrees):
    true = rigid(Rotation.random(60, random_state=1).as_matrix(), rng.normal(size=(60, 3)))
    axes = rng.normal(size=(60, 3))
    turns = Rotation.from_rotvec(
        np.radians(degrees)[:, None] * axes / np.linalg.norm(axes, axis=-1, keepdims=True)
    )
    found = true.copy()
    found[:, :3, :3] = true[:, :3, :3] @ turns.as_matrix()
    return found, true


def test_camera_errors_do_not_know_the_frame_of_the_world(rng):
    found, true = noisy_cameras(rng, np.full(60, 2.0))
    errors = rotation_errors(found, true)
    assert errors.mean() == pytest.approx(2, abs=0.15)
    world = rigid(Rotation.random(random_state=2).as_matrix(), np.array([1.0, 2, 3]))
    np.testing.assert_allclose(rotation_errors(world @ found, true), errors, atol=1e-6)
    assert rotation_errors(world @ true, true).max() < 1e-5


def test_a_few_wrong_cameras_do_not_tilt_the_frame(rng):
    degrees = np.full(60, 0.5)
    degrees[:8] = 120
    errors = rotation_errors(*noisy_cameras(rng, degrees))
    assert np.median(errors) < 0.8
    assert (errors[:8] > 90).all()


def test_judgement_prefers_a_model_to_its_class_mean(model, cars):
    scores = judge(model, cars / "truth.h5")
    assert scores["psnr_db"] > scores["class_mean_psnr_db"]
    assert scores["mask_iou"] > 0.6
    assert -1 <= scores["depth_correlation"] <= 1
    assert camera_errors(model, cars / "truth.h5").max() < 1e-4, "it was trained with the true cameras"


def test_judgement_notices_codes_of_other_objects(model, cars):
    shuffled = replace(model, latents=np.roll(model.latents, 7, axis=0))
    assert judge(shuffled, cars / "truth.h5")["psnr_db"] < judge(model, cars / "truth.h5")["psnr_db"] - 0.5


def test_judgement_needs_held_out_views_of_the_models_objects(model, cars):
    strangers = replace(model, images=[f"x/{name}" for name in model.images])
    with pytest.raises(InputError, match="held-out"):
        judge(strangers, cars / "truth.h5")
