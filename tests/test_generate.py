"""What a trained model makes, and how it is judged: codes, views, latent fitting, metrics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nerfgen import storage
from nerfgen.data import load_framed
from nerfgen.errors import InputError
from nerfgen.evaluate.held_out_views import camera_errors, score_model
from nerfgen.geometry import rigid, turned_camera, turned_cameras, turned_views, window_intrinsics
from nerfgen.metric import intersection_over_union, pearson, psnr, rotation_errors
from nerfgen.model import parse_numbers, table_objects
from nerfgen.render import RenderSettings, render_to_file, render_views


@pytest.fixture
def rng():
    return np.random.default_rng(4)


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
    at = storage.positions(model.images, framed.images)
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
    cameras = turned_cameras(angles[:, 0], angles[:, 1], 3.0)
    render_to_file(
        model,
        objects,
        storage.Stage(output, "views/1", "cars"),
        cameras=cameras,
        rendering=RenderSettings(size=16, samples=8, antialias=1),
    )
    with storage.reading(output, "views/1") as file:
        assert storage.strings(file["name"]) == [model.images[3], model.images[1]]
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
    assert parse_numbers(text, 9, f"--rows {text}", "rows") == rows


@pytest.mark.parametrize(
    "text", ["9", "0-9", "-1", "a", "", "1,,2", "1-", "5-3", "1.5", "0-99999999999", "9" * 5000]
)
def test_wrong_rows_are_refused_before_they_take_memory(text):
    with pytest.raises(InputError, match="--rows"):
        parse_numbers(text, 9, f"--rows {text}", "rows")


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
    scores = score_model(model, cars / "truth.h5")
    assert scores["psnr_db"] > scores["class_mean_psnr_db"]
    assert scores["mask_iou"] > 0.6
    assert -1 <= scores["depth_correlation"] <= 1
    assert camera_errors(model, cars / "truth.h5").max() < 1e-4, "it was trained with the true cameras"


def test_judgement_notices_codes_of_other_objects(model, cars):
    shuffled = replace(model, latents=np.roll(model.latents, 7, axis=0))
    assert (
        score_model(shuffled, cars / "truth.h5")["psnr_db"]
        < score_model(model, cars / "truth.h5")["psnr_db"] - 0.5
    )


def test_judgement_needs_held_out_views_of_the_models_objects(model, cars):
    strangers = replace(model, images=[f"x/{name}" for name in model.images])
    with pytest.raises(InputError, match="held-out"):
        score_model(strangers, cars / "truth.h5")
