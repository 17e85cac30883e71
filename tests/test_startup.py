"""What starts quickly: packages import what they need when it is used."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import nerfgen
from nerfgen.lazy import lazy_imports

HEAVY = ["jax", "flax", "optax", "scipy.stats", "trimesh", "skimage", "igl", "matplotlib", "mediapipe", "cv2"]
HEAVY += ["torch", "jinja2"]
ROOMS = sorted(each.name for each in pkgutil.iter_modules(nerfgen.__path__, "nerfgen.") if each.ispkg)


def heavy_modules(code: str, *arguments: object) -> list[str]:
    """The heavy modules that a process has imported when it has run ``code``."""
    ending = (
        f"import sys; print('HEAVY', *[name for name in {HEAVY} if name in sys.modules], file=sys.stderr)"
    )
    script = f"import sys\ntry:\n    {code}\nfinally:\n    {ending}\n"
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stderr.strip().splitlines()[-1].split()[1:]


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert heavy_modules("import nerfgen") == []


@pytest.mark.parametrize("room", ROOMS)
def test_importing_a_room_imports_nothing_heavy(room: str) -> None:
    assert heavy_modules(f"import {room}") == []


@pytest.mark.parametrize("arguments", [["--help"], ["info"]])
def test_light_commands_import_nothing_heavy(arguments: list[str], trained: Path) -> None:
    files = [trained] if arguments == ["info"] else []
    assert heavy_modules("from nerfgen.cli.main import main; main()", *arguments, *files) == []


@pytest.mark.parametrize("room", ROOMS)
def test_public_names_are_what_the_room_says(room: str) -> None:
    """A submodule of the same name would take a lazy name's place as soon as it is imported."""
    package = importlib.import_module(room)
    modules = {each.name for each in pkgutil.iter_modules(package.__path__)}
    if "__getattr__" in vars(package):
        assert modules.isdisjoint(package.__all__)
    for name in getattr(package, "__all__", []):
        assert not isinstance(getattr(package, name), ModuleType), name


def test_lazy_names_are_imported_once_and_others_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "lazily"
    package.mkdir()
    (package / "__init__.py").write_text(
        "from typing import TYPE_CHECKING\nfrom nerfgen.lazy import lazy_imports\n"
        "if TYPE_CHECKING:\n    from lazily.part import value as renamed\n"
        "__getattr__ = lazy_imports(__name__)\n",
        encoding="utf-8",
    )
    (package / "part.py").write_text("value = [1]\n", encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    lazily = importlib.import_module("lazily")
    assert "lazily.part" not in sys.modules
    assert lazily.renamed is lazily.renamed
    with pytest.raises(AttributeError, match="no attribute 'value'"):
        _ = lazily.value


def test_all_names_of_a_room_are_imported_for_type_checkers() -> None:
    for room in ROOMS:
        package = importlib.import_module(room)
        if "__getattr__" in vars(package):
            tree = ast.parse(Path(str(package.__file__)).read_text(encoding="utf-8"))
            blocks = [each for each in tree.body if isinstance(each, ast.If)]
            names = [
                name.name for block in blocks for line in block.body for name in getattr(line, "names", [])
            ]
            assert sorted(names) == sorted(package.__all__), room
    assert callable(lazy_imports(nerfgen.__name__))
