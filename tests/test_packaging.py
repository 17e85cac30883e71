"""What pip installs on each Python and platform, as pyproject.toml says."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement

import nerfgen

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

LINUX, ARM_LINUX = ("linux", "x86_64"), ("linux", "aarch64")
MAC, WINDOWS = ("darwin", "arm64"), ("win32", "AMD64")
# MediaPipe 0.10.21, whose wheel carries the networks, exists for these.
CARRIES_NETWORKS = [(python, place) for python in ("3.11", "3.12") for place in (LINUX, MAC, WINDOWS)]
# Later releases: those before 0.10.32 send no usage statistics, but have no wheels for Linux on ARM.
WITHOUT_STATISTICS = [(python, place) for python in ("3.13", "3.14") for place in (LINUX, MAC, WINDOWS)]
ANY_RELEASE = [(python, ARM_LINUX) for python in ("3.11", "3.12", "3.13", "3.14")]


def requirements(python: str, place: tuple[str, str]) -> dict[str, str]:
    """The versions of every dependency that applies, by name."""
    system, machine = place
    environment = {"python_version": python, "sys_platform": system, "platform_machine": machine}
    found: dict[str, list[str]] = {}
    for line in PROJECT["dependencies"]:
        each = Requirement(line)
        if each.marker is None or each.marker.evaluate(environment):
            found.setdefault(each.name, []).append(str(each.specifier))
    return {name: ",".join(versions) for name, versions in found.items()}


@pytest.mark.parametrize(("python", "place"), CARRIES_NETWORKS)
def test_the_mediapipe_that_carries_its_networks_comes_with_bounds(
    python: str, place: tuple[str, str]
) -> None:
    found = requirements(python, place)
    assert found["mediapipe"] == "==0.10.21"
    for name in ("numpy", "jax", "jaxlib", "flax", "ml-dtypes", "scipy", "opencv-contrib-python"):
        assert "<" in found[name], name


@pytest.mark.parametrize(("python", "place"), [*WITHOUT_STATISTICS, *ANY_RELEASE])
def test_elsewhere_all_other_libraries_are_the_newest(python: str, place: tuple[str, str]) -> None:
    found = requirements(python, place)
    assert found["mediapipe"] == (">=1" if place == ARM_LINUX else "<0.10.32,>=0.10.30")
    assert [name for name, versions in found.items() if "<" in versions] in ([], ["mediapipe"])


def test_one_opencv_is_named() -> None:
    names = {Requirement(line).name for line in PROJECT["dependencies"]}
    assert {name for name in names if "opencv" in name} == {"opencv-contrib-python"}


def test_the_package_is_marked_as_typed() -> None:
    assert (Path(nerfgen.__file__).parent / "py.typed").is_file()


_ABSENT = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name in ("viser", "fastapi", "httpx", "fsspec"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
from nerfgen.__main__ import main
main()
"""


@pytest.mark.parametrize(
    ("arguments", "package", "extra"),
    [
        (("view", "MODEL"), "viser", "view"),
        (("bench", "viewing", "MODEL"), "viser", "view"),
        (("serve", "MODEL"), "fastapi", "serve"),
        (("bench", "serving", "MODEL"), "fastapi", "serve"),
        (("render", "faces", "--server", "http://localhost:9"), "httpx", "client"),
        (("landmark", "s3://bucket/photos"), "fsspec", "stores"),
    ],
)
def test_a_command_without_its_extra_says_what_to_install(
    arguments: tuple[str, ...], package: str, extra: str
) -> None:
    model = str(ROOT / "tests" / "data" / "model_planes.h5")
    given = [model if each == "MODEL" else each for each in arguments]
    environment = {**os.environ, "PYTHONPATH": str(Path(nerfgen.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", _ABSENT, *given], capture_output=True, text=True, timeout=120, env=environment
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert package in done.stderr
    assert f"pip install 'nerfgen[{extra}]'" in done.stderr
