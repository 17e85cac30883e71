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

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.image import InputImage, decode, decode_alpha
from nerfgen.mask import (
    MaskSettings,
    SegmentationRequest,
    Segmenter,
    SegmenterSpec,
    map_masks,
    recorded_settings,
    segment_folder,
    whole_image_mask,
    write_png_masks,
)
from nerfgen.objectclass import object_class

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
    return SegmenterSpec(MaskSettings(method), object_class("face")).prepared().build()


def cutout(path: Path, alpha: np.ndarray) -> None:
    color = np.full((*alpha.shape, 3), (200, 120, 60), np.uint8)
    Image.fromarray(np.dstack([color, alpha])).save(path)


def write_cameras(
    path: Path,
    images: list[str],
    windows: list[tuple[float, ...]],
    statuses: list[str] | None = None,
    size: tuple[int, int] = (WIDTH, HEIGHT),
) -> Path:
    count = len(images)
    with storage.Stage(path, "cameras/1", "face").create() as file:
        storage.put(file, "image", images)
        storage.put(file, "status", statuses or ["ok"] * count)
        storage.put(file, "image_size", np.tile(size, (count, 1)))
        storage.put(file, "intrinsics", np.tile(np.eye(3), (count, 1, 1)))
        storage.put(file, "cam_to_world", np.tile(np.eye(4), (count, 1, 1)))
        storage.put(file, "window", windows)
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
    segmentation = segmenter("alpha")(SegmentationRequest(InputImage(tmp_path / "a.png"), WINDOW, size))
    assert segmentation.status == "ok"
    v, u = (np.mgrid[:size, :size] + 0.5) * WINDOW[2] / size
    expected = (np.hypot(u + WINDOW[0] - 48, v + WINDOW[1] - 28) < 15) * 255
    assert overlap(segmentation.mask, expected) > 0.9


def test_beyond_the_photograph_nothing_is_foreground(tmp_path: Path) -> None:
    cutout(tmp_path / "a.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    mask = segmenter("alpha")(
        SegmentationRequest(InputImage(tmp_path / "a.png"), (-30.0, -30.0, 120.0), 120)
    ).mask
    expected = np.zeros((120, 120), np.uint8)
    expected[30:90, 30:] = 255
    assert (mask == expected).all()


@pytest.mark.parametrize("window", [WINDOW, (0.0, 0.0, 60.0), (31.3, 10.9, 33.3), (-100.0, -100.0, 300.0)])
@pytest.mark.parametrize("size", [32, 256])
def test_a_mask_returns_to_its_place(window: tuple[float, ...], size: int) -> None:
    v, u = (np.mgrid[:size, :size] + 0.5) * window[2] / size
    mask = ((np.hypot(u + window[0] - 48, v + window[1] - 28) < 15) * 255).astype(np.uint8)
    whole = whole_image_mask(mask, window, (WIDTH, HEIGHT))
    y, x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    inside = (abs(x - window[0] - window[2] / 2) < window[2] / 2) & (
        abs(y - window[1] - window[2] / 2) < window[2] / 2
    )
    blurred = 2 * window[2] / size > 5  # a mask pixel is several photograph's pixels
    assert overlap(whole, disc() * inside) > (0.75 if blurred else 0.9)
    assert (whole[~inside] <= 127).all()


def test_a_window_beside_the_photograph() -> None:
    assert not whole_image_mask(np.full((8, 8), 255, np.uint8), (500.0, 0.0, 20.0), (WIDTH, HEIGHT)).any()
    small = whole_image_mask(np.full((8, 8), 255, np.uint8), (3.25, 2.5, 0.5), (WIDTH, HEIGHT))
    assert np.count_nonzero(small) == 1
    assert 0 < small[2, 3] < 128, "a quarter of the pixel is covered"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_folder_of_cutouts(folder: Path, workers: int) -> None:
    output = folder / "masks.h5"
    summary = segment_folder(folder, output, settings=MaskSettings("alpha", size=64), workers=workers)
    statuses = {"no_alpha": 1, "no_mask": 1, "ok": 1, "skipped": 1, "unreadable": 1}
    assert summary == {
        "images": 5,
        "masked": 1,
        "masked_fraction": 0.2,
        "statuses": statuses,
        "methods": {"alpha": 1},
        "kept": False,
    }
    with storage.reading(output, "masks/1") as file:
        assert storage.strings(file["image"]) == ["b.png", "c.png", "d.png", "e.png", "more/a.png"]
        assert storage.strings(file["status"]) == ["no_alpha", "no_mask", "unreadable", "skipped", "ok"]
        assert file["mask"].shape == (5, 64, 64)
        assert not file["mask"][:4].any()
        assert np.isnan(file["mask_window"][:4]).all()
        assert tuple(file["mask_window"][4]) == WINDOW
        assert [entry["file"] for entry in json.loads(file.attrs["inputs"])] == ["cameras.h5", "."]
        placed = whole_image_mask(file["mask"][4], file["mask_window"][4], (WIDTH, HEIGHT))
    assert overlap(placed, disc()) > 0.9


def test_output_is_kept_until_something_changes(folder: Path) -> None:
    output = folder / "masks.h5"
    first = segment_folder(folder, output, settings=MaskSettings("alpha", size=32), workers=1)
    assert segment_folder(folder, output, settings=MaskSettings("alpha", size=32)) == {**first, "kept": True}
    with pytest.raises(OutputExistsError, match="size"):
        segment_folder(folder, output, settings=MaskSettings("alpha", size=64))
    cutout(folder / "b.png", disc())
    with pytest.raises(OutputExistsError, match="overwrite"):
        segment_folder(folder, output, settings=MaskSettings("alpha", size=32))
    assert (
        segment_folder(folder, output, settings=MaskSettings("alpha", size=32), overwrite=True)["masked"] == 2
    )


def test_a_killed_run_goes_on_and_its_output_is_the_same(folder: Path, tmp_path: Path) -> None:
    output, settings = folder / "masks.h5", MaskSettings("alpha", size=32)
    segment_folder(folder, tmp_path / "whole" / "masks.h5", settings=settings, workers=1)
    script = (
        "import os, pathlib, signal, sys\n"
        "from nerfgen.mask import MaskSettings, segment_folder\n"
        "data = pathlib.Path(sys.argv[1])\n"
        "def progress(done, total, note=''):\n"
        "    if done == 3: os.kill(os.getpid(), signal.SIGKILL)\n"
        "settings = MaskSettings('alpha', size=32)\n"
        "segment_folder(data, data / 'masks.h5', settings=settings, workers=1, progress=progress)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(folder)], check=False)
    assert killed.returncode == -9
    assert not output.exists()
    said: list[str] = []
    counts: list[int] = []
    segment_folder(
        folder,
        output,
        settings=settings,
        workers=1,
        warn=said.append,
        progress=lambda done, total, note="": counts.append(total),
    )
    assert any("3 images were finished by an earlier run" in line for line in said)
    assert counts == [2, 2]
    assert output.read_bytes() == (tmp_path / "whole" / "masks.h5").read_bytes()
    assert not [path for path in folder.iterdir() if path.name.startswith(".")]


def test_masks_of_the_photographs_size(folder: Path, tmp_path: Path) -> None:
    segment_folder(folder, folder / "masks.h5", settings=MaskSettings("alpha", size=64), workers=1)
    assert write_png_masks(folder / "masks.h5", tmp_path / "png", workers=1) == 1
    assert [path.name for path in (tmp_path / "png").rglob("*.png")] == ["a.png.png"]
    assert overlap(decode(tmp_path / "png" / "more" / "a.png.png")[..., 0], disc()) > 0.9


def test_images_in_memory_give_the_masks_of_the_folder(folder: Path) -> None:
    settings = MaskSettings("alpha", size=64)
    segment_folder(folder, folder / "masks.h5", settings=settings, workers=1)
    with storage.reading(folder / "masks.h5", "masks/1") as file:
        names, statuses, masks = (
            storage.strings(file["image"]),
            storage.strings(file["status"]),
            file["mask"][:],
        )
        recorded = recorded_settings(json.loads(file.attrs["parameters"]))
    assert recorded == settings
    chosen = [row for row, status in enumerate(statuses) if status != "skipped"]
    requests = [SegmentationRequest(InputImage(folder / names[row]), WINDOW, settings.size) for row in chosen]
    found = list(map_masks(requests, SegmenterSpec(settings, object_class("face")), workers=1))
    assert [each.status for each in found] == [statuses[row] for row in chosen]
    for row, each in zip(chosen, found, strict=True):
        assert (each.mask is None) == (statuses[row] != "ok")
        if each.mask is not None:
            np.testing.assert_array_equal(each.mask, masks[row])


@pytest.mark.parametrize(
    "settings",
    [
        MaskSettings(),
        MaskSettings("selfie", size=64),
        MaskSettings("color", background="white"),
        MaskSettings("grabcut"),
    ],
)
def test_settings_are_read_back_from_what_files_record(settings: MaskSettings) -> None:
    parameters = SegmenterSpec(settings, object_class("face")).parameters([])
    assert recorded_settings(json.loads(json.dumps(parameters))) == settings


def test_settings_that_name_files_are_not_read_back(tmp_path: Path) -> None:
    parameters = SegmenterSpec(MaskSettings("files", masks=tmp_path), object_class("face")).parameters([])
    assert recorded_settings(parameters) is None


def test_unusable_input(folder: Path) -> None:
    with pytest.raises(InputError, match=r"`method` is one of auto"):
        segment_folder(folder, folder / "masks.h5", settings=MaskSettings("magic"))
    with pytest.raises(InputError, match="fit-cameras"):
        segment_folder(folder, folder / "masks.h5", cameras=folder / "absent.h5")


@pytest.mark.mediapipe
def test_automatic_choice(tmp_path: Path) -> None:
    segment = segmenter("auto")
    cutout(tmp_path / "a.png", disc())
    found = segment(SegmentationRequest(InputImage(tmp_path / "a.png"), (18.0, 0.0, 60.0), 60))
    assert (found.mask == disc()[:, 18:78]).all()
    # An alpha channel that says nothing is no mask.
    cutout(tmp_path / "b.png", np.full((HEIGHT, WIDTH), 255, np.uint8))
    assert decode_alpha(tmp_path / "b.png") is not None
    assert (
        segment(SegmentationRequest(InputImage(tmp_path / "b.png"), (0.0, 0.0, 60.0), 60)).mask > 127
    ).mean() < 0.9


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
        size=(500, 400),
    )
    return data


@needs_faces
@pytest.mark.mediapipe
def test_persons(portraits: Path) -> None:
    summary = segment_folder(portraits, portraits / "masks.h5", settings=MaskSettings("selfie", size=140))
    assert summary["statuses"] == {"ok": 2}
    with storage.reading(portraits / "masks.h5", "masks/1") as file:
        for mask in file["mask"][:]:
            assert (mask[45:110, 45:95] > 127).mean() > 0.98  # the face
            assert 0.25 < (mask > 127).mean() < 0.85
        # The first window's first rows and columns are no part of the photograph.
        assert not file["mask"][0, :6].any()
        assert not file["mask"][0, :, :6].any()


@needs_faces
@pytest.mark.mediapipe
def test_command(portraits: Path, tmp_path: Path) -> None:
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
