"""The program as a user meets it: help, messages, exit codes, signals, and the pipeline on tiny cars."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import pytest
from PIL import Image

import nerfgen
from nerfgen.errors import InputError

COMMANDS = [
    "landmark",
    "fit-cameras",
    "segment",
    "train",
    "render",
    "sample",
    "export",
    "demo",
    "synth",
    "info",
    "verify",
]
COMMANDS += [
    "bench",
    *(
        f"bench {name}"
        for name in (
            "training",
            "data",
            "latents",
            "memory",
            "convergence",
            "landmark",
            "rendering",
            "fitting",
            "startup",
        )
    ),
]
HEAVY = ["jax", "torch", "flax", "optax", "mediapipe", "scipy", "h5py", "imageio", "PIL"]
HEAVY += ["trimesh", "skimage", "igl", "jinja2", "matplotlib", "torch"]

# Runs the program's --help in this process and tells on stderr what it imported.
SPY = f"""
import sys
sys.argv[0] = "nerfgen"
from nerfgen.cli.main import main
try:
    main()
finally:
    print("IMPORTED", *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)
"""


@pytest.mark.parametrize("command", ["", *COMMANDS])
def test_help_shows_examples_and_imports_nothing_heavy(command):
    words = [sys.executable, "-c", SPY, *command.split(), "--help"]
    done = subprocess.run(
        words, capture_output=True, text=True, check=False, env=os.environ | {"COLUMNS": "100"}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "IMPORTED"
    if command:
        assert "Examples" in done.stdout
        assert f"nerfgen {command} " in done.stdout, "an example shows the command itself"
    else:
        assert all(name.split()[0] in done.stdout for name in COMMANDS)
        assert "nerfgen train" in done.stdout


def test_version(run):
    done = run("--version")
    assert (done.code, done.out.strip()) == (0, nerfgen.__version__)


def one_line(err):
    """The only line of an error message, which starts with the program's name."""
    lines = err.strip().splitlines()
    assert len(lines) == 1, err
    assert lines[0].startswith("nerfgen: ")
    return lines[0]


def test_wrong_options_exit_with_2(run, tmp_path):
    for words in (
        ["--nonsense"],
        ["train", tmp_path, "--stepz", "3"],
        ["nonsense"],
        ["train", tmp_path, "--steps", "x"],
    ):
        done = run(*words)
        assert done.code == 2
        assert "Traceback" not in done.err
        assert done.out == ""


def test_missing_things_are_told_in_one_line_with_the_next_command(run, tmp_path, trained):
    nowhere, empty = tmp_path / "nowhere", tmp_path / "empty"
    empty.mkdir()
    for words, told in (
        (["train", nowhere], "nowhere is not a folder"),
        (["train", empty], f"cameras.h5 does not exist; make it with `nerfgen fit-cameras {empty}`"),
        (["fit-cameras", empty], f"make it with `nerfgen landmark {empty}`"),
        (["render", empty], "make it with `nerfgen train"),
        (["sample", nowhere / "model.h5"], "model.h5 does not exist"),
        (["info", nowhere], "nowhere does not exist"),
        (["render", trained, "--rows", "99"], "0 to 39"),
        (["render", trained, "--rows", "0,5-3"], "rows such as 0,5-9"),
        (["render", trained, "--rows", "1", "--image", "x.jpg"], "exclude each other"),
        (["sample", trained, "--yaw", "left", "-o", tmp_path / "s.h5"], "--yaw left"),
    ):
        done = run(*words)
        assert done.code == 2, (words, done.err)
        assert told in one_line(done.err)
        assert done.out == ""
    assert list(empty.iterdir()) == []


def test_missing_masks_name_the_command_and_the_way_without(run, cars, tmp_path):
    done = run("train", cars, "--cameras", cars / "truth.h5", "-o", tmp_path / "m.h5")
    assert done.code == 2
    message = one_line(done.err)
    assert f"nerfgen segment {cars}" in message
    assert "--no-masks" in message


def test_what_is_no_nerfgen_file_is_told(run, tmp_path):
    (tmp_path / "x.h5").write_text("text")
    done = run("info", tmp_path / "x.h5")
    assert done.code == 2
    assert "x.h5" in one_line(done.err)


def test_debug_shows_the_traceback(run, tmp_path):
    done = run("info", tmp_path / "none.h5", "--debug")
    assert done.code != 0
    assert "Traceback" in done.err
    assert "none.h5" in done.err


def test_wrong_preset_values_exit_with_2(run, cars, tmp_path):
    given = ["train", cars, "--cameras", cars / "truth.h5", "--no-masks", "-o", tmp_path / "m.h5"]
    for setting, told in (("samplez=3", "samplez"), ("samples=few", "samples"), ("samples", "NAME=VALUE")):
        done = run(*given, "--set", setting)
        assert done.code == 2
        assert told in one_line(done.err)
    assert list(tmp_path.iterdir()) == []


def test_info_tells_what_a_file_holds(run, trained, cars):
    done = run("info", trained, "--json")
    assert done.code == 0
    told = json.loads(done.out)
    with h5py.File(trained) as file:
        assert told["attributes"]["nerfgen_schema"] == "model/1"
        assert told["attributes"]["parameters"] == json.loads(file.attrs["parameters"])
        assert told["datasets"]["latents"]["shape"] == list(file["latents"].shape)
    text = run("info", cars / "truth.h5").out
    for word in ("truth/1", "cam_to_world", "(40, 4, 4)", "ok=40"):
        assert word in text


@pytest.fixture(scope="module")
def project(run, cars, tiny_options, tmp_path_factory):
    """A folder in which `nerfgen train` was run on the cars: (options of the run, model, result)."""
    model = tmp_path_factory.mktemp("project") / "model.h5"
    words = [
        "train",
        cars,
        "--cameras",
        cars / "truth.h5",
        "--masks",
        cars / "truth.h5",
        *tiny_options,
        "-o",
        model,
    ]
    return words, model, run(*words, "--json")


@pytest.mark.slow
def test_training_prints_json_alone_on_stdout(project):
    _, model, done = project
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert result["images"] == 40
    assert result["steps"] == 60
    assert result["kept"] is False
    assert model.is_file()
    assert "training: 60/60 steps" in done.err
    with Image.open(model.with_suffix(".preview.png")) as picture:
        assert picture.width > 5 * 24
    assert {path.name for path in model.parent.iterdir()} >= {"model.h5", "model.preview.png"}
    assert not [
        path for path in model.parent.iterdir() if "partial" in path.name or "checkpoint" in path.name
    ]


@pytest.mark.slow
def test_a_second_run_keeps_and_a_changed_one_is_refused_until_overwrite(run, project):
    words, model, _ = project
    before, changed = model.read_bytes(), model.stat().st_mtime_ns
    done = run(*words)
    assert done.code == 0
    assert "kept" in done.err
    assert model.stat().st_mtime_ns == changed
    done = run(*words, "--seed", 3)
    assert done.code == 2
    assert "parameter seed" in one_line(done.err)
    assert model.read_bytes() == before
    done = run(*words, "--overwrite", "--quiet", "--no-preview")
    assert (done.code, done.out, done.err) == (0, "", "")
    assert model.stat().st_mtime_ns != changed
    assert model.read_bytes() == before, "the same inputs and seed give the same bytes"


@pytest.mark.slow
def test_rendering_writes_views_and_pictures(run, project, tmp_path):
    _, model, _ = project
    words = [
        "render",
        model,
        "--rows",
        "0,2-3",
        "--yaw",
        "-40,0,40",
        "--samples",
        8,
        "--size",
        26,
        "-o",
        tmp_path / "v.h5",
    ]
    pictures = [
        "--sheet",
        tmp_path / "sheet.png",
        "--png",
        tmp_path / "png",
        "--video",
        tmp_path / "turn.mp4",
    ]
    done = run(*words, *pictures, "--json")
    assert done.code == 0, done.err
    assert "Warning" not in done.err
    result = json.loads(done.out)
    assert result["objects"] == 3
    assert result["views"] == 4, "the photograph's own view and three turned ones"
    with h5py.File(tmp_path / "v.h5") as file:
        assert file["rgb"].shape == (3, 4, 26, 26, 3)
        np.testing.assert_array_equal(file["row"][:], [0, 2, 3])
        first = file["rgb"][0, 0]
    assert len(list((tmp_path / "png").iterdir())) == 12
    with Image.open(tmp_path / "png" / "0000_000.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), first)
    with Image.open(tmp_path / "sheet.png") as sheet:
        assert sheet.width >= 5 * 26, "the photograph beside its four views"
    # Reading a video forks, which JAX warns of in this process.
    script = (
        "import imageio.v2 as imageio, json, sys\n"
        "with imageio.get_reader(sys.argv[1]) as video:\n"
        "    told = video.get_meta_data()\n"
        "    kept = {name: told[name] for name in ('codec', 'pix_fmt', 'size')}\n"
        "    print(json.dumps(kept | {'frames': sum(1 for _ in video)}))\n"
    )
    read = subprocess.run(
        [sys.executable, "-c", script, tmp_path / "turn.mp4"], capture_output=True, check=True
    )
    metadata = json.loads(read.stdout)
    assert metadata["frames"] == 3
    assert metadata["codec"] == "h264"
    assert metadata["pix_fmt"].startswith("yuv420p")
    assert metadata["size"][0] % 2 == metadata["size"][1] % 2 == 0

    done = run(*words, "--sheet", tmp_path / "again.png")
    assert done.code == 0
    assert "kept" in done.err
    assert (tmp_path / "again.png").read_bytes() == (tmp_path / "sheet.png").read_bytes()
    done = run(*words[:-4], "--size", 20, "-o", tmp_path / "v.h5")
    assert done.code == 2
    assert "parameter size" in one_line(done.err)


@pytest.mark.slow
def test_sampling_writes_new_objects(run, project, tmp_path):
    _, model, _ = project
    words = [
        "sample",
        model.parent,
        "-n",
        3,
        "--seed",
        5,
        "--size",
        20,
        "--samples",
        8,
        "-o",
        tmp_path / "s.h5",
    ]
    done = run(*words, "--orbit", 5, "--video", tmp_path / "orbit.gif", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["num_samples"] == 3
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["rgb"].shape == (3, 5, 20, 20, 3)
        assert np.abs(file["coefficients"][:]).max() <= 0.7
        np.testing.assert_allclose(file["angles"][:, 0] % 360, np.arange(5) * 72, atol=1e-4)
        assert (file["row"][:] == -1).all()
    with Image.open(tmp_path / "orbit.gif") as gif:
        assert gif.n_frames == 5
    done = run(*words, "--orbit", 5, "--truncation", 0.2)
    assert done.code == 2
    assert "parameter truncation" in one_line(done.err)


@pytest.mark.slow
def test_pictures_of_unknown_kind_are_told(run, project, tmp_path):
    _, model, _ = project
    common = ["sample", model, "-n", 1, "--size", 16, "--samples", 4, "-o", tmp_path / "s.h5"]
    for option, name in (("--sheet", "sheet.xyz"), ("--video", "turn.avi")):
        done = run(*common, option, tmp_path / name, "--quiet")
        assert done.code == 2
        assert name in one_line(done.err)
        assert not (tmp_path / name).exists()
    assert not [path for path in tmp_path.iterdir() if "partial" in path.name]


@pytest.mark.slow
def test_an_output_that_can_not_be_written_is_told(run, project, tmp_path):
    _, model, _ = project
    (tmp_path / "file").write_text("in the way")
    done = run(
        "sample", model, "-n", 1, "--size", 16, "--samples", 4, "-o", tmp_path / "file" / "s.h5", "--quiet"
    )
    assert done.code == 2
    assert "file" in one_line(done.err)


def library_messages() -> Iterator[tuple[str, str]]:
    """(place, text) of every string within a ``raise`` outside of the command line."""
    root = Path(nerfgen.__file__).parent
    for path in sorted(root.rglob("*.py")):
        if path.parent.name == "cli":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise):
                parts = [each.value for each in ast.walk(node) if isinstance(each, ast.Constant)]
                yield f"{path.relative_to(root)}:{node.lineno}", "".join(map(str, parts))


def test_errors_of_the_library_name_fields_and_not_options():
    for place, text in library_messages():
        outside = re.sub(r"`nerfgen [^`]*`", "", text)
        assert not re.search(r"(^|\s)--[a-z]", outside), (place, text)


def test_errors_of_the_library_are_raised_with_the_names_of_options(call, cars, tmp_path):
    known = ["train", cars, "--cameras", cars / "truth.h5", "--no-masks", "-o", tmp_path / "m.h5"]
    for words, told in (
        ([*known, "--micro-batch", 7], "--micro-batch 7 does not divide"),
        ([*known, "--set", "adam_b2=1"], "--set adam_b2 has to be below 1"),
        ([*known, "--set", "plane_size=1"], "--set plane_size has to be at least 2"),
        ([*known, "--rehearse", 3], "--rehearse is for --init only"),
        (
            ["fit-cameras", cars, "--estimate-canonical", "--refine-canonical"],
            "--estimate-canonical excludes",
        ),
    ):
        with pytest.raises(InputError, match=re.escape(told)):
            call(*words)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["render", "--rows", "0", "--fit-steps", 3], "--fit-steps is for new images only"),
        (["render", "--rows", "0", "--seed", 3], "--seed is for new images only"),
        (["render", "--tune"], "--tune is for new images only"),
        (["render", "--image", "x.jpg", "--tune-steps", 3], "--tune-steps is for --tune only"),
        (["export", "--rows", "0", "--workers", 3], "--workers is for new images only"),
        (["render", "--rows", "0-99999999999"], "--rows 0-99999999999"),
        (["export", "--rows", "0-99999999999"], "--rows 0-99999999999"),
    ],
)
def test_options_without_effect_and_rows_out_of_range_are_refused(call, trained, tmp_path, words, told):
    command, *rest = words
    with pytest.raises(InputError, match=re.escape(told)):
        call(command, trained, *rest, "-o", tmp_path / "out.glb")
    assert list(tmp_path.iterdir()) == []


def test_zero_stands_for_the_default_where_it_used_to(call, trained, tmp_path):
    words = ["render", trained, "--rows", "0", "--yaw", "0", "--samples", 4, "-q"]
    call(*words, "--size", 0, "--antialias", 0, "--distance", 0, "--fov", 0, "-o", tmp_path / "zero.h5")
    call(*words, "-o", tmp_path / "none.h5")
    assert (tmp_path / "zero.h5").read_bytes() == (tmp_path / "none.h5").read_bytes()
