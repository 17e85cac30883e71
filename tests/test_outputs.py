"""Outputs that cannot be written: errors name them, what was there stays, and nothing is left beside them."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from nerfgen import storage
from nerfgen.errors import InputError, NerfgenError, WriteError
from nerfgen.image import save_image
from nerfgen.mask import write_png_masks


def files(folder: Path) -> dict[str, bytes]:
    """The content of every file."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("name", "number", "remedy"),
    [
        ("fsync", errno.ENOSPC, "free some space"),
        ("fsync", errno.EIO, "check the disk"),
        ("replace", errno.EROFS, "choose another place"),
        ("open", errno.EACCES, "choose another place"),
    ],
)
def test_a_failure_names_the_output_and_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int, remedy: str
) -> None:
    path = tmp_path / "figure.png"
    path.write_bytes(b"old")

    def failing(*arguments: object, **_: object) -> None:
        named = [str(each) for each in arguments[:1] if isinstance(each, (str, Path))]
        raise OSError(number, os.strerror(number), *named)

    with monkeypatch.context() as patch:
        patch.setattr(os, name, failing)
        with pytest.raises(WriteError, match=remedy) as caught:
            save_image(path, np.zeros((4, 4, 3), np.uint8), tidy=False)
    assert str(caught.value).startswith(f"{path} cannot be written ({os.strerror(number)}); ")
    assert isinstance(caught.value, NerfgenError)
    assert files(tmp_path) == {"figure.png": b"old"}


def test_errors_of_other_files_stay_as_they_are(tmp_path: Path) -> None:
    with (
        pytest.raises(FileNotFoundError, match="absent"),
        storage.atomic_path(tmp_path / "output.h5"),
    ):
        (tmp_path / "absent").read_bytes()


def test_a_failure_within_a_folder_names_the_final_folder(tmp_path: Path) -> None:
    with (
        pytest.raises(WriteError, match=f"{tmp_path}/shard/masks.h5 cannot be written"),
        storage.atomic_folder(tmp_path / "shard") as folder,
        storage.atomic_path(folder / "masks.h5"),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert files(tmp_path) == {}


def limited(words: list[object], size: int) -> subprocess.CompletedProcess[str]:
    """A command whose files may not grow beyond a size."""
    script = (
        "import os, resource, sys\n"
        f"resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"
        "os.execv(sys.executable, [sys.executable, '-m', 'nerfgen', *sys.argv[1:]])\n"
    )
    command = [sys.executable, "-c", script, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("command", ["synth", "export", pytest.param("sheet", marks=pytest.mark.slow)])
def test_a_limit_of_the_disk_is_one_line_that_names_the_file(
    tmp_path: Path, trained: Path, command: str
) -> None:
    words: list[object]
    if command == "synth":
        output = tmp_path / "out" / "truth.h5"
        words = ["synth", "cars", output.parent, "-n", 2, "--size", 32, "--views", 1, "--workers", 2]
    elif command == "export":
        output = tmp_path / "mesh.ply"
        words = ["export", trained, "--rows", 0, "--resolution", 32, "-o", output, "--overwrite", "-q"]
    else:
        output = tmp_path / "sheet.png"
        words = ["sample", trained, "-n", 8, "--size", 32, "--sheet", output, "-o", tmp_path / "s.h5", "-q"]
        done = limited(words, 1 << 30)
        assert done.returncode == 0, done.stderr
    if command != "synth":
        output.write_bytes(b"old")
    done = limited(words, 4096)
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert last.startswith(f"nerfgen: {output} cannot be written (File too large); "), done.stderr
    assert not list(tmp_path.rglob("*.partial*"))
    assert output.read_bytes() == b"old" if command != "synth" else not output.exists()


def test_names_of_any_length_can_be_written(tmp_path: Path) -> None:
    longest = tmp_path / ("ü" * 125 + ".png")  # 254 bytes
    save_image(longest, np.zeros((4, 4), np.uint8))
    assert [path.name for path in tmp_path.iterdir()] == [longest.name]
    first, second = (storage.short_name("x" * 260 + end, ".png") for end in "ab")
    assert len(first) == 255
    assert first != second
    assert storage.short_name("x" * 251, ".png") == "x" * 251 + ".png"


def test_what_a_killed_writer_of_a_long_name_left_is_removed(tmp_path: Path) -> None:
    path = tmp_path / ("x" * 251 + ".png")
    script = (
        "import os, sys, pathlib\n"
        "from nerfgen import storage\n"
        "with storage.atomic_path(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(path)], check=False)
    assert len(list(tmp_path.iterdir())) == 1
    save_image(path, np.zeros((4, 4), np.uint8))
    assert list(tmp_path.iterdir()) == [path]


def test_masks_of_long_names_and_what_killed_runs_left(tmp_path: Path) -> None:
    names = ["a/" + "n" * 250 + end for end in (".jpg", ".png")]
    with storage.Stage(tmp_path / "masks.h5", "masks/1", "face").create() as file:
        storage.put(file, "image", names)
        storage.put(file, "status", ["ok", "ok"])
        storage.put(file, "image_size", [[8, 8], [8, 8]])
        storage.put(file, "mask_window", [[0, 0, 8], [0, 0, 8]])
        storage.allocate(file, "mask", (2, 8, 8))[:] = 255
    out = tmp_path / "png"
    script = (
        "import os, sys, pathlib\n"
        "from nerfgen import storage\n"
        "with storage.atomic_path(pathlib.Path(sys.argv[1])):\n"
        "    os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", script, str(out / "a" / "other.png")], check=False)
    assert len(list((out / "a").iterdir())) == 1
    assert write_png_masks(tmp_path / "masks.h5", out, workers=1) == 2
    written = sorted(path.name for path in (out / "a").iterdir())
    assert len(written) == 2
    assert all(name.startswith("nnn") and len(name) == 255 for name in written)


def test_pixels_lie_beside_the_model_where_the_images_cannot_be_joined(
    cars: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nerfgen.data import open_pixel_cache

    before = files(cars)
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    truth = cars / "truth.h5"
    inputs = [storage.file_record(truth)]
    with open_pixel_cache(
        cars, truth, truth, 8, object_class="cars", inputs=inputs, fallback=tmp_path
    ) as cache:
        assert Path(cache.file.filename).parent == tmp_path
    assert files(cars) == before


def test_a_refused_training_writes_nothing(
    cars: Path, tmp_path: Path, tiny_options: list[str], call: Callable[..., None]
) -> None:
    before, truth = files(cars), cars / "truth.h5"
    with pytest.raises(InputError, match="of memory, and this machine has"):
        call(
            *("train", cars, "--cameras", truth, "--masks", truth, "-o", tmp_path / "model.h5"),
            *(*tiny_options, "--set", "latent_size=65536", "--set", "plane_size=512"),
        )
    assert files(tmp_path) == {}
    assert files(cars) == before
