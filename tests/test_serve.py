"""The rendering service, as programs see it: over HTTP, from a server that listens."""

from __future__ import annotations

import base64
import contextlib
import csv
import importlib.util
import io
import json
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from imageio_ffmpeg import count_frames_and_secs
from PIL import Image

from nerfgen.errors import InputError
from nerfgen.geometry import turned_cameras
from nerfgen.live import Listening
from nerfgen.model import load_model
from nerfgen.render import render_views
from nerfgen.synth import SynthSettings, synthesize

httpx = pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("fastapi_offline")
pytest.importorskip("prometheus_client")
pytest.importorskip("hypothesis")

from hypothesis import HealthCheck, given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

from nerfgen import serve  # noqa: E402
from nerfgen.serve import Capacity, Limits, Server  # noqa: E402

DATA = Path(__file__).parent / "data"
PLANES, MLP = DATA / "model_planes.h5", DATA / "model_mlp.h5"
ANY_PORT = Listening(port=0)
FRONT = {"yaw": [0]}
PNG, JSON, NPZ = "image/png", "application/json", "application/x-npz"


@contextlib.contextmanager
def serving(*paths, listening=ANY_PORT, limits=Limits(), ready=True, **capacity):
    """A server that listens, and a client of it."""
    held = Capacity(**{"grace": 1.0, **capacity})
    with Server(paths or (PLANES,), listening, held, limits) as server:
        if ready:
            server.service.warm_up()
        with httpx.Client(base_url=server.url, timeout=60) as client:
            wait_for(lambda: client.get("/healthz").status_code == 200, errors=httpx.ConnectError)
            yield server, client


def wait_for(condition, seconds=30.0, errors=()):
    """Wait until a condition holds."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        with contextlib.suppress(errors or ZeroDivisionError):
            if condition():
                return
        time.sleep(0.02)
    raise AssertionError("the condition does not hold")


@pytest.fixture(scope="module")
def served():
    """A server of two models for all tests that do not need another one."""
    limits = Limits(
        max_size=128, max_views=24, max_rays=200_000, max_codes=14, max_resolution=40, max_steps=20
    )
    with serving(PLANES, MLP, limits=limits) as found:
        yield found


@pytest.fixture(scope="module")
def client(served):
    return served[1]


@pytest.fixture(scope="module")
def planes():
    return load_model(PLANES)


def render(client, body, accept="*/*", **headers):
    return client.post("/v1/render", json=body, headers={"Accept": accept, **headers})


def picture(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


def arrays(answer):
    assert answer.status_code == 200, answer.text
    with np.load(io.BytesIO(answer.content)) as file:
        return dict(file)


def field_of(answer):
    """The field that a refusal names."""
    assert answer.status_code == 422, (answer.status_code, answer.text)
    (detail, *_) = answer.json()["detail"]
    return ".".join(map(str, detail["loc"][1:]))


@pytest.mark.parametrize("kind", ["rgb", "rgba", "depth", "normals", "opacity"])
def test_a_png_is_the_one_that_the_command_writes(client, call, tmp_path, kind):
    call(
        "render", PLANES, "--rows", 3, "--yaw", 20, "--size", 40, "--png", tmp_path, "--kinds", kind,
        "-o", tmp_path / "views.h5", "-q",
    )  # fmt: skip
    suffix = "png" if kind == "rgb" else f"{kind}.png"
    turned = render(client, {"rows": [3], "cameras": {"yaw": [20]}, "size": 40, "kind": kind}, PNG)
    own = render(client, {"rows": "3", "size": 40, "kind": kind}, PNG)
    for answer, view in ((own, 0), (turned, 1)):
        with Image.open(tmp_path / f"0003_{view:03d}.{suffix}".replace("0003", "0000")) as expected:
            assert np.array_equal(picture(answer), np.asarray(expected))
            assert Image.open(io.BytesIO(answer.content)).mode == expected.mode


def test_arrays_are_those_of_render_views(client, planes):
    body = {"rows": [2, 5], "cameras": {"yaw": [-30, 10], "pitch": [5]}, "size": 24, "with_normals": True}
    found = arrays(render(client, body, NPZ))
    cameras = turned_cameras(np.array([-30.0, 10.0]), 5.0, planes.distance)
    for place, row in enumerate([2, 5]):
        expected = render_views(
            planes,
            np.tile(planes.latents[row], (2, 1)),
            cameras.matrices(24),
            cameras.cam_to_world,
            24,
            antialias=3,
            with_normals=True,
        )
        for name, values in vars(expected).items():
            np.testing.assert_array_equal(found[name][place], values)
        np.testing.assert_array_equal(found["intrinsics"][place], cameras.matrices(24))
        np.testing.assert_array_equal(found["cam_to_world"][place], cameras.cam_to_world)
    np.testing.assert_array_equal(found["latents"], planes.latents[[2, 5]])


def test_answers_follow_accept(client, tmp_path):
    body = {"rows": [0, 1], "cameras": {"yaw": [-20, 0, 20]}, "size": 16}
    plain = render(client, body)
    assert plain.headers["content-type"] == JSON
    assert (plain.json()["size"], len(plain.json()["views"])) == (16, 2)
    first = np.asarray(Image.open(io.BytesIO(base64.b64decode(plain.json()["views"][0][0]))))
    assert np.array_equal(first, arrays(render(client, body, NPZ))["rgb"][0, 0])
    sheet = picture(render(client, body, "text/html, image/png;q=0.9, */*;q=0.1"))
    assert sheet.shape == (2 * 18 - 2, 3 * 18 - 2, 3)
    assert np.array_equal(sheet[:16, :16], first)
    jpeg = render(client, body, "image/jpeg")
    assert (Image.open(io.BytesIO(jpeg.content)).format, picture(jpeg).shape) == ("JPEG", sheet.shape)
    video = render(client, {**body, "cameras": {"orbit": 5}, "fps": 10}, "video/mp4")
    assert (video.status_code, video.headers["content-type"]) == (200, "video/mp4")
    (tmp_path / "turn.mp4").write_bytes(video.content)
    assert count_frames_and_secs(tmp_path / "turn.mp4") == (5, 0.5)
    refused = render(client, body, "text/html")
    assert refused.status_code == 406
    assert all(each in refused.json()["detail"] for each in (JSON, PNG, NPZ, "video/mp4", "image/jpeg"))


def test_objects_by_codes_coordinates_and_seed(client, planes):
    principal = planes.principal
    body = {"cameras": FRONT, "size": 12}
    by_row = arrays(render(client, {**body, "rows": "4-5"}, NPZ))
    by_code = arrays(render(client, {**body, "latents": planes.latents[4:6].tolist()}, NPZ))
    np.testing.assert_array_equal(by_row["rgb"], by_code["rgb"])
    moved = arrays(render(client, {**body, "coordinates": [[1.5], [-1.0]]}, NPZ))["latents"]
    expected = principal.mean + np.array([[1.5], [-1.0]]) * principal.deviation[0] * principal.axes[0]
    np.testing.assert_allclose(moved, expected, atol=1e-6)
    draw = {"count": 3, "seed": 5, "truncation": 0.5}
    drawn = arrays(client.post("/v1/sample", json=draw, headers={"Accept": NPZ}))
    seen = arrays(render(client, {**body, "sample": draw}, NPZ))["latents"]
    np.testing.assert_array_equal(drawn["latents"], seen)
    assert client.post("/v1/sample", json=draw).json()["latents"] == drawn["latents"].tolist()
    assert drawn["coefficients"].shape == (3, principal.varying)


def test_cameras_as_matrices_are_those_of_the_angles(client, planes):
    cameras = turned_cameras(np.array([15.0]), -5.0, planes.distance, 30.0)
    matrices = {name: part.tolist() for name, part in cameras._asdict().items()}
    angles = {"yaw": [15], "pitch": [-5], "fov": 30}
    position = {"position": cameras.cam_to_world[0, :3, 3].tolist(), "fov": 30}
    views = [
        arrays(render(client, {"rows": [1], "cameras": given, "size": 16}, NPZ))["rgb"]
        for given in (angles, matrices, position)
    ]
    np.testing.assert_array_equal(views[0], views[1])
    assert np.abs(views[0].astype(int) - views[2]).max() <= 1


def test_models_are_described(client, planes):
    found = client.get("/v1/models").json()
    assert found["limits"]["max_views"] == 24
    first = found["models"][0]
    assert (first["name"], first["class"], first["rows"], first["size"]) == ("model_planes", "face", 14, 32)
    assert first["loaded"]
    assert first["distance"] == pytest.approx(planes.distance)
    np.testing.assert_allclose(first["spectrum"], planes.principal.spectrum, atol=1e-6)
    principal = arrays(client.get("/v1/models/model_planes/principal", headers={"Accept": NPZ}))
    for name, values in vars(planes.principal).items():
        np.testing.assert_array_equal(principal[name], values)
    rows = arrays(client.get("/v1/models/model_planes/rows?rows=0,3-4", headers={"Accept": NPZ}))
    np.testing.assert_array_equal(rows["latents"], planes.latents[[0, 3, 4]])
    assert rows["name"].tolist() == [planes.images[row] for row in (0, 3, 4)]
    assert client.get("/v1/models/absent/principal").status_code == 404
    other = render(client, {"model": "model_mlp", "rows": [0], "size": 12}, NPZ)
    assert not np.array_equal(
        arrays(other)["rgb"], arrays(render(client, {"rows": [0], "size": 12}, NPZ))["rgb"]
    )


def test_meshes_are_those_of_the_library(client, planes):
    from nerfgen.mesh import MeshSettings, object_surface

    body = {"rows": [2], "resolution": 24, "level": 1.0}
    expected = object_surface(planes, planes.latents[2], MeshSettings(resolution=24, level=1.0))
    found = arrays(client.post("/v1/mesh", json=body, headers={"Accept": NPZ}))
    np.testing.assert_array_equal(found["vertices"], expected.mesh.vertices)
    np.testing.assert_array_equal(found["colors"], expected.mesh.colors)
    for media, start in (("*/*", b"glTF"), ("application/x-ply", b"ply"), ("model/obj", b"# ")):
        answer = client.post("/v1/mesh", json=body, headers={"Accept": media})
        assert answer.status_code == 200
        assert answer.content.startswith(start)


BAD = [
    ({"rows": [14]}, "rows"),
    ({"rows": "0-x"}, "rows"),
    ({"rows": []}, "rows"),
    ({"rows": [-1]}, "rows"),
    ({"rows": "all", "size": 2**70}, "size"),
    ({}, "rows"),
    ({"rows": [0], "latents": [[0, 0, 0, 0]]}, "rows"),
    ({"latents": [[0, 0, 0]], "cameras": FRONT}, "latents"),
    ({"latents": [[0, 0], [0]], "cameras": FRONT}, "latents"),
    ({"latents": [[1e300, 0, 0, 0]], "cameras": FRONT}, "latents"),
    ({"latents": [[0, 0, 0, "a"]], "cameras": FRONT}, "latents.0.3"),
    ({"latents": [[0, 0, 0, 0]]}, "cameras"),
    ({"coordinates": [[0] * 5], "cameras": FRONT}, "coordinates"),
    ({"coordinates": [[1e6]], "cameras": FRONT}, "coordinates"),
    ({"sample": {"count": 0}, "cameras": FRONT}, "count"),
    ({"sample": {"seed": -1}, "cameras": FRONT}, "seed"),
    ({"rows": [0], "size": 0}, "size"),
    ({"rows": [0], "samples": 0}, "samples"),
    ({"rows": [0], "antialias": 9}, "antialias"),
    ({"rows": [0], "kind": "colour"}, "kind"),
    ({"rows": [0], "fps": 0}, "fps"),
    ({"rows": [0], "photo": 1}, "photo"),
    ({"rows": [0], "cameras": {"yaw": [0], "orbit": 3}}, "orbit"),
    ({"rows": [0], "cameras": {"fov": 200}}, "fov"),
    ({"rows": [0], "cameras": {"position": [0, 0, 0]}}, "position"),
    ({"rows": [0], "cameras": {"position": [0, 0]}}, "cameras.position.2"),
    ({"rows": [0], "cameras": {"look": [0, 0, 1]}}, "look"),
    ({"rows": [0], "cameras": {"path": "/etc/passwd"}}, "cameras.path"),
    ({"rows": [0], "cameras": {"intrinsics": [np.eye(3).tolist()]}}, "intrinsics"),
    (
        {
            "rows": [0],
            "cameras": {"intrinsics": [np.eye(3).tolist()], "cam_to_world": [np.ones((4, 4)).tolist()]},
        },
        "cam_to_world",
    ),
    (
        {
            "rows": [0],
            "cameras": {"intrinsics": [np.ones((3, 3)).tolist()], "cam_to_world": [np.eye(4).tolist()]},
        },
        "intrinsics",
    ),
    ({"fitted": [0]}, "fitted"),
    ({"rows": [0], "background": "9999"}, "background"),
    ({"rows": [0], "background": "/etc/hostname"}, "background"),
    # Beyond the limits of this server.
    ({"rows": [0], "size": 129}, "size"),
    ({"rows": [0], "samples": 129}, "samples"),
    ({"rows": "all", "cameras": {"yaw": [0, 10]}}, "cameras"),
    ({"rows": [0], "cameras": {"orbit": 10**9}}, "cameras"),
    ({"rows": [0], "cameras": {"yaw": [], "pitch": [0] * 10**5}}, "cameras"),
    ({"rows": ",".join(["0-13"] * 10**5)}, "rows"),
    ({"rows": [0], "cameras": {"yaw": [0] * 10, "pitch": [0] * 10}}, "cameras"),
    ({"rows": "0-13", "size": 128}, "size"),
    ({"sample": {"count": 15}, "cameras": FRONT}, "count"),
]


@pytest.mark.parametrize(("body", "field"), BAD, ids=[str(body)[:60] for body, _ in BAD])
def test_wrong_values_are_named(client, body, field):
    assert field_of(render(client, body)) == field


def test_wrong_requests_of_other_kinds(client):
    def mesh(**body):
        return client.post("/v1/mesh", json={"rows": [0], **body})

    assert field_of(mesh(resolution=41)) == "resolution"
    assert field_of(mesh(resolution=2)) == "resolution"
    assert field_of(mesh(rows=[0, 1])) == "rows"
    assert field_of(mesh(rows=None, sample={"count": 2})) == "sample"
    assert field_of(client.post("/v1/sample", json={"count": 15})) == "count"
    assert field_of(client.get("/v1/models/model_planes/rows?rows=0-20")) == "rows"
    assert client.post("/v1/render", json={"model": "../x", "rows": [0]}).status_code == 404
    for content in (
        b"{",
        b"[" * 100_000,
        b'{"rows": [NaN]}',
        b"\xff\xfe",
        b'{"size": 1' + b"0" * 5000 + b"}",
        b"",
    ):
        answer = client.post("/v1/render", content=content, headers={"Content-Type": JSON})
        assert answer.status_code in (400, 422), content[:20]
    assert client.get("/v1/render").status_code == 405
    assert client.get("/v1/absent").status_code == 404
    assert field_of(client.post("/v1/fit", files={"image": b"no image"})) == "image"
    assert field_of(client.post("/v1/fit", files={"image": b""}, data={"steps": "21"})) == "steps"
    assert field_of(client.post("/v1/fit", data={"steps": "1"})) == "image"
    assert field_of(client.post("/v1/personalise", files=[("images", b"x")] * 17)) == "images"


def test_a_blank_image_has_a_status(client):
    stream = io.BytesIO()
    Image.new("RGB", (64, 64), "gray").save(stream, "PNG")
    answer = client.post("/v1/fit", files={"image": stream.getvalue()})
    if answer.status_code == 501:  # MediaPipe is not installed
        assert "can't be fitted" in answer.json()["detail"]
        return
    assert field_of(answer) == "image"
    (detail,) = answer.json()["detail"]
    assert (detail["type"], len(detail["status"])) == ("unusable", 1)


def test_other_sites_and_strangers_are_refused():
    listening = Listening(port=0, allow_host=("renderer.example",), token="secret")
    with serving(listening=listening, ready=False) as (server, client):
        good = {"Authorization": "Bearer secret"}
        paths = [
            "/docs",
            "/openapi.json",
            "/metrics",
            "/v1/models",
            "/static-offline-docs/swagger-ui.css",
            "/absent",
        ]
        for path in paths:
            assert client.get(path).status_code == 401, path
            assert client.get(path, headers={"Authorization": "Bearer wrong"}).status_code == 401
            assert client.get(path, headers={**good, "Host": "evil.example"}).status_code == 403
            assert client.get(path, headers={**good, "Origin": "http://evil.example"}).status_code == 403
            assert client.get(path, headers=good).status_code != 401
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code in (200, 503)
            assert client.get(path, headers={"Host": "evil.example"}).status_code == 403
            assert client.get(path, headers={"Origin": "null"}).status_code == 403
        named = {**good, "Host": "renderer.example", "Origin": "https://renderer.example"}
        assert client.get("/docs", headers=named).status_code == 200
        page = client.get("/docs?token=secret")
        assert page.status_code == 200
        assert client.get("/openapi.json").status_code == 200, "the page has set a cookie"
        assert server.access.token == "secret"


def test_a_token_is_made_where_others_can_reach_the_server():
    with serving(listening=Listening(host="0.0.0.0", port=0), ready=False) as (server, client):
        assert len(server.access.token) >= 32
        assert client.get("/docs").status_code == 401
        assert (
            client.get("/docs", headers={"Authorization": f"Bearer {server.access.token}"}).status_code == 200
        )


def test_the_page_loads_nothing_from_other_servers(client):
    page = client.get("/docs")
    assert not re.findall(r"""(?:src|href)=["'](?!/)""", page.text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'self'" in policy
    assert "http" not in policy
    for path in re.findall(r"""(?:src|href)=["'](/[^"']*)""", page.text):
        assert client.get(path).status_code == 200, path
    described = client.get("/openapi.json").json()
    assert {"/v1/render", "/v1/fit", "/v1/sample", "/v1/mesh", "/v1/models", "/v1/personalise"} <= described[
        "paths"
    ].keys()
    assert client.get("/redoc").status_code == 404


def test_large_requests_are_refused():
    with serving(listening=Listening(port=0, max_upload=0.05)) as (_, client):
        large = b" " * 100_000
        assert client.post("/v1/render", content=large, headers={"Content-Type": JSON}).status_code == 413

        def chunks():
            for _ in range(10):
                yield large[:10_000]

        chunked = client.post("/v1/render", content=chunks(), headers={"Content-Type": JSON})
        assert chunked.status_code == 413
        assert client.post("/v1/fit", files={"image": large}).status_code == 413
        assert render(client, {"rows": [0], "size": 8}, PNG).status_code == 200


def test_large_json_is_refused_and_large_images_are_not():
    with serving() as (_, client):
        large = b" " * (5 << 20)
        assert client.post("/v1/render", content=large, headers={"Content-Type": JSON}).status_code == 413
        assert client.post("/v1/fit", files={"image": large}).status_code == 422


def test_who_does_not_take_an_answer_loses_it(monkeypatch):
    monkeypatch.setattr("nerfgen.serve.guard._PART_SECONDS", 0.3)
    body = json.dumps(
        {"rows": "all", "cameras": {"yaw": [0] * 2}, "size": 128, "antialias": 1, "with_normals": True}
    )
    head = f"POST /v1/render HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {JSON}\r\nAccept: {NPZ}\r\n"
    with serving() as (server, client), socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 12)
        slow.connect(("127.0.0.1", server.port))
        slow.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        wait_for(lambda: 'path="/v1/render",status="200"' in client.get("/metrics").text)
        received = 0
        while part := slow.recv(1 << 20):
            received += len(part)
        assert 0 < received < 28 * 128 * 128 * 16, "less than the whole answer"


def test_nothing_is_served_before_all_is_compiled():
    with serving(ready=False) as (server, client):
        assert client.get("/healthz").status_code == 200
        for answer in (client.get("/readyz"), render(client, {"rows": [0]}), client.get("/v1/models")):
            assert answer.status_code == 503
            assert int(answer.headers["retry-after"]) >= 1
        server.service.warm_up()
        assert client.get("/readyz").status_code == 200
        assert render(client, {"rows": [0], "size": 8}, PNG).status_code == 200


def test_a_full_queue_answers_429_alone():
    with serving(queue=2, max_batch=1) as (server, client):
        body = {"rows": [0], "cameras": {"yaw": [0] * 8}, "size": 32}
        with ThreadPoolExecutor(16) as threads:
            answers = list(threads.map(lambda _: render(client, body, PNG), range(48)))
        assert {answer.status_code for answer in answers} == {200, 429}
        assert all(int(each.headers["retry-after"]) >= 1 for each in answers if each.status_code == 429)
        assert server.service.queue.statistics.refused > 0
        assert render(client, body, PNG).status_code == 200


def test_a_late_answer_is_504():
    with serving(fit_deadline=0.05) as (_, client):
        assert client.post("/v1/mesh", json={"rows": [0], "resolution": 128}).status_code == 504


def test_what_would_take_too_long_is_refused_at_once():
    with serving(deadline=0.3) as (server, client):
        assert render(client, {"rows": [0], "size": 8}, PNG).status_code == 200
        answer = render(client, {"rows": [0], "cameras": {"orbit": 200}, "size": 64}, PNG)
        assert answer.status_code == 504
        assert "ask for less" in answer.json()["detail"]
        assert server.service.queue.statistics.views == 1


def test_a_request_that_does_not_arrive_is_given_up():
    with (
        serving(deadline=0.3) as (server, _),
        socket.create_connection(("127.0.0.1", server.port), timeout=20) as slow,
    ):
        head = f"POST /v1/render HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {JSON}\r\nContent-Length: 50\r\n\r\n"
        slow.sendall(head.encode() + b'{"rows"')
        assert slow.recv(4096).startswith(b"HTTP/1.1 408")


def test_who_has_gone_is_not_rendered_for():
    with serving(max_batch=1) as (server, client):
        queue = server.service.queue
        body = {"rows": [0], "cameras": {"yaw": [0] * 200}, "size": 64, "antialias": 2}
        with pytest.raises(httpx.ReadTimeout):
            client.post("/v1/render", json=body, timeout=0.3)
        wait_for(lambda: len(queue) == 0, 5)
        assert queue.statistics.views < 200
        assert render(client, {"rows": [0], "size": 8}, PNG).status_code == 200
        wait_for(lambda: 'status="499"' in client.get("/metrics").text)


def test_figures(client):
    render(client, {"rows": [0], "size": 8}, PNG)
    render(client, {"rows": [99]}, PNG)
    text = client.get("/metrics").text
    assert 'nerfgen_requests_total{method="POST",path="/v1/render",status="200"}' in text
    assert 'nerfgen_requests_total{method="POST",path="/v1/render",status="422"}' in text
    assert re.search(r"^nerfgen_views_total [1-9]", text, flags=re.MULTILINE)
    assert "nerfgen_ready 1.0" in text
    assert "nerfgen_models_loaded 2.0" in text


def test_models_leave_the_memory():
    with serving(PLANES, MLP, max_models=1) as (_, client):

        def loaded():
            return [each["loaded"] for each in client.get("/v1/models").json()["models"]]

        assert loaded() == [False, True]
        assert render(client, {"rows": [0], "size": 8}, PNG).status_code == 200
        assert loaded() == [True, False]


def test_a_taken_port_is_one_clear_line():
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(InputError, match="choose another"):
        Server([PLANES], Listening(port=taken.getsockname()[1]))


@pytest.fixture(scope="module")
def portraits(tmp_path_factory):
    """Image files of two heads."""
    folder = tmp_path_factory.mktemp("heads")
    synthesize("heads", folder, SynthSettings(num_images=2, size=64, views=0, heldout_objects=0, seed=3))
    return [(folder / f"00000{number}.png").read_bytes() for number in range(2)]


def delta_of(planes, value):
    """A change of the networks as a client sends it."""
    layers = serve.pack_delta(planes.parameters)
    path = next(path for path in layers if path.endswith("bias"))
    return serve.pack({path: np.full(layers[path].shape, value, np.float16)})


def test_owners_are_isolated(client, planes):
    body = {"rows": [3], "cameras": FRONT, "size": 12}
    plain = picture(render(client, body, PNG))
    owners = [
        client.put("/v1/personalise", content=delta_of(planes, value)).json()["owner"] for value in (0.4, 0.8)
    ]
    own = [picture(render(client, body, PNG, **{"X-Nerfgen-Owner": owner})) for owner in owners]
    assert len({image.tobytes() for image in (plain, *own)}) == 3
    assert np.array_equal(plain, picture(render(client, body, PNG)))
    for wrong in ("", owners[0][:-1], owners[0].swapcase(), "é".encode(), b"x" * 200):
        answer = client.delete("/v1/personalise", headers={"X-Nerfgen-Owner": wrong})
        assert answer.status_code == 404
    assert render(client, body, PNG, **{"X-Nerfgen-Owner": "guess"}).status_code == 404
    other = {**body, "model": "model_mlp"}
    assert render(client, other, PNG, **{"X-Nerfgen-Owner": owners[0]}).status_code == 404
    assert client.delete("/v1/personalise", headers={"X-Nerfgen-Owner": owners[0]}).status_code == 204
    assert render(client, body, PNG, **{"X-Nerfgen-Owner": owners[0]}).status_code == 404
    assert np.array_equal(picture(render(client, body, PNG, **{"X-Nerfgen-Owner": owners[1]})), own[1])


def zipped(members, compression=zipfile.ZIP_STORED):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", compression) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return stream.getvalue()


def damaged(compression):
    """An npz file whose compressed array is damaged."""
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.arange(500.0))
    content = bytearray(zipped({"tuned/x.npy": stream.getvalue()}, compression))
    content[60:120] = b"\xff" * 60
    return bytes(content)


def npy_header(shape):
    stream = io.BytesIO()
    np.lib.format.write_array_header_1_0(stream, {"shape": shape, "fortran_order": False, "descr": "<f8"})
    return stream.getvalue()


def test_changes_that_do_not_fit_are_refused(client, planes):
    good = delta_of(planes, 0.1)
    (path,) = serve.unpack(good)
    stream = io.BytesIO()
    np.savez_compressed(stream, **{path: np.zeros((1 << 13, 1 << 13), np.float16)})
    for content in (
        b"",
        b"PK",
        good[:-30],
        serve.pack({path: np.zeros(3)}),
        serve.pack({path: np.full(serve.unpack(good)[path].shape, np.nan, np.float16)}),
        serve.pack({path: np.zeros(serve.unpack(good)[path].shape, np.int8)}),
        serve.pack({}),
        serve.pack({"other": np.zeros(3)}),
        damaged(zipfile.ZIP_DEFLATED),
        damaged(zipfile.ZIP_LZMA),
        zipped({f"{path}.npy": b"no array"}),
        zipped({f"{path}.npy": npy_header((1 << 23, 1 << 23))}),
        serve.pack({"tuned/absent": np.zeros(3)}),
        serve.pack({"tuned/../../x": np.zeros(3)}),
        serve.pack({path.rpartition("/")[0]: np.zeros(3), path: np.zeros(3)}),
        stream.getvalue(),
    ):
        answer = client.put("/v1/personalise", content=content)
        assert answer.status_code == 422, answer.text
        assert len(answer.json()["detail"][0]["msg"]) < 300


def test_the_least_recently_used_personalisations_leave(planes):
    with serving(personal=2) as (_, client):
        owners = [
            client.put("/v1/personalise", content=delta_of(planes, 0.1)).json()["owner"] for _ in range(3)
        ]
        known = [
            render(client, {"rows": [0], "size": 8}, PNG, **{"X-Nerfgen-Owner": owner}).status_code
            for owner in owners
        ]
        assert known == [404, 200, 200]
        assert "nerfgen_personalisations 2.0" in client.get("/metrics").text


@pytest.mark.mediapipe
def test_images_are_fitted(client, portraits):
    form = {"steps": 10}
    found = client.post("/v1/fit", files={"image": portraits[0]}, data=form).json()
    (image,) = found["images"]
    assert (found["owner"], image["status"], image["tuned"]) == (None, image["status"], False)
    assert image["status"] in ("ok", "not_converged")
    assert 5 < image["psnr_db"] < 60
    camera = {name: [part] for name, part in image["camera"].items()}
    body = {"latents": [image["latent"]], "cameras": camera, "size": 32}
    assert picture(render(client, body, PNG)).shape == (32, 32, 3)


@pytest.mark.slow
@pytest.mark.mediapipe
def test_images_of_one_person_tune_the_networks(client, portraits, served):
    files = [("images", content) for content in portraits]
    answer = client.post("/v1/personalise", files=files, data={"steps": 10, "tune_steps": 10})
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert [each["tuned"] for each in found["images"]] == [True] * 3, "both images, then the person"
    owner = {"X-Nerfgen-Owner": found["owner"]}
    assert served[0].service.owners.get(found["owner"]).objects.images == {}, "images are not kept"
    own = picture(render(client, {"fitted": [0, 1], "size": 16}, PNG, **owner))
    assert own.shape == (2 * 18 - 2, 16, 3)
    body = {"latents": [each["latent"] for each in found["images"]], "cameras": FRONT, "size": 16}
    assert not np.array_equal(
        picture(render(client, body, PNG)), picture(render(client, body, PNG, **owner))
    ), "the networks are tuned"
    assert picture(render(client, {"fitted": [2], "size": 16}, PNG, **owner)).shape == (16, 16, 3)
    assert field_of(render(client, {"fitted": [3], "size": 16}, PNG, **owner)) == "fitted"
    mesh = client.post("/v1/mesh", json={"fitted": [0], "resolution": 24, "level": 1.0}, headers=owner)
    assert mesh.content.startswith(b"glTF")


# Requests that are served, in each of which one field has a hostile value.
VALID = {
    "/v1/render": {
        "rows": [0],
        "cameras": {"yaw": [0]},
        "size": 6,
        "samples": 2,
        "antialias": 1,
        "fps": 24,
        "kind": "rgb",
    },
    "/v1/mesh": {
        "rows": [0],
        "resolution": 10,
        "level": 1.0,
        "largest": True,
        "watertight": False,
        "faces": 50,
    },
    "/v1/sample": {"count": 2, "truncation": 1.0, "components": 2, "seed": 3},
}
NAMES = ["model", "rows", "latents", "coordinates", "sample", "fitted", "cameras", "with_normals", "other"]
CAMERAS = [
    "yaw",
    "pitch",
    "orbit",
    "distance",
    "fov",
    "position",
    "look",
    "intrinsics",
    "cam_to_world",
    "path",
]
NUMBERS = st.one_of(
    st.integers(-3, 20),
    st.floats(-100, 100),
    st.sampled_from([2**70, -(2**63), 1e-300, 1e300, -0.0, float("nan"), float("inf"), True]),
)
LISTS = st.recursive(NUMBERS, lambda inner: st.lists(inner, max_size=5), max_leaves=12)
VALUES = st.one_of(
    LISTS,
    st.sampled_from(
        [None, "", "all", "0-5", "../..", "/etc/passwd", "\x00", "é" * 50, {}, {"count": 10**9}, {"a": {}}]
    ),
    st.dictionaries(st.sampled_from(CAMERAS), LISTS, max_size=3),
)
PATHS = [*VALID, "/v1/fit", "/v1/personalise"]
KINDS = [
    JSON,
    "multipart/form-data; boundary=x",
    "multipart/form-data",
    "application/x-www-form-urlencoded",
    NPZ,
    "",
]


@st.composite
def requests(draw):
    """Method, path, body and headers."""
    path = draw(st.sampled_from(PATHS))
    accept = draw(
        st.sampled_from(["*/*", "*/*", PNG, NPZ, "video/mp4", "model/obj", "image/*;q=x", ";;,", "a/b"])
    )
    owner = draw(st.sampled_from(["", "", "", "x", "x" * 300]))
    if path in VALID and draw(st.integers(0, 9)):
        name = draw(st.sampled_from([*VALID[path], *NAMES]))
        body = json.dumps({**VALID[path], name: draw(VALUES)}).encode()
        return "POST", path, body, {"Content-Type": JSON, "Accept": accept, "X-Nerfgen-Owner": owner}
    method = draw(st.sampled_from(["POST", "POST", "PUT", "DELETE", "GET", "PATCH"]))
    body = draw(st.one_of(st.binary(max_size=60), VALUES.map(lambda value: json.dumps(value).encode())))
    if draw(st.booleans()):
        field = draw(st.sampled_from(["image", "images", "steps", "model", "\\"]))
        head = f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="../a"\r\n\r\n'
        body = head.encode() + body + b"\r\n--x--\r\n"
    query = draw(st.sampled_from(["", "?model=..%2f..", "?model=%00", "?=&&=%ff", "?token=x"]))
    kind = draw(st.sampled_from(KINDS))
    return method, path + query, body, {"Content-Type": kind, "Accept": accept, "X-Nerfgen-Owner": owner}


@settings(max_examples=200, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(request=requests())
def test_hostile_requests_are_refused(client, request):
    method, target, body, headers = request
    answer = client.request(method, target, content=body, headers=headers)
    assert answer.status_code in (200, 400, 404, 405, 406, 422), (answer.status_code, answer.text)
    if answer.status_code == 422:
        assert all({"loc", "msg", "type"} <= each.keys() for each in answer.json()["detail"])
    assert client.get("/healthz").status_code == 200


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("locust"), reason="locust is not installed")
def test_more_load_than_the_server_takes_is_refused(tmp_path):
    script = Path(__file__).parents[1] / "examples" / "load_service.py"
    with serving(queue=4) as (server, client):
        load = ["--host", server.url, "--headless", "-u", "40", "-r", "40", "--run-time", "6s", "--rate", "4"]
        command = [sys.executable, "-m", "locust", "-f", str(script), *load, "--size", "48", "--csv", "load"]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        with (tmp_path / "load_stats.csv").open(encoding="utf-8") as file:
            found = {row["Name"]: row for row in csv.DictReader(file)}
        assert int(found["view"]["Request Count"]) > 0
        assert int(found["refused"]["Request Count"]) > 0
        assert found["Aggregated"]["Failure Count"] == "0"
        assert set(re.findall(r'path="/v1/render",status="(\d+)"', client.get("/metrics").text)) <= {
            "200", "429", "499",
        }  # fmt: skip


PAGE = Path(__file__).parents[1] / "docs" / "serving.md"


@pytest.mark.slow
@pytest.mark.mediapipe
@pytest.mark.skipif(not (shutil.which("curl") and shutil.which("bash")), reason="curl is not installed")
def test_the_page_is_as_shown(portraits, tmp_path, capsys):
    """Every command and the Python of docs/serving.md, with a server that the page starts elsewhere."""
    text = PAGE.read_text(encoding="utf-8")
    lines = "\n".join(re.findall(r"^```sh\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)).replace(
        "\\\n", " "
    )
    lines = [line for line in lines.splitlines() if re.match(r"(curl|OWNER=|nerfgen render) ?", line)]
    (tmp_path / "photos").mkdir()
    shutil.copy(PLANES, tmp_path / "photos" / "model.h5")
    for name, content in zip(("me.jpg", "me2.jpg"), portraits, strict=True):
        (tmp_path / name).write_bytes(content)
    with serving(tmp_path / "photos") as (server, _):
        start = f"""
            set -eu
            NERFGEN_TOKEN=
            curl() {{ command curl --fail-with-body -sS "$@"; echo; }}
            python() {{ {sys.executable} "$@"; }}
            nerfgen() {{ python -m nerfgen "$@" --size 16 --quiet; }}
        """
        script = start + "\n".join(lines).replace("http://localhost:8080", server.url)
        done = subprocess.run(
            ["bash", "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        (snippet,) = re.findall(r"^```python\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)
        with contextlib.chdir(tmp_path):
            exec(compile(snippet.replace("http://localhost:8080", server.url), PAGE.name, "exec"), {})
        assert capsys.readouterr().out.startswith("(2, 3, 32, 32, 3) ['")
    for name in re.findall(r"(?:-o|--sheet|--video) ([\w.]+)", "\n".join(lines)):
        assert (tmp_path / name).stat().st_size > 0, name
    with Image.open(tmp_path / "view.png") as view:
        assert view.size == (128, 128)


@contextlib.contextmanager
def program(*options):
    """The command as a user starts it, when it is ready: its process, and the line that it prints."""
    command = [sys.executable, "-m", "nerfgen", "serve", str(PLANES), "--port", "0", *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read()
            yield process, line
        finally:
            process.kill()


def ends_after_its_work(process, url, number, headers):
    """Send a signal while a request is rendered: it is answered, others are refused; the exit code."""
    answers = []
    body = {"rows": [0], "cameras": {"yaw": [0] * 40}, "size": 64}

    def ask():
        answers.append(httpx.post(f"{url}/v1/render", json=body, timeout=60, headers=headers))

    asking = threading.Thread(target=ask)
    asking.start()
    wait_for(lambda: "nerfgen_queue_length 1" in httpx.get(f"{url}/metrics", headers=headers).text)
    process.send_signal(number)
    with contextlib.suppress(httpx.TransportError):
        while httpx.get(f"{url}/v1/models", headers=headers).status_code in (200, 503):
            assert not answers, "it stops listening first"
            time.sleep(0.02)
    asking.join()
    assert answers[0].status_code == 200
    assert len(answers[0].json()["views"][0]) == 40
    code = process.wait(30)
    assert "Traceback" not in process.stderr.read()
    return code


@pytest.mark.slow
def test_sigterm_ends_the_program_after_its_work(monkeypatch):
    monkeypatch.setenv("NERFGEN_TOKEN", "from-the-environment")
    with program("--json", "--quiet") as (process, line):
        said = json.loads(line)
        assert (said["models"], said["token"]) == (["model_planes"], "from-the-environment")
        headers = {"Authorization": "Bearer from-the-environment"}
        assert ends_after_its_work(process, said["url"], signal.SIGTERM, headers) == 143


@pytest.mark.slow
def test_ctrl_c_ends_the_program_after_its_work():
    with program("--host", "0.0.0.0") as (process, line):
        url, token = re.search(r"at (\S+), token (\S+)", line).groups()
        assert len(token) >= 32
        assert httpx.get(f"{url}/v1/models").status_code == 401
        headers = {"Authorization": f"Bearer {token}"}
        assert ends_after_its_work(process, url, signal.SIGINT, headers) == 130
