"""Foreground masks: segmenters, whole folders, masks back in their photographs, the command."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerfgen import artifact
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.mask import Choice, Scene, Segmenter, Settings, mask_in_photo, segment_folder, write_photo_masks
from nerfgen.objectclass import object_class
from nerfgen.photo import Photograph, decode, decode_alpha

ROOT = Path(__file__).parents[1]
FACES = Path(os.environ.get("NERFGEN_DATA", ROOT / "../shared/data")) / "faces"
needs_faces = pytest.mark.skipif(
    not FACES.is_dir(), reason=f"no photographs of faces in {FACES} (NERFGEN_DATA)"
)

WIDTH, HEIGHT = 90, 60
WINDOW = (20.0, -5.0, 60.0)


def disc(height: int = HEIGHT, width: int = WIDTH, radius: float = 15.0) -> np.ndarray:
    """A disc around (48, 28) as a mask of the photograph."""
    y, x = np.mgrid[:height, :width] + 0.5
    return (np.hypot(x - 48, y - 28) < radius).astype(np.uint8) * 255


def segmenter(method: str) -> Segmenter:
    return Choice(method, Settings(), object_class("face")).make()


def cutout(path: Path, alpha: np.ndarray) -> None:
    color = np.full((*alpha.shape, 3), (200, 120, 60), np.uint8)
    Image.fromarray(np.dstack([color, alpha])).save(path)


def write_cameras(
    path: Path, images: list[str], windows: list[tuple[float, ...]], statuses: list[str] | None = None
) -> Path:
    count = len(images)
    with artifact.create(path, "cameras/1", object_class="face", parameters={}, inputs=[]) as file:
        artifact.put(file, "image", images)
        artifact.put(file, "status", statuses or ["ok"] * count)
        artifact.put(file, "image_size", np.tile((WIDTH, HEIGHT), (count, 1)))
        artifact.put(file, "intrinsics", np.tile(np.eye(3), (count, 1, 1)))
        artifact.put(file, "cam_to_world", np.tile(np.eye(4), (count, 1, 1)))
        artifact.put(file, "window", windows)
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A cut-out, a photograph without transparency, an empty cut-out, a damaged file, an unusable one."""
    data = tmp_path / "photos"
    (data / "more").mkdir(parents=True)
    cutout(data / "more" / "a.png", disc())
    Image.fromarray(np.full((HEIGHT, WIDTH, 3), 90, np.uint8)).save(data / "b.png")
    cutout(data / "c.png", np.zeros((HEIGHT, WIDTH), np.uint8))
    (data / "d.png").write_bytes(b"damaged")
    cutout(data / "e.png", disc())
    images = ["b.png", "c.png", "d.png", "e.png", "more/a.png"]
    nowhere = (np.nan,) * 3
    windows = [WINDOW, WINDOW, WINDOW, nowhere, WINDOW]
    write_cameras(data / "cameras.h5", images, windows, ["ok", "ok", "ok", "no_object", "ok_largest"])
    return data


def overlap(mask: np.ndarray, expected: np.ndarray) -> float:
    """Intersection over union."""
    found, wanted = mask > 127, expected > 127
    return float((found & wanted).sum() / (found | wanted).sum())


@pytest.mark.parametrize("size", [30, 60, 200])
def test_alpha_in_its_window(size: int, tmp_path: Path) -> None:
    cutout(tmp_path / "a.png", disc())
    segmentation = segmenter("alpha")(Scene(Photograph(tmp_path / "a.png"), WINDOW, size))
    assert segmentation.status == "ok"
    v, u = (np.mgrid[:size, :size] + 0.5) * WINDOW[2] / size
    expected = (np.hypot(u + WINDOW[0] - 48, v + WINDOW[1] - 28) < 15) * 255
    assert overlap(segmentation.mask, expected) > 0.9


def test_beyond_the_photograph_nothing_is_foreground(tmp_path: Path) -> None:
    cutout(tmp_path / "a.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    mask = segmenter("alpha")(Scene(Photograph(tmp_path / "a.png"), (-30.0, -30.0, 120.0), 120)).mask
    expected = np.zeros((120, 120), np.uint8)
    expected[30:90, 30:] = 255
    assert (mask == expected).all()


@pytest.mark.parametrize("window", [WINDOW, (0.0, 0.0, 60.0), (31.3, 10.9, 33.3), (-100.0, -100.0, 300.0)])
@pytest.mark.parametrize("size", [32, 256])
def test_a_mask_returns_to_its_place(window: tuple[float, ...], size: int) -> None:
    v, u = (np.mgrid[:size, :size] + 0.5) * window[2] / size
    mask = ((np.hypot(u + window[0] - 48, v + window[1] - 28) < 15) * 255).astype(np.uint8)
    whole = mask_in_photo(mask, window, (WIDTH, HEIGHT))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = (abs(x - window[0] - window[2] / 2) < window[2] / 2) & (
        abs(y - window[1] - window[2] / 2) < window[2] / 2
    )
    blurred = 2 * window[2] / size > 5  # a mask pixel is several photograph's pixels
    assert overlap(whole, disc() * inside) > (0.75 if blurred else 0.9)
    assert (whole[~inside] <= 127).all()


def test_a_window_beside_the_photograph() -> None:
    assert not mask_in_photo(np.full((8, 8), 255, np.uint8), (500.0, 0.0, 20.0), (WIDTH, HEIGHT)).any()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_of_cutouts(folder: Path, workers: int) -> None:
    output = folder / "masks.h5"
    summary = segment_folder(folder, output, method="alpha", size=64, workers=workers)
    statuses = {"no_alpha": 1, "no_mask": 1, "ok": 1, "skipped": 1, "unreadable": 1}
    assert summary == {
        "images": 5,
        "masked": 1,
        "masked_fraction": 0.2,
        "statuses": statuses,
        "methods": {"alpha": 1},
        "kept": False,
    }
    with artifact.reading(output, "masks/1") as file:
        assert artifact.strings(file["image"]) == ["b.png", "c.png", "d.png", "e.png", "more/a.png"]
        assert artifact.strings(file["status"]) == ["no_alpha", "no_mask", "unreadable", "skipped", "ok"]
        assert file["mask"].shape == (5, 64, 64)
        assert not file["mask"][:4].any()
        assert np.isnan(file["mask_window"][:4]).all()
        assert tuple(file["mask_window"][4]) == WINDOW
        assert [entry["file"] for entry in json.loads(file.attrs["inputs"])] == ["cameras.h5", "."]
        placed = mask_in_photo(file["mask"][4], file["mask_window"][4], (WIDTH, HEIGHT))
    assert overlap(placed, disc()) > 0.9


def test_output_is_kept_until_something_changes(folder: Path) -> None:
    output = folder / "masks.h5"
    first = segment_folder(folder, output, method="alpha", size=32, workers=1)
    assert segment_folder(folder, output, method="alpha", size=32) == {**first, "kept": True}
    with pytest.raises(OutputExistsError, match="size"):
        segment_folder(folder, output, method="alpha", size=64)
    cutout(folder / "b.png", disc())
    with pytest.raises(OutputExistsError, match="overwrite"):
        segment_folder(folder, output, method="alpha", size=32)
    assert segment_folder(folder, output, method="alpha", size=32, overwrite=True)["masked"] == 2


def test_masks_of_the_photographs_size(folder: Path, tmp_path: Path) -> None:
    segment_folder(folder, folder / "masks.h5", method="alpha", size=64, workers=1)
    assert write_photo_masks(folder / "masks.h5", tmp_path / "png", workers=1) == 1
    assert [path.name for path in (tmp_path / "png").rglob("*.png")] == ["a.png.png"]
    assert overlap(decode(tmp_path / "png" / "more" / "a.png.png")[..., 0], disc()) > 0.9


def test_unusable_input(folder: Path) -> None:
    with pytest.raises(InputError, match="no segmentation method magic"):
        segment_folder(folder, folder / "masks.h5", method="magic")
    with pytest.raises(InputError, match="fit-cameras"):
        segment_folder(folder, folder / "masks.h5", cameras=folder / "absent.h5")


@pytest.mark.mediapipe
def test_automatic_choice(tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    segment = segmenter("auto")
    cutout(tmp_path / "a.png", disc())
    found = segment(Scene(Photograph(tmp_path / "a.png"), (18.0, 0.0, 60.0), 60))
    assert (found.mask == disc()[:, 18:78]).all()
    # An alpha channel that says nothing is no mask.
    cutout(tmp_path / "b.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert decode_alpha(tmp_path / "b.png") is not None
    assert (segment(Scene(Photograph(tmp_path / "b.png"), (0.0, 0.0, 60.0), 60)).mask > 127).mean() < 0.9


@pytest.fixture
def portraits(tmp_path: Path) -> Path:
    """Two portraits in larger, bright photographs, with windows around them."""
    data = tmp_path / "portraits"
    data.mkdir()
    for name, place in (("f00000.jpg", (0, 0)), ("f00001.jpg", (300, 200))):
        photo = np.full((400, 500, 3), 235, np.uint8)
        photo[place[1] : place[1] + 128, place[0] : place[0] + 128] = decode(FACES / name)
        Image.fromarray(photo).save(data / f"{name}.png")
    write_cameras(
        data / "cameras.h5",
        ["f00000.jpg.png", "f00001.jpg.png"],
        [(-6.0, -6.0, 140.0), (296.0, 194.0, 140.0)],
    )
    return data


@needs_faces
@pytest.mark.mediapipe
def test_persons(portraits: Path) -> None:
    pytest.importorskip("mediapipe")
    summary = segment_folder(portraits, portraits / "masks.h5", method="selfie", size=140)
    assert summary["statuses"] == {"ok": 2}
    with artifact.reading(portraits / "masks.h5", "masks/1") as file:
        for mask in file["mask"][:]:
            assert (mask[45:110, 45:95] > 127).mean() > 0.98  # the face
            assert 0.25 < (mask > 127).mean() < 0.85
        # The first window's first rows and columns are no part of the photograph.
        assert not file["mask"][0, :6].any()
        assert not file["mask"][0, :, :6].any()


@needs_faces
@pytest.mark.mediapipe
def test_command(portraits: Path, tmp_path: Path) -> None:
    pytest.importorskip("mediapipe")
    output = tmp_path / "masks.h5"

    def nerfgen(*arguments: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "nerfgen", "segment", *map(str, arguments)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(
            command, capture_output=True, text=True, check=False, env=environment, timeout=120
        )

    picture = tmp_path / "sheet.png"
    done = nerfgen(portraits, "-o", output, "--size", 64, "--png", tmp_path / "png", "--picture", picture)
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"2 images, 2 with a mask (100.00%) -> {output}\n"
    assert all(word not in done.stderr for word in ("W0000", "INFO", "WARNING", "Feedback", "Deprecat"))
    assert decode(tmp_path / "png" / "f00001.jpg.png.png").shape == (400, 500, 3)
    assert picture.stat().st_size > 1000
    (portraits / "f00001.jpg.png").write_bytes(b"")
    again = nerfgen(portraits, "-o", output, "--size", 64, "--overwrite", "--strict", "--json", "-q")
    assert again.returncode == 3
    assert json.loads(again.stdout)["statuses"] == {"ok": 1, "unreadable": 1}
    failed = nerfgen(portraits, "--cameras", tmp_path / "absent.h5")
    assert failed.returncode == 2
    assert "fit-cameras" in failed.stderr
