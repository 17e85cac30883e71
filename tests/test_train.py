"""Training: losses against hand-made values, drawn pixels, recipes, determinism, divergence."""

from __future__ import annotations

import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerfgen import storage
from nerfgen.data import load_framed
from nerfgen.data.framing import order_pixels
from nerfgen.errors import InputError
from nerfgen.model import PRESETS, load_model
from nerfgen.train import DivergedError, TrainingFiles, train
from nerfgen.volume import RayColors
from nerfgen.volume.losses import hard_surface, training_losses


@pytest.fixture
def rng():
    return np.random.default_rng(2)


def test_hard_surface_prefers_zero_and_one():
    weights = jnp.linspace(0, 1, 101)
    cost = np.asarray(hard_surface(weights))
    # METHOD.md: -log(exp(-|w|) + exp(-|1 - w|)) plus a constant.
    written = -np.log(np.exp(-np.linspace(0, 1, 101)) + np.exp(np.linspace(0, 1, 101) - 1))
    np.testing.assert_allclose(cost - written, cost[0] - written[0], atol=1e-6)
    np.testing.assert_allclose(cost, cost[::-1], atol=1e-6)
    np.testing.assert_allclose(cost[[0, -1]], 0, atol=1e-7)
    assert np.argmax(cost) == 50
    assert cost[50] == pytest.approx(np.log((1 + np.exp(-1)) / (2 * np.exp(-0.5))), abs=1e-6)
    assert (np.diff(cost[:51]) > 0).all()


def test_hard_surface_pushes_weights_apart():
    slope = jax.vmap(jax.grad(hard_surface))(jnp.array([0.1, 0.4, 0.6, 0.9]))
    assert (np.asarray(slope[:2]) > 0).all()
    assert (np.asarray(slope[2:]) < 0).all()


def test_losses_are_the_written_ones(rng):
    weights = rng.uniform(0, 0.3, (4, 3))
    opacity, color = weights.sum(-1), rng.uniform(size=(4, 3))
    background, target, mask = rng.uniform(size=(4, 3)), rng.uniform(size=(4, 3)), rng.uniform(size=4)
    rays = RayColors(*map(jnp.asarray, (color, opacity, np.zeros(4), weights)))
    terms = training_losses(rays, jnp.asarray(background), jnp.asarray(target), jnp.asarray(mask))
    seen = color + (1 - opacity)[:, None] * background
    assert float(terms["rgb"]) == pytest.approx(((seen - target) ** 2).sum() / 4, rel=1e-5)
    assert float(terms["mask"]) == pytest.approx(((opacity - mask) ** 2).sum() / 4, rel=1e-5)
    hard = -np.log(np.exp(-weights) + np.exp(weights - 1)) + np.log(1 + np.exp(-1))
    assert float(terms["hard"]) == pytest.approx(hard.mean(), rel=1e-4)


@pytest.fixture
def blobs(rng):
    """Masks and valid areas of a few images; the last has no mask, the one before it is partly off the photo."""
    mask = np.zeros((4, 20, 20), np.uint8)
    mask[0, 5:12, 6:9], mask[1, 0:3, 0:3], mask[2] = 255, 255, 255
    valid = np.ones((4, 20, 20), bool)
    valid[2, :, 12:] = False
    return mask, valid


def test_pixels_are_ordered_object_first_and_off_the_photograph_last(blobs):
    mask, valid = blobs
    _, order, inside, there = order_pixels(np.repeat(mask[..., None], 3, -1), mask, valid)
    for image in range(4):
        assert sorted(order[image]) == list(range(400)), "every pixel once"
        rows, columns = np.divmod(order[image], 20)
        assert valid[image, rows[: there[image]], columns[: there[image]]].all()
        assert there[image] == valid[image].sum()
        masked = (mask[image] > 127) & valid[image]
        assert masked[rows[: inside[image]], columns[: inside[image]]].sum() == masked.sum()
        assert not masked[rows[inside[image] :], columns[inside[image] :]].any()
    # A little beyond the silhouette counts as inside: it is learned there.
    assert inside[0] == 9 * 5
    assert inside[3] == 0


def test_framed_photographs_join_cameras_and_masks_by_path(cars, tmp_path):
    """Cameras and masks in other orders and with other images give each photograph its own."""
    truth = cars / "truth.h5"
    expected = load_framed(cars, truth, truth, 24)
    with storage.reading(truth, "truth/1") as file:
        names, values = storage.strings(file["image"]), {name: file[name][:] for name in file}
    rng = np.random.default_rng(0)
    # Image 3 has no camera and image 5 no mask.
    camera_rows = [k for k in rng.permutation(len(names)) if k != 3]
    mask_rows = [k for k in rng.permutation(len(names)) if k != 5]
    status = ["unreadable" if row == 7 else "ok" for row in camera_rows]
    with storage.Stage(tmp_path / "cameras.h5", "cameras/1", "cars").create() as file:
        storage.put(file, "image", [names[row] for row in camera_rows])
        storage.put(file, "status", status)
        for name in ("image_size", "intrinsics", "cam_to_world", "window"):
            storage.put(file, name, values[name][camera_rows])
    with storage.Stage(tmp_path / "masks.h5", "masks/1", "cars").create() as file:
        storage.put(file, "image", [names[row] for row in mask_rows])
        storage.put(file, "status", ["ok"] * len(mask_rows))
        for name in ("image_size", "mask_window", "mask"):
            storage.put(file, name, values[name][mask_rows])
    found = load_framed(cars, tmp_path / "cameras.h5", tmp_path / "masks.h5", 24)
    assert sorted(found.images) == [name for k, name in enumerate(names) if k not in (3, 5, 7)]
    assert found.skipped == {"unreadable": 1, "no_mask": 1}
    at = storage.positions(found.images, expected.images)
    for name in ("rgb", "mask", "valid", "intrinsics", "cam_to_world", "window"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name)[at], err_msg=name)


def test_framed_masks_follow_the_car(cars):
    framed = load_framed(cars, cars / "truth.h5", cars / "truth.h5", 24)
    for rgb, mask in zip(framed.rgb, framed.mask, strict=True):
        assert (mask > 200).any()
        assert rgb[mask < 5].min() > 200, "the cars stand on white"


def test_no_usable_image_is_an_error(cars, tmp_path):
    with storage.Stage(tmp_path / "cameras.h5", "cameras/1", "cars").create() as file:
        for name, value in (("image", ["000000.png"]), ("status", ["no_object"]), ("image_size", [[32, 32]])):
            storage.put(file, name, value)
        storage.put(file, "intrinsics", np.full((1, 3, 3), np.nan))
        storage.put(file, "cam_to_world", np.full((1, 4, 4), np.nan))
        storage.put(file, "window", np.full((1, 3), np.nan))
    with pytest.raises(InputError, match=r"no image.*usable"):
        load_framed(cars, tmp_path / "cameras.h5", None, 24)


def test_preset_values_are_converted():
    preset = PRESETS["fast"].with_values(samples="24", learning_rate="1e-3", field="mlp", latent_size=7)
    assert (preset.samples, preset.learning_rate, preset.field, preset.latent_size) == (24, 1e-3, "mlp", 7)
    assert PRESETS["fast"].samples != 24


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"sample": "3"}, "sample'.*samples"),
        ({"samples": "many"}, "samples.*int.*many"),
        ({"field": "cube"}, "mlp.*planes"),
    ],
)
def test_wrong_preset_values_are_told(values, named):
    with pytest.raises(InputError, match=named):
        PRESETS["fast"].with_values(**values)


def files_in(cars, folder, name="model.h5"):
    return TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", folder / name)


def test_training_learns(trained):
    with storage.reading(trained, "model/1") as file:
        steps, log = file["log_step"][:], file["log_values"][:]
        assert steps[-1] == file.attrs["steps"] == 500
    loss, psnr_db = log[:, 0], log[:, -1]
    assert (np.diff(steps) > 0).all()
    assert np.isfinite(log).all()
    assert loss[-5:].mean() < 0.1 * loss[0]
    assert psnr_db[-5:].mean() > psnr_db[0] + 10


def test_same_seed_same_bytes_and_another_seed_another_model(cars, tiny, tmp_path):
    for name, seed in (("1.h5", 0), ("2.h5", 0), ("3.h5", 1)):
        train(files_in(cars, tmp_path, name), tiny.with_values(steps=30), object_class="cars", seed=seed)
    first, second, third = ((tmp_path / f"{k}.h5").read_bytes() for k in (1, 2, 3))
    assert first == second
    assert np.abs(load_model(tmp_path / "1.h5").latents - load_model(tmp_path / "3.h5").latents).max() > 0.01
    assert len(third) > 0
    assert str(tmp_path).encode() not in first
    assert str(cars).encode() not in first


@pytest.mark.slow
def test_known_cameras_are_refined_only_when_asked(cars, tiny, tmp_path):
    with storage.reading(cars / "truth.h5", "truth/1") as file:
        true = file["cam_to_world"][:]
    moving = tiny.with_values(steps=40, camera_learning_rate=1e-2, camera_start=0.0)
    train(files_in(cars, tmp_path), moving, object_class="cars")
    np.testing.assert_array_equal(load_model(tmp_path / "model.h5").cam_to_world, true)
    train(files_in(cars, tmp_path), moving, object_class="cars", refine_cameras=True, overwrite=True)
    moved = load_model(tmp_path / "model.h5").cam_to_world
    assert np.abs(moved - true).max() > 1e-3
    np.testing.assert_allclose(
        moved[:, :3, :3] @ np.swapaxes(moved[:, :3, :3], 1, 2), np.tile(np.eye(3), (40, 1, 1)), atol=1e-5
    )


def test_fixed_cameras_stay_to_the_bit(cars, model):
    with storage.reading(cars / "truth.h5", "truth/1") as file:
        at = storage.positions(model.images, storage.strings(file["image"]))
        np.testing.assert_array_equal(model.cam_to_world, file["cam_to_world"][:][at])


def test_divergence_is_an_error_that_leaves_nothing(cars, tiny, tmp_path):
    absurd = tiny.with_values(learning_rate=1e30, latent_learning_rate=1e30)
    with pytest.raises(DivergedError, match="diverged") as caught:
        train(files_in(cars, tmp_path), absurd, object_class="cars")
    assert caught.value.exit_code == 1
    assert {path.name for path in tmp_path.iterdir()} <= {"model.log.jsonl"}


def test_the_published_network_trains_too(cars, tiny, tmp_path):
    paper = tiny.with_values(
        field="mlp", sampler="stratified", frequencies=4, foreground_fraction=0.0, steps=40, depth=2
    )
    summary = train(files_in(cars, tmp_path), paper, object_class="cars")
    with storage.reading(tmp_path / "model.h5", "model/1") as file:
        log = file["log_values"][:]
    assert log[-1, 0] < log[0, 0]
    assert summary["steps"] == 40


def test_a_checkpoint_of_another_run_is_refused(cars, tiny, tmp_path):
    files = files_in(cars, tmp_path)
    train(files, tiny.with_values(steps=40), object_class="cars", keep=1, checkpoint_minutes=0.0)
    files.output.unlink()
    assert len(list(tmp_path.glob("model.checkpoint-*.h5"))) == 1
    with pytest.raises(InputError.__base__, match="checkpoint") as caught:
        train(files, tiny.with_values(steps=40), object_class="cars", seed=5, resume=True)
    assert caught.value.exit_code == 2
    assert not files.output.exists()


def test_a_changed_photograph_is_a_changed_input(cars, tiny, trained, tmp_path):
    copy = tmp_path / "cars"
    shutil.copytree(cars, copy)
    shutil.copy(trained, copy / "model.h5")
    files = TrainingFiles(copy, copy / "truth.h5", copy / "truth.h5", copy / "model.h5")
    assert train(files, tiny.with_values(steps=500), object_class="cars")["kept"]
    shutil.copy(copy / "000001.png", copy / "000002.png")
    with pytest.raises(InputError.__base__, match=r"differs in input \."):
        train(files, tiny.with_values(steps=500), object_class="cars")
