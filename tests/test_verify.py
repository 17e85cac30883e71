"""``nerfgen verify``: what changed in files and in their inputs."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest

from nerfgen.errors import InputError
from nerfgen.provenance import renew, verify
from nerfgen.provenance.examination import examine


@pytest.fixture(scope="module")
def segmented(tmp_path_factory, call) -> Path:
    """A few cars, their truth and masks of them."""
    folder = tmp_path_factory.mktemp("segmented") / "cars"
    call("synth", "cars", folder, "-n", 3, "--size", 16, "--views", 0, "--workers", 1, "-q")
    words = ("--method", "color", "--size", 160, "--workers", 1, "-q")
    call("segment", folder, "--cameras", folder / "truth.h5", *words)
    return folder


@pytest.fixture
def folder(segmented: Path, tmp_path: Path) -> Path:
    """A copy of them."""
    return Path(shutil.copytree(segmented, tmp_path / "cars"))


@pytest.fixture
def problems(folder: Path) -> Callable[..., str]:
    """The problems of a file of the folder, as one text."""
    return lambda name="masks.h5": "; ".join(verify(folder / name).problems)


def flip(path: Path, place: int) -> None:
    with open(path, "rb+") as stream:
        stream.seek(place)
        byte = stream.read(1)[0]
        stream.seek(place)
        stream.write(bytes([byte ^ 0x10]))


def test_a_folder(folder: Path, run) -> None:
    """One line a file, sorted; hidden, unfinished and other files are left out."""
    (folder / ".masks.abc.partial.h5").write_bytes(b"nerfgen_schema")
    (folder / ".hidden").mkdir()
    shutil.copy(folder / "masks.h5", folder / ".hidden" / "x.h5")
    with h5py.File(folder / "other.h5", "w") as file:
        file["x"] = [1]
    (folder / "other.obj").write_text("v 0 0 0\n")
    (folder / "dataset.json").write_text('{"labels": []}')
    done = run("verify", folder, "-q", "--json")
    assert done.code == 0, done.err
    files = json.loads(done.out)["files"]
    assert [Path(each["file"]).name for each in files] == ["masks.h5", "truth.h5"]
    assert all(each["ok"] and set(each["datasets"].values()) == {"ok"} for each in files)
    assert [each["state"] for each in files[0]["inputs"]] == ["unchanged", "unchanged"]
    assert verify(folder / "other.h5").problems == ("was not written by nerfgen",)


def test_a_flipped_bit_is_found_and_its_dataset_named(folder: Path, run) -> None:
    path = folder / "masks.h5"
    with h5py.File(path) as file:
        place = file["mask"].id.get_chunk_info(1).byte_offset + file.userblock_size
    flip(path, place + 20)
    done = run("verify", folder)
    assert done.code == 2
    lines = done.out.splitlines()
    assert lines[0].startswith(f"{path}: damaged or changed since it was written: mask ")
    assert lines[1] == f"{folder / 'truth.h5'}: ok"
    last = done.err.splitlines()[-1]
    assert last.startswith("nerfgen: 1 of 2 files failed; ")


def test_every_flipped_bit_is_found(folder: Path) -> None:
    path = folder / "masks.h5"
    content = path.read_bytes()
    for place in np.random.default_rng(0).integers(0, len(content), 2).tolist():
        flip(path, place)
        assert verify(path).problems, place
        path.write_bytes(content)
    path.write_bytes(content[: len(content) // 2])
    assert verify(path).problems
    path.write_bytes(content)
    assert not verify(path).problems


def test_damage_that_keeps_the_library_busy_ends(folder: Path) -> None:
    found = examine(folder / "masks.h5", seconds=0.01)
    assert found.datasets == {}
    assert "more than" in found.end


def test_inputs(folder: Path, problems, call, tmp_path: Path) -> None:
    assert problems() == ""
    image = min(folder.glob("*.png"))
    content = image.read_bytes()
    image.write_bytes(content + b"\0")
    assert problems() == "image 000000.png changed since"
    image.unlink()
    assert problems() == "image 000000.png changed since"
    image.write_bytes(content)
    call("synth", "cars", tmp_path / "others", "-n", 2, "--size", 16, "-q")
    (folder / "truth.h5").rename(tmp_path / "truth.h5")
    found = verify(folder / "masks.h5")
    assert (found.problems, found.notes) == ((), ("input truth.h5 not found",))
    assert verify(folder / "masks.h5", [tmp_path]).notes == ()
    shutil.copy(tmp_path / "others" / "truth.h5", folder / "truth.h5")
    assert problems() == "input truth.h5 has changed since"
    assert verify(folder / "masks.h5", [tmp_path]).problems == (), "the right one is in another folder"


def test_images_that_moved_are_not_found(folder: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "masks.h5"
    moved.parent.mkdir()
    (folder / "masks.h5").rename(moved)
    assert verify(moved).notes == ("input truth.h5 not found", "images not found")
    assert verify(moved, [folder]).notes == ()


def test_a_change_on_purpose_is_accepted(folder: Path, call, capsys, problems) -> None:
    path = folder / "masks.h5"
    assert not renew(path), "a sound file is left as it is"
    with h5py.File(path, "r+") as file:
        file["image_size"][0] = [7, 7]
    assert "image_size differs from its digest" in problems()
    with pytest.raises(InputError, match="nerfgen verify FILE --renew"):
        call("info", path)
    call("verify", path, "--renew")
    assert capsys.readouterr().out == f"{path}: renewed\n"
    assert problems() == ""


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        (lambda file: file.pop("status"), "dataset status of masks/1 is missing"),
        (
            lambda file: file["image_size"].__setitem__(0, [-7, 7]),
            "image_size has values that it cannot have",
        ),
        (lambda file: file.__setitem__("x", h5py.SoftLink("/mask")), "x cannot be read"),
    ],
)
def test_what_breaks_the_schema_is_not_accepted(folder: Path, change, cause: str) -> None:
    path = folder / "masks.h5"
    with h5py.File(path, "r+") as file:
        change(file)
    content = path.read_bytes()
    with pytest.raises(InputError, match=cause):
        renew(path)
    assert path.read_bytes() == content


def test_a_changed_attribute_is_found(folder: Path, problems) -> None:
    with h5py.File(folder / "masks.h5", "r+") as file:
        file.attrs["class"] = "face"
    assert "its datasets match their digests, but its attributes or its structure changed" in problems()


def test_files_of_earlier_versions(folder: Path, tmp_path: Path) -> None:
    """They have neither seal nor digests."""
    old = tmp_path / "old.h5"
    with h5py.File(folder / "truth.h5") as source, h5py.File(old, "w") as file:
        for name in source:
            source.copy(name, file)
            del file[name].attrs["sha256"]
        file.attrs.update(source.attrs)
    assert str(verify(old)) == f"{old}: no digests: written by an earlier version"
    assert verify(old).problems == ()


def test_names_do_not_reach_the_terminal_raw(folder: Path, problems) -> None:
    with h5py.File(folder / "masks.h5", "r+") as file:
        file["\x1b]0;x\x07"] = [1]
    assert "\x1b" not in problems()
    assert "\\x1b]0;x\\x07 has no digest" in problems()
