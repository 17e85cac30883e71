"""Cameras and landmarks of others: conventions by reprojection, round trips, and what is told of damaged input."""

from __future__ import annotations

import json
import os
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
import scipy.ndimage
from PIL import Image

from nerfgen import artifact
from nerfgen.annotation import read as read_annotations
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.geometry import (
    intrinsic_matrix,
    pixel_centers,
    pixel_rays,
    project,
    rigid,
    rotation_from_vector,
    sphere_window,
    turned_camera,
)
from nerfgen.interchange import (
    FORMATS,
    Placing,
    PosedImages,
    bring,
    bring_landmarks,
    eg3d,
    give,
    srn,
    told,
    transforms,
    world,
)
from nerfgen.interchange.posed import gathered, is_pose
from nerfgen.metric.truth import held_out_views_of
from nerfgen.objectclass import object_class
from nerfgen.synth import write_dataset

ROOT = Path(__file__).parents[1]
CARS = Path(os.environ.get("NERFGEN_DATA", ROOT / "../shared/data")) / "cars"


def picture(path: Path, size=(24, 16), mode="RGB", value=128) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((size[1], size[0], len(mode)), value, np.uint8), mode).save(path)
    return path


def some_cameras(random: np.random.Generator, count: int) -> np.ndarray:
    """Poses about 3 from the origin, looking about there, rolled somewhat."""
    poses = turned_camera(
        *random.uniform(-60, 60, (2, count)), random.uniform(2.5, 3.5, count), random.uniform(-20, 20, count)
    )
    poses[:, :3, 3] += random.normal(0, 0.1, (count, 3))
    return poses


def some_images(folder: Path, *, instances: int = 3, views: int = 2, square: bool = False) -> PosedImages:
    """Images of objects on disk, with cameras that SRN can say too: one lens for an object."""
    random = np.random.default_rng(5)
    names, instance, sizes, matrices = [], [], [], []
    for number in range(instances):
        size = (24, 24) if square else (24 + number, 16)
        matrix = intrinsic_matrix(random.uniform(20, 40), random.uniform(7, 12, 2))
        for view in range(views):
            names.append(f"object-{number}/rgb/{view:06d}.png")
            picture(folder / names[-1], size, value=10 * len(names))
            instance.append(f"object-{number}")
            sizes.append(size)
            matrices.append(matrix)
    count = len(names)
    poses = some_cameras(random, count)
    return PosedImages(
        names, ["ok"] * count, instance, np.array(sizes), np.stack(matrices), poses, [""] * count
    )


def write(name: str, folder: Path, posed: PosedImages) -> None:
    {"srn": srn, "eg3d": eg3d, "transforms": transforms}[name].write(folder, posed, posed.images)


def read(name: str, folder: Path) -> PosedImages:
    listed, _ = {"srn": srn, "eg3d": eg3d, "transforms": transforms}[name].read(folder)
    return gathered(folder, listed)


def put_cameras(path: Path, posed: PosedImages) -> None:
    with artifact.create(path, "cameras/1", object_class="car", parameters={}, inputs=[]) as file:
        for column in ("image", "status", "instance"):
            artifact.put(file, column, getattr(posed, "images" if column == "image" else column))
        for column in ("image_size", "intrinsics", "cam_to_world"):
            artifact.put(file, column, getattr(posed, column))
        artifact.put(file, "window", sphere_window(posed.intrinsics, posed.cam_to_world))


def columns(path: Path) -> dict:
    with artifact.reading(path, "cameras/1") as file:
        return {
            name: artifact.strings(values) if h5py.check_string_dtype(values.dtype) else values[:]
            for name, values in file.items()
        }


# What each format means, against a plain formula of its own convention.


def test_transforms_is_opengl(tmp_path):
    """The pixels of OpenGL's pipeline: view matrix, projection matrix, viewport with y up from the lower edge."""
    posed = some_images(tmp_path)
    write("transforms", tmp_path, posed)
    points = np.random.default_rng(0).uniform(-0.5, 0.5, (20, 3))
    checked = 0
    for path in tmp_path.glob("*/transforms.json"):
        for frame in json.loads(path.read_text())["frames"]:
            eye = np.linalg.inv(np.array(frame["transform_matrix"])) @ np.c_[points, np.ones(20)].T
            near, far, w, h = 0.1, 100.0, frame["w"], frame["h"]
            left, right = -frame["cx"] * near / frame["fl_x"], (w - frame["cx"]) * near / frame["fl_x"]
            bottom, top = -(h - frame["cy"]) * near / frame["fl_y"], frame["cy"] * near / frame["fl_y"]
            frustum = np.array(
                [
                    [2 * near / (right - left), 0, (right + left) / (right - left), 0],
                    [0, 2 * near / (top - bottom), (top + bottom) / (top - bottom), 0],
                    [0, 0, -(far + near) / (far - near), -2 * far * near / (far - near)],
                    [0, 0, -1, 0],
                ]
            )
            clip = frustum @ eye
            device = clip[:2] / clip[3]
            pixels = np.stack([(device[0] + 1) / 2 * w, (1 - device[1]) / 2 * h], axis=-1)
            row = posed.images.index((path.parent / frame["file_path"]).relative_to(tmp_path).as_posix())
            ours, _ = project(points, posed.intrinsics[row], posed.cam_to_world[row])
            np.testing.assert_allclose(ours, pixels, atol=1e-9)
            checked += 1
    assert checked == len(posed.images)


def test_eg3d_rays(tmp_path):
    """Rays as EG3D casts them: through (column + 0.5, row + 0.5) / resolution, of a picture whose edge is 1."""
    posed = some_images(tmp_path, square=True)
    write("eg3d", tmp_path, posed)
    for row, (name, label) in enumerate(json.loads((tmp_path / "dataset.json").read_text())["labels"]):
        assert name == posed.images[row]
        pose, matrix = np.array(label[:16]).reshape(4, 4), np.array(label[16:]).reshape(3, 3)
        place = (np.stack(np.mgrid[:24, :24][::-1], -1).reshape(-1, 2) + 0.5) / 24
        local = np.c_[(place - matrix[:2, 2]) / matrix[(0, 1), (0, 1)], np.ones(24 * 24), np.ones(24 * 24)]
        directions = (local @ pose.T)[:, :3] - pose[:3, 3]
        directions /= np.linalg.norm(directions, axis=1, keepdims=True)
        _, ours = pixel_rays(pixel_centers(24), posed.intrinsics[row], posed.cam_to_world[row])
        np.testing.assert_allclose(ours, directions, atol=1e-9)


def test_srn_intrinsics_are_for_the_stated_size(tmp_path):
    """A picture of half the stated size shows a point at half the pixel, counted from the outer corner."""
    picture(tmp_path / "a/rgb/0.png", (64, 48))
    (tmp_path / "a/pose").mkdir()
    # Row-major camera to world, OpenCV axes: at (0, 0, -5), x right, y down, z ahead.
    (tmp_path / "a/pose/0.txt").write_text("1 0 0 0  0 1 0 0  0 0 1 -5  0 0 0 1")
    (tmp_path / "a/intrinsics.txt").write_text("100.0 60.0 50.0 0.\n0. 0. 0.\n1.\n96 128\n")
    posed = read("srn", tmp_path)
    pixel, depth = project(np.array([[1.0, 0.5, 0.0]]), posed.intrinsics[0], posed.cam_to_world[0])
    np.testing.assert_allclose(pixel[0], [(100 / 5 + 60) / 2, (50 / 5 + 50) / 2])
    assert depth[0] == 5
    assert posed.instance == ["a"]


def test_camera_angle_is_of_the_width(tmp_path):
    """The files of synthetic scenes: an angle only, images without suffix, in parts."""
    picture(tmp_path / "train/r_0.png", (40, 20), "RGBA")
    frame = {"file_path": "./train/r_0", "transform_matrix": np.eye(4).tolist()}
    (tmp_path / "transforms_train.json").write_text(
        json.dumps({"camera_angle_x": 2 * np.arctan(0.5), "frames": [frame]})
    )
    posed = read("transforms", tmp_path)
    assert posed.images == ["train/r_0.png"]
    np.testing.assert_allclose(posed.intrinsics[0], [[40, 0, 20], [0, 40, 10], [0, 0, 1]])
    # The camera looks along -z of the file's world, with y up.
    ahead, depth = project(np.array([[0.0, 1.0, -4.0]]), posed.intrinsics[0], posed.cam_to_world[0])
    np.testing.assert_allclose(ahead[0], [20, 0], atol=1e-12)
    assert depth[0] == 4


@pytest.mark.skipif(not CARS.is_dir(), reason=f"no SRN sample in {CARS} (NERFGEN_DATA)")
def test_views_of_a_real_car_agree(tmp_path):
    """Silhouettes of one object, cut with one another, still cover each of them; the front and the top are ours."""
    summary = bring(CARS, tmp_path)
    assert (summary["format"], summary["class"], summary["up"], summary["front"]) == (
        "srn",
        "car",
        "+y",
        "-z",
    )
    table = columns(tmp_path / "cameras.h5")
    described = object_class("car")
    heights = []
    edge = np.linspace(-1.3, 1.3, 66)
    grid = np.stack(np.meshgrid(edge, edge, edge, indexing="ij"), -1).reshape(-1, 3)
    for name in sorted(set(table["instance"])):
        rows = [row for row, other in enumerate(table["instance"]) if other == name]
        masks = [np.asarray(Image.open(CARS / table["image"][row]).convert("L")) < 250 for row in rows]
        inside = np.ones(len(grid), bool)
        for row, mask in zip(rows, masks, strict=True):
            inside &= _hits(grid, table, row, mask)
        hull = grid[inside]
        for row, mask in zip(rows, masks, strict=True):
            pixels, _ = project(hull, table["intrinsics"][row], table["cam_to_world"][row])
            covered = np.zeros_like(mask)
            column, line = np.floor(pixels).astype(int).T
            covered[line, column] = True
            covered = scipy.ndimage.binary_dilation(covered, iterations=2)
            assert (covered & mask).sum() / mask.sum() > 0.99
        assert (np.abs(hull[:, 0]) < described.bounds[0]).all()
        heights.append([hull[np.abs(hull[:, 2] - z) < 0.1, 1].max() for z in (-0.5, 0.5)])
        # In a world of another axis up, or with OpenGL's axes, hardly anything is common to all views.
        for wrong in (np.diag([1.0, -1, -1, 1]), np.eye(4)[[0, 2, 1, 3]]):
            rest = np.ones(len(grid), bool)
            for row, mask in zip(rows, masks, strict=True):
                other = {**table, "cam_to_world": table["cam_to_world"] @ wrong}
                rest &= _hits(grid, other, row, mask)
            assert rest.sum() < 0.2 * inside.sum()
    # A hood is lower than what is behind the seats.
    behind, before = np.mean(heights, axis=0)
    assert behind > before + 0.08


def _hits(points, table, row, mask):
    pixels, depth = project(points, table["intrinsics"][row], table["cam_to_world"][row])
    at = np.floor(pixels).astype(int)
    there = (at >= 0).all(1) & (at < mask.shape[::-1]).all(1) & (depth > 0)
    hit = np.zeros(len(points), bool)
    hit[there] = mask[at[there, 1], at[there, 0]]
    return hit


# Round trips.


@pytest.mark.parametrize("name", FORMATS)
def test_read_is_the_inverse_of_write(name, tmp_path):
    posed = some_images(tmp_path)
    write(name, tmp_path, posed)
    again = read(name, tmp_path)
    assert (again.images, again.status) == (posed.images, posed.status)
    np.testing.assert_array_equal(again.image_size, posed.image_size)
    np.testing.assert_allclose(again.intrinsics, posed.intrinsics, atol=1e-10)
    np.testing.assert_allclose(again.cam_to_world, posed.cam_to_world, atol=1e-12)
    assert again.instance == (posed.images if name == "eg3d" else posed.instance)
    assert told(tmp_path) == name


@pytest.mark.parametrize("name", FORMATS)
def test_import_of_an_export_is_the_same(name, tmp_path, call):
    """By the command line, with the world turned on the way out and back."""
    posed = some_images(tmp_path / "data")
    put_cameras(tmp_path / "data/cameras.h5", posed)
    call("export-cameras", tmp_path / "data", "--format", name, "-o", tmp_path / "out", "-q")
    call("import", tmp_path / "out", "--class", "car", "--scale", 1, "--center", "0,0,0", "--up", "+y", "-q")
    before, after = columns(tmp_path / "data/cameras.h5"), columns(tmp_path / "out/cameras.h5")
    assert after["image"] == before["image"]
    for column in ("image_size", "intrinsics", "cam_to_world"):
        np.testing.assert_allclose(after[column], before[column], atol=1e-9)
    for image in posed.images:
        assert (tmp_path / "out" / image).read_bytes() == (tmp_path / "data" / image).read_bytes()
    call(
        "export-cameras",
        tmp_path / "out",
        "--format",
        name,
        "-o",
        tmp_path / "again",
        "-q",
        "--pictures",
        "none",
    )
    texts = [path for path in (tmp_path / "out").rglob("*") if path.suffix in (".json", ".txt")]
    assert len(texts) == {"srn": 9, "eg3d": 1, "transforms": 3}[name]
    assert not list((tmp_path / "again").rglob("*.png"))


def test_one_image_an_object_is_one_scene(tmp_path):
    posed = some_images(tmp_path / "data", views=1)
    put_cameras(tmp_path / "data/cameras.h5", posed)
    give(tmp_path / "data", tmp_path / "out", format_name="transforms", pictures="link")
    assert [path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.json")] == [
        "transforms.json"
    ]
    assert read("transforms", tmp_path / "out").instance == posed.instance
    assert (tmp_path / "out" / posed.images[0]).stat().st_nlink == 2


@pytest.mark.parametrize(("up", "front"), [("+z", "-y"), ("-x", "+z"), ("+y", "-z")])
def test_other_axes_up(up, front, tmp_path):
    """Points of a world with other axes, shifted and scaled, are seen at the same pixels from ours."""
    posed = some_images(tmp_path)
    write("eg3d", tmp_path, posed)
    center, scale = (0.3, -0.2, 0.1), 0.5
    bring(tmp_path, class_name="car", placing=Placing(up, front, scale, center))
    table = columns(tmp_path / "cameras.h5")
    axes = {"x": 0, "y": 1, "z": 2}
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 3))
    upward = (-1 if up[0] == "-" else 1) * (points - center)[:, axes[up[1]]]
    forward = (-1 if front[0] == "-" else 1) * (points - center)[:, axes[front[1]]]
    for row in range(len(posed.images)):
        # Where these pixels' rays meet the points' depths in our world.
        pixels, depth = project(points, posed.intrinsics[row], posed.cam_to_world[row])
        origins, directions = pixel_rays(pixels, table["intrinsics"][row], table["cam_to_world"][row])
        reach = scale * depth / (directions @ table["cam_to_world"][row][:3, 2])
        seen = origins + reach[:, None] * directions
        np.testing.assert_allclose(seen[:, 1], scale * upward, atol=1e-9)
        np.testing.assert_allclose(seen[:, 2], scale * forward, atol=1e-9)


def test_default_scale_lets_the_reach_fit_the_pictures(tmp_path):
    posed = some_images(tmp_path, square=True)
    posed.intrinsics[:, :2, 2] = 12
    posed.cam_to_world[:] = turned_camera(np.arange(6) * 50.0, 20, 7.5)
    write("eg3d", tmp_path, posed)
    summary = bring(tmp_path, class_name="cars")
    table = columns(tmp_path / "cameras.h5")
    np.testing.assert_allclose(np.median(table["window"], axis=0), [0, 0, 24], atol=0.8)
    assert summary["distance"] == pytest.approx(7.5 * summary["scale"])


def test_cameras_of_a_scene_watch_its_middle(tmp_path):
    """Scenes of a transforms.json lie anywhere: what their cameras look at becomes the origin."""
    posed = some_images(tmp_path, instances=1, views=5)
    middle = np.array([3.0, -2.0, 5.0])
    posed.cam_to_world[:] = rigid(np.eye(3), middle) @ turned_camera(np.arange(5) * 70.0, 25, 2.0)
    write("transforms", tmp_path, posed)
    bring(tmp_path, class_name="car", placing=Placing(scale=1.0))
    np.testing.assert_allclose(
        np.linalg.norm(columns(tmp_path / "cameras.h5")["cam_to_world"][:, :3, 3], axis=1), 2.0, atol=1e-9
    )


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


def test_models_and_views_are_exported_too(trained, cars, tmp_path, call):
    call("export-cameras", trained, "--data", cars, "--format", "eg3d", "-o", tmp_path / "model", "-q")
    with artifact.reading(trained, "model/1") as file:
        images, poses = artifact.strings(file["image"]), file["cam_to_world"][:]
    again = read("eg3d", tmp_path / "model")
    assert again.images == images
    np.testing.assert_allclose(again.cam_to_world, poses, atol=1e-9)
    views = tmp_path / "views.h5"
    call("render", trained, "--rows", "0-1", "--yaw", "-30,0,40", "--size", 16, "-o", views, "-q")
    call("export-cameras", views, "--format", "transforms", "-o", tmp_path / "views", "-q")
    again = read("transforms", tmp_path / "views")
    with artifact.reading(views, "views/1") as file:
        assert again.images[3] == "000000/003.png" if file["rgb"].shape[1] == 4 else "000001/000.png"
        np.testing.assert_allclose(again.cam_to_world, file["cam_to_world"][:].reshape(-1, 4, 4), atol=1e-9)
        shown = np.asarray(Image.open(tmp_path / "views" / again.images[1]))
        np.testing.assert_array_equal(shown, file["rgb"][0, 1])


# Our own cars in the SRN layout.


@pytest.fixture(scope="module")
def srn_cars(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("srn")
    options = {"size": 24, "views": 2, "heldout_objects": 2, "workers": 1, "seed": 4}
    write_dataset("cars", folder, num_images=3, srn=True, views_per_instance=3, **options)
    return folder


def test_synthetic_srn_is_read_as_its_truth(srn_cars, tmp_path):
    bring(srn_cars, tmp_path, class_name="cars", placing=Placing(scale=1.0))
    table = columns(tmp_path / "cameras.h5")
    with artifact.reading(srn_cars / "truth.h5", "truth/1") as truth:
        assert table["image"] == artifact.strings(truth["image"])
        assert table["instance"] == artifact.strings(truth["instance"])
        assert table["instance"] == [f"{number:06d}" for number in (0, 0, 0, 1, 1, 1, 2, 2, 2)]
        for name in ("intrinsics", "cam_to_world", "window"):
            np.testing.assert_allclose(table[name], truth[name][:], atol=1e-9)
    one = Image.open(srn_cars / "000001/rgb/000002.png")
    assert one.getpixel((0, 0)) == (255, 255, 255)


def test_held_out_views_are_those_of_the_objects(srn_cars):
    """Whichever photograph of an object a model has: the held-out cameras come out where they truly are."""
    with artifact.reading(srn_cars / "truth.h5", "truth/1") as truth:
        images = artifact.strings(truth["image"])
        rows = [7, 4, 2]
        held_out = held_out_views_of(
            [images[row] for row in rows],
            truth["intrinsics"][:][rows],
            truth["cam_to_world"][:][rows],
            24,
            srn_cars / "truth.h5",
        )
        assert held_out.row.tolist() == [2, 2, 1, 1]
        np.testing.assert_allclose(
            held_out.cam_to_world, truth["heldout_cam_to_world"][:].reshape(-1, 4, 4), atol=1e-9
        )


def test_fewer_views_are_the_first_of_more(srn_cars, tmp_path):
    options = {"size": 24, "views": 0, "workers": 1, "seed": 4}
    write_dataset("cars", tmp_path, num_images=2, srn=True, views_per_instance=2, **options)
    for name in ("000000/rgb/000001.png", "000001/pose/000001.txt", "000001/intrinsics.txt"):
        assert (tmp_path / name).read_bytes() == (srn_cars / name).read_bytes()
    # Replaced by pictures of the other layout, nothing is left of it.
    write_dataset("cars", tmp_path, num_images=2, overwrite=True, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["000000.png", "000001.png", "truth.h5"]
    with pytest.raises(InputError, match="SRN"):
        write_dataset("cars", tmp_path / "other", num_images=2, views_per_instance=2, **options)


def test_several_views_share_a_row_of_a_model(srn_cars, tmp_path, run, tiny_options):
    """The whole way by the command line: no landmarks, no masks."""
    assert run("import", srn_cars, "-o", tmp_path, "--class", "cars", "--scale", 1).code == 0
    done = run(
        *("train", srn_cars, "--cameras", tmp_path / "cameras.h5", "--no-masks", "-o", tmp_path / "model.h5"),
        *(*tiny_options, "--steps", 3, "--no-preview"),
    )
    assert done.code == 0, done.err
    with artifact.reading(tmp_path / "model.h5", "model/1") as file:
        assert len(file["latents"]) == 3
        assert len(file["further_row"]) == 6


# Annotated landmarks.

CELEBA = """{count}
lefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x rightmouth_y
000001.jpg  69  109  106  113   77  142   73  152  108  154
000002.jpg  69  110  107  112   81  135   70  151  108  153
000009.jpg  69  110  107  112   81  135   70  151  108  153
"""


def test_celeba(tmp_path):
    for name in ("000001.jpg", "000002.jpg", "000003.jpg"):
        picture(tmp_path / name, (178, 218))
    (tmp_path / "list.txt").write_text(CELEBA.format(count=3))
    summary = bring_landmarks(tmp_path / "list.txt")
    assert (summary["format"], summary["class"]) == ("celeba", "face")
    assert summary["statuses"] == {"absent": 1, "not_annotated": 1, "ok": 2}
    with artifact.reading(tmp_path / "landmarks.h5", "landmarks/1") as file:
        names = artifact.strings(file["landmark_names"])
        assert tuple(names) == object_class("face").landmark_names
        first = dict(zip(names, file["landmarks"][0].tolist(), strict=True))
        assert first == {
            "eye_left": [69, 109],
            "eye_right": [106, 113],
            "nose_tip": [77, 142],
            "mouth_left": [73, 152],
            "mouth_right": [108, 154],
        }
        assert file["image_size"][0].tolist() == [178, 218]
    assert bring_landmarks(tmp_path / "list.txt")["kept"]
    (tmp_path / "list.txt").write_text(CELEBA.format(count=3).replace("  154", ""))
    with pytest.raises(InputError, match="line 3: 9 numbers"):
        bring_landmarks(tmp_path / "list.txt")


def test_celeba_goes_on_to_cameras(tmp_path, run):
    picture(tmp_path / "images/000001.jpg", (178, 218))
    (tmp_path / "list.txt").write_text(CELEBA.format(count=3))
    done = run("import", tmp_path / "list.txt", "--images", tmp_path / "images", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["usable"] == 1
    assert run("fit-cameras", tmp_path / "images").code == 0
    assert columns(tmp_path / "images/cameras.h5")["status"][0] == "ok"


@pytest.mark.parametrize("kind", ["image", "thumbnail", "in_the_wild"])
def test_ffhq(kind, tmp_path):
    """Eyes are the means of their six points; the person's right eye is the viewer's left."""
    random = np.random.default_rng(0)
    aligned, wild = random.uniform(200, 800, (2, 68, 2))
    paths = {
        "image": "images1024x1024/00000/00000.png",
        "thumbnail": "thumbnails128x128/00000/00000.png",
        "in_the_wild": "in-the-wild-images/00000/00000.png",
    }
    entry = {
        "category": "training",
        "image": {
            "file_path": paths["image"],
            "pixel_size": [1024, 1024],
            "face_landmarks": aligned.tolist(),
        },
        "thumbnail": {"file_path": paths["thumbnail"], "pixel_size": [128, 128]},
        "in_the_wild": {
            "file_path": paths["in_the_wild"],
            "pixel_size": [900, 800],
            "face_landmarks": wild.tolist(),
        },
    }
    source = tmp_path / "ffhq-dataset-v2.json"
    source.write_text(json.dumps({"0": entry}))
    picture(tmp_path / paths[kind], (8, 8))
    points = {"image": aligned, "thumbnail": aligned / 8, "in_the_wild": wild}[kind]
    expected = [points[36:42].mean(0), points[42:48].mean(0), points[30], points[48], points[54]]
    found = read_annotations(source)
    assert found.images == (paths[kind],)
    np.testing.assert_allclose(found.points[0], expected)
    summary = bring_landmarks(source, tmp_path / Path(paths[kind]).parts[0])
    assert (summary["format"], summary["usable"]) == ("ffhq", 1)


def test_coco_needs_a_class(tmp_path):
    picture(tmp_path / "a.png")
    names = list(object_class("cat").landmark_names)
    (tmp_path / "cats.json").write_text(
        json.dumps(
            {
                "images": [{"id": 1, "file_name": "a.png"}],
                "categories": [{"id": 1, "name": "cat", "keypoints": names}],
                "annotations": [
                    {
                        "id": 1,
                        "image_id": 1,
                        "category_id": 1,
                        "keypoints": [v for k in range(9) for v in (k, k + 1, 2)],
                    }
                ],
            }
        )
    )
    with pytest.raises(InputError, match="--class"):
        bring_landmarks(tmp_path / "cats.json")
    with pytest.raises(InputError, match="CelebA"):
        bring_landmarks(tmp_path / "cats.json", format_name="celeba")
    assert bring_landmarks(tmp_path / "cats.json", class_name="cat")["usable"] == 1


def test_up_is_told_by_the_pictures():
    poses = turned_camera(np.arange(12) * 30.0, np.arange(12) * 5.0, 3.0)
    assert world.upward_axis(poses) == "+y"
    for up, front in (("+z", "-y"), ("-y", "+x")):
        turn = world.turn_to_ours(up, front)
        assert world.upward_axis(rigid(turn.T, np.zeros(3)) @ poses) == up
