"""What nerfgen reads, varied at random: files of every schema, names, camera files, lists of numbers.

In full: ``python examples/campaign.py fuzz``.
"""

from __future__ import annotations

import copy
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import good_files
import mutants
import numpy as np
import pytest
from bad_inputs import photo
from forked_program import ForkedProgram
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nerfgen.errors import InputError, NerfgenError
from nerfgen.interchange import eg3d, read_camera_path, transforms
from nerfgen.model.objects import parse_numbers
from nerfgen.render.settings import parse_angles
from nerfgen.settings import parse_vector
from nerfgen.untrusted import parse_json, printable, safe_relative_path

quickly = settings(
    max_examples=60,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
QUICK = ("cameras/1", "views/1")


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Path:
    chosen = [item for item in request.session.items if item.path == request.path]
    slow = any(item.get_closest_marker("slow") for item in chosen)
    with ForkedProgram(tmp_path_factory.mktemp("streams")) as program:
        return good_files.make_files(program, tmp_path_factory.mktemp("good"), slow=slow)


@pytest.fixture(scope="module")
def readers() -> Iterator[mutants.Readers]:
    with mutants.Readers() as readers:
        yield readers


@pytest.mark.parametrize("schema", QUICK)
def test_some_mutants_of_files(schema: str, good: Path, readers: mutants.Readers, tmp_path: Path) -> None:
    # None of these seeds makes a file that holds HDF5 up: `nerfgen verify` gives up such a file after a minute.
    found = mutants.campaign(schema, good, tmp_path, readers, range(40, 50), skip=["fit-cameras"])
    assert found.mutants >= 9
    assert found.outcomes["refused"] > 0
    assert found.outcomes["read"] > 0
    assert found.findings == []


@pytest.mark.slow
@pytest.mark.parametrize("schema", good_files.FILES)
def test_many_mutants_of_files(schema: str, good: Path, readers: mutants.Readers, tmp_path: Path) -> None:
    found = mutants.campaign(schema, good, tmp_path, readers, range(1000, 1040), skip=["fit-cameras"])
    assert found.findings == []


def test_a_reader_that_dies_is_a_finding(good: Path, readers: mutants.Readers, tmp_path: Path) -> None:
    file = good / good_files.FILES["cameras/1"]
    assert readers.read("cameras/1", 0, file, good, tmp_path)["kind"] == "read"
    process = readers._process
    assert process is not None
    process.send_signal(signal.SIGSTOP)
    assert readers.read("cameras/1", 0, file, good, tmp_path, seconds=0.1)["kind"] == "hang"
    assert readers.read("cameras/1", 99, file, good, tmp_path, seconds=60)["kind"] == "crash"
    assert readers.read("cameras/1", 0, file, good, tmp_path, seconds=60)["kind"] == "read"


@quickly
@given(st.text(st.characters(), max_size=12) | st.from_regex(r"(\.\.?|/|a|\\|C:|\x00){1,6}", fullmatch=True))
def test_a_name_is_safe_or_refused(name: str) -> None:
    try:
        path = safe_relative_path(name, "file")
    except InputError as error:
        assert not set(printable(str(error))) & set("\x1b\x00\n")  # noqa: PT017
        return
    folder = os.path.abspath("folder")
    assert os.path.normpath(os.path.join(folder, path)).startswith(folder)
    assert "\x00" not in path
    path.encode()


NUMBER = st.one_of(
    st.integers(-(10**25), 10**25).map(str),
    st.floats().map(repr),
    st.text("0123456789.,-:eE ²١", max_size=12),
)


@quickly
@given(NUMBER)
def test_rows_are_within_the_table_or_refused(text: str) -> None:
    with_values(lambda: parse_numbers(text, 40, "--rows", "rows"), lambda found: set(found) <= set(range(40)))


@quickly
@given(st.lists(NUMBER, max_size=4).map(":".join) | st.lists(NUMBER, max_size=4).map(",".join))
def test_angles_and_points_are_finite_or_refused(text: str) -> None:
    with_values(lambda: parse_angles("yaw", text), lambda found: bool(np.isfinite(found).all()))
    with_values(lambda: parse_vector("position", text), lambda found: bool(np.isfinite(found).all()))


def with_values(read: Callable[[], Any], is_right: Callable[[Any], bool]) -> None:
    """A reading gives what is right, or is refused in a line."""
    try:
        found = read()
    except NerfgenError as error:
        assert str(error)  # noqa: PT017
        assert "\n" not in str(error)  # noqa: PT017
    else:
        assert is_right(found)


POSE = [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 3], [0, 0, 0, 1]]
FLAT = [float(value) for row in POSE for value in row]
FRAME = {
    "file_path": "0.png",
    "fl_x": 30.0,
    "cx": 12,
    "cy": 12,
    "w": 24,
    "h": 24,
    "transform_matrix": POSE,
    "mask_path": "",
}
SCENE = {
    "camera_model": "PINHOLE",
    "k1": 0,
    "frames": [FRAME, FRAME | {"file_path": "1.png", "instance": "a"}],
}
LABELS = {"labels": [[f"{n}.png", [*FLAT, 1.5, 0, 0.5, 0, 1.5, 0.5, 0, 0, 1]] for n in range(2)]}
PATH = {
    "camera_type": "perspective",
    "fps": 24,
    "camera_path": [{"camera_to_world": FLAT, "fov": 50, "aspect": 1}] * 2,
}
JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(10**30), 10**30),
    st.floats(),
    st.text(st.characters(), max_size=6),
    st.sampled_from(
        ["../../evil", "/etc/passwd", "a\x00b", "C:\\a", [], {}, [[]], [1, 2], {"a": 1}, "1e400"]
    ),
)


def varied(content: Any) -> st.SearchStrategy[Any]:
    """The JSON with one or two of its parts replaced or removed."""
    places = list(_places(content))

    @st.composite
    def strategy(draw: st.DrawFn) -> Any:
        changed = copy.deepcopy(content)
        for _ in range(draw(st.integers(1, 2))):
            *way, last = draw(st.sampled_from(places))
            part = changed
            try:
                for key in way:
                    part = part[key]
                if draw(st.booleans()):
                    part[last] = draw(JUNK)
                else:
                    del part[last]
            except (LookupError, TypeError):
                continue  # an earlier change took the place away
        return changed

    return strategy()


def _places(content: Any, way: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    keys = content if isinstance(content, dict) else range(len(content)) if isinstance(content, list) else ()
    for key in keys:
        yield (*way, key)
        yield from _places(content[key], (*way, key))


@pytest.fixture
def images(tmp_path: Path) -> Path:
    for number in range(2):
        photo().save(tmp_path / f"{number}.png")
    return tmp_path


@quickly
@given(varied(SCENE))
def test_a_scene_is_read_or_refused(images: Path, content: Any) -> None:
    (images / "transforms.json").write_text(json.dumps(content))
    with_values(lambda: transforms.read(images)[0], stays_inside)


@quickly
@given(varied(LABELS))
def test_labels_are_read_or_refused(images: Path, content: Any) -> None:
    (images / "dataset.json").write_text(json.dumps(content))
    with_values(lambda: eg3d.read(images)[0], stays_inside)


def stays_inside(listed: list[Any]) -> bool:
    return all(".." not in Path(one.image).parts and not Path(one.image).is_absolute() for one in listed)


@quickly
@given(varied(PATH))
def test_a_camera_path_is_finite_or_refused(tmp_path: Path, content: Any) -> None:
    (tmp_path / "path.json").write_text(json.dumps(content))
    with_values(
        lambda: read_camera_path(tmp_path / "path.json").cameras,
        lambda cameras: bool(
            np.isfinite(cameras.intrinsics).all() and np.isfinite(cameras.cam_to_world).all()
        ),
    )


@quickly
@given(st.text(st.sampled_from('[]{}",:0129eE-. \n\\utrfnl"'), max_size=40))
def test_json_is_a_value_or_refused(text: str) -> None:
    with_values(lambda: parse_json(text, "file"), lambda found: True)
