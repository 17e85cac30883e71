"""Files of images are joined by name: rows that were made of another image of the same name are left out, and said."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from nerfgen import storage
from nerfgen.camera import fit_folder
from nerfgen.data import list_images
from nerfgen.errors import InputError
from nerfgen.interchange import import_landmarks
from nerfgen.mask import MaskSettings, segment_folder
from nerfgen.objectclass import object_class

NAMES = ["a.png", "b.png", "c.png"]


def _photo(path: Path, seed: int) -> None:
    """Noise with an opaque disc; equal sizes in bytes are not ensured."""
    path.parent.mkdir(exist_ok=True, parents=True)
    values = np.random.default_rng(seed).integers(0, 255, (200, 200, 4), dtype=np.uint8)
    x, y = np.meshgrid(np.arange(200), np.arange(200))
    values[..., 3] = 255 * (np.hypot(x - 100, y - 100) < 70)
    Image.fromarray(values).save(path)


@pytest.fixture(scope="module")
def faces(tmp_path_factory):
    """A folder whose landmarks, cameras and masks are made."""
    data = tmp_path_factory.mktemp("faces")
    described = object_class("face")
    seen = described.canonical[:, :2] * [60.0, -60.0] + 100
    lines = ["image," + ",".join(f"{name}_x,{name}_y" for name in described.landmark_names)]
    for number, name in enumerate(NAMES):
        _photo(data / name, number)
        lines.append(f"{name}," + ",".join(f"{value:.2f}" for value in seen.ravel()))
    (data / "points.csv").write_text("\n".join(lines))
    assert import_landmarks(data / "points.csv", object_class="face")["usable"] == 3
    assert fit_folder(data, data / "cameras.h5")["fitted"] == 3
    assert segment_folder(data, data / "masks.h5", settings=MaskSettings("alpha"), workers=1)["masked"] == 3
    return data


@pytest.fixture
def changed(faces, tmp_path):
    """The folder with one image replaced by another of its name."""
    data = tmp_path / "faces"
    shutil.copytree(faces, data)
    _photo(data / "b.png", 9)
    return data


def _statuses(path: Path) -> dict[str, str]:
    with storage.reading(path, "cameras/1", "masks/1") as file:
        return dict(zip(storage.strings(file["image"]), storage.strings(file["status"]), strict=True))


def test_unchanged_images_are_used_wherever_they_lie(faces, tmp_path):
    data, said = tmp_path / "copy", []
    shutil.copytree(faces, data, copy_function=shutil.copyfile)  # with new times
    assert fit_folder(data, data / "cameras.h5", say=said.append)["kept"]
    assert segment_folder(
        data, data / "masks.h5", settings=MaskSettings("alpha"), workers=1, warn=said.append
    )["kept"]
    listing = list_images(data, data / "cameras.h5", data / "masks.h5", say=said.append)
    assert (listing.status, said) == (["ok"] * 3, [])


def test_an_image_that_changed_gets_no_camera(changed):
    said = []
    summary = fit_folder(changed, changed / "new.h5", say=said.append)
    assert (summary["fitted"], summary["statuses"]) == (2, {"ok": 2, "changed": 1})
    (line,) = said
    assert line.startswith("warning: 1 images are not those that")
    assert "such as b.png; run `nerfgen landmark" in line


def test_an_image_that_changed_gets_no_mask_and_is_not_trained_on(changed):
    said = []
    settings = MaskSettings("alpha")
    summary = segment_folder(changed, changed / "new.h5", settings=settings, workers=1, warn=said.append)
    assert (summary["masked"], summary["statuses"]) == (2, {"changed": 1, "ok": 2})
    assert "such as b.png; run `nerfgen landmark`" in said[-1]
    digests = {name: storage.file_digest(changed / name)[1] for name in NAMES}
    listing = list_images(
        changed, changed / "cameras.h5", changed / "masks.h5", digests=digests, say=said.append
    )
    assert listing.status == ["ok", "changed", "ok"]
    assert "such as b.png" in said[-1]
    # The cameras' images and the masks' are compared even where nobody reads the images.
    listing = list_images(changed, changed / "cameras.h5", changed / "new.h5")
    assert listing.status == ["ok", "changed", "ok"]


def test_masks_of_another_folder_are_refused(faces, tmp_path):
    other, said = tmp_path / "other", []
    shutil.copytree(faces, other)
    for number, name in enumerate(NAMES):
        _photo(other / name, 20 + number)
    (other / "points.csv").touch()
    import_landmarks(other / "points.csv", object_class="face", overwrite=True)
    fit_folder(other, other / "cameras.h5", overwrite=True)
    with pytest.raises(InputError, match=r"no image of .* is usable \(changed: 3\)"):
        list_images(other, other / "cameras.h5", faces / "masks.h5", say=said.append)
    assert said[0].startswith("warning: 3 images are not those that")


def _without_digests(path: Path, schema: str) -> None:
    """The file as an earlier version wrote it."""
    with storage.reading(path, schema) as file:
        values = {
            name: storage.strings(column) if column.dtype.kind == "O" else column[:]
            for name, column in file.items()
            if name != "image_sha256"
        }
    path.unlink()
    with storage.Stage(path, schema, "face").create() as file:
        for name, column in values.items():
            storage.put(file, name, column)


def test_files_without_digests_are_joined_by_name(changed):
    cameras, masks = changed / "cameras.h5", changed / "masks.h5"
    _without_digests(cameras, "cameras/1")
    _without_digests(masks, "masks/1")
    assert list_images(changed, cameras, masks).status == ["ok"] * 3


def _landmarks(path: Path, points: np.ndarray, sizes: np.ndarray, status: str = "ok") -> Path:
    """A file of landmarks of faces, a row per image."""
    count = len(points)
    with storage.Stage(path, "landmarks/1", "face").create() as file:
        storage.put(file, "image", [f"{number}.png" for number in range(count)])
        storage.put(file, "status", [status] * count)
        storage.put(file, "image_size", sizes)
        storage.put(file, "image_bytes", [1] * count)
        storage.put(file, "image_sha256", ["0"] * count)
        storage.put(file, "landmark_names", list(object_class("face").landmark_names))
        storage.put(file, "landmarks", points)
        storage.put(file, "score", [1] * count)
        storage.put(file, "num_objects", [1] * count)
    return path


def test_points_that_no_camera_shows_cost_their_image_alone(tmp_path):
    good = object_class("face").canonical[:, :2] * [60.0, -60.0] + 100
    points = np.tile(good, (3, 1, 1))
    points[1] = np.nan
    points[2] = 50.0  # all in one place
    _landmarks(tmp_path / "landmarks.h5", points, np.full((3, 2), 200))
    summary = fit_folder(tmp_path, tmp_path / "cameras.h5")
    assert summary["statuses"] == {"ok": 1, "not_converged": 2}


def test_without_any_camera_there_is_an_error_and_no_file(tmp_path):
    points, sizes = np.full((3, 5, 2), np.nan), np.full((3, 2), 200)
    _landmarks(tmp_path / "landmarks.h5", points, sizes, "no_object")
    with pytest.raises(
        InputError, match=r"no image gets a camera \(no_object: 3; no_object means: the estimator"
    ):
        fit_folder(tmp_path, tmp_path / "cameras.h5")
    assert not (tmp_path / "cameras.h5").exists()
