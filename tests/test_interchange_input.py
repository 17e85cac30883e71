"""Cameras of others: what is absent, damaged, odd, packed or there already."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_images import columns, picture, put_cameras, read, some_images, write

from nerfgen import artifact
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import (
    intrinsic_matrix,
    rigid,
    rotation_from_vector,
    turned_camera,
)
from nerfgen.interchange import (
    Placing,
    bring,
    give,
)
from nerfgen.interchange.posed import is_pose

# What is there, and what is not.


def test_nothing_is_dropped(tmp_path):
    """Listed and absent, there and not listed, damaged, with a camera that is none or looks elsewhere."""
    posed = some_images(tmp_path)
    posed.cam_to_world[3, :3, :3] *= 2.0
    posed.cam_to_world[5, :3, 3] *= -1.0
    write("eg3d", tmp_path, posed)
    names = posed.images
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(b"no picture")
    picture(tmp_path / "object-0/rgb/unlisted.png")
    summary = bring(tmp_path, class_name="car")
    table = columns(tmp_path / "cameras.h5")
    status = dict(zip(table["image"], table["status"], strict=True))
    assert status == {
        names[0]: "absent",
        names[1]: "unreadable",
        names[2]: "ok",
        names[3]: "no_camera",
        names[4]: "ok",
        names[5]: "looks_away",
        "object-0/rgb/unlisted.png": "no_camera",
    }
    assert summary["statuses"] == {"absent": 1, "looks_away": 1, "no_camera": 2, "ok": 2, "unreadable": 1}
    assert np.isnan(table["cam_to_world"][0]).all()
    assert np.isfinite(table["cam_to_world"][2]).all()


def test_a_camera_for_another_shape(tmp_path):
    posed = some_images(tmp_path, instances=1, views=1)
    write("transforms", tmp_path, posed)
    picture(tmp_path / posed.images[0], (16, 24))
    assert read("transforms", tmp_path).status == ["wrong_shape"]
    # The same picture at another size is no other shape.
    picture(tmp_path / posed.images[0], (48, 32))
    again = read("transforms", tmp_path)
    assert again.status == ["ok"]
    np.testing.assert_allclose(again.intrinsics[0, :2], 2 * posed.intrinsics[0, :2])


def test_srn_pose_and_picture_without_each_other(tmp_path):
    posed = some_images(tmp_path, instances=1)
    write("srn", tmp_path, posed)
    (tmp_path / "object-0/pose/000001.txt").rename(tmp_path / "object-0/pose/000007.txt")
    again = read("srn", tmp_path)
    assert dict(zip(again.images, again.status, strict=True)) == {
        "object-0/rgb/000000.png": "ok",
        "object-0/rgb/000001.png": "no_camera",
        "object-0/rgb/000007.png": "absent",
    }


def test_some_views_of_an_object(tmp_path):
    posed = some_images(tmp_path, views=4)
    write("srn", tmp_path, posed)
    chosen = []
    for seed in range(4):
        bring(tmp_path, tmp_path / "out", views=1, seed=seed, overwrite=True)
        table = columns(tmp_path / "out/cameras.h5")
        used = [
            image for image, status in zip(table["image"], table["status"], strict=True) if status == "ok"
        ]
        assert [Path(image).parts[0] for image in used] == ["object-0", "object-1", "object-2"]
        assert table["status"].count("not_chosen") == 9
        chosen.append(used)
    assert len({tuple(used) for used in chosen}) > 1
    bring(tmp_path, tmp_path / "again", views=1, seed=3)
    assert (tmp_path / "again/cameras.h5").read_bytes() == (tmp_path / "out/cameras.h5").read_bytes()


def test_masks_of_their_own_and_alpha(tmp_path):
    """White where the object is, of any size; where there is none, the alpha channel."""
    posed = some_images(tmp_path, instances=1, views=3, square=True)
    posed.intrinsics[:] = intrinsic_matrix(30.0, np.array([12.0, 12.0]))
    posed.cam_to_world[:] = turned_camera(np.arange(3) * 20.0, 0.0, 3.0)
    write("transforms", tmp_path, posed)
    path = tmp_path / "object-0/transforms.json"
    content = json.loads(path.read_text())
    content["frames"][0]["mask_path"] = "mask.png"
    path.write_text(json.dumps(content))
    left = np.zeros((48, 48), np.uint8)
    left[:, :24] = 255
    Image.fromarray(left).save(tmp_path / "object-0/mask.png")
    rgba = np.full((24, 24, 4), 255, np.uint8)
    rgba[:12, :, 3] = 0
    Image.fromarray(rgba).save(tmp_path / posed.images[1])
    summary = bring(tmp_path, class_name="cars", mask_size=32)
    assert (summary["images"], summary["masks"]) == (3, 2)
    with artifact.reading(tmp_path / "masks.h5", "masks/1") as file:
        assert artifact.strings(file["status"]) == ["ok", "ok", "no_mask"]
        for row, line in ((0, 0), (1, 1)):
            corner, side = file["mask_window"][row, line], file["mask_window"][row, 2]
            # The window's pixels before and behind the middle of the photograph.
            middle = (12 - corner) / side * 32
            mask = file["mask"][row] if row == 0 else file["mask"][row].T
            before, behind = mask[16, : int(middle) - 1], mask[16, int(middle) + 2 :]
            inside = slice(max(int(-corner / side * 32) + 2, 0), None)
            assert (before[inside] == (255 if row == 0 else 0)).all()
            assert (behind[: int(8 / side * 32)] == (0 if row == 0 else 255)).all()


# Damaged and odd input.


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ({"k1": 0.02}, "undistort"),
        ({"camera_model": "OPENCV_FISHEYE"}, "undistort"),
        ({"is_fisheye": True}, "undistort"),
    ],
)
def test_lenses_that_distort(entries, message, tmp_path):
    posed = some_images(tmp_path, instances=1)
    write("transforms", tmp_path, posed)
    path = tmp_path / "object-0/transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    with pytest.raises(InputError, match=message):
        bring(tmp_path, class_name="car")
    assert not (tmp_path / "cameras.h5").exists()
    if "k1" in entries:
        assert bring(tmp_path, class_name="car", ignore_distortion=True)["usable"] == 2


def test_images_outside_of_the_folder(tmp_path):
    picture(tmp_path / "a.png")
    frame = {"file_path": "../a.png", "fl_x": 9}
    frame["transform_matrix"] = rigid(np.eye(3), np.array([0.0, 0.0, 3.0])).tolist()
    (tmp_path / "below").mkdir()
    (tmp_path / "below/transforms.json").write_text(json.dumps({"frames": [frame]}))
    with pytest.raises(InputError, match="holds both"):
        bring(tmp_path / "below", class_name="car")
    assert bring(tmp_path, class_name="car")["usable"] == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a/intrinsics.txt", "100 60\n"),
        ("a/pose/0.txt", "1 2 three"),
        ("dataset.json", '{"labels": [["a.png", [1, 2]]]}'),
        ("transforms.json", "{}"),
    ],
)
def test_files_of_other_content(name, text, tmp_path):
    if name.startswith("a/"):
        picture(tmp_path / "a/rgb/0.png")
        (tmp_path / "a/pose").mkdir()
        (tmp_path / "a/pose/0.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 -5 0 0 0 1")
        (tmp_path / "a/intrinsics.txt").write_text("100 60 50 0.\n0. 0. 0.\n1.\n96 128\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=Path(name).name):
        bring(tmp_path, class_name="car")


def test_a_pose_is_a_rotation():
    good = rigid(rotation_from_vector(np.array([0.3, -0.2, 0.9])), np.array([1.0, 2, 3]))
    assert is_pose(good)
    mirrored, sheared, endless = (good.copy() for _ in range(3))
    mirrored[:3, 0] *= -1
    sheared[0, 1] += 0.1
    endless[0, 3] = np.inf
    assert not any(map(is_pose, (mirrored, sheared, endless)))


def test_axes_on_one_line(tmp_path):
    write("srn", tmp_path, some_images(tmp_path))
    with pytest.raises(InputError, match="same line"):
        bring(tmp_path, placing=Placing("+y", "-y"))
    with pytest.raises(InputError, match="--up up"):
        bring(tmp_path, placing=Placing("up"))


def packed(folder: Path, archive: Path) -> Path:
    with zipfile.ZipFile(archive, "w") as content:
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                content.write(path, path.relative_to(folder).as_posix())
    return archive


def test_a_zip_is_unpacked_once_and_replaces_nothing(tmp_path):
    posed = some_images(tmp_path / "data", square=True)
    write("eg3d", tmp_path / "data", posed)
    archive = packed(tmp_path / "data", tmp_path / "faces.zip")
    with pytest.raises(InputError, match="-o"):
        bring(archive, class_name="car")
    out = tmp_path / "out"
    assert bring(archive, out, class_name="car")["usable"] == 6
    bring(tmp_path / "data", class_name="car")
    assert (out / "cameras.h5").read_bytes() == (tmp_path / "data/cameras.h5").read_bytes()
    assert bring(archive, out, class_name="car")["kept"]
    own = picture(out / posed.images[2], value=1).read_bytes()
    with pytest.raises(InputError, match="another file"):
        bring(archive, out, class_name="car", overwrite=True)
    assert (out / posed.images[2]).read_bytes() == own


def test_a_zip_that_reaches_out(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as content:
        content.writestr("../outside.png", b"")
        content.writestr("dataset.json", '{"labels": []}')
    with pytest.raises(InputError, match="outside of itself"):
        bring(tmp_path / "bad.zip", tmp_path / "out", class_name="car")
    assert not (tmp_path / "outside.png").exists()


def test_existing_outputs(tmp_path):
    posed = some_images(tmp_path)
    write("srn", tmp_path, posed)
    assert not bring(tmp_path)["kept"]
    assert bring(tmp_path)["kept"]
    with pytest.raises(OutputExistsError, match="scale"):
        bring(tmp_path, placing=Placing(scale=2.0))
    give(tmp_path, tmp_path / "out", format_name="eg3d")
    with pytest.raises(OutputExistsError, match="--overwrite"):
        give(tmp_path, tmp_path / "out", format_name="transforms")
    give(tmp_path, tmp_path / "out", format_name="transforms", overwrite=True)
    assert not (tmp_path / "out/dataset.json").exists()


def test_a_failed_export_leaves_nothing(tmp_path):
    posed = some_images(tmp_path / "data")
    posed.intrinsics[1, 0, 0] *= 1.5
    put_cameras(tmp_path / "data/cameras.h5", posed)
    with pytest.raises(InputError, match="object-0"):
        give(tmp_path / "data", tmp_path / "out", format_name="srn")
    (tmp_path / "data" / posed.images[3]).unlink()
    with pytest.raises(InputError, match="--data"):
        give(tmp_path / "data", tmp_path / "out", format_name="eg3d")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
