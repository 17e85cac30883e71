"""Landmark estimators of classes with different landmarks, hard negatives, and the search for objects."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import optax
import pytest
from PIL import Image
from test_landmarker import CLASS, draw_badge, write_badges

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import resample_window
from nerfgen.landmark import AnnotatedFolder, EstimatorTraining, similarity, train_estimator
from nerfgen.landmark.augmentation import Counts, Windows, window_counts
from nerfgen.landmark.estimator_file import load_estimator
from nerfgen.landmark.search import ReducedImage
from nerfgen.landmark.training import _losses
from nerfgen.landmark.training_images import gather_images
from nerfgen.landmark.union import LandmarkUnion
from nerfgen.objectclass import object_class

COIN = """
name = "coin"
landmarks = ["top", "eye_right", "eye_left"]
symmetry = [["eye_left", "eye_right"]]
unit = ["eye_left", "eye_right"]
"""
# Above the middle of a coin, in radii.
_TOP = np.array([0.0, -0.75])


def write_coins(folder: Path, count: int, call) -> Path:
    """A folder of coins with what `nerfgen import` writes of their landmarks: not those of badges."""
    folder.mkdir()
    random = np.random.default_rng(5)
    (folder / "coin.toml").write_text(COIN)
    lines = ["image,top_x,top_y,eye_left_x,eye_left_y,eye_right_x,eye_right_y"]
    for index in range(count):
        middle, radius, turn = 32 + random.uniform(-4, 4, 2), random.uniform(19, 25), 0.2 * random.normal()
        picture, (left, right, _) = draw_badge((64, 64), middle, radius, turn, 700 + index, coin=True)
        rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        points = np.stack([middle + radius * rotation @ _TOP, left, right])
        picture.save(folder / f"c{index:03d}.png")
        lines.append(",".join([f"c{index:03d}.png", *(f"{value:.3f}" for value in points.ravel())]))
    (folder / "coins.csv").write_text("\n".join(lines) + "\n")
    call("import", folder / "coins.csv", "--class", folder / "coin.toml", "-q")
    return folder


@pytest.fixture(scope="module")
def badges(tmp_path_factory):
    return write_badges(tmp_path_factory.mktemp("badges") / "images", 60)


@pytest.fixture(scope="module")
def coins(tmp_path_factory, call):
    return write_coins(tmp_path_factory.mktemp("coins") / "images", 60, call)


@pytest.fixture(scope="module")
def classes(badges, coins):
    return [object_class(badges / "badge.toml"), object_class(coins / "coin.toml")]


def test_landmarks_of_one_name_are_one(classes):
    union = LandmarkUnion.of(classes)
    assert union.names == ("eye_left", "eye_right", "tip", "top")
    assert [own.tolist() for own in union.places] == [[0, 1, 2], [3, 1, 0]]
    assert union.mirrored.tolist() == [1, 0, 2, 3]
    assert not union.is_shared
    assert LandmarkUnion.of(classes[:1] * 2).is_shared
    points = np.arange(6.0).reshape(1, 3, 2)
    spread = union.spread(2, points)
    np.testing.assert_array_equal(spread[0, [3, 1, 0]], points[0])
    assert np.isnan(spread[0, 2]).all()


def test_mirrors_have_to_agree(classes, tmp_path):
    other = tmp_path / "other.toml"
    other.write_text(COIN.replace('[["eye_left", "eye_right"]]', "[]").replace("coin", "other"))
    with pytest.raises(
        InputError, match="a mirror exchanges landmark eye_right with eye_right in class other"
    ):
        LandmarkUnion.of([classes[0], object_class(other)])


def test_frames_follow_the_landmarks_that_both_have():
    random = np.random.default_rng(0)
    shapes = random.uniform(size=(2, 5, 2))
    shapes[0, 3:], shapes[1, 0] = np.nan, np.nan
    factor, offset = 3 * np.exp(0.4j), np.array([7.0, -2.0])
    linear = np.array([[factor.real, -factor.imag], [factor.imag, factor.real]])
    points = np.where(np.isfinite(shapes), shapes @ linear.T + offset, 1e3)
    frames = similarity.fit(shapes, points)
    np.testing.assert_allclose(frames[..., :2], np.tile(linear, (2, 1, 1)), atol=1e-9)
    np.testing.assert_allclose(frames[..., 2], np.tile(offset, (2, 1)), atol=1e-9)


def test_annotations_of_several_classes_are_gathered(badges, coins, classes):
    sources = [AnnotatedFolder(badges, badges / "badges.csv"), AnnotatedFolder(coins, coins / "landmarks.h5")]
    found = gather_images(sources, classes)
    assert np.bincount(found.labels).tolist() == [0, 60, 60]
    missing = np.isnan(found.points).all(-1)
    np.testing.assert_array_equal(missing[found.labels == 1], np.tile([False, False, False, True], (60, 1)))
    np.testing.assert_array_equal(missing[found.labels == 2], np.tile([False, False, True, False], (60, 1)))
    with storage.reading(coins / "landmarks.h5", "landmarks/1") as file:
        top = file["landmarks"][:, storage.strings(file["landmark_names"]).index("top")]
    np.testing.assert_allclose(found.points[found.labels == 2][:, 3], top, atol=1e-4)


def test_files_without_landmarks_are_refused(badges, coins, classes, tmp_path):
    from edited import edited

    empty = tmp_path / "landmarks.h5"
    empty.write_bytes((coins / "landmarks.h5").read_bytes())
    with edited(empty) as file:
        file["status"][:] = "no_object"
    for file, words in ((empty, "no usable landmarks"), (coins / "none.h5", "does not exist")):
        with pytest.raises(InputError, match=words):
            gather_images([AnnotatedFolder(coins, file)], classes[1:])


def test_the_hardest_windows_without_an_object_count():
    random = np.random.default_rng(1)
    logits = random.normal(size=(9, 3)).astype(np.float32)
    labels = np.array([1, 2, 1, 0, 0, 0, 0, 0, 0], np.int32)
    heatmaps = jnp.zeros((9, 4, 4, 2))
    windows = Windows(np.zeros((9, 8, 8, 3), np.uint8), np.full((9, 2, 2), np.nan, np.float32), labels)
    each = optax.softmax_cross_entropy_with_integer_labels(jnp.asarray(logits), labels)
    for kept in (2, 6):
        found, _ = _losses((jnp.asarray(logits), heatmaps), windows, Counts(3, kept))
        expected = np.concatenate([each[:3], np.sort(each[3:])[::-1][:kept]]).mean()
        np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert window_counts(24) == (Counts(32, 32), Counts(24, 8))


def test_a_reduced_image_shows_the_same_windows():
    random = np.random.default_rng(2)
    small = Image.fromarray(random.integers(0, 256, (12, 16, 3)).astype(np.uint8))
    pixels = np.asarray(small.resize((640, 480), Image.Resampling.BICUBIC))
    image = ReducedImage(pixels)
    assert image.shape == (480, 640)
    for window in ((-50.0, 20.0, 500.0), (100.0, 60.0, 300.0), (10.0, 10.0, 40.0)):
        whole, _ = resample_window(pixels, window, 48)
        np.testing.assert_allclose(
            image.window(np.array(window), 48).astype(float), whole.astype(float), atol=6
        )
    np.testing.assert_array_equal(
        image.rotated(1).window(np.array([0.0, 0.0, 480.0]), 480), np.rot90(pixels)[:480]
    )


@pytest.mark.slow
def test_one_estimator_of_two_classes_with_different_landmarks(badges, coins, run, tmp_path):
    output = tmp_path / "both.h5"
    done = run(
        "train-landmarker", badges, badges / "badges.csv", coins, coins / "landmarks.h5",
        "--class", badges / "badge.toml", "--class", coins / "coin.toml", "-o", output,
        "--steps", 150, "--batch", 8, "--held-out", 0.1, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    found = json.loads(done.out)
    assert set(found["classes"]) == {"badge", "coin"}
    assert found["class_percent"] > 80
    assert all(each["error_percent"] < 12 for each in found["classes"].values())
    assert "top_error_percent" in found["classes"]["coin"]
    assert "top_error_percent" not in found["classes"]["badge"]
    assert load_estimator(output).shapes.shape == (2, 4, 2)
    new = tmp_path / "new"
    new.mkdir()
    for index in range(10):
        picture, _ = draw_badge((64, 64), np.array([32.0, 32.0]), 23, 0.0, 950 + index, coin=index >= 5)
        picture.save(new / f"{index}.png")
    for label, file in (("badge", badges / "badge.toml"), ("coin", coins / "coin.toml")):
        landmarks = tmp_path / f"{label}.h5"
        assert run("landmark", new, "--class", file, "--model", output, "-o", landmarks).code == 0
        with storage.reading(landmarks, "landmarks/1") as opened:
            usable = storage.usable(storage.strings(opened["status"]))
            names, points = storage.strings(opened["landmark_names"]), opened["landmarks"][:]
        own = np.arange(10) < 5 if label == "badge" else np.arange(10) >= 5
        assert usable[own].sum() >= 4, label
        assert usable[~own].sum() <= 1, label
        assert names == list(object_class(file).landmark_names)
        third, offset = ("tip", 0.75) if label == "badge" else ("top", -0.75)
        expected = np.array([32.0, 32 + 23 * offset])
        apart = np.linalg.norm(points[usable & own][:, names.index(third)] - expected, axis=-1)
        assert np.median(apart) < 4


@pytest.mark.slow
def test_a_training_with_hard_negatives_goes_on_to_the_same_file(badges, classes, tmp_path):
    sources = [AnnotatedFolder(badges, badges / "badges.csv")]
    settings = EstimatorTraining(steps=24, batch=8, held_out=0.05, hard_negatives=3)
    train_estimator(sources, tmp_path / "whole.h5", classes[:1], settings)

    def interrupt(done: int, total: int, note: str = "") -> None:
        signal.raise_signal(signal.SIGINT)

    parts = tmp_path / "parts.h5"
    with pytest.raises(KeyboardInterrupt):
        train_estimator(sources, parts, classes[:1], settings, progress=interrupt)
    train_estimator(sources, parts, classes[:1], settings, resume=True)
    assert parts.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    with storage.reading(parts, "landmarker/1") as file:
        assert json.loads(file.attrs["parameters"])["hard_negatives"] == 3
    assert CLASS.splitlines()[1] in load_estimator(parts).classes[0].text
