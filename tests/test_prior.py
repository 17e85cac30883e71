"""Priors over latent codes: the mixture, new objects by it, typicality, and the command."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import h5py
import numpy as np
import pytest
from edited import edited
from scipy.stats import norm

import nerfgen
from nerfgen import SampleSettings, storage
from nerfgen.errors import InputError
from nerfgen.model import fit_mixture, load_model, new_objects
from nerfgen.model.mixture import Mixture, truncated_deviation


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def two_clusters(rng, rows=3000):
    """Two clusters of different width along the first of three axes."""
    second = rng.random(rows) < 0.3
    first = np.where(second, rng.normal(1.5, 0.2, rows), rng.normal(-0.6, 0.5, rows))
    return np.stack([first, rng.normal(size=rows), rng.normal(size=rows)], axis=1)


def test_the_density_is_that_of_a_mixture():
    mixture = Mixture(
        np.array([0.25, 0.75]), np.array([[0.0, 1], [2, -1]]), np.array([[1.0, 0.5], [0.3, 2]]), {}
    )
    point = np.array([[0.7, 0.2]])
    wanted = 0.25 * norm.pdf(0.7, 0, 1) * norm.pdf(0.2, 1, 0.5) + 0.75 * norm.pdf(0.7, 2, 0.3) * norm.pdf(
        0.2, -1, 2
    )
    np.testing.assert_allclose(mixture.log_likelihood(point), np.log(wanted), rtol=1e-12)


def test_clusters_are_found_and_one_gaussian_is_beaten(rng):
    mixture = fit_mixture(two_clusters(rng))
    fresh = two_clusters(np.random.default_rng(1))
    one = norm.logpdf(fresh, fresh.mean(0), fresh.std(0)).sum(1).mean()
    assert mixture.log_likelihood(fresh).mean() > one + 0.2
    assert mixture.held_out[2] > mixture.held_out[1]


def test_of_one_gaussian_little_more_than_that_is_found(rng):
    fresh = np.random.default_rng(1).normal(size=(2000, 5))
    mixture = fit_mixture(rng.normal(size=(2000, 5)))
    assert mixture.log_likelihood(fresh).mean() > norm.logpdf(fresh).sum(1).mean() - 0.1


def test_few_rows_are_one_gaussian(rng):
    mixture = fit_mixture(rng.normal(size=(5, 3)))
    assert len(mixture.weights) == 1
    assert np.isfinite(mixture.log_likelihood(np.zeros((1, 3)))).all()


@pytest.mark.parametrize("truncation", [0.3, 0.7, 2.0, 100.0])
def test_the_deviation_of_truncated_draws(truncation):
    from nerfgen.model import truncated_draws

    drawn = truncated_draws(200, 200, truncation, 0)
    np.testing.assert_allclose(drawn.std(), truncated_deviation(truncation), rtol=0.02)


def test_draws_have_the_distribution_and_extend_each_other(rng):
    mixture = fit_mixture(two_clusters(rng))
    drawn = mixture.draws(3000, 100.0, 5)
    np.testing.assert_array_equal(mixture.draws(7, 100.0, 5), drawn[:7])
    fresh = two_clusters(rng)
    np.testing.assert_allclose(drawn.mean(0), fresh.mean(0), atol=0.1)
    np.testing.assert_allclose(drawn.std(0), fresh.std(0), atol=0.1)
    for limit in (-0.6, 0.5, 1.5):
        np.testing.assert_allclose((drawn[:, 0] < limit).mean(), (fresh[:, 0] < limit).mean(), atol=0.05)
    assert not mixture.draws(3, 0.0, 5).any(), "without variation, the mean"
    assert mixture.draws(500, 0.5, 5).std() < 0.5 * drawn.std()


def test_new_objects_by_the_mixture_have_coordinates_of_it(model):
    sampling = SampleSettings(6, 0.7, seed=3, prior="mixture")
    objects = new_objects(model, sampling)
    wanted = model.mixture.draws(6, 0.7, 3)
    np.testing.assert_allclose(objects.extra["coefficients"][:, : wanted.shape[1]], wanted)
    np.testing.assert_allclose(
        model.principal.coefficients(objects.latents.astype(float))[:, : wanted.shape[1]], wanted, atol=1e-3
    )
    fewer = new_objects(model, replace(sampling, components=2))
    np.testing.assert_allclose(fewer.extra["coefficients"], wanted[:, :2])


def test_entries_of_codebooks_need_codebooks(model):
    with pytest.raises(InputError, match="not vector-quantised"):
        new_objects(model, SampleSettings(2, prior="codes"))


def test_the_library_and_the_command_draw_alike(run, trained, tmp_path):
    output = tmp_path / "samples.h5"
    words = ["sample", trained, "-n", 2, "--yaw", 0, "--size", 8, "--seed", 4, "-o", output]
    assert run(*words, "--prior", "mixture").code == 0
    with h5py.File(output) as file:
        found = file["latents"][:]
        assert json.loads(file.attrs["parameters"])["prior"] == "mixture"
    here = nerfgen.load(trained).sample(SampleSettings(2, seed=4, prior="mixture"))
    np.testing.assert_array_equal(found, here.astype(np.float32))
    again = run(*words)
    assert again.code == 2
    assert "differs in parameter prior" in again.err


def test_outliers_are_the_least_typical(run, trained, tmp_path):
    """Two rows far from all others, planted in the table."""
    path = tmp_path / "model.h5"
    planted, rng = (7, 23), np.random.default_rng(0)
    size = load_model(trained).config.latent_size

    shutil.copy(trained, path)
    with edited(path) as file:
        table = file["latents"][:]
        for row in planted:
            away = 4 * table[:, :size].std(0) * rng.choice([-1, 1], size)
            table[row, :size] = table[:, :size].mean(0) + away
        file["latents"][:] = table
    with h5py.File(path) as file:
        names = storage.strings(file["image"])
    done = run("info", path, "--typicality", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)["rows"]
    assert len(rows) == 40
    assert {rows[0]["row"], rows[1]["row"]} == set(planted)
    assert {rows[0]["image"], rows[1]["image"]} == {names[row] for row in planted}
    scores = [row["log_likelihood"] for row in rows]
    assert scores == sorted(scores)
    assert rows[0]["percentile"] == 0
    assert rows[-1]["percentile"] > 95
    listed = run("info", path, "--typicality").out.splitlines()
    assert rows[0]["image"] in listed[1]
    refused = run("info", path, "--typicality", "--command")
    assert refused.code == 2
