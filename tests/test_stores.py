"""Images in object stores: the commands read them from a local S3 server as from a folder, and copy none."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from good_files import make_estimator, make_mugs, recipe
from PIL import Image

from nerfgen import storage
from nerfgen.data import open_pixel_cache
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.image import (
    ImageStore,
    InputImage,
    StoreError,
    UnreadableImageError,
    digest_images,
    find_images,
    image_folder,
    save_image,
)

moto = pytest.importorskip("moto.server")
s3fs = pytest.importorskip("s3fs")

URL = "s3://bucket/data/mugs"


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


@pytest.fixture
def local(mugs, tmp_path) -> Path:
    """A copy of the images with their landmarks, for a user of a folder."""
    shutil.copytree(mugs, tmp_path / "copy" / "mugs")
    return tmp_path / "copy" / "mugs"


def test_outputs_are_those_of_a_local_copy(mugs, local, work, call):
    inputs = _files(mugs)
    call("import", local / "mugs.csv", "--class", local / "mug.toml")
    (work / "mugs").mkdir()
    shutil.copyfile(local / "landmarks.h5", work / "mugs" / "landmarks.h5")
    for data in (local, URL):
        made = local if data == local else work / "mugs"
        call("fit-cameras", data, "--estimate-canonical", "--picture", made / "cameras.png")
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
    call("import", local / "mugs.csv", "--class", local / "mug.toml")
    call("fit-cameras", local, "--estimate-canonical")
    (work / "mugs").mkdir()
    for name in ("landmarks.h5", "cameras.h5"):
        shutil.copyfile(local / name, work / "mugs" / name)
    for data in (local, URL):
        made = local if data == local else work / "mugs"
        call("landmark", data, *own, "-o", made / "found.h5", "--picture", made / "found.png")
        call("train", data, "--no-masks", *recipe())
        call("train", data, "--no-masks", *recipe(), "--dry-run")
    _compare(local, work, inputs)
