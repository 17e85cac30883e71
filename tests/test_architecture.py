"""The structure that docs/architecture.md describes: imports run one way, and rooms are used through their facades."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[1]

# Names that modules of several rooms have: they do the same job in each.
SAME_JOB = {"figure", "reconstruction", "settings", "stage"}
# Rooms whose modules are named after commands, and which import what one command needs.
COMMANDS = {"bench", "cli"}
# Modules that other rooms import directly: each needs a MediaPipe of its own, or writes one format.
OPEN_MODULES = {
    "nerfgen.interchange.srn",
    "nerfgen.interchange.transforms",
    "nerfgen.pretrained.graphs",
    "nerfgen.pretrained.tasks",
}


@pytest.fixture(scope="module")
def architecture() -> ModuleType:
    """docs/architecture.py, which reads the imports."""
    spec = importlib.util.spec_from_file_location("docs_architecture", ROOT / "docs" / "architecture.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_every_room_is_in_the_table_once(architecture: ModuleType) -> None:
    assert sorted(architecture.listed_rooms()) == architecture.rooms()


def test_no_import_goes_up(architecture: ModuleType) -> None:
    height = {room: i for i, room in enumerate(architecture.listed_rooms())}
    upward = [
        f"{each.source}, line {each.line}, imports {each.target}"
        for each in architecture.imports()
        if (source := architecture.room_of(each.source)) != (target := architecture.room_of(each.target))
        and source in height
        and target in height
        and height[target] > height[source]
    ]
    assert not upward, "\n".join(upward)


def test_rooms_keep_apart(architecture: ModuleType) -> None:
    """What the order alone would allow, and the page excludes."""
    graph = architecture.room_graph()
    stages = {"landmark", "camera", "mask"}
    assert not [room for room in stages if graph[room] & stages], "stages do not know each other"
    assert not graph["field"] & {"storage", "objectclass", "image"}
    for room, users in (("synth", {"bench", "cli"}), ("bench", {"cli"}), ("evaluate", {"bench", "cli"})):
        assert {other for other, targets in graph.items() if room in targets} <= users, room


def test_no_circle_of_modules(architecture: ModuleType) -> None:
    """Imports that run with the module; those in functions are covered between rooms by the test above."""
    graph: dict[str, set[str]] = {module: set() for module in architecture.modules()}
    for each in architecture.imports():
        if not each.deferred:
            graph[each.source].add(each.target)
    assert architecture.cycles(graph) == []


def test_a_circle_would_be_found(architecture: ModuleType) -> None:
    graph = {"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": {"d"}, "e": {"a"}}
    assert architecture.cycles(graph) == [["b", "c"], ["d"]]


def test_modules_of_one_name_do_the_same_job(architecture: ModuleType) -> None:
    rooms = defaultdict(set)
    for module in architecture.modules():
        if module.count(".") > 1 and architecture.room_of(module) not in COMMANDS:
            rooms[module.rpartition(".")[2]].add(architecture.room_of(module))
    shared = {name: sorted(found) for name, found in rooms.items() if len(found) > 1}
    assert shared.keys() <= SAME_JOB, shared


def test_rooms_are_used_through_their_public_names(architecture: ModuleType) -> None:
    direct = [
        f"{each.source}, line {each.line}, imports {each.name} of {each.target}"
        for each in architecture.imports()
        if (source := architecture.room_of(each.source)) not in {"", *COMMANDS}
        and source != architecture.room_of(each.target)
        and each.target.count(".") > 1
        and each.target not in OPEN_MODULES
    ]
    assert not direct, "import these from the room itself:\n" + "\n".join(direct)


def test_private_names_stay_in_their_module(architecture: ModuleType) -> None:
    private = [
        f"{each.source}, line {each.line}, imports {each.name} of {each.target}"
        for each in architecture.imports()
        if each.name.startswith("_") and not each.name.startswith("__")
    ]
    assert not private, "\n".join(private)


def test_rendering_needs_no_library_of_figures_reports_or_meshes() -> None:
    """Of all public names of the rooms that a rendering service uses, in a process of their own."""
    code = """
import importlib, sys
for room in ("api", "geometry", "image", "inversion", "model", "render"):
    module = importlib.import_module(f"nerfgen.{room}")
    for name in getattr(module, "__all__", ()):
        getattr(module, name)
print(*({"matplotlib", "jinja2", "igl", "skimage", "trimesh", "mediapipe", "cv2"} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.returncode) == ("", 0), done.stderr
