"""``nerfgen info FILE --command``: the printed command makes the same bytes again."""

from __future__ import annotations

import json
import os
import shlex
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from edited import edited
from good_files import make_mugs
from PIL import Image

from nerfgen.errors import InputError
from nerfgen.model import load_model


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
        program, *words = shlex.split(printed.out)
        assert program == "nerfgen"
        copy = tmp_path / "copy" / file.replace("/", "-")
        shutil.copytree(folder, copy / folder.name)
        monkeypatch.chdir(copy)
        wanted = Path(file).read_bytes()
        Path(file).unlink()
        call(*words, "-q", *(["--overwrite"] if words[0] in ("synth", "import") else []))
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
        ("views.h5", ["render", "--new", "7", "--truncation", "1.5", "--yaw", "0", "--size", "8"]),
        ("views.h5", ["render", "--axes", "1=-0.75,2=1.5", "--yaw", "0", "--size", "8"]),
        ("views.h5", ["render", "--rows", "2,4", "--axes", "2=0.1", "--yaw", "0", "--size", "8"]),
        ("views.h5", ["render", "--rows", "1", "--background", "#102030", "--yaw", "0", "--size", "8"]),
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


def test_directions(made: Path, trained: Path, again, call) -> None:
    images = load_model(trained).images
    lines = [f"{image},{number % 7},{number % 5}" for number, image in enumerate(images)]
    (made / "labels.csv").write_text("\n".join(["image,age,size", *lines]))
    call("directions", made / "model.h5", made / "labels.csv", "--column", "age", "-q")
    line = again(made, "work/age.direction.h5")
    assert line == "nerfgen directions work/model.h5 work/labels.csv --column age"
    further = ("--column", "size", "--name", "bulk", "--orthogonal-to", "age")
    call("directions", made / "model.h5", made / "labels.csv", *further, "-q")
    assert "--name bulk --orthogonal-to age" in again(made, "work/bulk.direction.h5")
    walk = ("--direction", "age", "--frames", "2", "--size", "8", "-o", made / "walk.h5", "-q")
    call("sample", made / "model.h5", *walk)
    assert "--direction age " in again(made, "work/walk.h5")


def test_an_image_behind_objects(made: Path, again, call) -> None:
    Image.new("RGB", (4, 4), "navy").save(made / "sky.png")
    views = ("-o", made / "views.h5", "--size", 8, "--yaw", 0, "-q")
    call("render", made / "model.h5", "--rows", 0, "--background", made / "sky.png", *views)
    assert "--background work/sky.png" in again(made, "work/views.h5")


def test_meshes_and_datasets(made: Path, again, call) -> None:
    model = made / "model.h5"
    small = ("--resolution", 16, "-q")
    call("export", model, "--rows", 3, *small, "-o", made / "car.glb")
    assert again(made, "work/car.glb").endswith("--rows 3 --output work/car.glb")
    call("export", model, "--new", 4, "--axes", "1=1.0", *small, "-o", made / "drawn.glb")
    assert again(made, "work/drawn.glb").endswith(
        "--new 4 --truncation 0.7 --axes 1=1.0 --output work/drawn.glb"
    )
    call("export", model, "--axes", "1=0.5", *small, "-o", made / "mean.glb")
    assert again(made, "work/mean.glb").endswith("--axes 1=0.5 --output work/mean.glb")
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


def test_words_for_what_is_not_there(made: Path, call, capsys, monkeypatch) -> None:
    """Inputs that are elsewhere are words in capitals, with a note."""
    model = made / "model.h5"
    call("render", model, "--rows", 0, "--yaw", 0, "--size", 8, "-o", made / "-views.h5", "-q")
    model.rename(made / "other.h5")
    monkeypatch.chdir(made)
    capsys.readouterr()
    call("info", "./-views.h5", "--command")
    printed = capsys.readouterr()
    assert printed.err == "note: MODEL stands for the file model.h5\n"
    assert printed.out.startswith("nerfgen render MODEL --rows 0 --distance ")
    call("info", "other.h5", "--command")
    printed = capsys.readouterr()
    assert printed.out.startswith("nerfgen train DATA --class cars --cameras CAMERAS.h5 --masks MASKS.h5 ")
    assert printed.err.count("stands for") == 3


def test_words_of_a_file_are_quoted(cars_folder: Path, call, capsys) -> None:
    """What a file says becomes a word of the line, never a command or an option."""
    truth = cars_folder / "truth.h5"
    with edited(truth) as file:
        parameters = json.loads(file.attrs["parameters"]) | {"kind": "-o; touch x\x1b[2J", "size": "$(x)"}
        file.attrs["parameters"] = json.dumps(parameters)
    call("info", truth, "--command")
    out = capsys.readouterr().out
    assert shlex.split(out)[2:4] == ["./-o; touch x\\x1b[2J", str(cars_folder)]
    assert "--size '$(x)'" in out


@pytest.mark.parametrize(
    "parameters", [{}, {"rows": 3}, {"rows": [], "codes": 3}, {"frames": 2, "direction": 1, "range": 7}]
)
def test_parameters_that_no_command_writes(made: Path, call, parameters: dict[str, object]) -> None:
    call("render", made / "model.h5", "--rows", 0, "--yaw", 0, "--size", 8, "-q")
    with edited(made / "views.h5") as file:
        file.attrs["parameters"] = json.dumps(parameters)
    with pytest.raises(InputError, match="does not record all that its command needs"):
        call("info", made / "views.h5", "--command")


@pytest.mark.parametrize("kind", ["cat", "celeba", "ffhq"])
def test_imported_annotations(again, call, tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "annotated"
    points = np.random.default_rng(0).uniform(20, 80, (68, 2)).round()
    sources = {
        "cat": ("00000.jpg.cat", " ".join(["9", *(f"{value:.0f}" for value in points[:9].ravel())])),
        "celeba": (
            "list.txt",
            "1\nlefteye_x lefteye_y righteye_x righteye_y nose_x nose_y leftmouth_x leftmouth_y rightmouth_x "
            "rightmouth_y\n00000.jpg 20 30 60 30 40 50 25 70 55 70\n",
        ),
        "ffhq": (
            "ffhq-dataset-v2.json",
            json.dumps(
                {
                    "0": {
                        "category": "training",
                        "image": {
                            "file_path": "images/00000.jpg",
                            "pixel_size": [100, 100],
                            "face_landmarks": points.tolist(),
                        },
                    }
                }
            ),
        ),
    }
    image = folder / ("images/00000.jpg" if kind == "ffhq" else "00000.jpg")
    image.parent.mkdir(parents=True)
    Image.new("RGB", (100, 100), (90, 120, 60)).save(image)
    name, content = sources[kind]
    (folder / name).write_text(content, encoding="utf-8")
    source = folder if kind == "cat" else folder / name
    call("import", source, "--images", image.parent, "-q")
    place = image.parent.relative_to(folder.parent)
    line = again(folder, f"{place}/landmarks.h5")
    assert line.startswith(f"nerfgen import {source.relative_to(folder.parent)}")


@pytest.mark.slow
def test_estimators_and_what_builds_on_models(again, call, tiny_options, tmp_path: Path) -> None:
    work = tmp_path / "work"
    mugs, more = work / "mugs", work / "more"
    for folder in (mugs, more):
        make_mugs(folder)
    for path in sorted(more.glob("*.png")):
        with Image.open(path) as image:
            image.transpose(Image.Transpose.ROTATE_180).save(path.with_name(f"new-{path.name}"))
        path.unlink()
    annotations = more / "mugs.csv"
    header, *lines = annotations.read_text(encoding="utf-8").splitlines()
    annotations.write_text("\n".join([header, *(f"new-{line}" for line in lines)]), encoding="utf-8")
    described = ("--class", mugs / "mug.toml")
    call("train-landmarker", mugs, mugs / "mugs.csv", *described, "--steps", 2, "--batch", 4, "-q")
    assert "--batch 4 --steps 2" in again(work, "work/mugs/landmarker.h5")
    call("landmark", mugs, *described, "--model", mugs / "landmarker.h5", "-q")
    assert "--model work/mugs/landmarker.h5" in again(work, "work/mugs/landmarks.h5")
    call("import", mugs / "mugs.csv", *described, "--overwrite", "-q")
    call("import", annotations, *described, "-q")
    for folder, like in ((mugs, ()), (more, ("--like", mugs / "model.h5"))):
        call("fit-cameras", folder, *like, "-q")
        call("segment", folder, "--method", "color", "--size", 16, "-q")
        options = ("--init", mugs / "model.h5") if like else tiny_options
        call("train", folder, *options, "--steps", 2, "-q")
    assert "--like work/mugs/model.h5" in again(work, "work/more/cameras.h5")
    assert "--init work/mugs/model.h5" in again(work, "work/more/model.h5")


@pytest.mark.slow
def test_training_and_evaluation(cars: Path, again, call, tiny_options, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(cars, tmp_path / "cars"))
    truth = ("--cameras", folder / "truth.h5", "--masks", folder / "truth.h5")
    call("train", folder, *truth, *tiny_options, "--steps", 2, "--seed", 3, "-q")
    line = again(folder, "cars/model.h5")
    assert "--steps 2 " in line
    assert "--set depth=1" in line
    assert "lambda" not in line, "what the inputs rule out is no change of the recipe"
    tuned = (
        "--init",
        folder / "model.h5",
        "--adversarial",
        "--set",
        "patch_size=16",
        "-o",
        folder / "tuned.h5",
    )
    call("train", folder, *truth, *tuned, "--steps", 2, "-q")
    line = again(folder, "cars/tuned.h5")
    assert "--init cars/model.h5 " in line
    assert "--adversarial" in line
    assert "lambda" not in line
    others = ("--no-masks", "--preset", "quality", "-o", folder / "other.h5")
    call("train", folder, *truth[:2], *tiny_options, *others, "-q")
    assert "--no-masks" in again(folder, "cars/other.h5")
    call("evaluate", folder / "model.h5", "--tables", "train", "-n", 2, "-q")
    assert again(folder, "cars/model.report.h5") == "nerfgen evaluate cars/model.h5 --tables train --images 2"
    sweep = ("--sweep", "images=10,20", "--steps", 2, "--tables", "train", "-n", 2)
    call("evaluate", folder, *sweep, *truth, *tiny_options, "-q")
    assert "--sweep images=10,20 " in again(folder, "cars/study.h5")


@pytest.mark.slow
@pytest.mark.mediapipe
def test_faces(again, call, tiny_options, tmp_path: Path) -> None:
    images = sorted((Path(os.environ.get("NERFGEN_DATA", "../shared/data")) / "faces").glob("*.jpg"))[:12]
    if not images:
        pytest.skip("the folder of face photographs is absent")
    folder = tmp_path / "faces"
    folder.mkdir()
    for image in images:
        shutil.copy(image, folder)
    call("landmark", folder, "-q")
    assert again(folder, "faces/landmarks.h5") == "nerfgen landmark faces"
    call("fit-cameras", folder, "--focal", 1.5, "--intrinsics", "shared", "-q")
    line = again(folder, "faces/cameras.h5")
    assert line == "nerfgen fit-cameras faces --intrinsics shared --focal 1.5"
    call("segment", folder, "--size", 64, "-q")
    assert again(folder, "faces/masks.h5") == "nerfgen segment faces --size 64"
    call("train", folder, *tiny_options, "--steps", 2, "-q")
    again(folder, "faces/model.h5")
    new = folder / images[0].name
    call("render", folder / "model.h5", "--image", new, "--fit-steps", 2, "--yaw", 0, "--size", 8, "-q")
    assert f"--image faces/{new.name} " in again(folder, "faces/fitted.h5")
