"""What several test files share: the program as a subprocess, a tiny class of cars, a tiny trained model."""

from __future__ import annotations

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import pytest
from forked_program import ForkedProgram
from kills import heed_interrupts

from nerfgen.compilation_cache import use_compilation_cache

# Compiling takes most of the time: what one test or command has compiled serves all others of this session.
# Set before JAX is imported, and inherited by every command that a test starts.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    _compiled = tempfile.mkdtemp(prefix="nerfgen-tests-")
    atexit.register(shutil.rmtree, _compiled, ignore_errors=True)
    use_compilation_cache(_compiled)

# Quick compilation, here and in the commands that tests start: most programs run for less time than it takes. Tests run
# side by side, one on each core, so each compiles with one thread. jaxlib 0.7 compiles faster without fusion emitters;
# later releases reject the flag.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1 --xla_cpu_multi_thread_eigen=false"
    + (" --xla_cpu_use_fusion_emitters=false" if version("jaxlib").startswith("0.7.") else ""),
)

import jax
from jaxtyping import install_import_hook

jax.config.update("jax_numpy_rank_promotion", "raise")
# Shapes and dtypes in the annotations of nerfgen are checked at every call in this process.
install_import_hook("nerfgen", "array_types.check_arrays")
heed_interrupts()

# The model files of MediaPipe Tasks lie with the images that tests use.
_data = Path(os.environ.get("NERFGEN_DATA", Path(__file__).parents[2] / "shared" / "data"))
if (_data / "models").is_dir():
    os.environ.setdefault("NERFGEN_MODELS", str(_data / "models"))


def _lacking_for_faces() -> str:
    """What tests of faces and person masks need and this machine lacks; empty where nothing is lacking."""
    from nerfgen.errors import MissingDependencyError
    from nerfgen.pretrained import TASKS, mediapipe_interface

    try:
        needs_files = mediapipe_interface() == TASKS
    except MissingDependencyError:
        return "MediaPipe is not installed"
    if needs_files and "NERFGEN_MODELS" not in os.environ:
        return "the model files of MediaPipe are missing: set NERFGEN_MODELS to their folder"
    return ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what can't run here, and put files with long tests first: processes then end together."""
    faces = [item for item in items if item.get_closest_marker("mediapipe")]
    if faces and (lacking := _lacking_for_faces()):
        for item in faces:
            item.add_marker(pytest.mark.skip(reason=lacking))
    long = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in long)


# Beginnings of variables that JAX, XLA and nerfgen read while they are imported.
READ_BY_IMPORTS = ("JAX_", "XLA_", "NERFGEN_COMPILATION_CACHE", "PYTHON")


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Ran]]:
    """``run("train", folder, ...)``: the program as a user starts it.

    Its imports take seconds, so it is forked from a process that has done them, and its interpreter is not finalized. A
    test that changes what is read during the imports gets a new interpreter.
    """

    def imports() -> dict[str, str]:
        return {name: value for name, value in os.environ.items() if name.startswith(READ_BY_IMPORTS)}

    imported = imports()
    with ForkedProgram(tmp_path_factory.mktemp("streams"), finalizes=False, limited=False) as program:

        def start(*arguments: object, timeout: float = 300.0) -> Ran:
            words = [str(word) for word in arguments]
            if imports() == imported:
                forked = program.run(words, Path.cwd(), seconds=timeout)
                return Ran(forked.code, forked.out, forked.err)
            command = [sys.executable, "-m", "nerfgen", *words]
            done = subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False)
            return Ran(done.returncode, done.stdout, done.stderr)

        yield start


@pytest.fixture(scope="session")
def call() -> Callable[..., None]:
    """``call("sample", model, ...)``: a command in this process, whose errors are raised."""
    import typer

    from nerfgen.cli.main import app

    program = typer.main.get_command(app)
    return lambda *words: program.main([str(word) for word in words], "nerfgen", standalone_mode=False)


@pytest.fixture(scope="session")
def cars(tmp_path_factory) -> Path:
    """Forty synthetic cars at 32 x 32 pixels, some with held-out views. Tests write elsewhere."""
    from nerfgen.synth import SynthSettings, synthesize

    folder = tmp_path_factory.mktemp("cars")
    synthesize("cars", folder, SynthSettings(num_images=40, size=32, views=2, heldout_objects=12, seed=3))
    return folder


# The smallest recipe that still learns what a car looks like, as the command line takes it.
TINY = {
    "size": 24,
    "latent_size": 8,
    "width": 16,
    "depth": 1,
    "background_width": 8,
    "background_depth": 1,
    "plane_size": 12,
    "plane_channels": 4,
    "local_size": 4,
    "local_channels": 2,
    "background_cells": 4,
    "background_channels": 2,
    "samples": 10,
    "images_per_batch": 20,
    "rays_per_image": 16,
    "latent_learning_rate": 0.05,
    "camera_learning_rate": 0.0,
    "steps": 60,
}


@pytest.fixture(scope="session")
def tiny():
    """The preset of ``TINY``."""
    from nerfgen.model import PRESETS

    return PRESETS["fast"].with_values(**TINY)


@pytest.fixture(scope="session")
def tiny_options() -> list[str]:
    """The same as options of ``nerfgen train``."""
    return [word for name, value in TINY.items() for word in ("--set", f"{name}={value}")]


@pytest.fixture(scope="session")
def trained(cars, tiny, tmp_path_factory) -> Path:
    """The file of a tiny model of the cars that has learned something. Tests write elsewhere."""
    from nerfgen.train import TrainingFiles, train

    output = tmp_path_factory.mktemp("trained") / "model.h5"
    truth = cars / "truth.h5"
    train(TrainingFiles(cars, truth, truth, output), tiny.with_values(steps=500), object_class="cars")
    return output


@pytest.fixture(scope="session")
def model(trained):
    """The same model, loaded."""
    from nerfgen.model import load_model

    return load_model(trained)
