"""HDF5 files of others: damaged, hostile, or well-formed with wrong content. Each is refused in one line."""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
from edited import edited

from nerfgen import storage
from nerfgen.errors import InputError, OutputExistsError, WriteError
from nerfgen.storage.seal import write_seal

DATA = Path(__file__).parent / "data"
Change = Callable[[h5py.File], object]


def write_cameras(path: Path, count: int = 3) -> Path:
    """A small file of cameras that look at the origin."""
    pose = np.tile(np.eye(4), (count, 1, 1))
    pose[:, 2, 3] = -4
    stage = storage.Stage(
        path, "cameras/1", "face", {"points": "mesh"}, [{"file": ".", "size": 1, "sha256": "00"}]
    )
    with stage.create() as file:
        storage.put(file, "image", [f"{number}.png" for number in range(count)])
        storage.put(file, "status", ["ok"] * count)
        storage.put(file, "image_size", np.full((count, 2), 64))
        storage.put(file, "intrinsics", np.tile([[128.0, 0, 32], [0, 128, 32], [0, 0, 1]], (count, 1, 1)))
        storage.put(file, "cam_to_world", pose)
        storage.put(file, "window", np.tile([0.0, 0, 64], (count, 1)))
        storage.put(file, "instance", ["a"] * count)
        storage.put(file, "canonical", np.zeros((2, 3)))
    return path


@pytest.fixture
def cameras(tmp_path: Path) -> Path:
    return write_cameras(tmp_path / "cameras.h5")


def read_all(path: Path, *schemas: str) -> None:
    with storage.reading(path, *schemas) as file:
        for _, dataset in storage.datasets(file):
            dataset[()]


def refused(path: Path, *schemas: str) -> str:
    """The message with which a file is refused."""
    with pytest.raises(InputError) as caught:
        read_all(path, *(schemas or ("cameras/1",)))
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


def test_every_changed_byte_is_noticed(cameras: Path) -> None:
    content = cameras.read_bytes()
    places = np.random.default_rng(0).choice(len(content), 150, replace=False)
    for place in [*range(80), 511, *places, len(content) - 1]:
        changed = bytearray(content)
        changed[place] ^= 1 << int(place) % 8
        cameras.write_bytes(changed)
        refused(cameras)


@pytest.mark.parametrize("keep", [0, 1, 100, 511, 512, 600, 3000, -1])
def test_every_truncation_is_noticed(cameras: Path, keep: int) -> None:
    cameras.write_bytes(cameras.read_bytes()[:keep])
    refused(cameras)


def test_appended_bytes_are_noticed(cameras: Path) -> None:
    cameras.write_bytes(cameras.read_bytes() + b"\0")
    assert "digest" in refused(cameras)


def test_a_damaged_output_is_not_current(cameras: Path) -> None:
    stage = storage.Stage(
        cameras, "cameras/1", "face", {"points": "mesh"}, [{"file": ".", "size": 1, "sha256": "00"}]
    )
    assert stage.is_current()
    content = bytearray(cameras.read_bytes())
    content[-100] ^= 1
    cameras.write_bytes(content)
    with pytest.raises(OutputExistsError, match=r"cameras\.h5 is damaged.*`overwrite`"):
        stage.is_current()
    assert not stage.is_current(overwrite=True)


def test_a_file_changed_on_purpose_is_read_once_its_digests_are_renewed(cameras: Path) -> None:
    with h5py.File(cameras, "r+") as file:
        file["status"][1] = "no_camera"
    refused(cameras)
    storage.renew(cameras)
    with storage.reading(cameras, "cameras/1") as file:
        assert storage.strings(file["status"])[1] == "no_camera"
        for _, dataset in storage.datasets(file):
            assert dataset.attrs["sha256"] == storage.dataset_digest(dataset)


def test_a_digest_depends_on_values_not_on_storage(tmp_path: Path) -> None:
    values = np.arange(24, dtype=">f4").reshape(4, 6)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        plain = file.create_dataset("plain", data=values)
        packed = file.create_dataset("packed", data=values.astype("<f4"), chunks=(1, 6), compression="gzip")
        texts = file.create_dataset("texts", data=np.array(["ab", "c"], object), dtype=h5py.string_dtype())
        shifted = file.create_dataset(
            "shifted", data=np.array(["a", "bc"], object), dtype=h5py.string_dtype()
        )
        assert storage.dataset_digest(plain) == storage.dataset_digest(packed)
        assert storage.dataset_digest(texts) != storage.dataset_digest(shifted)
        before = storage.dataset_digest(plain)
        plain[3, 5] = 0
        assert storage.dataset_digest(plain) != before


def test_files_of_earlier_versions_without_a_seal_are_read() -> None:
    for path in sorted(DATA.glob("model_*.h5")):
        with storage.reading(path, "model/1") as file:
            assert file.userblock_size == 0


def test_a_file_that_others_hold_locked_is_read(cameras: Path) -> None:
    with open(cameras, "rb+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with storage.reading(cameras, "cameras/1") as file:
            assert len(file["image"]) == 3


def external_link(file: h5py.File) -> None:
    del file["canonical"]
    file["canonical"] = h5py.ExternalLink("other.h5", "/canonical")


def soft_link(file: h5py.File) -> None:
    file["more"] = h5py.SoftLink("/canonical")


def loop(file: h5py.File) -> None:
    file.create_group("more")["again"] = file["/"]


def external_storage(file: h5py.File) -> None:
    del file["canonical"]
    file.create_dataset("canonical", (2, 3), "f8", external=[("/etc/passwd", 0, 48)])


def virtual(file: h5py.File) -> None:
    del file["canonical"]
    layout = h5py.VirtualLayout((2, 3), "f8")
    layout[:] = h5py.VirtualSource("other.h5", "canonical", (2, 3))
    file.create_virtual_dataset("canonical", layout)


def declared_only(file: h5py.File) -> None:
    del file["canonical"]
    file.create_dataset("canonical", (10**9, 3), "f8")


def huge_chunk(file: h5py.File) -> None:
    del file["canonical"]
    dataset = file.create_dataset("canonical", (10**9, 3), "f8", chunks=(10**8, 3), compression="gzip")
    dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(100)))


def many_chunks(file: h5py.File) -> None:
    del file["canonical"]
    file.create_dataset("canonical", (10**7, 3), "f8", chunks=(1, 1))


def compound(file: h5py.File) -> None:
    file.create_dataset("more", 3, [("a", "f4"), ("b", "i4")])


def opaque(file: h5py.File) -> None:
    file.create_dataset("more", data=np.void(b"abc"))


def nested(file: h5py.File) -> None:
    file.create_group("/".join("abcdefgh" * 6))


def many_attributes(file: h5py.File) -> None:
    for number in range(1200):
        file["canonical"].attrs[f"a{number}"] = number


@pytest.mark.parametrize(
    "change",
    [
        external_link,
        soft_link,
        loop,
        external_storage,
        virtual,
        declared_only,
        huge_chunk,
        many_chunks,
        compound,
        opaque,
        nested,
        many_attributes,
    ],
    ids=lambda change: change.__name__,
)
def test_what_leaves_the_file_or_exceeds_it_is_refused(cameras: Path, change: Change) -> None:
    with edited_structure(cameras) as file:
        change(file)
    refused(cameras)


class edited_structure:
    """As ``edited``, for files whose datasets need not be readable: without a seal, as another program writes."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> h5py.File:
        copy = self._path.with_suffix(".copy")
        with h5py.File(self._path) as old, h5py.File(copy, "w") as new:
            for name in old:
                old.copy(name, new)
            new.attrs.update(old.attrs)
        os.replace(copy, self._path)
        self._file = h5py.File(self._path, "r+")
        return self._file

    def __exit__(self, *error: object) -> None:
        self._file.close()


@pytest.mark.parametrize("where", ["dataset", "attribute", "attribute of the root", "heap"])
def test_a_text_that_claims_gigabytes_is_refused(cameras: Path, where: str) -> None:
    """Before the HDF5 library clears as much memory."""
    with edited(cameras) as file:
        file["image"].attrs["told"] = "a text of 29 characters, once"
        file.attrs["told"] = "a text of 31 characters, at top"
        start = file["image"].id.get_offset()
    content = bytearray(cameras.read_bytes())
    heaps = [found.start() for found in re.finditer(rb"GCOL\x01\0\0\0", content)]

    def stored(length: int) -> int:
        """Where a text of a length is stored, which the address of a heap follows, after the user block."""
        patterns = [struct.pack("<IQ", length, heap - 512) for heap in heaps]
        return max(content.find(pattern) for pattern in patterns)

    place = {
        "dataset": start,
        "attribute": stored(29),
        "attribute of the root": stored(31),
        "heap": heaps[0] + 8,
    }[where]
    assert place > 8
    content[place : place + 4] = struct.pack("<I", 3_000_000_000)
    cameras.write_bytes(content)
    write_seal(cameras)
    cause = "a heap that does not end in it" if where == "heap" else "a text of 3,000,000,000 bytes"
    with pytest.raises(InputError, match=cause), storage.reading(cameras, "cameras/1"):
        pass


def test_a_chunk_that_unpacks_to_more_than_itself_is_refused(cameras: Path) -> None:
    bomb = zlib.compress(bytes(300_000_000), 1)
    with edited_structure(cameras) as file:
        del file["canonical"]
        dataset = file.create_dataset("canonical", (2, 3), "f8", chunks=(2, 3), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), bomb)
    assert "unpacks" in refused(cameras)


def attribute(name: str, value: object) -> Change:
    return lambda file: file.attrs.__setitem__(name, value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (attribute("parameters", "no JSON"), "parameters"),
        (attribute("parameters", "[]"), "parameters"),
        (attribute("parameters", "[" * 100_000), "parameters"),
        (attribute("parameters", 3), "parameters"),
        (attribute("inputs", "{}"), "inputs"),
        (attribute("inputs", '[{"file": 3}]'), "inputs"),
        (attribute("inputs", "[" + "1" * 400 + "]"), "inputs"),
        (lambda file: file.attrs.pop("parameters"), "parameters"),
        (lambda file: file.attrs.pop("class"), "class"),
        (attribute("class", 5.0), "class"),
        (attribute("nerfgen_schema", np.arange(3)), "not a nerfgen file"),
    ],
)
def test_attributes_of_another_kind_are_refused(cameras: Path, change: Change, named: str) -> None:
    with edited(cameras) as file:
        change(file)
    assert named in refused(cameras)


def put_row(name: str, value: object, row: int = 1) -> Change:
    return lambda file: file[name].__setitem__(row, value)


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (put_row("image", "../../evil.png"), "image.*leads out"),
        (put_row("image", "/etc/passwd"), "image.*absolute"),
        (put_row("image", "a\x1b[31m.png"), "image.*control"),
        (put_row("image", "0.png"), "image lists 0.png twice"),
        (put_row("image", b"\xff.png"), "image.*UTF-8"),
        (put_row("instance", "../../evil"), "instance.*leads out"),
        (put_row("image_size", -3), "image_size"),
        (put_row("image_size", 2_000_000_000), "image_size"),
        (put_row("intrinsics", np.nan), "intrinsics"),
        (put_row("intrinsics", np.zeros((3, 3))), "intrinsics"),
        (put_row("cam_to_world", np.inf), "cam_to_world"),
        (put_row("cam_to_world", 2 * np.eye(4)), "cam_to_world"),
        (put_row("cam_to_world", np.diag([1.0, 1, -1, 1])), "cam_to_world"),
        (put_row("window", [0, 0, -64]), "window"),
        (put_row("window", [0, np.inf, 64]), "window"),
        (put_row("canonical", np.nan), "canonical"),
    ],
)
def test_values_that_cannot_be_are_refused(cameras: Path, change: Change, named: str) -> None:
    with edited(cameras) as file:
        change(file)
    message = refused(cameras)
    assert re.search(named, message), message
    assert message.isprintable()


def test_rows_of_unusable_images_may_be_unknown(cameras: Path) -> None:
    with edited(cameras) as file:
        file["status"][1] = "no_camera"
        for name in ("intrinsics", "cam_to_world", "window"):
            file[name][1] = np.nan
    with storage.reading(cameras, "cameras/1") as file:
        assert np.isnan(file["window"][1]).all()


@pytest.mark.parametrize("name", ["latents", "occupancy", "intrinsics", "window"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_model_with_numbers_that_are_none_is_refused(tmp_path: Path, name: str, value: float) -> None:
    path = Path(shutil.copy(DATA / "model_planes.h5", tmp_path / "model.h5"))
    with edited(path) as file:
        file[name][0] = value
    assert name in refused(path, "model/1")


def test_a_pipe_and_a_device_are_no_files(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.h5")
    assert "regular file" in refused(tmp_path / "pipe.h5")
    os.symlink("/dev/zero", tmp_path / "zero.h5")
    assert "regular file" in refused(tmp_path / "zero.h5")


def test_a_group_in_place_of_a_dataset_is_named(cameras: Path) -> None:
    with edited(cameras) as file:
        del file["window"]
        file.create_group("window")
    assert "window" in refused(cameras)


def test_a_limit_can_be_raised(cameras: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with edited_structure(cameras) as file:
        del file["canonical"]
        file.create_dataset("canonical", (2_000_000, 3), "f8")
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "0.1")
    assert "NERFGEN_READ_LIMIT=GIB" in refused(cameras)
    monkeypatch.setenv("NERFGEN_READ_LIMIT", "1")
    with storage.reading(cameras, "cameras/1") as file:
        assert file["canonical"].shape == (2_000_000, 3)


# Writes one file, with a limit on its size or a signal on its way, and says how it ended.
WRITER = """
import resource, signal, sys
from pathlib import Path
import numpy as np
from nerfgen import storage
limit, path = int(sys.argv[1]), Path(sys.argv[2])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
values = np.random.default_rng(0).integers(0, 255, (40, 64, 64))
try:
    with storage.Stage(path, "masks/1", "face").create() as file:
        masks = storage.allocate(file, "mask", values.shape)
        for row, value in enumerate(values):
            masks[row] = value
        storage.put(file, "image", [f"{row}.png" for row in range(40)])
        storage.put(file, "status", ["ok"] * 40)
        storage.put(file, "image_size", np.full((40, 2), 64))
        storage.put(file, "mask_window", np.ones((40, 3)))
except OSError as error:
    print(error.filename)
    sys.exit(2)
"""


def test_a_file_that_cannot_be_written_on_ends_in_order(tmp_path: Path) -> None:
    path = tmp_path / "masks.h5"
    path.write_bytes(b"the file before")
    for limit in (0, 100, 700, 5000, 120_000, 170_000):
        done = subprocess.run(
            [sys.executable, "-c", WRITER, str(limit), str(path)], capture_output=True, text=True, check=False
        )
        assert done.returncode == 2, (limit, done.returncode, done.stderr)
        assert done.stdout.strip().endswith("masks.h5") or ".masks.h5" in done.stdout
        assert path.read_bytes() == b"the file before"
        assert [one.name for one in tmp_path.iterdir()] == ["masks.h5"]


HOLD = """
import sys
import zlib
from pathlib import Path
from nerfgen import storage
with storage.claim(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


def test_a_second_writer_says_who_has_the_output(tmp_path: Path) -> None:
    path = write_cameras(tmp_path / "cameras.h5")
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    with pytest.raises(
        storage.OutputBusyError, match=rf"cameras\.h5 is being written by process {holder.pid} on \S+;"
    ):
        write_cameras(path)
    with storage.reading(path, "cameras/1") as file:  # the file before stays readable
        assert len(file["image"]) == 3
    holder.communicate("\n")
    write_cameras(path)
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("content", ["this host", "another host", "no JSON"])
def test_what_a_killed_writer_left_is_taken_over(tmp_path: Path, content: str) -> None:
    """On this host at once; what another host or an unknown program left, once it has not been touched for long."""
    path = tmp_path / "cameras.h5"
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    holder.kill()
    holder.communicate()
    claim = tmp_path / ".cameras.h5.writer"
    if content == "another host":
        claim.write_text(json.dumps(json.loads(claim.read_text()) | {"kernel": "ffffffff", "host": "far"}))
    elif content == "no JSON":
        claim.write_text("")
    if content != "this host":
        with pytest.raises(storage.OutputBusyError):
            write_cameras(path)
        os.utime(claim, (1e9, 1e9))
    write_cameras(path)
    assert list(tmp_path.iterdir()) == [path]


def test_a_folder_that_cannot_be_written_to_is_named(tmp_path: Path) -> None:
    (tmp_path / "folder").write_text("a file where a folder should be")
    with pytest.raises(WriteError, match=r"folder/cameras\.h5 cannot be written .*another place"):
        write_cameras(tmp_path / "folder" / "cameras.h5")
