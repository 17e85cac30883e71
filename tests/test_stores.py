"""Images in object stores: the commands read them from a local S3 server as from a folder, and copy none."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from good_files import make_estimator, make_mugs, recipe

from nerfgen import storage
from nerfgen.data import open_pixel_cache
from nerfgen.errors import InputError
from nerfgen.image import (
    ImageStore,
    InputImage,
    StoreError,
    UnreadableImageError,
    digest_images,
    existing_images,
    find_images,
    image_folder,
    png_bytes,
    possibly_changed,
    save_image,
)
from nerfgen.inversion import name_images
from nerfgen.mask import MaskSettings, segment_folder
from nerfgen.model import load_model
from nerfgen.render.figures import framed_image

moto = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

URL = "s3://bucket/data/mugs"
FACES = Path(os.environ.get("NERFGEN_DATA", Path(__file__).parents[2] / "shared" / "data")) / "faces"


@pytest.fixture(scope="module")
def server():
    """An S3 server on this machine, which the environment names."""
    found = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    found.start()
    host, port = found.get_host_and_port()
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
        environment.setenv("AWS_ACCESS_KEY_ID", "test")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "test")
        environment.setenv("AWS_DEFAULT_REGION", "us-east-1")
        environment.setenv("AWS_EC2_METADATA_DISABLED", "true")
        environment.setenv("AWS_MAX_ATTEMPTS", "1")
        yield found
    found.stop()


@pytest.fixture(scope="module")
def bucket(server):
    """The server's file system, with an empty bucket."""
    files = s3fs.S3FileSystem(use_listings_cache=False, skip_instance_cache=True)
    files.mkdir("bucket")
    return files


@pytest.fixture(scope="module")
def mugs(tmp_path_factory, bucket) -> Path:
    """A folder of images, good and bad, and figures; the bucket has the same at ``URL``."""
    folder = tmp_path_factory.mktemp("local") / "mugs"
    make_mugs(folder)
    (folder / "sub" / ".hidden").mkdir(parents=True)
    shutil.move(folder / "3.png", folder / "sub" / "drei ü.png")
    table = (folder / "mugs.csv").read_text()
    (folder / "mugs.csv").write_text(table.replace("\n3.png", "\nsub/drei ü.png"))
    shutil.copyfile(folder / "1.png", folder / "sub" / ".hidden" / "1.png")
    shutil.copyfile(folder / "1.png", folder / ".1.png")
    (folder / "empty.png").write_bytes(b"")
    (folder / "torn.jpg").write_bytes((folder / "1.png").read_bytes()[:70])
    (folder / "raw.CR2").write_bytes(b"raw")
    for suffix in ("png", "jpg", "gif", "webp"):
        save_image(folder / f"figure.{suffix}", np.zeros((64, 64, 3), np.uint8), figure=True)
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    save_image(folder / "long figure.webp", noise, figure=True)
    make_estimator(folder.parent / "mug.h5")
    for name in _files(folder):
        bucket.pipe_file(f"{URL}/{name}", (folder / name).read_bytes())
    return folder


@pytest.fixture
def work(tmp_path, monkeypatch) -> Path:
    """The working directory of a user of the store; programs have another place for temporary files."""
    for name in ("work", "temporary"):
        (tmp_path / name).mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def _files(folder: Path) -> dict[str, str]:
    """SHA-256 of all files of a folder."""
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _compare(local: Path, work: Path, inputs: dict[str, str]) -> None:
    """The outputs of a store's user are those beside the local copy, and there is nothing else."""
    made = _files(work / "mugs")
    logs = {name for name in made if name.endswith(".jsonl")}  # with times
    expected = {name: digest for name, digest in _files(local).items() if name not in inputs.keys() | logs}
    assert {name: made[name] for name in made.keys() - logs} == expected
    assert _files(work).keys() == {f"mugs/{name}" for name in made}
    assert not any((work.parent / "temporary").iterdir())


@pytest.fixture(scope="module")
def fitted(mugs, call, tmp_path_factory) -> Path:
    """A copy of the images with their landmarks and cameras. Tests write elsewhere."""
    folder = tmp_path_factory.mktemp("fitted") / "mugs"
    shutil.copytree(mugs, folder)
    call("import", folder / "mugs.csv", "--class", folder / "mug.toml")
    call("fit-cameras", folder, "--estimate-canonical", "--picture", folder / "cameras.png")
    return folder


@pytest.fixture
def local(fitted, tmp_path) -> Path:
    """The same, for tests that write there."""
    shutil.copytree(fitted, tmp_path / "copy" / "mugs")
    return tmp_path / "copy" / "mugs"


def test_outputs_are_those_of_a_local_copy(mugs, local, work, call):
    inputs = _files(mugs)
    (work / "mugs").mkdir()
    shutil.copyfile(local / "landmarks.h5", work / "mugs" / "landmarks.h5")
    call("fit-cameras", URL, "--estimate-canonical", "--picture", work / "mugs" / "cameras.png")
    for data in (local, URL):
        made = local if data == local else work / "mugs"
        call("segment", data, "--method", "color", "--workers", 2, "--picture", made / "masks.png")
        cache = open_pixel_cache(
            image_folder(str(data)), made / "cameras.h5", made / "masks.h5", 16,
            object_class=str(mugs / "mug.toml"), inputs=[],
        )  # fmt: skip
        cache.close()
    _compare(local, work, inputs)


@pytest.mark.slow
def test_a_model_is_that_of_a_local_copy(mugs, local, work, call):
    inputs = _files(mugs)
    own = ["--class", mugs / "mug.toml", "--model", mugs.parent / "mug.h5", "--workers", 2]
    (work / "mugs").mkdir()
    for name in ("landmarks.h5", "cameras.h5", "cameras.png"):
        shutil.copyfile(local / name, work / "mugs" / name)
    for data in (local, URL):
        made = local if data == local else work / "mugs"
        call("landmark", data, *own, "-o", made / "found.h5", "--picture", made / "found.png")
        call("train", data, "--no-masks", *recipe())
        call("train", data, "--no-masks", *recipe(), "--dry-run")
        call("evaluate", made / "model.h5", "--data", data, "--tables", "train,cameras", "-n", 4)
    _compare(local, work, inputs)


def test_objects_that_cannot_be_read_get_a_status(bucket):
    data = ImageStore("s3://bucket/some")
    bucket.pipe_file("bucket/some/good.png", png_bytes(np.zeros((9, 9, 3), np.uint8)))
    bucket.pipe_file("bucket/some/archived.png", b"ice", StorageClass="GLACIER")
    bucket.pipe_file("bucket/some//twice.png", b"any")
    names = find_images(data)
    assert names == ["/twice.png", "archived.png", "good.png"]
    found = {}
    for name in (
        *names,
        "absent.png",
        "good.png/",
        "../mugs/1.png",
        "s3://bucket/data/mugs/1.png",
        "..\\1.png",
    ):
        try:
            InputImage(name, data).pixels()
        except UnreadableImageError as error:
            found[name] = (error.status, error.reason)
            assert digest_images(data, [name]) == [(0, hashlib.sha256().hexdigest())]
    assert {name: status for name, (status, _) in found.items()} == {
        "archived.png": "unreadable",
        "absent.png": "absent",
        **dict.fromkeys(
            ["/twice.png", "good.png/", "../mugs/1.png", "s3://bucket/data/mugs/1.png"], "bad_name"
        ),
        "..\\1.png": "bad_name",
    }
    assert "storage class" in found["archived.png"][1]


def test_large_objects_are_read_while_they_are_decoded(bucket, monkeypatch):
    monkeypatch.setattr("nerfgen.image.input_image._MAX_HELD", 1000)
    pixels = np.random.default_rng(0).integers(0, 255, (64, 64, 3), np.uint8)
    content = png_bytes(pixels)
    bucket.pipe_file("bucket/large/a.png", content)
    image = InputImage("a.png", ImageStore("s3://bucket/large"))
    assert np.array_equal(image.pixels()[0], pixels)
    assert image.digest == (len(content), hashlib.sha256(content).hexdigest())
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "0.000001")
    with pytest.raises(UnreadableImageError, match="more than") as caught:
        InputImage("a.png", ImageStore("s3://bucket/large")).encoded()
    assert caught.value.status == "too_large"


def test_changed_objects_are_found_as_changed_files_are(fitted, work, bucket, call):
    data = ImageStore("s3://bucket/changed")
    with storage.reading(fitted / "landmarks.h5", "landmarks/1") as file:
        sizes = dict(zip(storage.strings(file["image"]), file["image_bytes"][:].tolist(), strict=True))
    now, minute = time.time_ns(), 60 * 10**9
    for name in sizes:
        bucket.copy(f"{URL}/{name}", f"bucket/changed/{name}")
    assert possibly_changed(data, sizes, now + minute) == []
    assert possibly_changed(data, sizes, now - minute) == list(sizes)
    # Another image of the same size in bytes, one of another size, and none.
    bucket.pipe_file("bucket/changed/1.png", (fitted / "1.png").read_bytes()[::-1])
    bucket.pipe_file("bucket/changed/2.png", b"another")
    bucket.rm("bucket/changed/5.png")
    assert possibly_changed(data, sizes, now + minute) == ["2.png"]
    call("segment", data, "--cameras", fitted / "cameras.h5", "--method", "color", "--workers", 1)
    with storage.reading(work / "changed" / "masks.h5", "masks/1") as file:
        status = dict(zip(storage.strings(file["image"]), storage.strings(file["status"]), strict=True))
    assert [status[name] for name in ("0.png", "1.png", "2.png", "5.png")] == [
        "ok",
        "unreadable",
        "unreadable",
        "absent",
    ]


def test_a_network_that_fails_marks_no_image(fitted, work, server):
    """The finished images are kept, and the same command goes on with the others."""
    data, output, settings = ImageStore(URL), work / "masks.h5", MaskSettings("color")
    host, port = server.get_host_and_port()
    said = []

    def fail(done: int, total: int, note: str = "") -> None:
        if done == 4:
            server.stop()

    where = {"cameras": fitted / "cameras.h5", "settings": settings, "workers": 1, "warn": said.append}
    with pytest.raises(StoreError, match=r"s3://bucket/data/mugs: .*; check the network") as caught:
        segment_folder(data, output, **where, progress=fail)
    assert caught.value.exit_code == 2
    assert not output.exists()
    # The preview of a training, which goes on.
    model = load_model(Path(__file__).parent / "data" / "model_planes.h5")
    assert (framed_image(model, 0, data, 8) == 128).all()
    server.__init__(ip_address=host, port=port, verbose=False)
    server.start()
    segment_folder(data, output, **where)
    assert said == ["4 images were finished by an earlier run, which is continued"]
    segment_folder(fitted, work / "local.h5", **where)
    assert output.read_bytes() == (work / "local.h5").read_bytes()


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "s3://bucket/nothing",
            "s3://bucket/nothing does not exist or is empty; check the bucket and the folder",
        ),
        ("s3://no-bucket/photos", "s3://no-bucket/photos does not exist or is empty"),
        ("s3://bucket/data/mugs/1.png", "is an object, not a folder"),
        ("s3://", "s3://: give a bucket and a folder in it, such as s3://bucket/photos"),
        ("gs://bucket/../photos", "gs://bucket/../photos: give a bucket and a folder in it"),
        ("https://example.org/photos", "web servers do not list their files"),
        ("ftp://example.org/photos", "images are read from folders and from URLs of s3:// and gs://"),
    ],
)
def test_urls_that_name_no_folder_are_refused(bucket, work, call, url, message):
    for command in ("landmark", "fit-cameras", "segment", "train"):
        with pytest.raises(InputError) as caught:
            call(command, url)
        assert message in str(caught.value)
    assert not any(work.iterdir())


def test_refused_connections_and_missing_credentials_are_said_in_one_line(bucket, work, run, monkeypatch):
    monkeypatch.setenv("HOME", str(work))
    with monkeypatch.context() as changed:
        changed.delenv("AWS_ACCESS_KEY_ID")
        changed.delenv("AWS_SECRET_ACCESS_KEY")
        denied = run("landmark", URL)
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    refused = run("landmark", URL)
    for done, cause in (
        (denied, "Unable to locate credentials"),
        (refused, "Could not connect to the endpoint"),
    ):
        (line,) = done.err.splitlines()
        assert (done.code, line.startswith(f"nerfgen: {URL}: {cause}")) == (2, True)


def test_local_folders_need_no_store(mugs):
    code = (
        "import sys; from nerfgen.image import *; find_images(image_folder(sys.argv[1])); print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code, mugs], capture_output=True, text=True, check=True)
    assert not {"fsspec", "s3fs", "botocore", "aiohttp"} & set(done.stdout.split())


def test_new_images_may_be_in_stores(mugs, bucket):
    images, names = name_images([f"{URL}/1.png", f"{URL}/sub", mugs / "1.png"])
    assert names == ["data/mugs/1.png", "drei ü.png", f"{mugs.parent.name}/mugs/1.png"]
    assert [image.digest for image in images] == digest_images(mugs, ["1.png", "sub/drei ü.png", "1.png"])
    with pytest.raises(InputError, match="does not exist"):
        name_images([f"{URL}/7000.png"])
    data = image_folder(URL)
    assert existing_images(data, ["1.png", "x.png"]) == existing_images(mugs, ["1.png", "x.png"]) == {"1.png"}


@pytest.mark.slow
@pytest.mark.mediapipe
@pytest.mark.skipif(not FACES.is_dir(), reason=f"no photographs of faces in {FACES} (NERFGEN_DATA)")
def test_the_documented_commands_run(work, bucket, call, tiny_options):
    """Also: the landmarks of faces are byte-identical to those of local files."""
    for image in sorted(FACES.glob("*.jpg"))[:12]:
        for folder in ("photos", "others"):
            bucket.pipe_file(f"bucket/{folder}/{image.name}", image.read_bytes())
        (work / "copy").mkdir(exist_ok=True)
        shutil.copyfile(image, work / "copy" / image.name)
    page = (Path(__file__).parents[1] / "docs" / "object-stores.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"^```sh\n(.*?)^```", page, flags=re.DOTALL | re.MULTILINE)
    install, *lines = block.splitlines()
    assert install == "pip install 'nerfgen[stores]'"
    for line in lines:
        program, command, *words = line.split()
        assert program == "nerfgen"
        call(command, *words, *(tiny_options if command == "train" else ()))
    assert {path.suffix for path in (work / "photos").iterdir()} == {".h5", ".jsonl", ".png"}
    call("landmark", "copy")
    assert (work / "copy" / "landmarks.h5").read_bytes() == (work / "photos" / "landmarks.h5").read_bytes()
    (in_prose,) = re.findall(r"`nerfgen (train copy .*?)`", page)
    call(*in_prose.split(), *tiny_options)
    assert (work / "copy" / "model.h5").read_bytes() == (work / "photos" / "model.h5").read_bytes()
    (in_prose,) = re.findall(r"`nerfgen (evaluate photos/model.h5 .*?)`", page)
    call(*in_prose.split(), "--tables", "train", "-n", 4)
