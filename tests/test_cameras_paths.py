"""Where the cameras stand: angles, orbits, places to look from, camera paths as files, and the options that say so."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from nerfgen.errors import InputError
from nerfgen.geometry import (
    Cameras,
    angle_grid,
    camera_at,
    field_intrinsics,
    field_of_view,
    framing_intrinsics,
    optical_axis,
    orbit_angles,
    pose_at,
    project,
    rigid,
    rotation_angle,
    sphere_window,
    turned_camera,
    turned_cameras,
    turned_views,
)
from nerfgen.interchange import CameraPath, read_camera_path, write_camera_path
from nerfgen.objectclass import object_class
from nerfgen.render import ViewCameras, ViewFiles
from nerfgen.render.settings import parse_angles
from nerfgen.render.view_files import parse_kinds
from nerfgen.settings import parse_vector

CARS, FACE = object_class("cars"), object_class("face")
POINTS = np.array([[0.3, -0.2, 0.5], [0, 0.4, 0], [-0.6, 0.1, -0.3]])


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def pixels(cameras: Cameras, points: np.ndarray) -> np.ndarray:
    """Where every camera sees the points, in pictures of edge 1."""
    return project(points, cameras.intrinsics, cameras.cam_to_world)[0]


def turned_point(point, yaw, pitch):
    """The point of an object that turns: first about y, then about x. Plain trigonometry."""
    x, y, z = point
    a, b = np.radians([yaw, pitch])
    x, z = np.cos(a) * x + np.sin(a) * z, np.cos(a) * z - np.sin(a) * x
    y, z = np.cos(b) * y - np.sin(b) * z, np.sin(b) * y + np.cos(b) * z
    return x, y, z


@pytest.mark.parametrize("fov", [0.0, 35.0])
def test_points_are_seen_where_the_angles_say(fov):
    angles = angle_grid([-40, 0, 75, 180], [-30, 0, 20])
    cameras = turned_cameras(angles[:, 0], angles[:, 1], 4.0, fov)
    focal = 0.5 / np.tan(np.radians(fov / 2)) if fov else 0.5 * np.sqrt(15)
    seen = pixels(cameras, POINTS)
    for view, (yaw, pitch) in enumerate(angles):
        for place, point in enumerate(POINTS):
            x, y, z = turned_point(point, yaw, pitch)
            expected = 0.5 + focal * x / (4 - z), 0.5 - focal * y / (4 - z)
            np.testing.assert_allclose(seen[view, place], expected, atol=1e-12)


def test_a_positive_yaw_turns_the_front_to_the_right_and_a_positive_pitch_shows_the_top():
    (front,) = pixels(turned_cameras(np.array([30]), np.array([0]), 3.0), np.array([[0, 0, 1.0]]))
    assert front[0, 0] > 0.6
    (top,) = turned_cameras(np.array([0]), np.array([30]), 3.0).cam_to_world
    assert top[1, 3] > 0


def test_the_grid_is_every_yaw_at_every_pitch():
    np.testing.assert_array_equal(
        angle_grid([-40, 0, 40], [0, 15]), [(y, p) for p in (0, 15) for y in (-40, 0, 40)]
    )


def test_an_orbit_all_the_way_round_closes_in_even_steps():
    around = orbit_angles(8, 180, 12)
    np.testing.assert_allclose(around[:, 0], np.arange(8) * 45)
    np.testing.assert_array_equal(around[:, 1], 12)
    poses = turned_cameras(around[:, 0], around[:, 1], 3.0).cam_to_world[:, :3, :3]
    steps = rotation_angle(poses, np.roll(poses, -1, axis=0))
    np.testing.assert_allclose(steps, steps[0], atol=1e-6)


def test_an_orbit_of_a_class_with_a_front_swings_and_closes():
    swing = orbit_angles(16, 45, 10)
    assert np.abs(swing[:, 0]).max() == pytest.approx(45)
    assert swing[:, 1].mean() == pytest.approx(10)
    assert np.abs(np.diff(swing, axis=0, append=swing[:1])).max() < 20, "it closes without a jump"
    assert (np.abs(swing[:, 0]) < 1e-9).sum() == 2, "to the left and to the right"


def test_framing_fills_the_picture_with_the_unit_sphere():
    distance = np.array([1.5, 2.0, 7.0])
    matrices = framing_intrinsics(distance, 96)
    windows = sphere_window(matrices, turned_camera(30, 10, distance))
    np.testing.assert_allclose(windows, np.tile([0.0, 0, 96], (3, 1)), atol=1e-9)
    matrix, pose = turned_views(np.array([0.0, 30]), np.array([5.0, 5]), 3.0, 20)
    np.testing.assert_allclose(matrix[0], framing_intrinsics(3.0, 20))
    np.testing.assert_allclose(pose, turned_camera(np.array([0.0, 30]), 5, 3.0))


def test_a_field_of_view_ends_at_the_edges():
    for fov in (1.0, 60.0, 120.0):
        matrix = field_intrinsics(fov)
        edge = np.tan(np.radians(fov / 2))
        corner, _ = project(np.array([[edge, -edge, 1.0]]), matrix, np.eye(4))
        np.testing.assert_allclose(corner[0], [1, 0], atol=1e-12)
        assert field_of_view(matrix) == pytest.approx(fov)


def test_a_camera_that_looks_at_the_origin_is_the_turned_one(rng):
    for yaw, pitch in [*rng.uniform(-80, 80, (5, 2)), (180, 30), (0, 90), (0, -90)]:
        turned = turned_camera(yaw, pitch, 3.0)
        np.testing.assert_allclose(camera_at(turned[:3, 3]).cam_to_world[0], turned, atol=1e-9)


def test_a_camera_looks_where_it_is_told(rng):
    for _ in range(5):
        position, direction = rng.normal(size=(2, 3))
        cameras = camera_at(position, direction, fov=50)
        (pose,) = cameras.cam_to_world
        rotation = pose[:3, :3]
        np.testing.assert_allclose(rotation @ rotation.T, np.eye(3), atol=1e-12)
        assert np.linalg.det(rotation) == pytest.approx(1)
        np.testing.assert_allclose(optical_axis(pose), direction / np.linalg.norm(direction))
        ahead = position + 2 * direction
        ahead, above = pixels(cameras, ahead + np.array([[0, 0, 0], [0, 0.1, 0]]))[0]
        np.testing.assert_allclose(ahead, 0.5, atol=1e-12)
        assert above[0] == pytest.approx(0.5), "what is above it is above it in the picture"
        assert above[1] < 0.5
        assert field_of_view(cameras.intrinsics)[0] == pytest.approx(50)


@pytest.mark.parametrize("up", np.concatenate([np.eye(3), -np.eye(3)]))
def test_a_view_along_the_upright_still_has_a_camera(up):
    for direction in (up, -up, 3 * up + 1e-9):
        pose = pose_at([1, 2, 3], direction, up)
        np.testing.assert_allclose(pose[:3, :3] @ pose[:3, :3].T, np.eye(3), atol=1e-12)
        np.testing.assert_allclose(optical_axis(pose), direction / np.linalg.norm(direction), atol=1e-8)
    with pytest.raises(ValueError, match="no direction"):
        camera_at([0, 0, 0])


# The format of nerfstudio, as its viewer writes it and as others do: flat, in rows, without the last row.
IN_FRONT = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 4, 0, 0, 0, 1]
AT_THE_RIGHT = [[0, 0, 1, 4], [0, 1, 0, 0], [-1, 0, 0, 0], [0, 0, 0, 1]]
HAND_WRITTEN = {
    "camera_type": "perspective",
    "render_height": 1080,
    "render_width": 1920,
    "fps": 30,
    "seconds": 0.1,
    "is_cycle": True,
    "smoothness_value": 0.5,
    "keyframes": [],
    "camera_path": [
        {"camera_to_world": IN_FRONT, "fov": 90, "aspect": 1.78},
        {"camera_to_world": AT_THE_RIGHT, "fov": 60.0, "aspect": 1.78},
        {"camera_to_world": AT_THE_RIGHT[:3], "fov": 60.0, "aspect": 1.78},
    ],
}


def test_a_path_of_nerfstudio_sees_points_where_its_conventions_say(tmp_path):
    file = tmp_path / "path.json"
    file.write_text(json.dumps(HAND_WRITTEN), encoding="utf-8")
    path = read_camera_path(file)
    assert (path.frames_per_second, path.closed) == (30, True)
    seen = pixels(path.cameras, POINTS)
    x, y, z = POINTS.T
    focal = 0.5 / np.tan(np.radians(30))
    # From the front with 90 degrees: x to the right, y up, depth 4 - z.
    np.testing.assert_allclose(
        seen[0], np.stack([0.5 + 0.5 * x / (4 - z), 0.5 - 0.5 * y / (4 - z)], -1), atol=1e-12
    )
    # From +x: the far side of the object, -z, is at the right.
    right = np.stack([0.5 - focal * z / (4 - x), 0.5 - focal * y / (4 - x)], -1)
    np.testing.assert_allclose(seen[1], right, atol=1e-12)
    np.testing.assert_allclose(seen[2], right, atol=1e-12)


def test_a_path_comes_back_as_it_was(tmp_path, rng):
    poses = rigid(Rotation.random(20, random_state=2).as_matrix(), rng.normal(size=(20, 3)))
    cameras = Cameras(field_intrinsics(rng.uniform(5, 150, 20)), poses)
    file = tmp_path / "path.json"
    write_camera_path(file, CameraPath(cameras, 12.5, closed=True), 256)
    again = read_camera_path(file)
    np.testing.assert_allclose(again.cameras.cam_to_world, poses, atol=1e-12)
    np.testing.assert_allclose(again.cameras.intrinsics, cameras.intrinsics, atol=1e-9)
    assert (again.frames_per_second, again.closed) == (12.5, True)
    told = json.loads(file.read_text(encoding="utf-8"))
    assert told["render_width"] == told["render_height"] == 256
    assert told["seconds"] == pytest.approx(20 / 12.5)
    assert [frame["matrix"] for frame in told["keyframes"]] == [
        c["camera_to_world"] for c in told["camera_path"]
    ]
    with pytest.raises(ValueError, match="centre"):
        write_camera_path(file, CameraPath(Cameras(cameras.intrinsics + 0.1, poses)), 256)
    assert read_camera_path(file).frames_per_second == 12.5
    assert [path.name for path in tmp_path.iterdir()] == ["path.json"]


def with_camera(**changed):
    return HAND_WRITTEN | {"camera_path": [HAND_WRITTEN["camera_path"][0] | changed]}


@pytest.mark.parametrize(
    ("told", "key"),
    [
        ([], "camera_path"),
        ({}, "camera_path"),
        (HAND_WRITTEN | {"camera_path": []}, "camera_path"),
        (HAND_WRITTEN | {"camera_path": [3]}, "camera_path[0]"),
        (HAND_WRITTEN | {"camera_type": "equirectangular"}, "camera_type"),
        (HAND_WRITTEN | {"fps": 0}, "fps"),
        (HAND_WRITTEN | {"fps": float("inf")}, "fps"),
        (with_camera(fov=None), "camera_path[0].fov"),
        (with_camera(fov="50"), "camera_path[0].fov"),
        (with_camera(fov=180), "camera_path[0].fov"),
        (with_camera(fov=float("nan")), "camera_path[0].fov"),
        (with_camera(camera_to_world=None), "camera_path[0].camera_to_world"),
        (with_camera(camera_to_world=np.eye(3).tolist()), "camera_path[0].camera_to_world"),
        (with_camera(camera_to_world=[[1, 0], [2]]), "camera_path[0].camera_to_world"),
        (with_camera(camera_to_world=["1"] * 16), "camera_path[0].camera_to_world"),
        (with_camera(camera_to_world=[float("nan"), *IN_FRONT[1:]]), "camera_path[0].camera_to_world"),
        (with_camera(camera_to_world=np.array(AT_THE_RIGHT).T.tolist()), "row by row"),
        (with_camera(camera_to_world=[2, *IN_FRONT[1:]]), "camera_path[0].camera_to_world"),
        (with_camera(camera_to_world=[-1, *IN_FRONT[1:]]), "mirrors"),
    ],
)
def test_what_is_no_path_is_told_with_file_and_key(told, key, tmp_path):
    file = tmp_path / "path.json"
    file.write_text(json.dumps(told), encoding="utf-8")
    with pytest.raises(InputError) as error:
        read_camera_path(file)
    assert str(file) in str(error.value)
    assert key in str(error.value)
    assert "\n" not in str(error.value)


def test_what_is_no_json_or_not_there_is_told(tmp_path):
    (tmp_path / "path.json").write_bytes(b"\xff\x00")
    for name, told in (("path.json", "not UTF-8 text"), ("none.json", "does not exist")):
        with pytest.raises(InputError, match=told) as error:
            read_camera_path(tmp_path / name)
        assert name in str(error.value)


@pytest.mark.parametrize(
    ("text", "angles"),
    [
        ("-40,0,40", [-40, 0, 40]),
        ("-40:40:9", list(range(-40, 41, 10))),
        ("90, 0:1:2 ,-5.5", [90, 0, 1, -5.5]),
        ("40:-40:3", [40, 0, -40]),
    ],
)
def test_angles_are_read_from_lists_and_ranges(text, angles):
    assert parse_angles("yaw", text) == pytest.approx(angles)


@pytest.mark.parametrize(
    "text", ["left", "1,,2", "0:90", "0:90:1", "0:90:2.5", "0:90:0", "0:1:2:3", "nan", "0:inf:3"]
)
def test_what_are_no_angles_is_told(text):
    with pytest.raises(InputError, match=f"`yaw` {text}"):
        parse_angles("yaw", text)


@pytest.mark.parametrize("text", ["1,2", "1,2,3,4", "a,b,c", "1,2,inf", ""])
def test_what_is_no_vector_is_told(text):
    with pytest.raises(InputError, match=f"`look` {text}"):
        parse_vector("look", text)


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"orbit": 8, "yaw": (0,)}, "`orbit` and `yaw` exclude"),
        ({"orbit": 8, "pitch": (0, 10)}, "one pitch"),
        ({"position": (0, 0, 3), "distance": 2.0}, "`position` and `distance` exclude"),
        ({"position": (0, 0, 3), "pitch": (0,)}, "`position` and `pitch` exclude"),
        ({"look": (0, 0, 3)}, "`look` needs `position`"),
        ({"position": (0, 0, 0)}, "`position` is the origin"),
        ({"position": (0, 0, 3), "look": (0, 0, 0)}, "`look` is not a direction"),
        ({"distance": float("nan")}, "`distance` has to be finite"),
        ({"fov": float("inf")}, "`fov` has to be finite"),
        ({"yaw": (0, float("nan"))}, "`yaw` has to be finite"),
    ],
)
def test_options_that_make_no_camera_are_told(options, told):
    with pytest.raises(InputError, match=told):
        ViewCameras(**options)


def test_the_options_give_the_cameras_that_they_name(model, tmp_path):
    default = ViewCameras().of(CARS, 4.0)
    np.testing.assert_allclose(
        default.path.cameras.cam_to_world, turned_camera(np.array([-40, -20, 0, 20, 40]), 0, 4.0)
    )
    ring = ViewCameras(orbit=6, pitch=(15,), distance=5.0, fov=20.0).of(CARS, 4.0)
    np.testing.assert_allclose(
        ring.path.cameras.cam_to_world, turned_camera(np.arange(6) * 60, 15, 5.0), atol=1e-12
    )
    assert ring.path.closed
    assert field_of_view(ring.path.cameras.intrinsics) == pytest.approx(20)
    swing = ViewCameras(orbit=16).of(FACE, 4.0).path.cameras.cam_to_world
    assert (swing[:, 2, 3] > 0).all(), "a face is seen from the front"
    placed = ViewCameras(position=(1, 2, 3), look=(0, 0, -1)).of(CARS, 4.0).path.cameras
    np.testing.assert_allclose(
        placed.cam_to_world[0], rigid(np.diag([1.0, -1, -1]), np.array([1.0, 2, 3])), atol=1e-12
    )

    file = tmp_path / "ring.json"
    write_camera_path(file, ring.path, 64)
    again = ViewCameras(path=file).of(CARS, 4.0)
    np.testing.assert_allclose(again.path.cameras.cam_to_world, ring.path.cameras.cam_to_world, atol=1e-9)
    assert [record["file"] for record in again.inputs] == ["ring.json"]


def test_parameters_tell_choices_apart():
    choices = [
        ViewCameras(),
        ViewCameras(yaw=(0,)),
        ViewCameras(pitch=(5,)),
        ViewCameras(distance=9),
        ViewCameras(fov=9),
        ViewCameras(orbit=5),
        ViewCameras(orbit=5, pitch=(5,)),
        ViewCameras(position=(0, 0, 3)),
        ViewCameras(position=(0, 0, 3), look=(0, 1, 0)),
    ]
    told = [json.dumps(choice.of(CARS, 4.0).parameters, sort_keys=True) for choice in choices]
    assert len(set(told)) == len(told)
    assert (
        ViewCameras(yaw=parse_angles("yaw", "-40:40:5")).of(CARS, 4.0).parameters
        == ViewCameras().of(CARS, 4.0).parameters
    )


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["render", "--path", "p.json", "--yaw", "-40,40"], "--path and --yaw exclude each other"),
        (["sample", "--path", "p.json", "--orbit", "8"], "--path and --orbit exclude each other"),
        (["sample", "--position", "-1,0,3", "--orbit", "8"], "--position and --orbit exclude each other"),
        (["render", "--codes", "fitted.h5", "--image", "me.jpg"], "--image and --codes exclude each other"),
        (["render", "--codes", "fitted.h5", "--rows", "3"], "--codes and --rows exclude each other"),
        (["render", "--kinds", "depth"], "--kinds has an effect on --png, --sheet and --video only"),
        (["sample", "--fps", "12", "--sheet", "x.png"], "--video and --save-path"),
    ],
)
def test_the_command_line_refuses_what_excludes_each_other(run, words, told, tmp_path):
    done = run(words[0], tmp_path / "model.h5", *words[1:])
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("nerfgen: ")
    assert told in done.err
    assert done.err.count("\n") == 1


def test_pictures_that_can_not_be_are_told_before_anything_is_rendered(tmp_path):
    slow, fast = CameraPath(camera_at([0, 0, 3])), CameraPath(camera_at([0, 0, 3]), 60.0)
    for choice, path, told in (
        (ViewFiles(sheet=tmp_path / "x.xyz"), slow, "x.xyz"),
        (ViewFiles(video=tmp_path / "x.avi"), slow, "x.avi"),
        (ViewFiles(video=tmp_path / "x.gif"), fast, "at most 50"),
        (ViewFiles(video=tmp_path / "x.gif", fps=100), slow, "at most 50"),
    ):
        with pytest.raises(InputError, match=told):
            choice.check(path)
    ViewFiles(video=tmp_path / "x.gif", fps=10).check(fast)
    with pytest.raises(InputError, match="'deep' is not one of rgb, rgba, depth"):
        parse_kinds("kinds", "rgb,deep")
