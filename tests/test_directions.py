"""Directions with a name in the space of latent codes: learning, taking out others, walks, and the commands."""

from __future__ import annotations

import csv
import json
import shutil

import h5py
import numpy as np
import pytest

from nerfgen.errors import InputError
from nerfgen.model import (
    Direction,
    Labels,
    learn_direction,
    load_direction,
    load_model,
    principal_axes,
    read_labels,
    walk_direction,
)
from nerfgen.storage import file_digest


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def table(rng):
    """A table of 400 codes of five dimensions, and its Gaussian."""
    latents = rng.normal(size=(400, 5)) * [3, 2, 1, 0.5, 0.2]
    return latents, principal_axes(latents)


def numbers(values, rows=None, words=()):
    rows = np.arange(len(values)) if rows is None else rows
    return Labels(rows, np.asarray(values, float), words, "label", 0)


def test_a_number_that_depends_on_the_code_is_found(table, rng):
    latents, principal = table
    coordinates = principal.coefficients(latents)
    true = np.array([0.6, 0, -0.8, 0, 0])
    labels = numbers(7 + 2 * coordinates @ true + rng.normal(0, 0.5, 400))
    found = learn_direction(principal, latents, labels, "label")
    assert found.vector @ true > 0.98
    np.testing.assert_allclose(found.slope, 2, rtol=0.05)
    np.testing.assert_allclose(found.score, 4 / (4 + 0.25), atol=0.03)
    np.testing.assert_allclose(found.boundary, 0, atol=0.1)


def test_two_words_are_told_apart(table, rng):
    latents, principal = table
    coordinates = principal.coefficients(latents)
    true = np.array([0, 1.0, 0, 0, 0])
    odds = 3 * (coordinates @ true - 0.5)
    second = rng.random(400) < 1 / (1 + np.exp(-odds))
    found = learn_direction(principal, latents, numbers(second, words=("no", "yes")), "label")
    assert found.vector @ true > 0.97
    np.testing.assert_allclose(found.boundary, 0.5, atol=0.25)
    assert found.score > 0.85
    flipped = learn_direction(principal, latents, numbers(~second, words=("a", "b")), "label")
    np.testing.assert_allclose(flipped.vector, -found.vector, atol=1e-3)


def test_labels_that_mean_nothing_score_nothing(table, rng):
    latents, principal = table
    assert learn_direction(principal, latents, numbers(rng.normal(size=400)), "noise").score < 0.05
    words = numbers(rng.random(400) < 0.5, words=("a", "b"))
    assert abs(learn_direction(principal, latents, words, "noise").score - 0.5) < 0.1


def test_a_handful_of_examples_is_a_beginning(table, rng):
    """Five of each word, far apart."""
    latents, principal = table
    along = principal.coefficients(latents)[:, 0]
    order = np.argsort(along)
    rows = np.sort(np.concatenate([order[:5], order[-5:]]))
    labels = numbers(along[rows] > 0, rows, ("low", "high"))
    found = learn_direction(principal, latents, labels, "label")
    assert found.vector[0] > 0.8
    assert found.score == 1


def test_what_is_orthogonal_leaves_the_other_label(table, rng):
    latents, principal = table
    coordinates = principal.coefficients(latents)
    first, second = np.array([1.0, 0, 0, 0, 0]), np.array([0.8, 0.6, 0, 0, 0])
    one = learn_direction(principal, latents, numbers(coordinates @ first), "one")
    two = learn_direction(principal, latents, numbers(coordinates @ second), "two")
    apart = two.without([one])
    assert abs(apart.vector @ one.vector) < 1e-9
    np.testing.assert_allclose(np.linalg.norm(apart.vector), 1)
    assert apart.vector[1] > 0.99
    np.testing.assert_allclose(apart.slope, 0.6, rtol=0.02)
    walked = walk_direction(principal, apart, np.array([-2.0, 0, 2]))
    along = principal.coefficients(walked.latents) @ np.stack([one.vector, apart.vector], axis=1)
    np.testing.assert_allclose(along, [[0, -2], [0, 0], [0, 2]], atol=1e-6)
    with pytest.raises(InputError, match="combination of one"):
        one.without([one])


def test_a_walk_sets_the_coordinate_and_leaves_the_rest(model):
    vector = np.zeros(model.principal.varying)
    vector[[0, 2]] = 0.6, 0.8
    direction = Direction("label", vector, (), 0.0, 1.0, 1.0, 40)
    from nerfgen.model import table_objects

    start = table_objects(model, [5])
    walked = walk_direction(model.principal, direction, np.array([-1.0, 2.0]), start)
    before, after = (
        model.principal.coefficients(some.astype(float)) for some in (start.latents, walked.latents)
    )
    along = after[:, : len(vector)] @ vector
    np.testing.assert_allclose(along, [-1, 2], atol=1e-4)
    rest = after[:, : len(vector)] - along[:, None] * vector
    known = before[0, : len(vector)]
    np.testing.assert_allclose(rest, np.tile(known - known @ vector * vector, (2, 1)), atol=1e-4)


# --- the files -------------------------------------------------------------------------------------------------


def write(path, rows, header=("image", "value")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerows([header, *rows])
    return path


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("", "the first line names the columns"),
        ("name,value\na.png,1\n", "the first line names the columns"),
        ("image,value\nx.png,1\n", "none of its images is a row"),
        ("image,value\na.png,1,2\n", "line 2: 3 cells"),
        ("image,value\na.png,1\na.png,2\n", "line 3: 'a.png' is listed twice"),
        ("image,value\na.png,1\nb.png,one\nc.png,two\n", "two words, not 3"),
        ("image,value\na.png,1\nb.png,nan\n", "finite"),
        ("image,value\na.png,1\nb.png,1\n", "all labels are 1"),
        ("image,value\na.png,yes\nb.png,yes\n", "two words, not 1"),
        ("image,age,smile\na.png,1,2\nb.png,2,3\n", "choose one"),
    ],
)
def test_tables_that_say_nothing_are_refused(tmp_path, text, told):
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError, match=told):
        read_labels(path, ["a.png", "b.png", "c.png"])


def test_rows_without_labels_and_labels_without_rows(tmp_path):
    path = write(
        tmp_path / "l.csv", [("b.png", "2"), ("", "3"), ("c.png", ""), ("z.png", "1"), ("a.png", "4")]
    )
    found = read_labels(path, ["a.png", "b.png", "c.png"])
    assert found.rows.tolist() == [0, 1]
    assert found.values.tolist() == [4, 2]
    assert found.unknown == 2


@pytest.fixture
def here(trained, tmp_path):
    """A folder with a model, and labels of it: the first coordinate, and whether the second is positive."""
    shutil.copy(trained, tmp_path / "model.h5")
    model = load_model(trained)
    coordinates = model.principal.coefficients(model.latents)
    rows = [
        (image, f"{some[0]:.6f}", "big" if some[1] + some[0] > 0 else "small")
        for image, some in zip(model.images, coordinates, strict=True)
    ]
    write(tmp_path / "labels.csv", rows, ("image", "width", "size"))
    return tmp_path


def test_the_command_learns_and_another_walks(run, here):
    model = here / "model.h5"
    done = run("directions", model, here / "labels.csv", "--column", "width", "--json")
    assert done.code == 0, done.err
    summary = json.loads(done.out)
    assert summary["name"] == "width"
    assert summary["score"] > 0.9
    found = load_direction(here / "width.direction.h5", file_digest(model)[1])
    assert abs(found.vector[0]) > 0.95
    assert "kept" in run("directions", model, here / "labels.csv", "--column", "width").err
    second = run("directions", model, here / "labels.csv", "--column", "size", "--orthogonal-to", "width")
    assert second.code == 0, second.err
    other = load_direction(here / "size.direction.h5", file_digest(model)[1])
    assert abs(other.vector @ found.vector) < 1e-9
    assert other.words == ("big", "small")
    assert other.orthogonal_to == ("width",)
    words = ["sample", model, 3, "--direction", "width", "--range", "-2:2", "--frames", 3, "--size", 8]
    walked = run(*words, "-o", here / "walk.h5")
    assert walked.code == 0, walked.err
    with h5py.File(here / "walk.h5") as file:
        along = file["coefficients"][:][:, : len(found.vector)] @ found.vector
    np.testing.assert_allclose(along, [-2, 0, 2], atol=1e-5)


def test_names_that_are_nothing_and_directions_of_other_models(run, here):
    model = here / "model.h5"
    missing = run("sample", model, "--direction", "smile", "-o", here / "x.h5")
    assert missing.code == 2
    assert "nerfgen directions" in missing.err
    assert run("directions", model, here / "labels.csv", "--column", "width", "-q").code == 0
    missing = run("sample", model, "--direction", "smile", "-o", here / "x.h5")
    assert "known are width" in missing.err
    for name in ("3", "a/b", "a,b"):
        assert run("directions", model, here / "labels.csv", "--column", "width", "--name", name).code == 2
    assert run("sample", model, "--direction", "0", "-o", here / "x.h5").code == 2
    other = here / "other"
    other.mkdir()
    shutil.copy(here / "width.direction.h5", other)
    from pathlib import Path

    shutil.copy(Path(__file__).parent / "data" / "model_planes.h5", other / "model.h5")
    wrong = run("sample", other / "model.h5", "--direction", "width", "-o", other / "x.h5")
    assert wrong.code == 2
    assert "another model" in wrong.err


@pytest.mark.slow
def test_few_labels_are_warned_of(run, here):
    rows = list(csv.reader((here / "labels.csv").read_text().splitlines()))
    some = write(here / "few.csv", [(row[0], row[1]) for row in rows[1:9]])
    done = run("directions", here / "model.h5", some)
    assert done.code == 0
    assert "8 labels are few" in done.err
    assert (here / "few.direction.h5").exists()
