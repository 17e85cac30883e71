"""Cameras of other programs: absent, damaged, unusual, packed and existing files."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_images import columns, picture, put_cameras, read, some_images, write

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import intrinsic_matrix, rigid, rotation_from_vector, turned_camera
from nerfgen.interchange import (
    ExportSettings,
    ImportSettings,
    WorldAlignment,
    export_cameras,
    import_cameras,
    import_landmarks,
)
from nerfgen.interchange.posed_images import is_rigid_pose
from nerfgen.mask.figure import write_png_masks
from nerfgen.objectclass import object_class
from nerfgen.untrusted import safe_relative_path

# Absent and unlisted images.


def test_nothing_is_dropped(tmp_path):
    """Images that are absent, unlisted or damaged, and cameras that are invalid or look away."""
    posed = some_images(tmp_path)
    posed.cam_to_world[3, :3, :3] *= 2.0
    posed.cam_to_world[5, :3, 3] *= -1.0
    write("eg3d", tmp_path, posed)
    names = posed.images
    (tmp_path / names[0]).unlink()
    (tmp_path / names[1]).write_bytes(b"no picture")
    picture(tmp_path / "object-0/rgb/unlisted.png")
    summary = import_cameras(tmp_path, object_class="car")
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
    # Another size of the same aspect ratio is fine.
    picture(tmp_path / posed.images[0], (48, 32))
    again = read("transforms", tmp_path)
    assert again.status == ["ok"]
    np.testing.assert_allclose(again.intrinsics[0, :2], 2 * posed.intrinsics[0, :2])


def test_srn_pose_without_image_and_image_without_pose(tmp_path):
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
        import_cameras(
            tmp_path, tmp_path / "out", settings=ImportSettings(views=1, seed=seed), overwrite=True
        )
        table = columns(tmp_path / "out/cameras.h5")
        used = [
            image for image, status in zip(table["image"], table["status"], strict=True) if status == "ok"
        ]
        assert [Path(image).parts[0] for image in used] == ["object-0", "object-1", "object-2"]
        assert table["status"].count("not_chosen") == 9
        chosen.append(used)
    assert len({tuple(used) for used in chosen}) > 1
    import_cameras(tmp_path, tmp_path / "again", settings=ImportSettings(views=1, seed=3))
    assert (tmp_path / "again/cameras.h5").read_bytes() == (tmp_path / "out/cameras.h5").read_bytes()


def test_masks_of_their_own_and_alpha(tmp_path):
    """Mask images are white on the object and of any size; without one, the alpha channel is used."""
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
    summary = import_cameras(tmp_path, object_class="cars", settings=ImportSettings(mask_size=32))
    assert (summary["images"], summary["masks"]) == (3, 2)
    with storage.reading(tmp_path / "masks.h5", "masks/1") as file:
        assert storage.strings(file["status"]) == ["ok", "ok", "no_mask"]
        for row, line in ((0, 0), (1, 1)):
            corner, side = file["mask_window"][row, line], file["mask_window"][row, 2]
            # The window's pixels on both sides of the image centre.
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
        ({"k1": 0.2}, "undistort"),
        ({"camera_model": "OPENCV_FISHEYE"}, "undistort"),
        ({"is_fisheye": True}, "undistort"),
    ],
)
def test_distorted_lenses_are_refused(entries, message, tmp_path):
    posed = some_images(tmp_path, instances=1)
    write("transforms", tmp_path, posed)
    path = tmp_path / "object-0/transforms.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **entries}))
    with pytest.raises(InputError, match=message):
        import_cameras(tmp_path, object_class="car")
    assert not (tmp_path / "cameras.h5").exists()
    if "k1" in entries:
        settings = ImportSettings(ignore_distortion=True)
        assert import_cameras(tmp_path, object_class="car", settings=settings)["usable"] == 2


def test_images_outside_the_folder_are_refused(tmp_path):
    picture(tmp_path / "a.png")
    frame = {"file_path": "../a.png", "fl_x": 9}
    frame["transform_matrix"] = rigid(np.eye(3), np.array([0.0, 0.0, 3.0])).tolist()
    (tmp_path / "below").mkdir()
    (tmp_path / "below/transforms.json").write_text(json.dumps({"frames": [frame]}))
    with pytest.raises(InputError, match="contains both"):
        import_cameras(tmp_path / "below", object_class="car")
    assert import_cameras(tmp_path, object_class="car")["usable"] == 1


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a/intrinsics.txt", "100 60\n"),
        ("a/pose/0.txt", "1 2 three"),
        ("dataset.json", '{"labels": [["a.png", [1, 2]]]}'),
        ("transforms.json", "{}"),
    ],
)
def test_invalid_files_are_named(name, text, tmp_path):
    if name.startswith("a/"):
        picture(tmp_path / "a/rgb/0.png")
        (tmp_path / "a/pose").mkdir()
        (tmp_path / "a/pose/0.txt").write_text("1 0 0 0 0 1 0 0 0 0 1 -5 0 0 0 1")
        (tmp_path / "a/intrinsics.txt").write_text("100 60 50 0.\n0. 0. 0.\n1.\n96 128\n")
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=Path(name).name):
        import_cameras(tmp_path, object_class="car")


def test_a_pose_is_a_rotation():
    good = rigid(rotation_from_vector(np.array([0.3, -0.2, 0.9])), np.array([1.0, 2, 3]))
    assert is_rigid_pose(good)
    mirrored, sheared, endless = (good.copy() for _ in range(3))
    mirrored[:3, 0] *= -1
    sheared[0, 1] += 0.1
    endless[0, 3] = np.inf
    assert not any(map(is_rigid_pose, (mirrored, sheared, endless)))


def test_parallel_axes_are_refused(tmp_path):
    write("srn", tmp_path, some_images(tmp_path))
    with pytest.raises(InputError, match="parallel"):
        import_cameras(tmp_path, alignment=WorldAlignment("+y", "-y"))
    with pytest.raises(InputError, match="`up` is 'up'"):
        import_cameras(tmp_path, alignment=WorldAlignment("up"))


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
    with pytest.raises(InputError, match="`output`"):
        import_cameras(archive, object_class="car")
    out = tmp_path / "out"
    assert import_cameras(archive, out, object_class="car")["usable"] == 6
    import_cameras(tmp_path / "data", object_class="car")
    assert (out / "cameras.h5").read_bytes() == (tmp_path / "data/cameras.h5").read_bytes()
    assert import_cameras(archive, out, object_class="car")["kept"]
    own = picture(out / posed.images[2], value=1).read_bytes()
    with pytest.raises(InputError, match="differs from the file"):
        import_cameras(archive, out, object_class="car", overwrite=True)
    assert (out / posed.images[2]).read_bytes() == own


def test_a_zip_with_outside_names_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "bad.zip", "w") as content:
        content.writestr("../outside.png", b"")
        content.writestr("dataset.json", '{"labels": []}')
    with pytest.raises(InputError, match="leads out of its folder"):
        import_cameras(tmp_path / "bad.zip", tmp_path / "out", object_class="car")
    assert not (tmp_path / "outside.png").exists()


# Names that are no path inside the folder.

UNSAFE = [
    "../../../evil.png",
    "a/../../evil.png",
    "/tmp/evil.png",
    "C:/evil.png",
    "C:evil.png",
    "..\\evil.png",
    "a\0b.png",
    "a\nb.png",
    "",
]


@pytest.mark.parametrize("name", UNSAFE)
def test_unsafe_names_are_refused(name):
    with pytest.raises(InputError) as error:
        safe_relative_path(name, "some/file.json")
    assert str(error.value).startswith("some/file.json: the name ")
    assert not {"\n", "\0"} & set(str(error.value))


@pytest.mark.parametrize(
    ("name", "path"),
    [("a/b.png", "a/b.png"), ("./a//b.png", "a/b.png"), ("..a/b..png", "..a/b..png")],
)
def test_safe_names_are_kept(name, path):
    assert safe_relative_path(name, "file") == path


def unchanged(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", [name for name in UNSAFE if name and "\0" not in name])
@pytest.mark.parametrize("column", ["images", "instance"])
@pytest.mark.parametrize("format_name", ["transforms", "srn", "eg3d"])
def test_unsafe_names_are_not_exported(name, column, format_name, tmp_path):
    data = tmp_path / "deep" / "deeper" / "data"
    posed = some_images(data)
    posed = replace(posed, **{column: [name, *getattr(posed, column)[1:]]})
    put_cameras(data / "cameras.h5", posed)
    before = unchanged(tmp_path)
    for pictures in ("none", "copy"):
        with pytest.raises(InputError, match=r"cameras\.h5: (image|instance): the name "):
            export_cameras(data, data / "out", ExportSettings(format_name, pictures))
    assert unchanged(tmp_path) == before


@pytest.mark.parametrize("name", [name for name in UNSAFE if name])
def test_unsafe_names_are_not_imported(name, tmp_path):
    posed = some_images(tmp_path / "data", instances=1, views=1, square=True)
    write("eg3d", tmp_path / "data", posed)
    labels = tmp_path / "data/dataset.json"
    content = json.loads(labels.read_text())
    content["labels"][0][0] = name
    labels.write_text(json.dumps(content))
    with pytest.raises(InputError, match=r"dataset\.json: the name ") as error:
        import_cameras(tmp_path / "data", object_class="car")
    assert "\n" not in str(error.value)
    labels.unlink()
    write("transforms", tmp_path / "data", posed)
    scene = tmp_path / "data/transforms.json"
    content = json.loads(scene.read_text())
    for key in ("instance", "file_path", "mask_path"):
        changed = {**content["frames"][0], key: name}
        scene.write_text(json.dumps({**content, "frames": [changed]}))
        with pytest.raises(InputError, match=r"transforms\.json") as error:
            import_cameras(tmp_path / "data", object_class="car")
        assert "\n" not in str(error.value)
    assert not (tmp_path / "data/cameras.h5").exists()


def test_masks_with_unsafe_names_are_not_written(tmp_path):
    with storage.Stage(tmp_path / "masks.h5", "masks/1", "car").create() as file:
        storage.put(file, "image", ["../evil.png"])
        storage.put(file, "status", ["ok"])
        storage.put(file, "image_size", [[8, 8]])
        storage.put(file, "mask_window", [[0, 0, 8]])
        storage.put(file, "mask", np.full((1, 8, 8), 255))
    with pytest.raises(InputError, match=r"masks\.h5: image: the name "):
        write_png_masks(tmp_path / "masks.h5", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["masks.h5"]


def test_annotations_with_unsafe_names_are_dropped_and_said(tmp_path):
    (tmp_path / "data").mkdir()
    picture(tmp_path / "data/a.png")
    names = object_class("cat").landmark_names
    points = ",".join(f"{k},{k}" for k in range(len(names)))
    header = "image," + ",".join(f"{name}_x,{name}_y" for name in names)
    source = tmp_path / "landmarks.csv"
    source.write_text(f"{header}\na.png,{points}\n../evil.png,{points}\n")
    summary = import_landmarks(source, tmp_path / "data", object_class="cat")
    assert summary["statuses"] == {"ok": 1}
    assert any("leads out of its folder" in line for line in summary["notes"]), summary


def test_settings_out_of_range_are_refused_in_a_line(tmp_path):
    write("srn", tmp_path, some_images(tmp_path))
    for name, value in (("views", -1), ("mask_size", 0)):
        with pytest.raises(InputError, match=f"`{name}`"):
            ImportSettings(**{name: value})
    with pytest.raises(InputError, match="`scale`"):
        WorldAlignment(scale=-1.0)
    import_cameras(tmp_path)
    with pytest.raises(InputError, match="`scale`"):
        export_cameras(tmp_path, tmp_path / "out", ExportSettings("srn", scale=0.0))
    (tmp_path / "out").write_text("a file")
    with pytest.raises(InputError, match="`output`"):
        export_cameras(tmp_path, tmp_path / "out", ExportSettings("srn"), overwrite=True)


def test_existing_outputs(tmp_path):
    posed = some_images(tmp_path)
    write("srn", tmp_path, posed)
    assert not import_cameras(tmp_path)["kept"]
    assert import_cameras(tmp_path)["kept"]
    with pytest.raises(OutputExistsError, match="scale"):
        import_cameras(tmp_path, alignment=WorldAlignment(scale=2.0))
    export_cameras(tmp_path, tmp_path / "out", ExportSettings("eg3d"))
    with pytest.raises(OutputExistsError, match="`overwrite`"):
        export_cameras(tmp_path, tmp_path / "out", ExportSettings("transforms"))
    export_cameras(tmp_path, tmp_path / "out", ExportSettings("transforms"), overwrite=True)
    assert not (tmp_path / "out/dataset.json").exists()


def test_a_failed_export_leaves_nothing(tmp_path):
    posed = some_images(tmp_path / "data")
    posed.intrinsics[1, 0, 0] *= 1.5
    put_cameras(tmp_path / "data/cameras.h5", posed)
    with pytest.raises(InputError, match="object-0"):
        export_cameras(tmp_path / "data", tmp_path / "out", ExportSettings("srn"))
    (tmp_path / "data" / posed.images[3]).unlink()
    with pytest.raises(InputError, match="`data`"):
        export_cameras(tmp_path / "data", tmp_path / "out", ExportSettings("eg3d"))
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
