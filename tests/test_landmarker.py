"""Landmark estimators trained from annotations, on a class that is drawn here: badges with two eyes."""

from __future__ import annotations

import json
import signal
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image, ImageDraw

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import InputImage
from nerfgen.landmark import TrainedEstimator, load_estimator, similarity
from nerfgen.landmark.augmentation import Augmenter, draw_textures
from nerfgen.landmark.estimator_file import save_estimator
from nerfgen.landmark.network import Networks
from nerfgen.landmark.network_estimator import NetworkEstimator
from nerfgen.landmark.settings import EstimatorTraining
from nerfgen.landmark.training import train_estimator
from nerfgen.landmark.training_images import AnnotatedFolder, draw_held_out, gather_images, load_examples
from nerfgen.objectclass import object_class

CLASS = """
name = "badge"
landmarks = ["eye_left", "eye_right", "tip"]
symmetry = [["eye_left", "eye_right"]]
unit = ["eye_left", "eye_right"]

[groups]
eyes = ["eye_left", "eye_right"]
"""
# A badge: a yellow disc with a blue left eye, a red right eye and a green tip below; mirrored, it is no badge.
_POINTS = np.array([[-0.45, -0.2], [0.45, -0.2], [0.0, 0.75]])


def draw_badge(
    size: tuple[int, int], middle: np.ndarray, radius: float, turn: float, seed: int, *, coin: bool = False
) -> tuple[Image.Image, np.ndarray]:
    """A badge before clutter, or a coin, which is blue, and its landmarks."""
    random = np.random.default_rng(seed)
    picture = draw_textures(1, seed)[0].resize(size)
    rotation = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    points = middle + radius * _POINTS @ rotation.T
    draw = ImageDraw.Draw(picture)
    tint = random.integers(-30, 30)

    def disc(centre: np.ndarray, reach: float, color: tuple[int, int, int]) -> None:
        x, y = centre
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=color)

    disc(middle, radius, (60, 110 + tint, 220 + tint) if coin else (220 + tint, 190 + tint, 60))
    for point, color in zip(points, ((30, 30, 60), (60, 30, 30), (40, 120, 40)), strict=True):
        disc(point, radius * 0.2, color)
    return picture, points


def write_badges(folder: Path, count: int, *, seed: int = 0, side: int = 64, coin: bool = False) -> Path:
    """A folder of annotated badges: badges of one maker have names that begin alike."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    lines = ["image,eye_left_x,eye_left_y,eye_right_x,eye_right_y,tip_x,tip_y"]
    for index in range(count):
        middle = side / 2 + random.uniform(-4, 4, 2)
        picture, points = draw_badge(
            (side, side),
            middle,
            side * random.uniform(0.3, 0.4),
            random.normal() * 0.2,
            seed + index,
            coin=coin,
        )
        name = f"m{index // 2:03d}_{index % 2}.png"
        picture.save(folder / name)
        lines.append(",".join([name, *(f"{value:.3f}" for value in points.ravel())]))
    (folder / "badges.csv").write_text("\n".join(lines) + "\n")
    (folder / "badge.toml").write_text(CLASS)
    return folder


@pytest.fixture(scope="module")
def badges(tmp_path_factory) -> Path:
    """A folder of badges."""
    return write_badges(tmp_path_factory.mktemp("badges") / "images", 80)


@pytest.fixture(scope="module")
def trained(badges, run) -> tuple[Path, dict]:
    """An estimator trained by the program, and its result."""
    output = badges.parent / "badge.h5"
    done = run(
        "train-landmarker", badges, badges / "badges.csv", "--class", badges / "badge.toml", "-o", output,
        "--split-by", 4, "--steps", 120, "--batch", 8, "--picture", badges.parent / "held-out.png", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    return output, json.loads(done.out)


@pytest.mark.slow
def test_learns_far_beyond_the_mean_shape(trained, badges):
    """Errors of badges not trained on, against those of a mean shape in the middle of every image."""
    _, result = trained
    found = gather_images(
        [AnnotatedFolder(badges, badges / "badges.csv")], [object_class(badges / "badge.toml")]
    )
    mean = found.points.mean(axis=0)
    unit = np.linalg.norm(found.points[:, 0] - found.points[:, 1], axis=-1)
    baseline = 100 * (np.linalg.norm(found.points - mean, axis=-1) / unit[:, None]).mean()
    assert result["eyes_error_percent"] < baseline / 4
    assert result["error_percent"] < baseline / 4
    assert result["found_percent"] > 90
    assert (result["images"], result["held_out"]) == (80, 16)
    assert {"seconds", "steps", "tip_error_percent"} <= result.keys()


@pytest.mark.slow
def test_file_holds_weights_and_held_out_errors(trained, badges):
    output, result = trained
    with storage.reading(output, "landmarker/1") as file:
        assert storage.class_of(file).name == "badge"
        names = storage.strings(file["held_out_image"])
        errors = file["held_out_error"][:]
    assert 100 * np.nanmean(errors) == pytest.approx(result["error_percent"])
    # Images of one maker are held out together.
    makers = [name[:4] for name in names]
    assert all(makers.count(maker) == 2 for maker in makers)
    assert (badges.parent / "held-out.png").stat().st_size > 1000


@pytest.mark.slow
def test_finds_the_object_in_a_large_photograph_and_calls_noise_no_object(trained, run, tmp_path):
    output, _ = trained
    folder = tmp_path / "photos"
    folder.mkdir()
    truth = {}
    for name, size, radius, seed in (("small.png", (400, 300), 30, 901), ("fills.png", (80, 80), 34, 902)):
        middle = np.array(size) * (0.7, 0.4) if name == "small.png" else np.array(size) / 2
        picture, truth[name] = draw_badge(size, middle, radius, 0.1, seed)
        picture.save(folder / name)
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (200, 200, 3), np.uint8)).save(folder / "noise.png")
    Image.new("RGB", (150, 100), (90, 120, 90)).save(folder / "plain.png")
    (folder / "broken.png").write_bytes(b"no image")
    done = run(
        "landmark", folder, "--class", output.parent / "images" / "badge.toml", "--model", output,
        "--picture", tmp_path / "found.png", "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    assert np.asarray(Image.open(tmp_path / "found.png")).std() > 10
    with storage.reading(folder / "landmarks.h5", "landmarks/1") as file:
        rows = dict(
            zip(
                storage.strings(file["image"]),
                zip(storage.strings(file["status"]), file["landmarks"][:], strict=True),
                strict=True,
            )
        )
        assert storage.class_of(file).name == "badge"
        estimator = json.loads(file.attrs["parameters"])["estimator"]
    assert storage.file_digest(output)[1] in estimator
    assert {name: status for name, (status, _) in rows.items() if name not in truth} == {
        "noise.png": "no_object", "plain.png": "no_object", "broken.png": "unreadable",
    }  # fmt: skip
    for name, points in truth.items():
        status, estimated = rows[name]
        assert status.startswith("ok"), name
        assert np.linalg.norm(estimated - points, axis=-1).mean() < 0.15 * np.linalg.norm(
            points[0] - points[1]
        )


@pytest.mark.slow
def test_a_training_that_was_interrupted_goes_on_to_the_same_file(badges, tmp_path):
    sources = [AnnotatedFolder(badges, badges / "badges.csv")]
    classes = [object_class(badges / "badge.toml")]
    settings = EstimatorTraining(steps=24, batch=8, held_out=0.05)
    train_estimator(sources, tmp_path / "whole.h5", classes, settings)

    def interrupt(done: int, total: int, note: str = "") -> None:
        signal.raise_signal(signal.SIGINT)

    parts = tmp_path / "parts.h5"
    with pytest.raises(KeyboardInterrupt):
        train_estimator(sources, parts, classes, settings, progress=interrupt)
    assert not parts.exists()
    summary, _ = train_estimator(sources, parts, classes, settings, resume=True)
    assert summary["steps"] == 24
    assert parts.read_bytes() == (tmp_path / "whole.h5").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["parts.h5", "whole.h5"]
    kept, _ = train_estimator(sources, parts, classes, settings)
    assert kept["kept"]


@pytest.mark.slow
def test_a_model_serves_its_own_classes_only(trained, badges, run):
    output, _ = trained
    for arguments, message in (
        (("--class", "cat"), "has to be trained: give the file that `nerfgen train-landmarker"),
        (
            ("--class", "cat", "--model", output),
            "badge.h5 finds eye_left, eye_right, tip, but the landmarks of class cat",
        ),
        (("--class", "cat", "--model", badges / "none.h5"), "none.h5 does not exist"),
    ):
        done = run("landmark", badges, *arguments)
        assert done.code == 2
        assert message in done.err


def test_augmented_points_follow_the_pixels(badges):
    """The colour under each landmark is the part's own, in turned, scaled, shifted and mirrored windows alike."""
    described = object_class(badges / "badge.toml")
    found = gather_images([AnnotatedFolder(badges, badges / "badges.csv")], [described])
    shape = similarity.mean_shape(found.points)
    frames = similarity.fit(shape, found.points)
    examples, _ = load_examples(found.paths, found.points, found.labels, frames)
    augmenter = Augmenter(examples, described.mirrored, draw_textures(4, 0), mirror=True, batch=24, seed=3)
    colors = np.array([[30, 30, 60], [60, 30, 30], [40, 120, 40]])
    seen = []
    for windows in augmenter.batch(5):
        shown = windows.labels > 0
        assert shown.sum() >= 24
        assert np.isnan(windows.points[~shown]).all()
        size = windows.pixels.shape[1]
        for pixels, points in zip(windows.pixels[shown], windows.points[shown], strict=True):
            cells = np.floor(points * size).astype(int)
            for part in range(3):
                if (cells[part] >= 2).all() and (cells[part] < size - 2).all():
                    x, y = cells[part]
                    seen.append((part, pixels[y, x].astype(float)))
            # Of a mirrored badge the names are exchanged, so that the left eye is on the left all the same.
            assert points[0, 0] < points[1, 0]
    green = np.mean([np.abs(color - colors[2]).max() < 25 for part, color in seen if part == 2])
    dark = np.mean([color.max() < 100 for part, color in seen if part < 2])
    assert green > 0.95
    assert dark > 0.95
    red = [color[0] > color[2] for part, color in seen if part == 0]
    assert 0.2 < np.mean(red) < 0.8


def test_frames_are_similarities():
    random = np.random.default_rng(0)
    shape = similarity.mean_shape(random.normal(size=(1, 5, 2)))
    factor, offset = 3.0 * np.exp(0.7j), np.array([40.0, -7.0])
    turned = (shape[:, 0] + 1j * shape[:, 1]) * factor
    points = np.stack([turned.real, turned.imag], axis=-1) + offset
    frames = similarity.fit(shape, points)
    np.testing.assert_allclose(similarity.apply(frames, shape), points, atol=1e-9)
    assert similarity.window_size(frames) == pytest.approx(3.0)
    np.testing.assert_allclose(similarity.apply(similarity.inverse(frames), points), shape, atol=1e-9)
    points[1] = np.nan
    np.testing.assert_allclose(similarity.fit(shape, points), frames, atol=1e-9)


def test_groups_are_held_out_whole():
    groups = [f"g{index // 3}" for index in range(60)]
    chosen = draw_held_out(groups, 0.2, seed=1)
    assert chosen.sum() == 12
    assert all(len({bool(value) for value in chosen[start : start + 3]}) == 1 for start in range(0, 60, 3))
    assert (draw_held_out(groups, 0.2, seed=2) != chosen).any()
    with pytest.raises(InputError, match=r"raise `split_by`"):
        draw_held_out(["g"] * 9, 0.2, seed=0)


def test_what_is_left_out_is_said(badges, tmp_path):
    table = tmp_path / "badges.csv"
    lines = (badges / "badges.csv").read_text().splitlines()[:21]
    table.write_text("\n".join([*lines, "gone.png,1,2,3,4,5,6", "m035_0.png,1,2,,,,"]))
    found = gather_images([AnnotatedFolder(badges, table)], [object_class(badges / "badge.toml")])
    assert len(found.paths) == 20
    told = "\n".join(found.notes)
    assert "1 annotated images that are not in the folder skipped, such as gone.png" in told
    assert "1 images with fewer than two points skipped, such as m035_0.png" in told
    assert "59 images without an annotation skipped" in told


def test_labels_choose_among_classes(badges, tmp_path):
    """One table with a column of classes, of which one is asked for, and two."""
    lines = (badges / "badges.csv").read_text().splitlines()[:41]
    table = tmp_path / "both.csv"
    labels = ["class", *("badge" if index % 2 else "coin" for index in range(40))]
    table.write_text("\n".join(f"{line},{label}" for line, label in zip(lines, labels, strict=True)))
    (tmp_path / "coin.toml").write_text(CLASS.replace('"badge"', '"coin"'))
    badge, coin = object_class(badges / "badge.toml"), object_class(tmp_path / "coin.toml")
    source = AnnotatedFolder(badges, table)
    assert set(gather_images([source], [badge]).labels) == {1}
    assert len(gather_images([source], [badge]).paths) == 20
    assert np.bincount(gather_images([source], [coin, badge]).labels).tolist() == [0, 20, 20]
    with pytest.raises(InputError, match="names no classes"):
        gather_images([AnnotatedFolder(badges, badges / "badges.csv")], [badge, coin])


@pytest.mark.slow
def test_one_estimator_tells_two_classes_apart(badges, run, tmp_path):
    """Badges and coins have the same landmarks; what was trained on both takes for badges only badges."""
    coins = write_badges(tmp_path / "coins", 50, seed=500, coin=True)
    (tmp_path / "coin.toml").write_text(CLASS.replace('"badge"', '"coin"'))
    classes = {"badge": badges / "badge.toml", "coin": tmp_path / "coin.toml"}
    tables = []
    for folder, label in ((badges, "badge"), (coins, "coin")):
        lines = (folder / "badges.csv").read_text().splitlines()
        tables.append(tmp_path / f"{label}s.csv")
        tables[-1].write_text("\n".join([lines[0] + ",class", *(f"{line},{label}" for line in lines[1:])]))
    both = [word for path in classes.values() for word in ("--class", path)]
    output = tmp_path / "both.h5"
    done = run(
        "train-landmarker", badges, tables[0], coins, tables[1], *both, "-o", output,
        "--steps", 110, "--batch", 8, "--held-out", 0.05, "--json",
    )  # fmt: skip
    assert done.code == 0, done.err
    new = tmp_path / "new"
    new.mkdir()
    for index in range(10):
        coin = index >= 5
        draw_badge((64, 64), np.array([32.0, 32.0]), 24, 0.0, 900 + index, coin=coin)[0].save(
            new / f"{index}.png"
        )
    for label, path in classes.items():
        landmarks = tmp_path / f"{label}.h5"
        done = run("landmark", new, "--class", path, "--model", output, "-o", landmarks)
        assert done.code == 0, done.err
        with storage.reading(landmarks, "landmarks/1") as file:
            usable = storage.usable(storage.strings(file["status"]))
        own, others = (usable[:5], usable[5:]) if label == "badge" else (usable[5:], usable[:5])
        assert own.sum() >= 4, label
        assert others.sum() <= 1, label


@pytest.fixture
def untrained(tmp_path):
    """An estimator file with weights of 0, after a change of one of its parts."""
    shapes = jax.eval_shape(lambda: Networks(9, 1).initial(0))
    weights = jax.tree.map(lambda leaf: np.zeros(leaf.shape, np.float32), shapes)
    trained = TrainedEstimator(
        (object_class("cat"),), np.random.default_rng(0).uniform(size=(1, 9, 2)), weights
    )

    def write(**changed):
        path = tmp_path / "cats.h5"
        stage = storage.Stage(path, "landmarker/1", "cat")
        errors, scores = np.zeros((0, 9)), np.zeros(0)
        changed_estimator = replace(trained, **changed)
        save_estimator(
            stage, changed_estimator, held_out=[], errors=errors, scores=scores, summary={"steps": 1}
        )
        return path

    return write


def test_files_whose_parts_do_not_fit_are_refused(untrained):
    loaded = load_estimator(untrained())
    assert loaded.label_of(object_class("cat"), Path("cats.h5")) == 1
    weights = loaded.parameters
    poisoned = {**weights, "finder": {"Conv_0": {"kernel": np.full((3, 3, 3, 16), np.nan, np.float32)}}}
    for changed in (
        {"shapes": np.full((1, 9, 2), np.nan)},
        {"shapes": np.zeros((1, 9, 2))},
        {"threshold": np.nan},
        {"classes": (object_class("cat"),) * 2},
        {"parameters": {"finder": weights["finder"]}},
        {"parameters": poisoned},
    ):
        with pytest.raises(InputError, match=r"cats\.h5"):
            load_estimator(untrained(**changed))
    other = {**weights, "finder": weights["measurer"]}
    estimator = NetworkEstimator(object_class("cat"), untrained(parameters=other))
    with pytest.raises(InputError, match="its weights are not those of the networks"):
        estimator(InputImage(np.zeros((96, 96, 3), np.uint8)))
