"""Every row of the tables in docs/reliability.md through the real command line."""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import bad_inputs
import disk
import good_files
import kills
import pytest
import reliability_rows
from forked_program import ForkedProgram
from reliability_rows import Row

ROWS = list(reliability_rows.rows())


def marked(number: int, row: Row) -> object:
    """Every second row runs in the quick tests, the others and those that take long in the slow ones."""
    marks = [pytest.mark.slow] if row.is_slow or number % 2 else []
    marks += [pytest.mark.mediapipe] if row.needs_faces else []
    return pytest.param(row, id=f"{row.table}: {row.description}", marks=marks)


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ForkedProgram]:
    with ForkedProgram(tmp_path_factory.mktemp("streams"), finalizes=False) as program:
        yield program


@pytest.fixture(scope="module")
def good(
    program: ForkedProgram, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Path:
    chosen = [item for item in request.session.items if item.path == request.path]
    slow = any(item.get_closest_marker("slow") for item in chosen)
    return good_files.make_files(program, tmp_path_factory.mktemp("good"), slow=slow)


@pytest.mark.parametrize("row", [marked(*each) for each in enumerate(ROWS)])
def test_row(row: Row, program: ForkedProgram, good: Path, tmp_path: Path) -> None:
    if unable := bad_inputs.unable(row.inputs):
        pytest.skip(unable)
    done, found = reliability_rows.check(row, tmp_path, good, program)
    assert not found, (row.command, done)


def test_tables_are_large_and_use_every_input() -> None:
    assert len(ROWS) >= 150
    assert len({row.command for row in ROWS}) == len(ROWS)
    used = {name for row in ROWS for name in row.inputs}
    assert set(bad_inputs.INPUTS) - used <= {*bad_inputs.GOOD, *bad_inputs.SLOW}


FRESH = ("cut-png", "no-pose.h5", "scene-deep", "table-ragged", "--focal inf")


@pytest.mark.parametrize("part", FRESH)
def test_a_forked_process_ends_as_a_new_interpreter(
    part: str, program: ForkedProgram, good: Path, tmp_path: Path
) -> None:
    row = next(row for row in ROWS if part in row.command and not row.is_slow)
    ended = []
    for number, fresh in enumerate((False, True)):
        folder = tmp_path / str(number) / "same"
        reliability_rows.prepare(row, folder, good)
        done = reliability_rows.execute(row, folder, program, fresh=fresh)
        lines = [line for line in done.err.splitlines() if line.startswith("nerfgen: ")]
        written = {name for name in reliability_rows.content(folder) if os.path.splitext(name)[1]}
        ended.append((done.code, done.out, lines, written))
    assert ended[0] == ended[1]


def test_a_wrong_row_is_noticed(program: ForkedProgram, good: Path, tmp_path: Path) -> None:
    """The checks can fail."""
    row = next(row for row in ROWS if "no-pose.h5" in row.command)
    for wrong in (
        replace(row, code=0),
        replace(row, lines=("another message",)),
        replace(row, command=row.command.replace("no-pose.h5", "flipped-cameras.h5")),
    ):
        assert reliability_rows.check(wrong, tmp_path, good, program)[1]


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux" or not shutil.which("cc"), reason="needs Linux and a C compiler")
def test_calls_that_fail(good: Path, tmp_path: Path) -> None:
    chosen = [each for each in disk.COMMANDS if each.name == "segment --png"]
    library = disk.build_library(tmp_path)
    tried = list(disk.injected(good, tmp_path, library, 2, random.Random(1), chosen))
    assert {label.split()[0] for _, label, _ in tried} == set(disk.CALLS)
    assert [each for each in tried if each[2]] == []


@pytest.mark.skipif(not disk.can_mount(), reason="needs the right to mount")
def test_full_disks(good: Path, tmp_path: Path) -> None:
    chosen = [each for each in disk.COMMANDS if each.name == "segment --png"]
    tried = list(disk.full_disks(good, tmp_path, 4, random.Random(1), chosen))
    assert len(tried) == 4
    assert [each for each in tried if each[2]] == []


@pytest.mark.slow
def test_killed_commands(good: Path, tmp_path: Path) -> None:
    commands = kills.commands(good, tmp_path, good_files.recipe())
    (segment,) = (each for each in commands if each.name == "segment --png")
    table = kills.kill_campaign([segment], 2, [signal.SIGKILL], seed=2)
    assert sum(outcome.tried for outcome in table.values()) == 2
    assert [outcome.faults for outcome in table.values() if outcome.faults] == []
