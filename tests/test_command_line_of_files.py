"""``nerfgen info FILE --command``: the printed command makes the same bytes again."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image


@pytest.fixture
def again(call, capsys, monkeypatch, tmp_path) -> Callable[..., str]:
    """Check that the printed command makes a file again, in a copy of ``folder``; gives the command.

    Args of the result:
        folder: all that the command reads and writes; the commands run in its parent.
        file: path of the file within the folder's parent.
    """

    def check(folder: Path, file: str, *, notes: str = "") -> str:
        monkeypatch.chdir(folder.parent)
        capsys.readouterr()
        call("info", file, "--command")
        printed = capsys.readouterr()
        assert printed.err == notes
        program, *tiny_options = shlex.split(printed.out)
        assert program == "nerfgen"
        copy = tmp_path / "copy" / file.replace("/", "-")
        shutil.copytree(folder, copy / folder.name)
        monkeypatch.chdir(copy)
        wanted = Path(file).read_bytes()
        Path(file).unlink()
        call(*tiny_options, "-q", *(["--overwrite"] if words[0] in ("synth", "import") else []))
        assert Path(file).read_bytes() == wanted, printed.out
        return printed.out.strip()

    return check


@pytest.fixture
def made(trained: Path, tmp_path: Path) -> Path:
    """A folder with a model alone, where other files are made."""
    folder = tmp_path / "work"
    folder.mkdir()
    shutil.copy(trained, folder / "model.h5")
    return folder


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("views.h5", ["render", "--rows", "1,3-4", "--yaw", "-20,0", "--size", "8"]),
        ("placed.h5", ["render", "--rows", "0-1", "--position", "0,1,3", "--look", "0,-1,-4", "--fov", "40"]),
        (
            "samples.h5",
            ["sample", "-n", "2", "--orbit", "2", "--pitch", "10", "--truncation", "1", "--seed", "5"],
        ),
        ("walk.h5", ["sample", "--direction", "1", "--range", "-1:2.5", "--frames", "2"]),
    ],
)
def test_views(made: Path, again, call, file: str, words: list[str]) -> None:
    command, *options = words
    call(command, made / "model.h5", *options, "-o", made / file, "-q")
    line = again(made, f"work/{file}").split()
    assert line[:3] == ["nerfgen", command, "work/model.h5"]
    assert ("--output" in line) == (file == "placed.h5"), "other names are the default"
    assert not {"--distance", "--antialias", "--samples"} & {*line}, "these are as the model implies"


def test_objects_of_files(made: Path, again, call) -> None:
    """A walk and a rendering name the file that their objects are from, in its place."""
    model = made / "model.h5"
    call("sample", model, "-n", 3, "--yaw", 0, "--size", 8, "-o", made / "new.h5", "-q")
    call("render", model, "--codes", f"{made}/new.h5:0,2", "--size", 8, "-o", made / "some.h5", "-q")
    assert "--codes work/new.h5:0,2 " in again(made, "work/some.h5")
    call(
        "sample",
        model,
        "2",
        f"{made}/new.h5:1",
        *("--between", "--frames", 2, "--size", 8, "-o", made / "between.h5", "-q"),
    )
    assert "work/model.h5 2 work/new.h5:1 " in again(made, "work/between.h5")


def test_meshes_and_datasets(made: Path, again, call) -> None:
    model = made / "model.h5"
    small = ("--resolution", 16, "-q")
    call("export", model, "--rows", 3, *small, "-o", made / "car.glb")
    assert again(made, "work/car.glb").endswith("--rows 3 --output work/car.glb")
    call("sample", model, "-n", 2, "--yaw", 0, "--size", 8, "-o", made / "new.h5", "-q")
    call("export", model, "--codes", f"{made}/new.h5:1", *small, "-o", made / "new.ply")
    assert "--codes work/new.h5:1 " in again(made, "work/new.ply")
    poses = ("--poses", "uniform:20,5.5", "--views", 2)
    call("sample", model, "-n", 3, *poses, "--size", 8, "--shard-size", 2, "--dataset", made / "set", "-q")
    assert "--poses uniform:20.0,5.5 " in again(made, "work/set/dataset.json")


@pytest.fixture
def cars_folder(cars: Path, tmp_path: Path) -> Path:
    """Twelve of the cars with the cameras of all."""
    folder = tmp_path / "cars"
    folder.mkdir()
    shutil.copy(cars / "truth.h5", folder / "truth.h5")
    for image in sorted(cars.glob("*.png")):
        shutil.copy(image, folder)
    return folder


@pytest.mark.parametrize(
    "options",
    [
        (),
        ("--method", "color", "--background", "#102030", "--size", 16),
        ("--method", "files", "--masks", "masks", "--size", 16),
    ],
)
def test_segment(cars_folder: Path, again, call, monkeypatch, options: tuple[object, ...]) -> None:
    monkeypatch.chdir(cars_folder)
    masks = cars_folder / "masks"
    masks.mkdir()
    for image in sorted(cars_folder.glob("*.png"))[:3]:
        Image.new("L", (32, 32), 255).save(masks / image.name)
    call("segment", ".", "--cameras", "truth.h5", *options, "--workers", 1, "-o", "masks.h5", "-q")
    line = again(cars_folder, "cars/masks.h5")
    assert line.startswith("nerfgen segment cars ")
    assert "--cameras cars/truth.h5" in line


def test_synthetic_images_and_their_import(again, call, tmp_path: Path) -> None:
    folder = tmp_path / "cars"
    call(
        "synth", "cars", folder, "-n", 2, "--size", 16, "--srn", "--views-per-instance", 2, "--seed", 4, "-q"
    )
    line = again(folder, "cars/truth.h5")
    assert line == (
        "nerfgen synth cars cars --num-images 2 --size 16 --heldout-objects 2 --srn --views-per-instance 2 --seed 4"
    )
    call("import", folder, "--views", "one", "--seed", 1, "-q")
    assert "--views 1 " in again(folder, "cars/cameras.h5")
