"""Cameras of other programs from files that nobody vouches for, and from folders as people have them."""

from __future__ import annotations

import json
import os
import shutil
import unicodedata
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from posed_images import columns, picture, put_cameras, read, some_images, write

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import (
    OPENGL_AXES,
    intrinsic_matrix,
    project,
    rigid,
    rotation_from_vector,
    turned_camera,
)
from nerfgen.image import InputImage
from nerfgen.interchange import ExportSettings, WorldAlignment, eg3d, export_cameras, import_cameras
from nerfgen.interchange.camera_export import MARKER
from nerfgen.interchange.posed_images import OPPOSITE_TURNS, measure_images, turn_camera

POSE = (turned_camera(np.zeros(1), 10.0, 3.0)[0] @ OPENGL_AXES).tolist()


def scene(folder: Path, *frames: dict, images: bool = True, **shared: object) -> Path:
    """A transforms.json of these frames, or of three on an arc, with images of 24 x 24 pixels that do not exist yet."""
    poses = turned_camera(np.array([-50.0, 0.0, 50.0]), 10.0, 3.0) @ OPENGL_AXES
    frames = frames or tuple(
        {"file_path": f"{k}.png", "transform_matrix": pose.tolist()} for k, pose in enumerate(poses)
    )
    for frame in frames:
        if images and not (folder / frame["file_path"]).exists():
            picture(folder / frame["file_path"], (24, 24))
    path = folder / "transforms.json"
    path.write_text(json.dumps({"fl_x": 30.0, **shared, "frames": list(frames)}))
    return path


def statuses(folder: Path) -> dict[str, str]:
    table = columns(folder / "cameras.h5")
    return dict(zip(table["image"], table["status"], strict=True))


def refused(source: Path, output: Path | None = None) -> str:
    """The error of an import, which is one line."""
    with pytest.raises(InputError) as error:
        import_cameras(source, output, object_class="car")
    assert str(error.value).isprintable()
    return str(error.value)


# Images that are stored turned.


def turned_image(
    path: Path, orientation: int, dot: tuple[int, int], size: tuple[int, int] = (40, 30)
) -> None:
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[dot[1], dot[0]] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(path, exif=exif)


@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("size", [(40, 30), (40, 40)])
def test_cameras_are_for_the_stored_pixels(orientation, size, tmp_path):
    """A point is seen at the upright image's pixel that shows it; an export has the stored pixels' camera again."""
    pose = turned_camera(np.array([20.0]), 15.0, 3.0, 7.0)[0]
    matrix = intrinsic_matrix(50.0, np.array([21.0, 13.5]))
    matrix[1, 1] = 55.0
    point = np.linalg.inv(pose)[:3, :3].T @ (np.linalg.inv(matrix) @ [9.5, 24.5, 1.0]) * 3 + pose[:3, 3]
    turned_image(tmp_path / "a.png", orientation, (9, 24), size)
    frame = {"fl_x": 50.0, "fl_y": 55.0, "cx": 21.0, "cy": 13.5, "w": size[0], "h": size[1]}
    scene(tmp_path, {**frame, "file_path": "a.png", "transform_matrix": (pose @ OPENGL_AXES).tolist()})
    posed = read("transforms", tmp_path)
    upright = InputImage(tmp_path / "a.png").pixels()[0]
    assert posed.image_size[0].tolist() == list(upright.shape[1::-1])
    row, column = np.argwhere(upright[..., 0] == 255)[0]
    seen, depth = project(point[None], posed.intrinsics[0], posed.cam_to_world[0])
    assert depth[0] > 0
    np.testing.assert_allclose(seen[0], [column + 0.5, row + 0.5], atol=1e-9)

    put_cameras(tmp_path / "cameras.h5", posed)
    export_cameras(tmp_path, tmp_path / "out")
    written = json.loads((tmp_path / "out/transforms.json").read_text())["frames"][0]
    assert {key: written[key] for key in frame} == pytest.approx(frame)
    np.testing.assert_allclose(written["transform_matrix"], pose @ OPENGL_AXES, atol=1e-12)


def test_cameras_that_state_the_upright_size_are_for_upright_pixels(tmp_path):
    turned_image(tmp_path / "a.png", 6, (9, 24))
    scene(tmp_path, {"file_path": "a.png", "transform_matrix": POSE, "w": 30, "h": 40, "cx": 14.0})
    posed = read("transforms", tmp_path)
    assert posed.intrinsics[0, 0, 2] == 14.0
    np.testing.assert_allclose(posed.cam_to_world[0], POSE @ OPENGL_AXES, atol=1e-12)


def test_a_mirrored_image_has_no_camera(tmp_path):
    turned_image(tmp_path / "a.png", 5, (9, 24))
    scene(tmp_path, {"file_path": "a.png", "transform_matrix": POSE})
    assert "mirrors" in refused(tmp_path)


@pytest.mark.parametrize("orientation", OPPOSITE_TURNS)
def test_a_turn_and_its_opposite_change_nothing(orientation):
    matrix, pose = (
        intrinsic_matrix(50.0, np.array([21.0, 13.5])),
        turned_camera(np.array([20.0]), 15.0, 3.0)[0],
    )
    there = turn_camera(matrix, pose, (40, 30), orientation)
    size = (30, 40) if orientation >= 5 else (40, 30)
    back = turn_camera(*there, size, OPPOSITE_TURNS[orientation])
    np.testing.assert_allclose(back[0], matrix, atol=1e-12)
    np.testing.assert_allclose(back[1], pose, atol=1e-12)


# Worlds with axes, origin and unit of their own.


def arc(folder: Path, poses: np.ndarray) -> None:
    frames = [
        {"file_path": f"{k}.png", "transform_matrix": (pose @ OPENGL_AXES).tolist(), "cx": 12.0}
        for k, pose in enumerate(poses)
    ]
    folder.mkdir(exist_ok=True)
    scene(folder, *frames)


@pytest.mark.parametrize("roll", [0.0, 90.0, -90.0])
def test_up_is_found_for_phones_held_upright(roll, tmp_path):
    poses = turned_camera(np.linspace(-70, 70, 12), np.linspace(11, 19, 12), 3.0, roll)
    turn = rigid(rotation_from_vector(np.array([np.pi / 2, 0, 0])), np.zeros(3))  # y up becomes z up
    arc(tmp_path, turn @ poses)
    summary = import_cameras(tmp_path, object_class="car")
    assert (summary["up"], summary["notes"]) == ("+z", [])
    x, y, z = columns(tmp_path / "cameras.h5")["cam_to_world"][:, :3, 3].T
    np.testing.assert_allclose(np.degrees(np.arctan2(y, np.hypot(x, z))), np.linspace(11, 19, 12), atol=0.5)


def test_cameras_that_do_not_show_what_is_up_say_so(tmp_path):
    arc(tmp_path, turned_camera(np.zeros(12), np.linspace(-60, 60, 12), 3.0))
    assert any("guess" in note for note in import_cameras(tmp_path, object_class="car")["notes"])


def test_scenes_have_worlds_of_their_own(tmp_path):
    poses = turned_camera(np.arange(8) * 45.0, 25.0, 3.0)
    for number, (scale, tilt) in enumerate([(1.0, 0.0), (3.0, 0.6), (0.4, -0.5)]):
        moved = poses.copy()
        moved[:, :3, 3] = scale * moved[:, :3, 3] + [number, 2.0, 1.0]
        world = rigid(rotation_from_vector(np.array([tilt, 0.2 * tilt, -tilt])), np.zeros(3))
        arc(tmp_path / f"mug{number}", world @ moved)
    summary = import_cameras(tmp_path, object_class="car")
    assert summary["scale"] == "own"
    positions = columns(tmp_path / "cameras.h5")["cam_to_world"][:, :3, 3]
    distance = np.linalg.norm(positions, axis=1)
    np.testing.assert_allclose(distance, distance[0], rtol=1e-6)
    np.testing.assert_allclose(np.degrees(np.arcsin(positions[:, 1] / distance)), 25.0, atol=0.1)
    # A scale that is given is that of all scenes, and an axis that is given is not corrected.
    chosen = import_cameras(
        tmp_path, tmp_path / "out", object_class="car", alignment=WorldAlignment(up="+y", scale=1.0)
    )
    assert chosen["scale"] == 1.0
    assert "tilt" not in chosen


# Names as other systems spell them.


@pytest.mark.parametrize(
    ("listed", "present"),
    [
        ("images/IMG_0", "images/IMG_0.JPG"),
        ("a.PNG", "a.png"),
        ("K\u00e4.png", "Ka\u0308.png"),
        ("A/b.jpg", "a/b.png"),
    ],
)
def test_names_are_matched_as_people_mean_them(listed, present, tmp_path):
    picture(tmp_path / present, (24, 24))
    scene(tmp_path, {"file_path": listed, "transform_matrix": POSE}, images=False)
    import_cameras(tmp_path, object_class="car")
    assert statuses(tmp_path) == {present: "ok"}


def test_names_of_labels_and_poses_are_matched_too(tmp_path):
    posed = some_images(tmp_path / "eg3d", instances=1, square=True)
    write("eg3d", tmp_path / "eg3d", posed)
    posed = some_images(tmp_path / "srn", instances=1)
    write("srn", tmp_path / "srn", posed)
    for name in ("eg3d", "srn"):
        for image in posed.images:
            (tmp_path / name / image).rename(tmp_path / name / image.replace(".png", ".PNG"))
        assert import_cameras(tmp_path / name, object_class="car")["statuses"] == {"ok": 2}
    poses = tmp_path / "srn/object-0/pose"
    (poses / "000000.txt").rename(poses / unicodedata.normalize("NFC", "e\u0301.txt"))
    (tmp_path / "srn" / posed.images[0].replace("png", "PNG")).rename(
        tmp_path / "srn/object-0/rgb" / unicodedata.normalize("NFD", "\u00e9.png")
    )
    assert read("srn", tmp_path / "srn").status == ["ok", "ok"]


def test_a_pose_of_two_images_is_that_of_none(tmp_path):
    posed = some_images(tmp_path, instances=1)
    write("srn", tmp_path, posed)
    picture(tmp_path / "object-0/rgb/000000.webp")
    import_cameras(tmp_path)
    assert set(statuses(tmp_path).items()) >= {
        ("object-0/rgb/000000.webp", "no_camera"),
        ("object-0/rgb/000001.png", "ok"),
    }


# One entry that cannot be used costs one image.


@pytest.mark.parametrize("text", ["", "1 2 3", "nan " * 16, "1 " * 40000, "x" * 70000])
def test_a_bad_pose_costs_one_image(text, tmp_path):
    posed = some_images(tmp_path, instances=1, views=3)
    write("srn", tmp_path, posed)
    (tmp_path / "object-0/pose/000001.txt").write_text(text)
    (tmp_path / "object-0/pose/._000001.txt").write_bytes(b"\0\5\x16\7Mac OS X")
    (tmp_path / "object-0/rgb/._000001.png").write_bytes(b"\0\5\x16\7Mac OS X")
    summary = import_cameras(tmp_path)
    assert summary["statuses"] == {"no_camera": 1, "ok": 2}
    assert "000001" in summary["notes"][-1]


@pytest.mark.parametrize("label", [None, [], [1] * 24, ["1"] * 25, [True] * 25, {"a": 1}, "x", [10**39] * 25])
def test_a_bad_label_costs_one_image(label, tmp_path):
    posed = some_images(tmp_path, instances=1, views=3, square=True)
    write("eg3d", tmp_path, posed)
    path = tmp_path / "dataset.json"
    content = json.loads(path.read_text())
    content["labels"][1][1] = label
    path.write_text(json.dumps(content))
    assert import_cameras(tmp_path, object_class="car")["statuses"] == {"no_camera": 1, "ok": 2}


@pytest.mark.parametrize(
    "entry",
    [
        {"transform_matrix": None},
        {"transform_matrix": [[1, 0], [0, 1]]},
        {"transform_matrix": "eye"},
        {"transform_matrix": (2.0 * np.eye(4)).tolist()},
        {"transform_matrix": np.diag([-1.0, 1, 1, 1]).tolist()},
        {"transform_matrix": [[1, 0, 0, 1e300], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]},
        {"fl_x": True},
        {"fl_x": "30"},
        {"fl_x": -30},
        {"fl_x": 1e-300},
        {"fl_x": 1e300},
        {"cx": [12]},
        {"cx": 1e12},
        {"w": -24, "h": -24},
        {"w": 1e-310, "h": 1e-310},
        {"k1": {}},
        {"mask_path": "m" * 300, "fl_x": []},
    ],
)
def test_a_bad_frame_costs_one_image(entry, tmp_path):
    path = scene(tmp_path)
    content = json.loads(path.read_text())
    content["frames"][1] |= entry
    path.write_text(json.dumps(content))
    summary = import_cameras(tmp_path, object_class="car")
    assert summary["statuses"] == {"no_camera": 1, "ok": 2}
    assert summary["notes"][-1].startswith("no_camera: 1.png: ")


@pytest.mark.parametrize(
    "shared", [{"w": None, "k1": None, "fl_y": None}, {"k1": 1e-9, "camera_model": "OPENCV"}]
)
def test_null_is_absent_and_tiny_distortion_none(shared, tmp_path):
    scene(tmp_path, **shared)
    assert import_cameras(tmp_path, object_class="car")["usable"] == 3


def test_byte_order_marks_are_skipped_and_errors_name_the_line(tmp_path):
    path = scene(tmp_path)
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert import_cameras(tmp_path, object_class="car")["usable"] == 3
    path.write_text('{"frames": [\n{"file_path": "0.png",}\n]}')
    assert f"{path} line 2: not valid JSON" in refused(tmp_path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[" * 100_000, "nested too deeply"),
        (f'{{"frames": [{{"file_path": "a.png", "fl_x": {"1" * 400}}}]}}', "a number of 400 digits"),
        ('{"frames": [' + ",".join(["[]"] * 160_000) + "]}", "GiB of memory"),
        ('{"frames": null}', "expected `frames`"),
        ('{"frames": [3]}', r"frames[0]: 3 is no frame"),
        ('{"frames": [{"fl_x": 3}]}', r"frames[0]: file_path is absent"),
        ('{"frames": [{"file_path": "\\ud800.png"}]}', "control characters"),
        ('{"frames": [{"file_path": "C:\\\\data\\\\a.png"}]}', "make its paths relative"),
        ('{"frames": [{"file_path": "/data/a.png"}]}', "make its paths relative"),
    ],
)
def test_invalid_json_is_refused_in_a_line(text, reason, tmp_path, monkeypatch):
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "0.01")
    (tmp_path / "transforms.json").write_text(text)
    assert reason in refused(tmp_path)


@pytest.mark.parametrize(
    ("frame", "reason"),
    [
        ({"file_path": "gone"}, "absent, such as gone.png"),
        ({"transform_matrix": (2.0 * np.eye(4)).tolist()}, "scales, shears or mirrors"),
        ({"file_path": f"{'a' * 300}/{'b' * 300}"}, "1 absent"),
        ({"w": 10, "h": 30}, "wrong_shape, such as a.png: its camera is for 10 x 30 pixels"),
    ],
)
def test_an_import_without_a_usable_camera_is_an_error(frame, reason, tmp_path):
    picture(tmp_path / "a.png", (24, 24))
    scene(tmp_path, {"file_path": "a.png", "transform_matrix": POSE} | frame, images=False)
    assert reason in refused(tmp_path)
    assert not (tmp_path / "cameras.h5").exists()


def test_any_value_of_any_field_costs_an_image_or_a_line(tmp_path):
    """A wrong value in a frame or a file of frames makes one image unusable, or is refused; it is never believed."""
    hypothesis = pytest.importorskip("hypothesis")
    values = hypothesis.strategies.recursive(
        hypothesis.strategies.none()
        | hypothesis.strategies.booleans()
        | hypothesis.strategies.integers()
        | hypothesis.strategies.floats()
        | hypothesis.strategies.text(max_size=20),
        lambda inner: (
            hypothesis.strategies.lists(inner, max_size=17)
            | hypothesis.strategies.dictionaries(hypothesis.strategies.text(max_size=3), inner, max_size=3)
        ),
        max_leaves=20,
    )
    keys = [
        "file_path",
        "mask_path",
        "instance",
        "transform_matrix",
        "fl_x",
        "fl_y",
        "cx",
        "w",
        "h",
        "k1",
        "p2",
    ]
    keys += ["camera_model", "camera_angle_x", "is_fisheye", "depth_file_path", "frames"]
    path = scene(tmp_path / "data")
    good = json.loads(path.read_text())

    @hypothesis.settings(max_examples=50, deadline=None, database=None, derandomize=True)
    @hypothesis.given(hypothesis.strategies.sampled_from(keys), values, hypothesis.strategies.booleans())
    def check(key, value, is_shared):
        content = json.loads(json.dumps(good))
        (content if is_shared or key == "frames" else content["frames"][1])[key] = value
        path.write_text(json.dumps(content), encoding="utf-8", errors="surrogatepass")
        message, posed = "", None
        try:
            posed = read("transforms", tmp_path / "data")
        except InputError as error:
            message = str(error)
        assert message.isprintable()
        assert posed is None or is_shared or key == "frames" or posed.usable[[0, 2]].all()
        assert posed is None or np.isfinite(posed.cam_to_world[posed.usable]).all()
        assert posed is None or np.isfinite(posed.intrinsics[posed.usable]).all()

    check()
    assert [path.name for path in tmp_path.iterdir()] == ["data"]


# Masks.


@pytest.mark.parametrize("kind", ["grey", "white", "black", "cut"])
def test_masks_may_be_in_the_alpha_channel(kind, tmp_path):
    scene(tmp_path)
    object_ = np.zeros((24, 24), bool)
    object_[6:18, 6:18] = True
    color = np.full((24, 24), 255 if kind == "white" else 0, np.uint8)
    if kind == "cut":
        color[:] = 90
    alpha = np.where(object_, np.uint8(255), np.uint8(0))
    mask = alpha if kind == "grey" else np.dstack([color, color, color, alpha])
    Image.fromarray(mask).save(tmp_path / "mask-0.png")
    path = tmp_path / "transforms.json"
    content = json.loads(path.read_text())
    content["frames"][0]["mask_path"] = "MASK-0.png"
    path.write_text(json.dumps(content))
    assert import_cameras(tmp_path, object_class="car")["masks"] == 1
    with storage.reading(tmp_path / "masks.h5", "masks/1") as file:
        side = file["mask_window"][0, 2]
        foreground = (file["mask"][0] > 127).sum() * (side / 256) ** 2
        assert foreground == pytest.approx(144, rel=0.03)
        assert file["mask"][0, 128, 128] == 255


# Links and special files.


def test_links_that_leave_the_folder_are_not_read(tmp_path, monkeypatch):
    data = tmp_path / "data"
    data.mkdir()
    path = scene(data)
    picture(tmp_path / "outside.png", (24, 24))
    (data / "0.png").unlink()
    (data / "0.png").symlink_to(tmp_path / "outside.png")
    (data / "mask-1.png").symlink_to(tmp_path / "outside.png")
    content = json.loads(path.read_text())
    content["frames"][1]["mask_path"] = "mask-1.png"
    path.write_text(json.dumps(content))
    summary = import_cameras(data, object_class="car")
    assert statuses(data) == {"0.png": "outside", "1.png": "ok", "2.png": "ok"}
    assert summary["masks"] == 0
    monkeypatch.setenv("NERFGEN_FOLLOW_LINKS", "1")
    assert import_cameras(data, object_class="car", overwrite=True)["usable"] == 3
    monkeypatch.delenv("NERFGEN_FOLLOW_LINKS")
    path.rename(tmp_path / "transforms.json")
    path.symlink_to(tmp_path / "transforms.json")
    assert "leads out of" in refused(data)


def test_pipes_and_odd_names_stop_nothing(tmp_path):
    scene(tmp_path)
    (tmp_path / "0.png").unlink()
    os.mkfifo(tmp_path / "0.png")
    os.mkfifo(tmp_path / "beside.png")
    picture(tmp_path / "a\n\x1b[2J.png")
    with open(os.path.join(os.fsencode(tmp_path), b"\xff.png"), "wb"):
        pass
    import_cameras(tmp_path, object_class="car")
    assert statuses(tmp_path) == {
        "0.png": "unreadable",
        "1.png": "ok",
        "2.png": "ok",
        "a\\n\\x1b[2J.png": "bad_name",
        "\\udcff.png": "bad_name",
        "beside.png": "unreadable",
    }


def test_odd_names_of_objects_stop_nothing(tmp_path):
    posed = some_images(tmp_path / "data")
    write("srn", tmp_path / "data", posed)
    (tmp_path / "data/object-0").rename(tmp_path / "data/a\n\x1b[2J")
    os.rename(tmp_path / "data/object-1", os.path.join(os.fsencode(tmp_path / "data"), b"\xff"))
    assert import_cameras(tmp_path / "data")["statuses"] == {"bad_name": 4, "ok": 2}


# Zips.


def archive(folder: Path, path: Path, *, prefix: str = "", backslash: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for file in sorted(folder.rglob("*")):
            if file.is_file():
                name = prefix + file.relative_to(folder).as_posix()
                content.writestr(name.replace("/", "\\") if backslash else name, file.read_bytes())
        content.writestr(f"__MACOSX/{prefix}._dataset.json", b"Mac OS X")
    return path


@pytest.fixture
def labelled(tmp_path):
    write("eg3d", tmp_path / "data", some_images(tmp_path / "data", instances=1, views=3, square=True))
    return tmp_path / "data"


@pytest.mark.parametrize(
    "how", [{"prefix": "ffhq/"}, {"backslash": True}, {"prefix": "a/b/", "backslash": True}]
)
def test_zips_as_people_make_them(how, labelled, tmp_path):
    path = archive(labelled, tmp_path / "faces.zip", **how)
    assert import_cameras(path, tmp_path / "out", object_class="car")["usable"] == 3
    assert (tmp_path / "out/object-0/rgb/000000.png").is_file()


def edited(path: Path, edit) -> None:
    """Change every entry of a zip's directory, a list of bytes each."""
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\1\2")
    while at >= 0:
        edit(content, at)
        at = content.find(b"PK\1\2", at + 46)
    path.write_bytes(content)


def huge(content: bytearray, at: int) -> None:
    content[at + 24 : at + 28] = (3 * 2**30).to_bytes(4, "little")


def encrypted(content: bytearray, at: int) -> None:
    content[at + 8] |= 1


@pytest.mark.parametrize(("edit", "reason"), [(huge, "3,221,225,472 bytes"), (encrypted, "is encrypted")])
def test_zips_with_bad_members_are_refused_before_anything_is_written(edit, reason, labelled, tmp_path):
    path = archive(labelled, tmp_path / "faces.zip")
    edited(path, edit)
    assert reason in refused(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_zips_that_are_damaged_or_too_large_are_refused(labelled, tmp_path, monkeypatch):
    path = archive(labelled, tmp_path / "faces.zip")
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "damaged zip" in refused(path, tmp_path / "out")
    path.write_bytes(whole)
    with zipfile.ZipFile(path, "a") as content:
        content.writestr("object-0\\rgb/000001.png", b"")
    assert "twice" in refused(path, tmp_path / "out")
    path.write_bytes(whole)
    with monkeypatch.context() as patch:
        patch.setattr(eg3d, "_MAX_DIRECTORY_BYTES", 100)
        assert "more files" in refused(path, tmp_path / "out")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda place: shutil._ntuple_diskusage(9, 9, 0))
        assert "free" in refused(path, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/object-0").symlink_to(tmp_path / "elsewhere")
    assert "leads out of" in refused(path, tmp_path / "out")
    assert not any((tmp_path / "elsewhere").iterdir())


def test_an_unpacking_that_was_killed_goes_on(labelled, tmp_path, monkeypatch):
    path = archive(labelled, tmp_path / "faces.zip")
    taken = []

    def kill(done: int, total: int) -> None:
        taken.append(done)
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_cameras(path, tmp_path / "out", object_class="car", progress=kill)
    first = next((tmp_path / "out").rglob("*.png"))
    before = first.stat().st_mtime_ns
    # What a killed process leaves of a file, whose lock is free.
    with storage.atomic_path(first.with_name("x.png")) as partial:
        left = partial.with_name(partial.name)
        content = partial.name
    left.with_name(content).write_bytes(b"half")
    assert import_cameras(path, tmp_path / "out", object_class="car")["usable"] == 3
    assert first.stat().st_mtime_ns == before
    assert not list((tmp_path / "out").rglob("*.partial*"))


# Exports.


def test_an_equal_export_is_kept_and_other_files_are_not_lost(tmp_path):
    posed = some_images(tmp_path / "data")
    put_cameras(tmp_path / "data/cameras.h5", posed)
    out = tmp_path / "out"
    assert not export_cameras(tmp_path / "data", out)["kept"]
    # A run that was killed after it had finished, and one that was killed before.
    (tmp_path / f".out.{'0' * 8}-{'0' * 12}.partial").mkdir()
    assert export_cameras(tmp_path / "data", out)["kept"]
    with pytest.raises(OutputExistsError, match="scale"):
        export_cameras(tmp_path / "data", out, ExportSettings(scale=2.0))
    assert not export_cameras(tmp_path / "data", out, ExportSettings(scale=2.0), overwrite=True)["kept"]
    (out / "notes.txt").write_text("mine")
    with pytest.raises(OutputExistsError, match=r"notes\.txt was not written by export-cameras"):
        export_cameras(tmp_path / "data", out, overwrite=True)
    for text in ("", "[]", '{"made_of": {"parameters": "{"}, "files": []}'):
        (out / MARKER).write_text(text)
        with pytest.raises(OutputExistsError, match="did not write"):
            export_cameras(tmp_path / "data", out, overwrite=True)
    # The folder of the images is the worst of places.
    with pytest.raises(OutputExistsError, match="did not write"):
        export_cameras(tmp_path / "data", tmp_path / "data", overwrite=True)
    assert (out / "notes.txt").read_text() == "mine"


def test_an_export_reads_nothing_from_outside(tmp_path):
    posed = some_images(tmp_path / "data", instances=1)
    put_cameras(tmp_path / "data/cameras.h5", posed)
    image = tmp_path / "data" / posed.images[0]
    image.rename(tmp_path / "outside.png")
    image.symlink_to(tmp_path / "outside.png")
    for pictures in ("copy", "link", "windows"):
        with pytest.raises(InputError, match="leads out of"):
            export_cameras(tmp_path / "data", tmp_path / "out", ExportSettings(pictures=pictures))
    assert not (tmp_path / "out").exists()
    posed.cam_to_world[0, 0, 0] = np.nan
    put_cameras(tmp_path / "data/cameras.h5", posed)
    with pytest.raises(InputError, match=r"cameras\.h5: dataset cam_to_world has values"):
        export_cameras(tmp_path / "data", tmp_path / "out", ExportSettings(pictures="none"))


def test_windows_make_square_images_for_eg3d(tmp_path):
    posed = some_images(tmp_path / "data", instances=1)
    put_cameras(tmp_path / "data/cameras.h5", posed)
    noted = export_cameras(tmp_path / "data", tmp_path / "plain", ExportSettings("eg3d"))["notes"]
    assert "`pictures` windows" in noted[0]
    settings = ExportSettings("eg3d", "windows", size=32)
    assert not export_cameras(tmp_path / "data", tmp_path / "out", settings)["notes"]
    again, _ = measure_images(tmp_path / "out", eg3d.read(tmp_path / "out")[0])
    assert again.image_size.tolist() == [[32, 32], [32, 32]]
    # The world's origin is in the middle of the window.
    seen, _ = project(np.zeros((1, 1, 3)), again.intrinsics, again.cam_to_world)
    np.testing.assert_allclose(seen[:, 0], 16.0, atol=1e-6)
