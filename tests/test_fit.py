"""Codes of new photographs: first guess, latent fitting, pivotal tuning, names and messages."""

from __future__ import annotations

import shutil
from dataclasses import replace
from functools import partial

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edited import edited
from scipy.spatial.transform import Rotation

from nerfgen import storage
from nerfgen.data import load_framed
from nerfgen.errors import InputError
from nerfgen.evaluate.held_out_views import held_out_views, held_out_views_for_images, score_latents
from nerfgen.field import tunable_parameters
from nerfgen.geometry import rigid, rotation_angle, turned_cameras, turned_views
from nerfgen.inversion import fit_latents, name_images, reconstruction_psnr, tune_networks
from nerfgen.inversion import latent_fitting as fit_module
from nerfgen.inversion import reconstruction as reconstruction_module
from nerfgen.inversion.initial_guess import guess_features, ridge
from nerfgen.metric import psnr
from nerfgen.model import Objects, load_model, stored_objects
from nerfgen.render import RenderSettings, render_to_file, render_views
from nerfgen.synth import SynthSettings, synthesize


@pytest.fixture(scope="module")
def framed(cars, model):
    """The images that the model was trained on: some are fitted as if they were new."""
    return load_framed(cars, cars / "truth.h5", cars / "truth.h5", model.size)


@pytest.fixture(scope="module")
def few(framed):
    return framed.subset(np.arange(5))


@pytest.fixture(scope="module")
def fitted(model, few):
    return fit_latents(model, few, steps=60, seed=1)


def coefficients(model, latents):
    """Along the principal axes of the table, in standard deviations."""
    return model.principal.coefficients(latents)


def mean_code(model, count):
    return np.tile(model.latents.mean(0), (count, 1))


def test_the_fit_is_better_than_the_mean_and_repeats(model, few, fitted):
    assert fitted.converged.all()
    np.testing.assert_array_equal(fitted.iterations, 60)
    np.testing.assert_array_equal(fitted.cam_to_world, few.cam_to_world)
    average = reconstruction_psnr(model, few, mean_code(model, 5), few.cam_to_world)
    assert (fitted.psnr > average).all()
    assert (fitted.psnr - average).mean() > 1
    np.testing.assert_array_equal(fit_latents(model, few, steps=60, seed=1).latents, fitted.latents)


def test_the_psnr_is_that_of_the_whole_image(model, few, fitted):
    views = render_views(model, fitted.latents, few.raster_intrinsics, few.cam_to_world, model.size)
    whole = [psnr(a / 255, b / 255, there) for a, b, there in zip(views.rgb, few.rgb, few.valid, strict=True)]
    np.testing.assert_allclose(fitted.psnr, whole, rtol=1e-5)


def test_a_fit_is_independent_of_the_rest_of_the_batch(model, few, fitted, monkeypatch):
    """In batches of two, the last one not full, and in another order."""
    samples = 2 * reconstruction_module.RAYS * model.recipe.samples
    monkeypatch.setattr(reconstruction_module, "_SAMPLES_PER_STEP", samples)
    told = []

    def progress(done, total, note=""):
        told.append((done, total))

    order = np.array([3, 0, 4, 1, 2])
    grouped = fit_latents(model, few.subset(order), steps=60, seed=1, progress=progress)
    apart = coefficients(model, grouped.latents) - coefficients(model, fitted.latents[order])
    assert np.abs(apart).max() < 0.02
    assert told[-1] == (180, 180)
    assert told == sorted(told)


def test_codes_stay_within_the_table(model, few):
    """Even for images of nothing the model knows."""
    noise = np.random.default_rng(0).integers(0, 256, few.rgb.shape).astype(np.uint8)
    strange = fit_latents(model, replace(few, rgb=noise), steps=100)
    known, found = (
        np.linalg.norm(coefficients(model, codes), axis=1) for codes in (model.latents, strange.latents)
    )
    assert found.max() < known.max() * (1 + 1e-3)
    assert np.isfinite(strange.psnr).all()


def test_the_initial_guess_is_a_better_start_than_the_mean(model, tmp_path):
    """Of cars that nothing was trained on."""
    truth = synthesize(
        "cars", tmp_path, SynthSettings(num_images=5, size=32, views=0, heldout_objects=0, seed=8)
    )
    new = load_framed(tmp_path, truth, truth, model.size)
    guess, mean = (fit_latents(model, new, steps=2, start=start).psnr for start in ("guess", "mean"))
    assert guess.mean() > mean.mean() + 0.5
    with pytest.raises(InputError, match="guess, mean"):
        fit_latents(model, new, start="zero")


def test_a_model_without_a_guess_starts_at_the_mean(trained, few, tmp_path):
    older = tmp_path / "model.h5"
    shutil.copyfile(trained, older)
    with edited(older) as file:
        del file["guess_weights"], file["guess_offset"]
    without = load_model(older)
    assert without.guess is None
    first, second = (fit_latents(without, few, steps=3, start=start).latents for start in ("guess", "mean"))
    np.testing.assert_array_equal(first, second)


def test_cameras_are_refined_on_demand(model, few):
    turn = Rotation.from_euler("y", 6, degrees=True).as_matrix()
    off = replace(few, cam_to_world=rigid(turn, np.zeros(3)) @ few.cam_to_world)
    kept = fit_latents(model, off, steps=60)
    np.testing.assert_array_equal(kept.cam_to_world, off.cam_to_world)
    refined = fit_latents(model, off, steps=60, refine_cameras=True)
    errors = rotation_angle(refined.cam_to_world[:, :3, :3], few.cam_to_world[:, :3, :3])
    assert errors.mean() < 5
    assert refined.psnr.mean() > kept.psnr.mean()


def test_a_fit_that_diverges_falls_back(model, few, monkeypatch):
    monkeypatch.setattr(fit_module, "_RATE", float("inf"))
    lost = fit_latents(model, few, steps=3)
    assert not lost.converged.any()
    np.testing.assert_array_equal(lost.iterations, 6)
    np.testing.assert_allclose(lost.latents, mean_code(model, 5), atol=1e-6)
    np.testing.assert_array_equal(lost.cam_to_world, few.cam_to_world)
    assert np.isfinite(lost.psnr).all()


def test_a_fit_that_fails_from_the_guess_is_tried_from_the_mean(model, few):
    broken = replace(model, guess=model.guess._replace(offset=np.full_like(model.guess.offset, np.nan)))
    saved = fit_latents(broken, few, steps=30)
    assert saved.converged.all()
    np.testing.assert_array_equal(saved.iterations, 60)
    assert (saved.psnr > reconstruction_psnr(model, few, mean_code(model, 5), few.cam_to_world)).all()


@pytest.mark.parametrize("rows", [12, 60])
def test_ridge_is_that_of_the_normal_equations(rows):
    """With fewer rows than features and with more; strengths are those of the least leave-one-out error."""
    draw = np.random.default_rng(3)
    features = draw.normal(size=(rows, 20)) * draw.uniform(0.1, 3, 20)
    targets = features @ draw.normal(size=(20, 2)) + draw.normal(size=(rows, 2)) * [0.1, 30]
    weights, offset = ridge(features, targets, blocks=(14, 6))
    scale = np.repeat(
        [np.sqrt(features[:, part].var(0).sum()) for part in (slice(14), slice(14, 20))], (14, 6)
    )

    def solved(kept, strength):
        center, middle = features[kept].mean(0), targets[kept].mean(0)
        scaled = (features[kept] - center) / scale
        inner = scaled.T @ scaled + strength * np.eye(20)
        found = np.linalg.solve(inner, scaled.T @ (targets[kept] - middle)) / scale[:, None]
        return found, middle - center @ found

    strengths = np.logspace(-6, 1, 15) * rows
    errors = np.zeros((len(strengths), 2))
    for place, strength in enumerate(strengths):
        for left_out in range(rows):
            found, begin = solved(np.arange(rows) != left_out, strength)
            errors[place] += (features[left_out] @ found + begin - targets[left_out]) ** 2
    for output, best in enumerate(errors.argmin(0)):
        found, begin = solved(np.arange(rows), strengths[best])
        np.testing.assert_allclose(weights[:, output], found[:, output], rtol=1e-6, atol=1e-9)
        np.testing.assert_allclose(offset[output], begin[output], rtol=1e-6, atol=1e-9)


def test_features_are_a_thumbnail_and_the_pose():
    """Means over blocks of foreground, background and mask, at any resolution; without masks, all is foreground."""
    draw = np.random.default_rng(0)
    rasters = draw.integers(0, 256, (2, 48, 48, 4)).astype(np.uint8)
    poses = draw.normal(size=(2, 4, 4))
    found = guess_features(rasters, poses, masked=True)
    color, mask = rasters[..., :3] / 255, rasters[..., 3:] / 255
    layers = np.concatenate([color * mask, color * (1 - mask), mask], axis=-1)
    blocks = layers.reshape(2, 16, 3, 16, 3, 7).mean((2, 4)).reshape(2, -1)
    np.testing.assert_allclose(found[:, :-12], blocks, atol=1e-6)
    np.testing.assert_array_equal(found[:, -12:], poses[:, :3].reshape(2, 12))
    large = rasters.repeat(2, axis=1).repeat(2, axis=2)
    np.testing.assert_allclose(guess_features(large, poses, masked=True), found, atol=1e-6)
    full = rasters.copy()
    full[..., 3] = 255
    alike = (guess_features(rasters, poses, masked=False), guess_features(full, poses, masked=True))
    np.testing.assert_array_equal(*alike)


def test_the_rays_of_a_fit_visit_all_pixels_equally_often():
    """Of those inside the mask and of all, whenever the fit ends and however long it is."""
    key = jax.random.key(3)
    inside = round(0.75 * reconstruction_module.RAYS)
    for first in (0, 1_000_000):
        steps = first + jnp.arange(50)
        places = jax.vmap(partial(reconstruction_module._pixel_places, 0.75, key))(steps)
        assert float(places.min()) >= 0
        assert float(places.max()) < 1
        for part in (places[:, :inside], places[:, inside:]):
            seen = np.histogram(np.asarray(part), bins=100, range=(0, 1))[0]
            assert abs(seen - part.size / 100).max() <= 2


@pytest.fixture(scope="module")
def tuned(model, few, fitted):
    return tune_networks(model, few, fitted, steps=40)


def test_tuning_shows_the_photograph_better_and_leaves_turned_views(model, few, fitted, tuned):
    assert tuned.deltas.keys() == set(range(5))
    assert (tuned.psnr > fitted.psnr).all()
    assert (tuned.psnr - fitted.psnr).mean() > 0.5
    cameras = turned_views(np.array([-40.0, 40]), np.zeros(2), model.distance, 24)
    changes = []
    for place in range(5):
        code = np.repeat(fitted.latents[[place]], 2, axis=0)
        before, after = (
            render_views(some, code, *cameras, 24) for some in (model, model.tuned(tuned.deltas[place]))
        )
        changes.append(np.mean((before.foreground - after.foreground) ** 2))
    other = render_views(model, fitted.latents[:2], *cameras, 24).foreground
    different = np.mean((other - render_views(model, fitted.latents[2:4], *cameras, 24).foreground) ** 2)
    assert np.mean(changes) < 0.3 * different, "it is still the same object"


def test_what_multiplies_the_code_is_not_tuned(model, tuned):
    names = {
        f"{room}/{layer}/{name}"
        for room, layers in tunable_parameters(model.parameters).items()
        for layer, arrays in layers.items()
        for name in arrays
    }
    assert "foreground/planes/bias" in names
    assert "foreground/outputs/kernel" in names
    assert not names & {
        "foreground/planes/kernel",
        "foreground/modulation_0/kernel",
        "background/latent_0/kernel",
    }
    leaves = [
        array
        for layers in tuned.deltas[0].values()
        for arrays in layers.values()
        for array in arrays.values()
    ]
    assert {array.dtype for array in leaves} == {np.dtype(np.float16)}


def test_tuned_objects_come_back_from_their_file(model, few, fitted, tuned, tmp_path):
    """Each with its delta, by its number in the file."""
    output = tmp_path / "fitted.h5"
    objects = Objects(
        names=few.images,
        status=["ok"] * 5,
        rows=np.full(5, -1),
        latents=fitted.latents,
        tuned={place: delta for place, delta in tuned.deltas.items() if place != 1},
        extra={"fit_psnr": tuned.psnr, "fit_iterations": fitted.iterations},
    )
    cameras = turned_cameras(np.array([20.0]), np.array([0.0]), model.distance)
    record = {"file": "model.h5", "size": 1, "sha256": "a" * 64}
    stage = storage.Stage(output, "views/1", "cars", inputs=[record])
    render_to_file(model, objects, stage, cameras=cameras, rendering=RenderSettings(size=16, antialias=1))
    back = stored_objects(model, record["sha256"], output, "1,3")
    assert back.tuned.keys() == {1}
    with h5py.File(output) as file:
        rendered = file["rgb"][:, 0]
        np.testing.assert_array_equal(file["fit_iterations"][:], 60)
    for place, number in enumerate((1, 3)):
        view = (cameras.matrices(16), cameras.cam_to_world, 16)
        again = render_views(model.tuned(back.tuned.get(place)), back.latents[[place]], *view)
        np.testing.assert_array_equal(again.rgb[0], rendered[number])
    plain = render_views(model, back.latents[[1]], cameras.matrices(16), cameras.cam_to_world, 16)
    assert np.abs(plain.rgb[0].astype(int) - rendered[3]).max() > 0, "the delta does something"


def test_photographs_are_judged_like_rows_of_the_table(model, cars, few, fitted, tuned):
    truth = cars / "truth.h5"
    ours = held_out_views_for_images(model.images, model.intrinsics, model.cam_to_world, model.size, truth)
    theirs = held_out_views(model, truth)
    for name in ("row", "rgb", "intrinsics", "cam_to_world", "scale"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name))
    held_out = held_out_views_for_images(few.images, few.intrinsics, fitted.cam_to_world, model.size, truth)
    plain = score_latents(model, fitted.latents, held_out)
    assert plain["psnr_db"] > score_latents(model, mean_code(model, 5), held_out)["psnr_db"]
    one_by_one = score_latents(model, fitted.latents, held_out, {99: tuned.deltas[0]})
    assert one_by_one["psnr_db"] == pytest.approx(plain["psnr_db"], rel=1e-5)
    assert score_latents(model, fitted.latents, held_out, tuned.deltas)["psnr_db"] != pytest.approx(
        plain["psnr_db"], rel=1e-5
    )


def test_photographs_have_names_that_tell_them_apart(tmp_path):
    for place in ("a/me.jpg", "b/me.jpg", "b/sub/me.jpg", "b/you.png"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(b"")
    first, folder = tmp_path / "a" / "me.jpg", tmp_path / "b"
    (only,), names = name_images([first])
    assert (only.path, names) == (first, ["me.jpg"])
    assert name_images([folder])[1] == ["me.jpg", "sub/me.jpg", "you.png"]
    files, names = name_images([first, folder, first])
    assert names == ["a/me.jpg", "b/me.jpg", "sub/me.jpg", "you.png", "a/me.jpg (2)"]
    assert [file.path.exists() for file in files] == [True] * 5
    with pytest.raises(InputError, match="does not exist"):
        name_images([tmp_path / "c"])


def test_fitting_is_refused_where_it_makes_no_sense(run, trained, tmp_path):
    done = run("render", trained, "--tune", "-o", tmp_path / "v.h5")
    assert (done.code, "--image" in done.err) == (2, True)
    assert not (tmp_path / "v.h5").exists()
