"""What views show behind objects: a colour, an image, or the background of another object."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import nerfgen
from nerfgen import RenderSettings, storage
from nerfgen.errors import InputError

MODEL = Path(__file__).parent / "data" / "model_planes.h5"
SIZE = 16


@pytest.fixture(scope="module")
def model():
    return nerfgen.load(MODEL)


def rendered(model, row, background=None):
    return model.render(model.objects(str(row)), rendering=RenderSettings(size=SIZE, background=background))


def composed(views, behind):
    return np.round(255 * (views.foreground + (1 - views.opacity[..., None]) * behind).clip(0, 1))


@pytest.mark.parametrize("word", ["#ff8000", "rgb(255, 128, 0)", "darkorange"])
def test_a_color_is_behind_the_object(model, word):
    own, over = rendered(model, 3), rendered(model, 3, word)
    color = np.array([255, 140 if word == "darkorange" else 128, 0]) / 255
    np.testing.assert_allclose(over.rgb, composed(own, color), atol=1)
    np.testing.assert_array_equal(over.rgba, own.rgba)
    np.testing.assert_array_equal(over.depth, own.depth)


def test_the_own_row_changes_only_rounding(model):
    np.testing.assert_allclose(rendered(model, 3, "3").rgb, rendered(model, 3).rgb, atol=1)


def test_backgrounds_are_swapped(model):
    """What the other object lets through from the same camera is seen behind this one."""
    cameras = model.objects("3").cameras
    seen = model.render(model.objects("5"), cameras, RenderSettings(size=SIZE))
    thin = seen.opacity < 0.5
    behind = (seen.rgb / 255 - seen.foreground)[thin] / (1 - seen.opacity[thin])[:, None]
    own, swapped = rendered(model, 3), rendered(model, 3, "5")
    wanted = own.foreground[thin] + (1 - own.opacity[thin])[:, None] * behind
    assert thin.sum() > 50
    np.testing.assert_allclose(swapped.rgb[thin], 255 * wanted, atol=2)
    assert (swapped.rgb[thin] != own.rgb[thin]).any()


def test_an_image_fills_the_view(model, tmp_path):
    """The middle square of a wide image, scaled to the view."""
    wide = np.zeros((SIZE, 3 * SIZE, 3), np.uint8)
    square = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), np.uint8)
    wide[:, SIZE : 2 * SIZE] = square
    path = tmp_path / "wide.png"
    Image.fromarray(wide).save(path)
    own, over = rendered(model, 3), rendered(model, 3, str(path))
    np.testing.assert_allclose(over.rgb, composed(own, square / 255), atol=1)


def test_words_that_name_nothing_are_refused(model, tmp_path):
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(b"\xff\xd8\xff no image")
    for word, told in [
        ("9" * 30, "rows are 0 to"),
        ("no-color", "no colour, no row and no file"),
        (str(tmp_path), "no colour"),
        (str(broken), "broken.jpg"),
    ]:
        with pytest.raises(InputError, match=told):
            rendered(model, 3, word)


def test_the_command_records_what_is_behind(run, tmp_path):
    image = tmp_path / "sky.png"
    Image.new("RGB", (8, 8), (10, 20, 200)).save(image)
    views = tmp_path / "views.h5"
    words = ["render", MODEL, "--rows", 1, "--yaw", 0, "--size", 8, "-o", views, "--background"]
    assert run(*words, image).code == 0
    with storage.reading(views, "views/1") as file:
        opacity, rgba = file["opacity"][0, 1] / 255, file["rgba"][0, 1][..., :3]
        wanted = opacity[..., None] * rgba + (1 - opacity[..., None]) * (10, 20, 200)
        np.testing.assert_allclose(file["rgb"][0, 1], wanted, atol=2)
    assert "kept" in run(*words, image).err
    other = run(*words, "red")
    assert other.code == 2
    assert "differs in parameter background: sky.png in the file, red now" in other.err
    Image.new("RGB", (8, 8), (200, 20, 10)).save(image)
    changed = run(*words, image)
    assert changed.code == 2
    assert "differs in input sky.png" in changed.err


def test_datasets_keep_their_own_backgrounds(run, tmp_path):
    done = run("sample", MODEL, "-n", 1, "--dataset", tmp_path / "set", "--background", "red")
    assert done.code == 2
    assert "--background" in done.err
