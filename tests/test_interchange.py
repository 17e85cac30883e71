"""Cameras of other programs: the convention of each format, by reprojection, and round trips."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import scipy.ndimage
from PIL import Image
from posed_images import columns, picture, put_cameras, read, some_images, write

from nerfgen import storage
from nerfgen.geometry import pixel_centers, pixel_rays, project, rigid, turned_camera, yaw_pitch_roll
from nerfgen.interchange import (
    FORMATS,
    ExportSettings,
    WorldAlignment,
    detect_format,
    export_cameras,
    import_cameras,
    world_axes,
)
from nerfgen.objectclass import object_class

ROOT = Path(__file__).parents[1]
CARS = Path(os.environ.get("NERFGEN_DATA", ROOT / "../shared/data")) / "cars"


# Each format against a plain formula of its convention.


def test_transforms_is_opengl(tmp_path):
    """The pixels of OpenGL's pipeline: view matrix, projection matrix, viewport with y up from the bottom."""
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
    """Rays as EG3D casts them: through (column + 0.5, row + 0.5) / resolution, in units of the image size."""
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
    """An image of half the stated size shows a point at half the pixel coordinates."""
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


def test_srn_with_more_lines(tmp_path):
    """A near plane before the scale, and the flag of world-to-camera poses behind the size."""
    posed = some_images(tmp_path, instances=1)
    write("srn", tmp_path, posed)
    path = tmp_path / "object-0/intrinsics.txt"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "0.5", *lines[2:], "1"]) + "\n")
    for pose in (tmp_path / "object-0/pose").iterdir():
        inverse = np.linalg.inv(np.loadtxt(pose).reshape(4, 4))
        pose.write_text(" ".join(map(repr, inverse.ravel().tolist())))
    again = read("srn", tmp_path)
    np.testing.assert_allclose(again.cam_to_world, posed.cam_to_world, atol=1e-12)
    np.testing.assert_allclose(again.intrinsics, posed.intrinsics)


def test_a_frontal_face_of_eg3d(tmp_path):
    """Its camera is at +z, upright, and frames the object as the class of faces does."""
    picture(tmp_path / "00023.png", (32, 32))
    pose = np.array([[1.0, 0, 0, 0], [0, -1, 0, 0], [0, 0, -1, 2.7], [0, 0, 0, 1]])
    label = [*pose.ravel().tolist(), 4.2647, 0, 0.5, 0, 4.2647, 0.5, 0, 0, 1]
    (tmp_path / "dataset.json").write_text(json.dumps({"labels": [["00023.png", label]]}))
    assert import_cameras(tmp_path)["class"] == "face"
    table = columns(tmp_path / "cameras.h5")
    np.testing.assert_allclose(yaw_pitch_roll(table["cam_to_world"][0]), 0, atol=1e-9)
    np.testing.assert_allclose(table["window"][0], [0, 0, 32], atol=1e-9)


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
    """The visual hull covers each silhouette; front and top follow nerfgen's axes."""
    summary = import_cameras(CARS, tmp_path)
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
        # With another up axis, or with OpenGL's axes, the visual hull is almost empty.
        for wrong in (np.diag([1.0, -1, -1, 1]), np.eye(4)[[0, 2, 1, 3]]):
            rest = np.ones(len(grid), bool)
            for row, mask in zip(rows, masks, strict=True):
                other = {**table, "cam_to_world": table["cam_to_world"] @ wrong}
                rest &= _hits(grid, other, row, mask)
            assert rest.sum() < 0.2 * inside.sum()
    # A hood is lower than the rear.
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
    assert detect_format(tmp_path) == name


@pytest.mark.parametrize("name", FORMATS)
def test_import_of_an_export_is_the_same(name, tmp_path, call):
    """By the command line, with the world rotated on export and import."""
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
    texts = [
        path
        for path in (tmp_path / "out").rglob("*")
        if path.suffix in (".json", ".txt") and not path.name.startswith(".")
    ]
    assert len(texts) == {"srn": 9, "eg3d": 1, "transforms": 3}[name]
    assert not list((tmp_path / "again").rglob("*.png"))


def test_one_image_an_object_is_one_scene(tmp_path):
    posed = some_images(tmp_path / "data", views=1)
    put_cameras(tmp_path / "data/cameras.h5", posed)
    export_cameras(tmp_path / "data", tmp_path / "out", ExportSettings("transforms", "link"))
    assert [
        path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("[!.]*.json")
    ] == ["transforms.json"]
    assert read("transforms", tmp_path / "out").instance == posed.instance
    assert (tmp_path / "out" / posed.images[0]).stat().st_nlink == 2


@pytest.mark.parametrize(("up", "front"), [("+z", "-y"), ("-x", "+z"), ("+y", "-z")])
def test_other_axes_up(up, front, tmp_path):
    """Points of a world with other axes, shifted and scaled, project to the same pixels in nerfgen's world."""
    posed = some_images(tmp_path)
    write("eg3d", tmp_path, posed)
    center, scale = (0.3, -0.2, 0.1), 0.5
    import_cameras(tmp_path, object_class="car", alignment=WorldAlignment(up, front, scale, center))
    table = columns(tmp_path / "cameras.h5")
    axes = {"x": 0, "y": 1, "z": 2}
    points = np.random.default_rng(1).uniform(-0.5, 0.5, (8, 3))
    upward = (-1 if up[0] == "-" else 1) * (points - center)[:, axes[up[1]]]
    forward = (-1 if front[0] == "-" else 1) * (points - center)[:, axes[front[1]]]
    for row in range(len(posed.images)):
        # The points at the same pixels and depths in nerfgen's world.
        pixels, depth = project(points, posed.intrinsics[row], posed.cam_to_world[row])
        origins, directions = pixel_rays(pixels, table["intrinsics"][row], table["cam_to_world"][row])
        reach = scale * depth / (directions @ table["cam_to_world"][row][:3, 2])
        seen = origins + reach[:, None] * directions
        np.testing.assert_allclose(seen[:, 1], scale * upward, atol=1e-9)
        np.testing.assert_allclose(seen[:, 2], scale * forward, atol=1e-9)


def test_default_scale_fits_the_reach_to_the_images(tmp_path):
    posed = some_images(tmp_path, square=True)
    posed.intrinsics[:, :2, 2] = 12
    posed.cam_to_world[:] = turned_camera(np.arange(6) * 50.0, 20, 7.5)
    write("eg3d", tmp_path, posed)
    summary = import_cameras(tmp_path, object_class="cars")
    table = columns(tmp_path / "cameras.h5")
    np.testing.assert_allclose(np.median(table["window"], axis=0), [0, 0, 24], atol=0.8)
    assert summary["distance"] == pytest.approx(7.5 * summary["scale"])


def test_the_origin_is_where_the_cameras_of_a_scene_look(tmp_path):
    """Scenes of a transforms.json may lie anywhere: the point their cameras look at becomes the origin."""
    posed = some_images(tmp_path, instances=1, views=5)
    middle = np.array([3.0, -2.0, 5.0])
    posed.cam_to_world[:] = rigid(np.eye(3), middle) @ turned_camera(np.arange(5) * 70.0, 25, 2.0)
    write("transforms", tmp_path, posed)
    import_cameras(tmp_path, object_class="car", alignment=WorldAlignment(scale=1.0))
    np.testing.assert_allclose(
        np.linalg.norm(columns(tmp_path / "cameras.h5")["cam_to_world"][:, :3, 3], axis=1), 2.0, atol=1e-9
    )


def test_models_and_views_are_exported_too(trained, cars, tmp_path, call):
    call("export-cameras", trained, "--data", cars, "--format", "eg3d", "-o", tmp_path / "model", "-q")
    with storage.reading(trained, "model/1") as file:
        images, poses = storage.strings(file["image"]), file["cam_to_world"][:]
    again = read("eg3d", tmp_path / "model")
    assert again.images == images
    np.testing.assert_allclose(again.cam_to_world, poses, atol=1e-9)
    views = tmp_path / "views.h5"
    call("render", trained, "--rows", "0-1", "--yaw", "-30,0,40", "--size", 16, "-o", views, "-q")
    call("export-cameras", views, "--format", "transforms", "-o", tmp_path / "views", "-q")
    again = read("transforms", tmp_path / "views")
    with storage.reading(views, "views/1") as file:
        objects, count = file["rgb"].shape[:2]
        assert again.images == [f"{k:06d}/{v:03d}.png" for k in range(objects) for v in range(count)]
        np.testing.assert_allclose(again.cam_to_world, file["cam_to_world"][:].reshape(-1, 4, 4), atol=1e-9)
        shown = np.asarray(Image.open(tmp_path / "views" / again.images[1]))
        np.testing.assert_array_equal(shown, file["rgb"][0, 1])


def test_up_is_estimated_from_the_cameras():
    poses = turned_camera(np.arange(12) * 30.0, np.arange(12) * 5.0, 3.0)
    assert world_axes.nearest_axis(world_axes.estimate_up(poses).direction) == "+y"
    for up, front in (("+z", "-y"), ("-y", "+x")):
        turn = world_axes.axes_rotation(up, front)
        estimate = world_axes.estimate_up(rigid(turn.T, np.zeros(3)) @ poses)
        assert world_axes.nearest_axis(estimate.direction) == up
        assert estimate.is_measured
