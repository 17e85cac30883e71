"""Vector-quantised latent codes: the codebooks, training with them, and what a model file holds."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerfgen.data import framed_pixels, load_framed
from nerfgen.errors import InputError
from nerfgen.inversion import fit_latents
from nerfgen.inversion.code_search import search_entries
from nerfgen.inversion.reconstruction import device_network
from nerfgen.model import dequantised, fit_code_prior, load_model, nearest_entries, perplexity, quantised
from nerfgen.render import render_views
from nerfgen.train import TrainingFiles, train
from nerfgen.train.quantisation import Codebook, initial_codebook, quantise, updated_codebook

GROUPS, SIZE = 4, 8


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture(scope="module")
def recipe(tiny):
    return tiny.with_values(latent="vq", codebook_groups=GROUPS, codebook_size=SIZE, steps=200)


@pytest.fixture(scope="module")
def output(cars, recipe, tmp_path_factory):
    """The model file of a run with a checkpoint at every report."""
    path = tmp_path_factory.mktemp("vq") / "model.h5"
    trained(cars, path, recipe, checkpoint_minutes=0, keep=1000)
    return path


def trained(cars, path, recipe, **options):
    truth = cars / "truth.h5"
    return train(TrainingFiles(cars, truth, truth, path), recipe, object_class="cars", **options)


@pytest.mark.parametrize("xp", [np, jnp])
def test_the_nearest_entries_are_found_group_by_group(rng, xp):
    codebook = rng.normal(size=(3, 5, 2)).astype(np.float32)
    latents = rng.normal(size=(20, 9)).astype(np.float32)
    found = np.asarray(nearest_entries(xp.asarray(codebook), xp.asarray(latents)))
    for row, code in enumerate(latents):
        for group in range(3):
            distances = ((codebook[group] - code[2 * group : 2 * group + 2]) ** 2).sum(-1)
            assert found[row, group] == distances.argmin()
    used = np.asarray(quantised(xp.asarray(codebook), xp.asarray(latents), xp.asarray(found)))
    np.testing.assert_array_equal(used[:, :6], dequantised(codebook, found))
    np.testing.assert_array_equal(used[:, 6:], latents[:, 6:])


def test_perplexity_is_the_number_of_entries_that_are_used_alike():
    np.testing.assert_allclose(perplexity(np.array([[1.0, 1, 1, 1], [2, 2, 2, 2]])), 4, rtol=1e-6)
    np.testing.assert_allclose(perplexity(np.array([[5.0, 0, 0, 0]])), 1, rtol=1e-6)
    np.testing.assert_allclose(perplexity(np.array([[3.0, 0, 3, 0]])), 2, rtol=1e-6)


def test_codes_are_continuous_first_and_entries_at_the_end(recipe, rng):
    codebook = Codebook(
        jnp.asarray(rng.normal(size=(GROUPS, SIZE, 2)), jnp.float32), jnp.ones((GROUPS, SIZE))
    )
    latents = jnp.asarray(rng.normal(size=(6, 8)), jnp.float32)
    first, last = (quantise(codebook, recipe, latents, jnp.float32(part)) for part in (0.0, 1.0))
    np.testing.assert_array_equal(first.latents, latents)
    nearest = quantised(codebook.entries, latents, nearest_entries(codebook.entries, latents))
    np.testing.assert_allclose(last.latents, nearest, atol=1e-6)
    # The pull is the gradient of the commitment loss.
    step = jnp.zeros_like(latents).at[2, 3].set(1e-2)
    ahead, behind = (quantise(codebook, recipe, latents + sign * step, jnp.float32(1)) for sign in (1, -1))
    numeric = recipe.lambda_commitment * (ahead.commitment - behind.commitment) / 2e-2
    np.testing.assert_allclose(last.pull[2, 3], numeric, rtol=2e-2)


def test_entries_find_the_clusters_of_codes(recipe, rng):
    """Codes in eight clusters: entries settle in their middles, from a codebook that has yet to begin."""
    centers = 3 * rng.normal(size=(GROUPS, SIZE, 2))
    codebook = initial_codebook(recipe)
    for number in range(400):
        which = rng.integers(0, SIZE, (64, GROUPS))
        codes = centers[np.arange(GROUPS)[None], which] + 0.05 * rng.normal(size=(64, GROUPS, 2))
        latents = jnp.asarray(codes.reshape(64, -1), jnp.float32)
        codebook = updated_codebook(codebook, recipe, latents, jax.random.key(number))
    nearest = np.linalg.norm(codebook.entries[:, :, None] - centers[:, None], axis=-1).min(axis=1)
    assert np.median(nearest) < 0.05
    assert perplexity(codebook.usage) > 0.6 * SIZE


def test_dead_entries_restart_at_codes_of_the_batch(recipe):
    entries = jnp.full((GROUPS, SIZE, 2), 100.0).at[:, 0].set(0.0)
    usage = jnp.full((GROUPS, SIZE), 1e-6).at[:, 0].set(8.0)
    latents = jnp.tile(jnp.array([0.1, -0.1, 0.2, -0.2, 0.3, -0.3, 0.4, -0.4]), (16, 1))
    after = updated_codebook(Codebook(entries, usage), recipe, latents, jax.random.key(0))
    np.testing.assert_array_equal(
        after.entries[:, 1:], np.tile(latents[0].reshape(GROUPS, 1, 2), (1, SIZE - 1, 1))
    )
    np.testing.assert_allclose(
        after.entries[:, 0], 0.01 * 16 / (0.99 * 8 + 0.16) * latents[0].reshape(GROUPS, 2), rtol=1e-4
    )


def test_a_model_has_codes_of_its_codebook_alone(output, model):
    found = load_model(output)
    whole = found.config.latent_size
    with h5py.File(output) as file:
        indices, codebook = file["code_indices"][:], file["codebook"][:]
        assert indices.dtype.kind in "iu"
        assert file["latents"].shape == (40, found.config.code_size - whole)
    assert codebook.shape == (GROUPS, SIZE, whole // GROUPS)
    np.testing.assert_array_equal(found.latents[:, :whole], dequantised(codebook, indices))
    np.testing.assert_array_equal(nearest_entries(codebook, found.latents), indices)
    assert len(np.unique(indices)) > SIZE // 2
    assert model.codebook is None


def test_it_learns_and_logs_perplexity(output):
    lines = [json.loads(line) for line in output.with_suffix(".log.jsonl").read_text().splitlines()]
    assert 1 < lines[-1]["perplexity"] <= SIZE
    assert lines[-1]["commitment"] >= 0
    assert lines[-1]["psnr_db"] > lines[0]["psnr_db"] + 3


@pytest.mark.slow
def test_an_interrupted_run_goes_on_to_the_same_model(output, cars, recipe, tmp_path):
    checkpoints = sorted(output.parent.glob("model.checkpoint-*.h5"))
    shutil.copy(checkpoints[1], tmp_path / checkpoints[1].name)
    trained(cars, tmp_path / "model.h5", recipe, resume=True)
    assert (tmp_path / "model.h5").read_bytes() == output.read_bytes()


def test_damaged_codes_are_refused(output, tmp_path):
    for name, change in {
        "range": lambda file: file["code_indices"].__setitem__((0, 0), SIZE),
        "lost": lambda file: file.__delitem__("codebook"),
        "both": lambda file: [file.__delitem__(each) for each in ("codebook", "code_indices")],
    }.items():
        path = tmp_path / f"{name}.h5"
        shutil.copy(output, path)
        with h5py.File(path, "r+") as file:
            change(file)
        with pytest.raises(InputError, match="code"):
            load_model(path)


def test_groups_divide_the_dimensions(tiny):
    with pytest.raises(InputError, match="codebook_groups"):
        replace(tiny, latent="vq", codebook_groups=3)


# --- the prior -------------------------------------------------------------------------------------------------


def chain(rng, rows):
    """Entries of three groups: the second and third depend on the first by known tables."""
    first = rng.choice(3, rows, p=[0.5, 0.3, 0.2])
    tables = np.array(
        [
            [[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.2, 0.2, 0.6]],
            [[0.1, 0.1, 0.8], [0.6, 0.2, 0.2], [0.1, 0.8, 0.1]],
        ]
    )
    others = [np.array([rng.choice(3, p=table[each]) for each in first]) for table in tables]
    return np.stack([first, *others], axis=1), tables


def test_the_prior_finds_which_entries_go_together(rng):
    indices, tables = chain(rng, 20_000)
    prior = fit_code_prior(indices, 3)
    assert prior.parent.tolist() == [-1, 0, 0]
    np.testing.assert_allclose(prior.first, [0.5, 0.3, 0.2], atol=0.02)
    np.testing.assert_allclose(prior.given[1:], tables, atol=0.03)
    np.testing.assert_allclose(prior.given[1:].sum(-1), 1, rtol=1e-9)
    by_hand = np.log(prior.first[indices[0, 0]]) + sum(
        np.log(prior.given[group, indices[0, 0], indices[0, group]]) for group in (1, 2)
    )
    np.testing.assert_allclose(prior.log_likelihood(indices[:1]), by_hand)


def test_independent_groups_stay_independent(rng):
    """Few rows of many entries: what looks like dependence is chance, and is left out."""
    indices = rng.integers(0, 16, (200, 4))
    prior = fit_code_prior(indices, 16)
    fresh = rng.integers(0, 16, (2000, 4))
    assert prior.log_likelihood(fresh).mean() > -4 * np.log(16) - 0.3


def test_draws_have_the_distribution_and_extend_each_other(rng):
    indices, _ = chain(rng, 5000)
    prior = fit_code_prior(indices, 3)
    drawn = prior.draw(3000, 1.0, 7)
    np.testing.assert_array_equal(prior.draw(10, 1.0, 7), drawn[:10])
    joint, wanted = (
        np.bincount(some[:, 0] * 3 + some[:, 2], minlength=9) / len(some) for some in (drawn, indices)
    )
    np.testing.assert_allclose(joint, wanted, atol=0.03)
    assert len(np.unique(prior.draw(20, 0.0, 7), axis=0)) == 1, "no temperature, no choice"
    colder = prior.draw(3000, 0.5, 7)
    assert prior.log_likelihood(colder).mean() > prior.log_likelihood(drawn).mean()


# --- fitting ---------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def fits(output, cars):
    """Twelve images fitted at entries, and with a residual."""
    found = load_model(output)
    truth = cars / "truth.h5"
    framed = load_framed(cars, truth, truth, found.size).subset(np.arange(12))
    at_entries, near = (fit_latents(found, framed, residual=residual, steps=60) for residual in (False, True))
    return found, framed, at_entries, near


@pytest.mark.slow
def test_fits_are_made_of_entries(fits):
    found, _, at_entries, near = fits
    whole = found.config.latent_size
    indices = nearest_entries(found.codebook, at_entries.latents)
    np.testing.assert_array_equal(at_entries.latents[:, :whole], dequantised(found.codebook, indices))
    assert not np.array_equal(near.latents[:, :whole], at_entries.latents[:, :whole])
    assert at_entries.converged.all()
    assert near.psnr.mean() > at_entries.psnr.mean()


@pytest.mark.slow
def test_the_search_finds_the_entries_that_an_image_was_rendered_with(fits):
    """Images of the model's own rows, and codes that are off by so much that other entries are nearest."""
    found, framed, _, _ = fits
    rows, whole = np.arange(12), found.config.latent_size
    latents = found.latents[rows]
    views = render_views(found, latents, framed.raster_intrinsics, framed.cam_to_world, found.size)
    opacity = np.round(255 * views.opacity).astype(np.uint8)
    pixels = framed_pixels(replace(framed, rgb=views.rgb, mask=opacity))
    off = latents.copy()
    spread = found.codebook.std(axis=1).reshape(-1)
    off[:, :whole] += 1.6 * spread * np.random.default_rng(0).normal(size=(12, whole))
    true, nearest = (nearest_entries(found.codebook, codes) for codes in (latents, off))
    searched = search_entries(
        found.config,
        found.recipe,
        device_network(found),
        jnp.asarray(found.codebook),
        jnp.asarray(off),
        jnp.asarray(framed.cam_to_world, jnp.float32),
        pixels,
        jax.random.key(0),
    )
    right = (np.asarray(searched) == true).mean()
    assert (nearest == true).mean() < 0.75
    assert right > (nearest == true).mean() + 0.1


@pytest.mark.slow
def test_a_residual_needs_entries(model, fits):
    with pytest.raises(InputError, match="`residual`"):
        fit_latents(model, fits[1], residual=True)
