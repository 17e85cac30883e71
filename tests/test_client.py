"""The client of the rendering service against the library: the same methods, the same results."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import h5py
import numpy as np
import pytest
from good_files import make_personal
from PIL import Image

import nerfgen
from nerfgen import MeshSettings, RenderSettings, SampleSettings, serve
from nerfgen.errors import InputError, NerfgenError
from nerfgen.inversion import FitSettings, NoUsableImageError
from nerfgen.live import Listening
from nerfgen.model import Objects
from nerfgen.synth import SynthSettings, synthesize

pytest.importorskip("httpx")
pytest.importorskip("fastapi")
pytest.importorskip("fastapi_offline")
pytest.importorskip("prometheus_client")

from nerfgen.client import Client
from nerfgen.serve import Capacity, Limits, Server

DATA = Path(__file__).parent / "data"
PLANES, MLP = DATA / "model_planes.h5", DATA / "model_mlp.h5"
SMALL = RenderSettings(size=12)
FEW = FitSettings(steps=5, tune_steps=5)


@pytest.fixture(scope="module")
def server():
    limits = Limits(max_codes=5, max_views=4, max_steps=20)
    listening = Listening(port=0, token="secret")
    with Server([PLANES, MLP], listening, Capacity(grace=1), limits) as found:
        found.service.warm_up()
        yield found


@pytest.fixture(scope="module")
def remote(server):
    with Client(server.url, "secret") as client:
        yield client


@pytest.fixture(scope="module")
def local():
    return nerfgen.load(PLANES)


@pytest.fixture(scope="module")
def heads(tmp_path_factory):
    """Portraits."""
    folder = tmp_path_factory.mktemp("heads")
    synthesize("heads", folder, SynthSettings(num_images=2, size=64, views=0, heldout_objects=0, seed=3))
    (folder / "truth.h5").unlink()
    return folder


def assert_same(one, other):
    """Values of equal attributes."""
    assert vars(one).keys() == vars(other).keys()
    for name, value in vars(one).items():
        if value is None or isinstance(value, float | int):
            assert getattr(other, name) == value
        else:
            np.testing.assert_array_equal(getattr(other, name), value, err_msg=name)


def test_it_has_all_methods_of_a_model():
    def public(kind):
        return {name for name in dir(kind) if not name.startswith("_")}

    assert public(nerfgen.GenerativeModel) <= public(Client)


@pytest.mark.slow
def test_codes_and_cameras(remote, local):
    assert (remote.name, remote.object_class, remote.distance) == (
        "model_planes",
        local.object_class,
        local.distance,
    )
    assert_same(remote.principal, local.principal)
    np.testing.assert_array_equal(remote.codes, local.codes)
    assert remote.images == local.images
    sampling = SampleSettings(count=3, seed=2)
    np.testing.assert_array_equal(remote.sample(sampling), local.sample(sampling))
    np.testing.assert_array_equal(remote.along(1, [-1, 1]).latents, local.along(1, [-1, 1]).latents)
    walks = [each.between(each.objects("0,5"), 4) for each in (remote, local)]
    np.testing.assert_array_equal(walks[0].latents, walks[1].latents)
    for one, other in zip(remote.orbit(5, 10), local.orbit(5, 10), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.slow
def test_views(remote, local):
    for codes, cameras in (
        (local.codes[:2], local.turned([-30, 0, 30])),
        (local.along(2, [-1.0, 1.0]), local.orbit(6)),  # more views than a request may have
        (local.codes[0], local.turned([5], distance=3.0, fov=20)),
    ):
        assert_same(
            remote.render(codes, cameras, SMALL, with_normals=True),
            local.render(codes, cameras, SMALL, with_normals=True),
        )
    assert_same(remote.render(remote.objects("0-6")), local.render(local.objects("0-6")))


@pytest.mark.slow
@pytest.mark.parametrize("background", ["white", "2", "image"])
def test_backgrounds(remote, local, tmp_path, background):
    """A row is the server's, an image is the client's."""
    if background == "image":
        background = str(tmp_path / "behind.png")
        Image.new("RGB", (4, 4), "navy").save(background)
    rendering = RenderSettings(size=12, background=background)
    here, there = (model.render(model.objects("0,3"), rendering=rendering) for model in (local, remote))
    np.testing.assert_array_equal(here.rgb, there.rgb)


def test_another_model(server):
    with Client(server.url, "secret", "model_mlp") as other:
        mlp = nerfgen.load(MLP)
        assert_same(
            other.render(mlp.codes[0], mlp.turned([0]), SMALL),
            mlp.render(mlp.codes[0], mlp.turned([0]), SMALL),
        )


@pytest.mark.slow
def test_meshes(remote, local, tmp_path):
    meshing = MeshSettings(resolution=24, level=1.0)
    found = remote.save_mesh(tmp_path / "remote.glb", local.codes[2], meshing)
    expected = local.save_mesh(tmp_path / "local.glb", local.codes[2], meshing)
    assert_same(found.mesh, expected.mesh)
    assert (found.level, found.parts) == (expected.level, expected.parts)
    assert (tmp_path / "remote.glb").read_bytes() == (tmp_path / "local.glb").read_bytes()


@pytest.mark.slow
@pytest.mark.mediapipe
def test_fits(remote, local, heads, tmp_path):
    steps = []
    found = remote.fit(heads, FEW, progress=lambda done, total, note="": steps.append((done, total)))
    expected = local.fit(heads, FEW)
    assert steps == [(1, 2), (2, 2)]
    assert (found.names, found.status) == (expected.names, expected.status)
    # A batch of images is rounded in another way than each alone.
    np.testing.assert_allclose(found.latents, expected.latents, atol=1e-3)
    np.testing.assert_allclose(found.extra["fit_psnr"], expected.extra["fit_psnr"], atol=0.01)
    for number in range(2):
        np.testing.assert_array_equal(found.images[number], expected.images[number])
    blank = np.full((64, 64, 3), 128, np.uint8)
    mixed = remote.fit([heads / "000001.png", blank], FEW)
    assert mixed.status[1] == local.fit([heads / "000001.png", blank], FEW).status[1]
    with pytest.raises(NoUsableImageError, match="no image is usable"):
        remote.fit(blank, FEW)
    with pytest.raises(InputError, match="does not exist"):
        remote.fit(tmp_path / "absent.png")


@pytest.mark.slow
@pytest.mark.mediapipe
def test_tuned_networks(remote, local, heads):
    tuned = remote.fit(heads / "000000.png", FitSettings(steps=5, tune=True, tune_steps=5))
    assert tuned.tuned, "tuning improves the reconstruction"
    cameras = local.turned([10])
    expected = local.render(tuned, cameras, SMALL)
    assert_same(remote.render(tuned, cameras, SMALL), expected)
    assert not np.array_equal(remote.render(tuned.latents, cameras, SMALL).rgb, expected.rgb)


@pytest.mark.slow
def test_changes_of_networks_are_sent_where_the_server_lacks_them(server, remote, local):
    layers = serve.pack_delta(local.model.parameters)
    path = next(path for path in layers if path.endswith("bias"))
    delta = serve.unpack_delta({path: np.full(layers[path].shape, 0.5, np.float16)})
    shown = Objects(["mine"], ["ok"], np.full(1, -1), local.codes[:1], tuned={0: delta})
    cameras = local.turned([0])
    expected = local.render(shown, cameras, SMALL)
    assert_same(remote.render(shown, cameras, SMALL), expected)
    server.service.owners._kept.clear()
    assert_same(remote.render(shown, cameras, SMALL), expected)


@pytest.mark.slow
def test_the_command_shows_a_person_on_the_server(call, server, tmp_path):
    make_personal(tmp_path / "anna.h5", PLANES)
    shown = ["--codes", tmp_path / "anna.h5", "--yaw", 20, "--size", 12]
    local, remote = both(call, server, tmp_path, *shown)
    assert_same_files(local, remote)
    assert len({key.split("/")[1] for key in contents(local) if key.startswith("tuned/")}) == 3


def contents(path):
    """All attributes and datasets of a file."""
    with h5py.File(path) as file:
        found = dict(file.attrs)
        file.visititems(
            lambda name, item: found.update({name: item[()]} if isinstance(item, h5py.Dataset) else {})
        )
        return found


def assert_same_files(one, other):
    first, second = contents(one), contents(other)
    assert first.keys() == second.keys()
    for name, value in first.items():
        np.testing.assert_array_equal(second[name], value, err_msg=name)


def both(call, server, tmp_path, *words):
    """The files that a command writes here, and with a server."""
    with contextlib.chdir(tmp_path):
        call("render", PLANES, *words, "-o", "local.h5", "-q")
        call(
            "render",
            "model_planes",
            "--server",
            server.url,
            "--token",
            "secret",
            *words,
            "-o",
            "remote.h5",
            "-q",
        )
    return tmp_path / "local.h5", tmp_path / "remote.h5"


@pytest.mark.slow
@pytest.mark.parametrize(
    "choice", [["--rows", "0,3"], ["--new", 4, "--axes", "1=0.5"], []], ids=["rows", "new", "default"]
)
def test_the_command_writes_the_same_file(call, server, tmp_path, choice):
    assert_same_files(*both(call, server, tmp_path, *choice, "--yaw", "-20,20", "--size", 12, "--png", "png"))
    assert len(list((tmp_path / "png").iterdir())) == (2 if "--new" in choice else 6 if choice else 24)


@pytest.mark.slow
@pytest.mark.mediapipe
def test_the_command_fits_and_tunes_on_the_server(call, server, heads, tmp_path, monkeypatch):
    fit = [
        "--image",
        heads / "000000.png",
        "--fit-steps",
        5,
        "--tune",
        "--tune-steps",
        5,
        "--size",
        12,
        "--yaw",
        20,
    ]
    files = both(call, server, tmp_path, *fit, "--sheet", "me.png")
    assert_same_files(*files)
    with Image.open(tmp_path / "me.png") as sheet:
        assert sheet.size == (3 * 14 - 2, 12)
    monkeypatch.setenv("NERFGEN_TOKEN", "secret")
    with contextlib.chdir(tmp_path):
        call("render", PLANES, "--codes", "local.h5:0", "--yaw", 5, "--size", 12, "-o", "again.h5", "-q")
        turn = ["--codes", "local.h5:0", "--yaw", 5, "--size", 12, "-o", "there.h5"]
        call("render", "model_planes", "--server", server.url, *turn, "-q")
    assert_same_files(tmp_path / "again.h5", tmp_path / "there.h5")


@pytest.mark.slow
def test_the_command_refuses_what_a_server_does_not_take(run, server):
    alone = run("render", PLANES, "--token", "secret")
    assert (alone.code, alone.err) == (2, "nerfgen: --token has an effect with --server only\n")
    wrong = run("render", "absent", "--server", server.url, "--token", "secret")
    assert (wrong.code, "there is no model 'absent'" in wrong.err) == (2, True)
    workers = ["--image", PLANES, "--workers", 2]
    server_choice = run("render", "model_planes", "--server", server.url, "--token", "secret", *workers)
    assert (server_choice.code, "--workers is the server's choice" in server_choice.err) == (2, True)


@contextlib.contextmanager
def another_service():
    """A program with models of another kind at the same path."""

    class Answer(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"object": "list", "data": []}')

        def log_message(self, *words):
            pass

    with HTTPServer(("127.0.0.1", 0), Answer) as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{other.server_port}"
        other.shutdown()


@pytest.mark.slow
def test_errors_are_one_line(server, remote):
    with pytest.raises(InputError, match="there is no model 'absent'; there are model_planes, model_mlp"):
        Client(server.url, "secret", "absent")
    with pytest.raises(InputError, match="token"):
        Client(server.url, "wrong")
    with pytest.raises(NerfgenError, match=r"is `nerfgen serve` running there\?"):
        Client("http://127.0.0.1:1")
    with pytest.raises(InputError, match="http://HOST:PORT"):
        Client("http://here:there")
    with pytest.raises(NerfgenError, match="http://"):
        Client("here")
    with pytest.raises(NerfgenError, match="check the address"):
        Client(f"{server.url}/docs", "secret")
    with another_service() as url, pytest.raises(NerfgenError, match="check the address"):
        Client(url)
    with pytest.raises(InputError, match="size"):
        remote.render(remote.codes[0], remote.turned([0]), RenderSettings(size=2000))
    with pytest.raises(InputError, match="no cameras of their own"):
        remote.render(remote.codes[0])
    with pytest.raises(InputError, match="out of range"):
        remote.objects("14")
    with pytest.raises(InputError, match="the server's choice"):
        remote.fit(np.zeros((8, 8, 3), np.uint8), FitSettings(workers=2))


def test_a_busy_server_is_asked_again():
    capacity = Capacity(queue=1, max_batch=1, grace=1)
    with Server([PLANES], Listening(port=0), capacity) as server:
        server.service.warm_up()
        with Client(server.url) as client:
            views = client.render(client.codes[:3], client.turned([0] * 3), RenderSettings(size=24))
            assert views.rgb.shape[:2] == (3, 3)
            assert server.service.queue.statistics.refused > 0


def test_importing_it_imports_nothing_heavy():
    heavy = "{'jax', 'flax', 'h5py', 'httpx', 'fastapi', 'scipy'}"
    code = f"import sys, nerfgen.client; print(*({heavy} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
