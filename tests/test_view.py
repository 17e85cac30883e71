"""The viewer, by a page that speaks the messages of the browser's: frames, panels, visitors, and who is let in."""

from __future__ import annotations

import http.client
import io
import json
import queue
import re
import time
from pathlib import Path

import h5py
import msgspec
import numpy as np
import pytest
import typer
from edited import edited
from good_files import make_personal
from PIL import Image

pytest.importorskip("viser")

from websockets.exceptions import InvalidStatus

import nerfgen
from nerfgen.bench.page import Page
from nerfgen.cli.command_line import command_line
from nerfgen.cli.main import app
from nerfgen.errors import InputError
from nerfgen.geometry import camera_at, turned_cameras
from nerfgen.inversion import FitSettings
from nerfgen.live import Listening, LiveModel
from nerfgen.model import find_objects
from nerfgen.view import Viewer, ViewerSettings, compile_programs
from nerfgen.view.keyframes import path_through
from nerfgen.view.screen import Part, ViewerCamera, tiles

DATA = Path(__file__).parent / "data"
WINDOW = (320, 240)
FOV = 0.6
SIZE = 256


@pytest.fixture(scope="module")
def live(tmp_path_factory):
    path = tmp_path_factory.mktemp("view") / "model.h5"
    path.write_bytes((DATA / "model_planes.h5").read_bytes())
    model = LiveModel("faces", path)
    compile_programs(model)
    return model


@pytest.fixture(scope="module")
def viewer(live):
    with Viewer(live, Listening(port=0, max_upload=1.0), ViewerSettings(size=SIZE), as_line=line) as viewer:
        yield viewer


def line(call):
    return command_line(call, typer.main.get_command(app).commands)


@pytest.fixture
def page(viewer):
    with Page(viewer.url, WINDOW) as page:
        page.look(pose(0.0), FOV)
        page.input("Command")
        still(page)
        yield page


def pose(yaw, distance=4.0):
    return turned_cameras(np.array([yaw]), 0.0, distance).cam_to_world[0]


def still(page, quiet=0.6):
    """The sharp frame, when nothing comes after it."""
    last = None
    while True:
        try:
            last = page.frames.get(timeout=quiet if last and last.is_sharp else 30)
        except queue.Empty:
            assert last, "no frame comes"
            assert last.is_sharp, "no sharp frame comes"
            return last.pixels


def differs(one, other):
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def test_a_frame_is_quick_then_sharp(page):
    page.look(pose(30.0), FOV)
    first = page.frames.get(timeout=30).pixels
    assert min(first.shape[:2]) <= 128
    assert first.shape[1] / first.shape[0] == pytest.approx(4 / 3, abs=0.02)
    assert still(page).shape == (SIZE, 341, 3)


def test_frames_are_those_of_render(page, live):
    page.look(pose(20.0), FOV)
    shown = still(page)
    model = nerfgen.load(live.path)
    cameras = turned_cameras(np.array([20.0]), 0.0, 4.0, float(np.degrees(FOV)))
    expected = model.render(
        live.model.principal.mean, cameras, nerfgen.render.RenderSettings(size=SIZE, antialias=1)
    ).rgb[0, 0]
    left = (shown.shape[1] - SIZE) // 2
    assert differs(shown[:, left : left + SIZE], expected) < 6  # a JPEG, half a pixel aside


def test_sliders_move_the_object(page):
    page.set("1 ·", 2.5)
    moved = still(page)
    page.press("Back to the mean")
    mean = still(page)
    assert differs(moved, mean) > 1
    assert page.value("1 ·") == 0
    assert "nearer to the mean than 100%" in page.words()


def test_new_objects_repeat_by_seed(page):
    page.set("Seed", 7)
    first = still(page)
    coordinates = [page.value(f"{axis} ·") for axis in (1, 2)]
    page.press("New object")
    second = still(page)
    assert page.value("Seed") == 8
    assert differs(first, second) > 0.5
    page.set("Seed", 7)
    np.testing.assert_array_equal(still(page), first)
    assert [page.value(f"{axis} ·") for axis in (1, 2)] == coordinates


def test_a_row_has_its_code_and_camera(page, live):
    page.set("Row", 5)
    still(page)
    coefficients = live.model.principal.coefficients(live.model.latents[5:6])[0]
    assert page.value("1 ·") == pytest.approx(np.clip(coefficients[0], -3, 3), abs=0.006)
    page.press("Command for")
    assert page.wait(lambda: "--rows 5" in page.words())
    position = live.model.cam_to_world[5][:3, 3]
    assert f"--position {position[0]:.4g}"[:15] in page.words()


@pytest.mark.slow
def test_looks_differ(page):
    frames = {}
    for kind in ("Depth", "Normals", "Opacity", "Colour"):
        page.set("Show", kind)
        frames[kind] = still(page)
    names = list(frames)
    for number, name in enumerate(names):
        for other in names[number + 1 :]:
            assert differs(frames[name], frames[other]) > 2, (name, other)
    page.set("Beside it", "Depth")
    split = still(page)
    half = split.shape[1] // 2 - 4
    assert differs(split[:, :half], frames["Colour"][:, :half]) < 2
    assert differs(split[:, -half:], frames["Depth"][:, -half:]) < 2
    page.set("Beside it", "One view")
    page.set("Background", False)
    plain = still(page)
    assert plain[0, 0].min() > 245


@pytest.mark.slow
def test_a_walk_between_two_objects(page):
    page.set("Row", 1)
    first = still(page)
    page.press("Pick what is shown as A")
    page.set("Row", 2)
    last = still(page)
    page.press("Pick what is shown as B")
    slider = page.input("From A")
    assert page.wait(lambda: not page.inputs[slider]["props"]["disabled"])
    page.set("From A", 24)
    middle = still(page)
    assert min(differs(middle, first), differs(middle, last)) > 0.2
    page.press("Play")
    assert page.wait(lambda: page.value("From A") not in (24, 0), 10)
    page.press("Stop")
    assert page.wait(lambda: any(label == "Play" for label in page.labels), 10)


def test_names_from_a_model_file_are_shown_as_text(live, tmp_path):
    path = tmp_path / "model.h5"
    path.write_bytes(live.path.read_bytes())
    name = "<img src=x onerror=alert(1)>[a](http:x)`.png"
    with edited(path) as file:
        file["image"][2] = name
    with Viewer(LiveModel("faces", path), Listening(port=0)) as viewer, Page(viewer.url, WINDOW) as page:
        page.look(pose(0.0), FOV)
        page.input("Command")
        page.set("Row", 2)
        assert page.wait(lambda: f"**{name}**" in page.words())
        page.press("Pick what is shown as A")
        assert page.wait(lambda: f"A: {name}" in page.words())
        written = "".join(str(each["props"].get("_markdown", "")) for each in page.inputs.values())
        assert not re.search(r"(?<!\\)[<>\[\]`]", written)


def downloaded(page, name):
    assert page.wait(lambda: name in page.downloads, 120), (page.said, list(page.downloads))
    return page.downloads.pop(name)


@pytest.mark.slow
def test_files_to_take_away(page, live, run, tmp_path):
    page.set("Seed", 3)
    assert page.wait(lambda: "sample 0" in page.words())
    page.set("2 ·", 1.2)
    page.look(pose(25.0), FOV)
    still(page)
    page.set("Size", "128")
    page.press("View (PNG)")
    frame = downloaded(page, "sample_0.png")
    page.press("Command for")
    assert page.wait(lambda: "```" in page.words())
    command = page.words().split("```")[1].strip()
    # The command makes exactly this frame.
    words = [str(live.path) if word == "model.h5" else word for word in command.split()]
    assert words[:2] == ["nerfgen", "render"]
    words[words.index("--png") + 1] = str(tmp_path / "views")
    done = run(*words[1:], "-o", tmp_path / "v.h5")
    assert done.code == 0, done.err
    written = (tmp_path / "views" / "0000_000.png").read_bytes()
    with Image.open(io.BytesIO(frame)) as one, Image.open(io.BytesIO(written)) as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    page.set("Mesh grid", "64")
    page.press("Mesh (GLB)")
    assert downloaded(page, "sample_0.glb")[:4] == b"glTF"
    page.press("Code (HDF5)")
    code = tmp_path / "code.h5"
    code.write_bytes(downloaded(page, "code.h5"))
    found = find_objects(live.model, live.record["sha256"], [f"{code}:0"])
    with h5py.File(code) as file:
        assert file["latents"].shape == (1, live.model.config.code_size)
    expected = nerfgen.load(live.path)
    assert len(found) == 1
    assert expected.principal.coefficients(found.latents)[0, 1] == pytest.approx(1.2, abs=1e-5)


@pytest.mark.slow
def test_a_camera_path(page, tmp_path):
    page.press("Path (nerfstudio")
    assert page.wait(lambda: any("two cameras" in body for _, body in page.said))
    for number, yaw in enumerate((-30.0, 0.0, 30.0)):
        page.look(pose(yaw), FOV)
        still(page)
        page.press("Add this camera")
        assert page.wait(lambda number=number: f"{number + 1} keyframes" in page.words())
    page.set("Seconds a part", 0.5)
    page.press("Path (nerfstudio")
    path = json.loads(downloaded(page, "path.json"))
    assert len(path["camera_path"]) == 2 * 12 + 1
    assert path["camera_path"][0]["fov"] == pytest.approx(np.degrees(FOV), abs=1e-3)


@pytest.mark.slow
def test_a_turntable(page):
    page.set("Size", "128")
    page.press("Turntable")
    assert downloaded(page, "mean.mp4")[4:8] == b"ftyp"


def test_training_cameras_take_their_rows(page, live):
    page.set("Training cameras", True)
    still(page)
    assert page.wait(lambda: len(page.nodes) == len(live.model.images))
    page.click("/after/4")
    assert page.wait(lambda: f"**{live.model.images[4]}**" in page.words(), 20)
    assert page.inputs[page.input("Before refinement")]["props"]["disabled"]


def test_visitors_have_their_own_state_and_leave(viewer, page):
    with Page(viewer.url, WINDOW) as other:
        other.look(pose(0.0), FOV)
        other.input("Command")
        still(other)
        assert len(viewer.visitors) == 2
        page.set("1 ·", 2.0)
        still(page)
        assert other.value("1 ·") == 0
        assert other.frames.empty()
    deadline = time.monotonic() + 10
    while len(viewer.visitors) > 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(viewer.visitors) == 1


def noise(size=(64, 64)):
    stream = io.BytesIO()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (*size, 3), np.uint8)).save(stream, "PNG")
    return stream.getvalue()


@pytest.mark.mediapipe
@pytest.mark.parametrize(
    ("content", "words"),
    [(b"no image at all", "can't be used (unreadable)"), (noise(), "can't be fitted (no_object)")],
)
def test_images_that_can_not_be_fitted_say_why(page, content, words):
    page.upload("Choose an image", "me.png", content)
    assert page.wait(lambda: words in page.words(), 90), page.words()


def test_what_fitting_lacks_is_said_before_an_image_is_sent(live, tmp_path):
    lacking = FitSettings(landmarker=tmp_path / "absent.h5")
    with (
        Viewer(live, Listening(port=0), ViewerSettings(), lacking) as viewer,
        Page(viewer.url, WINDOW) as page,
    ):
        page.look(pose(0.0), FOV)
        button = page.input("Choose an image")
        assert page.inputs[button]["props"]["disabled"]
        assert page.wait(lambda: "absent.h5" in page.words(), 10), page.words()


def answer(port, target, headers=None):
    """The answer to a request, read."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", target, headers=headers or {})
        response = connection.getresponse()
        response.read()
        return response
    finally:
        connection.close()


@pytest.mark.parametrize(
    ("headers", "refused"),
    [
        ({}, False),
        ({"Origin": "http://evil.example"}, True),
        ({"Origin": "null"}, True),
        ({"Host": "evil.example"}, True),
    ],
)
def test_other_sites_get_neither_page_nor_connection(viewer, headers, refused):
    response = answer(viewer.port, "/", headers)
    assert response.status == (403 if refused else 200)
    if refused and "Origin" in headers:
        with pytest.raises(InvalidStatus), Page(viewer.url, WINDOW, headers):
            pass
    if not refused:
        assert response.headers["X-Frame-Options"] == "DENY"


def test_a_token_opens_the_page_once_and_its_cookie_after(live):
    with Viewer(live, Listening(host="0.0.0.0", port=0)) as viewer:
        assert viewer.token in viewer.url
        assert answer(viewer.port, "/").status == 403
        assert answer(viewer.port, "/?token=wrong").status == 403
        cookie = answer(viewer.port, f"/?token={viewer.token}").headers["Set-Cookie"].partition(";")[0]
        plain = f"http://127.0.0.1:{viewer.port}/"
        with pytest.raises(InvalidStatus), Page(plain, WINDOW):
            pass
        with Page(plain, WINDOW, {"Cookie": cookie}) as page:
            page.look(pose(0.0), FOV)
            page.input("Seed")


def encoded(**message):
    return msgspec.msgpack.encode(message)


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xc1",
        "text",
        encoded(),
        encoded(type="ShareUrlRequest"),
        encoded(type="NoSuchMessage"),
        encoded(type="GuiUpdateMessage", uuid="x", updates={"update_cb": []}),
        encoded(type="GuiUpdateMessage", uuid="x", updates={"value": float("nan")}),
        encoded(type="ViewerCameraMessage", position=[1e30, 0, 0]),
        encoded(type="FileTransferStartUpload", transfer_uuid="x", size_bytes=1 << 40, part_count=1),
        encoded(
            type="FileTransferStartUpload", transfer_uuid="x", filename="x", size_bytes=3, part_count=10**6
        ),
        encoded(
            type="FileTransferStartUpload",
            transfer_uuid="x",
            filename="x" * 10**5,
            size_bytes=0,
            part_count=0,
        ),
        encoded(type="FileTransferPart", transfer_uuid="x", part_index=0, content=b"abc"),
        encoded(type="GuiUpdateMessage", uuid="x", updates={"value": " nan"}),
        encoded(type="ViewerCameraMessage", fov="inf", image_height=9, image_width=9),
        b"\x81\xa4type" + b"\x91" * 5000,
        b"0" * (2 << 20),
    ],
)
def test_messages_that_no_page_sends_end_the_connection(viewer, message):
    with Page(viewer.url, WINDOW) as page:
        page.send_raw(message)
        assert page.wait(lambda: bool(page.closed), 20)
    with Page(viewer.url, WINDOW) as page:  # others are served on
        page.look(pose(0.0), FOV)
        page.input("Seed")


@pytest.mark.parametrize(
    "parts", [[(0, b"1234")], [(1, b"123")], [(0, b"12"), (1, b"3")], [(0, b"123"), (0, b"123")]]
)
def test_parts_that_are_not_those_of_their_file_end_the_connection(viewer, parts):
    with Page(viewer.url, WINDOW) as page:
        page.look(pose(0.0), FOV)
        page.look(pose(0.0), FOV)
        button = page.input("Choose an image")
        start = {"source_component_uuid": button, "transfer_uuid": "x", "filename": "a", "mime_type": ""}
        page.send("FileTransferStartUpload", **start, part_count=1, size_bytes=3)
        for number, content in parts:
            page.send(
                "FileTransferPart",
                source_component_uuid=button,
                transfer_uuid="x",
                part_index=number,
                content=content,
            )
        assert page.wait(lambda: "not announced" in page.closed, 20)


def test_a_page_without_a_size_waits_until_it_has_one(viewer):
    with Page(viewer.url, (0, 0)) as page:
        page.look(pose(0.0), FOV)
        page.size = WINDOW
        page.look(pose(0.0), FOV)
        page.input("Seed")


def test_visitors_who_leave_at_once_are_forgotten(viewer):
    for _ in range(20):
        with Page(viewer.url, WINDOW) as page:
            page.look(pose(0.0), FOV)
    deadline = time.monotonic() + 20
    while viewer.visitors and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not viewer.visitors


def test_a_port_that_is_taken(viewer, live):
    with pytest.raises(InputError, match="port"):
        Viewer(live, Listening(port=viewer.port))


def test_tiles_cover_a_frame_once_and_begin_in_the_middle():
    count = np.zeros((300, 500), int)
    found = list(tiles(300, 500))
    for part in found:
        count[part.top : part.top + part.height, part.left : part.left + part.width] += 1
    assert (count == 1).all()
    assert found[0] == Part(128, 128, 128, 128) or found[0] == Part(128, 256, 128, 128)


@pytest.mark.parametrize("aspect", [0.2, 0.5, 1.0, 1.6, 6.0])
def test_the_square_in_the_window_is_that_of_the_command(aspect):
    camera = ViewerCamera(np.eye(4), 0.8, aspect)
    height, width = camera.raster(128)
    matrix = camera.intrinsics(height, width)
    # A point at the edge of the square is at the edge of the shorter side of the window.
    side = np.tan(np.radians(camera.square_fov) / 2)
    x, y, _ = matrix @ [side, side, 1.0]
    across, down = (x - width / 2) / (width / 2), (y - height / 2) / (height / 2)
    assert max(across, down) == pytest.approx(1.0)
    assert min(height, width) == 128


def test_a_path_passes_its_keyframes_and_turns_about_the_object():
    keyframes = [
        camera_at(turned_cameras(np.array([yaw]), 10.0, 4.0).cam_to_world[0, :3, 3]) for yaw in (-60, 0, 60)
    ]
    path = path_through(keyframes, 10)
    assert len(path.cam_to_world) == 21
    for number, keyframe in enumerate(keyframes):
        np.testing.assert_allclose(path.cam_to_world[10 * number], keyframe.cam_to_world[0], atol=1e-6)
    np.testing.assert_allclose(np.linalg.norm(path.cam_to_world[:, :3, 3], axis=1), 4.0, atol=1e-6)


def test_objects_of_a_file_are_shown(live, tmp_path):
    file = tmp_path / "anna.h5"
    make_personal(file, live.path)
    settings = ViewerSettings(size=SIZE, codes=f"{file}:0,2")
    with Viewer(live, Listening(port=0), settings, as_line=line) as viewer, Page(viewer.url, WINDOW) as page:
        page.look(pose(0.0), FOV)
        page.input("Command")
        first = still(page)
        assert "Shown: **anna**" in page.words()
        page.set("Of the file", "1 · second.jpg")
        second = still(page)
        assert differs(first, second) > 0.5
        assert "Shown: **second.jpg**" in page.words()
        page.press("Command for")
        assert page.wait(lambda: f"--codes {file}:2" in page.words())
        assert "Save the code first" not in page.words()
        page.press("Back to the mean")
        assert differs(still(page), second) > 0.5


def test_a_file_without_usable_objects_is_refused(live, tmp_path):
    file = tmp_path / "anna.h5"
    make_personal(file, live.path)
    with edited(file) as opened:
        opened["status"][:] = "no_object"
    with pytest.raises(InputError, match=r"`codes` .*anna.h5:1 has no usable objects"):
        Viewer(live, Listening(port=0), ViewerSettings(codes=f"{file}:1"), as_line=line)
    with pytest.raises(InputError, match=r"anna.h5:7: out of range"):
        Viewer(live, Listening(port=0), ViewerSettings(codes=f"{file}:7"), as_line=line)
