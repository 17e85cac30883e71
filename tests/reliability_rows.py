"""The tables of docs/reliability.md as rows, and how each is run and checked."""

from __future__ import annotations

import hashlib
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import bad_inputs
import good_files
from forked_program import MEMORY, SECONDS, Finished, ForkedProgram

PAGE = Path(__file__).parents[1] / "docs" / "reliability.md"
# Commands that need a person's face found, and so MediaPipe.
_FACES = ("cut-face", "no-face")
_PROGRESS = re.compile(r"[A-Za-z ]+: \d+/\d+ \w+, [\d,.]+/s, \d+ s left.*")
# What a shell does for the program: variables, limits and redirections.
_SHELL = re.compile(r"^\w+=|;|[<>]")


@dataclass(frozen=True)
class Row:
    """One row: an input, the command that is given it, and what the command says.

    Attributes:
        lines: lines that are printed, in any order; ``…`` stands for any text.
    """

    table: str
    description: str
    command: str
    code: int
    lines: tuple[str, ...]

    @property
    def words(self) -> list[str]:
        return shlex.split(self.command)

    @property
    def inputs(self) -> list[str]:
        """The names of the command's inputs."""
        names = [re.split(r"[/:]", word)[0] for word in self.words]
        return list(dict.fromkeys(name for name in names if name in bad_inputs.INPUTS))

    @property
    def is_slow(self) -> bool:
        return any(name in bad_inputs.SLOW_INPUTS for name in self.inputs) or self.trains

    @property
    def trains(self) -> bool:
        return "@recipe" in self.words

    @property
    def needs_shell(self) -> bool:
        return _SHELL.search(self.command) is not None

    @property
    def needs_faces(self) -> bool:
        return any(name in _FACES for name in self.inputs)


def rows(page: Path = PAGE) -> Iterator[Row]:
    """The rows of all tables of inputs in a page."""
    table, inside = "", False
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            table = line.strip("# ")
        if line.startswith("| input |"):
            inside = True
        elif not line.startswith("|"):
            inside = False
        elif inside and not line.startswith("| ---"):
            cells = [cell.strip().replace("\\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]]
            description, command, code, printed = cells
            yield Row(
                table,
                description,
                command.strip("`"),
                int(code),
                tuple(_spans(printed)),
            )


def _spans(text: str) -> list[str]:
    """The code spans of a cell; one that holds backticks has two on either side."""
    return [long or short for long, short in re.findall(r"`` (.*?) ``|`([^`]+)`", text)]


def prepare(row: Row, folder: Path, good: Path) -> None:
    """Make the row's inputs in ``folder``."""
    folder.mkdir(parents=True)
    for name in row.inputs:
        bad_inputs.INPUTS[name](folder / name, good)


def execute(row: Row, folder: Path, program: ForkedProgram, *, fresh: bool = False) -> Finished:
    """Run the row's command in ``folder``; with ``fresh``, or where it needs a shell, in a new interpreter."""
    recipe = good_files.recipe(steps=21)
    if not fresh and not row.needs_shell:
        words = [part for word in row.words[1:] for part in (recipe if word == "@recipe" else [word])]
        return program.run(words, folder)
    command = row.command.replace("@recipe", shlex.join(recipe))
    # Errors of the shell itself go nowhere.
    script = f'nerfgen() {{ {shlex.quote(sys.executable)} -m nerfgen "$@"; }}\n{command}'
    package = os.fspath(Path(good_files.__file__).parents[1])
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=folder,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        env=os.environ | {"PYTHONPATH": os.pathsep.join([package, *sys.path])},
        timeout=6 * SECONDS,
        check=False,
    )
    out, err = (stream.decode(errors="backslashreplace") for stream in (done.stdout, done.stderr))
    return Finished(done.returncode, out, err, 0.0, 0, False)


def faults(row: Row, before: dict[str, str], after: dict[str, str], done: Finished) -> list[str]:
    """What is wrong with how a command ended; none if all is right.

    Args:
        before, after: the files of the folder, see :func:`content`.
    """
    errors = [line for line in done.err.splitlines() if not _PROGRESS.fullmatch(line)]
    printed = [*done.out.splitlines(), *errors]
    wrong = []
    if done.code != row.code:
        wrong.append(f"exit code {done.code}, not {row.code}")
    if "Traceback" in done.err or "a fault in nerfgen" in done.err:
        wrong.append("a fault")
    if done.seconds > SECONDS:
        wrong.append(f"{done.seconds:.0f} seconds")
    if done.memory > MEMORY:
        wrong.append(f"{done.memory / 2**30:.1f} GiB of memory")
    if done.left_processes:
        wrong.append("processes are left")
    wrong += [
        f"not printed: {line}" for line in row.lines if not any(matches(line, each) for each in printed)
    ]
    if row.code:
        own = [line for line in errors if line.startswith("nerfgen: ")]
        if len(own) != 1:
            wrong.append(f"{len(own)} lines of error")
        wrong += [
            f"not in the table: {line}"
            for line in errors
            if not any(matches(each, line) for each in row.lines)
        ]
    if any(character in done.out + done.err for character in "\x1b\x07\x00"):
        wrong.append("a terminal escape is printed")
    hidden = [name for name in after if ".partial" in name or name.endswith(".journal")]
    wrong += [f"left: {name}" for name in hidden]
    wrong += [f"changed: {name}" for name in before if after.get(name) != before[name]]
    if row.code not in (0, 3):
        wrong += [f"written: {name}" for name in after if name not in before and name not in hidden]
    return wrong


def matches(pattern: str, line: str) -> bool:
    """Whether a line is what a table says; an error's line begins with the program's name, which tables omit."""
    parts = (re.escape(part) for part in pattern.split("…"))
    return re.fullmatch(r"(nerfgen: )?" + ".*".join(parts), line) is not None


def content(folder: Path) -> dict[str, str]:
    """What lies below a folder: digests of files, targets of links."""
    found = {}
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place) / name
            relative = os.fspath(path.relative_to(folder)).encode(errors="backslashreplace").decode()
            if path.is_symlink():
                found[relative] = os.readlink(path)
            elif path.is_file():
                found[relative] = hashlib.sha256(path.read_bytes()).hexdigest()
            else:
                found[relative] = "other"
    return found


def check(row: Row, scratch: Path, good: Path, program: ForkedProgram) -> tuple[Finished, list[str]]:
    """Run a row in a new folder below ``scratch`` and tell what is wrong."""
    folder = scratch / "outer" / "inner"
    shutil.rmtree(scratch / "outer", ignore_errors=True)
    prepare(row, folder, good)
    before = content(folder.parent)
    done = execute(row, folder, program)
    found = faults(row, before, content(folder.parent), done)
    shutil.rmtree(scratch / "outer", ignore_errors=True)
    return done, found
