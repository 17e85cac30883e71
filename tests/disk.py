"""Commands whose writing or reading fails: calls that return an error, a full disk, a limit of a file's size."""

from __future__ import annotations

import errno
import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import good_files
import reliability_rows
from forked_program import Finished, ForkedProgram

LIBRARY = Path(__file__).with_name("faulty_io.c")
CALLS = {
    "write": (errno.ENOSPC, errno.EIO, errno.EDQUOT),
    "fsync": (errno.EIO, errno.ENOSPC),
    "rename": (errno.EIO, errno.EACCES),
    "read": (errno.EIO,),
}


@dataclass(frozen=True)
class Written:
    """A command that writes below a folder ``disk``.

    Attributes:
        words: after ``nerfgen``.
        inputs: good files that it needs, in the folder beside ``disk``.
        varies: endings of files that differ from run to run.
    """

    name: str
    words: tuple[str, ...]
    inputs: tuple[str, ...]
    varies: tuple[str, ...] = ()


_TRAIN = [
    *good_files.recipe(steps=21),
    "--no-preview",
    "--checkpoint-minutes",
    "0",
    "--cache",
    "disk/pixels.h5",
]


def _written(line: str, *inputs: str, more: Sequence[str] = (), varies: Sequence[str] = ()) -> Written:
    words = line.split()
    name = " ".join(
        word
        for word in words[:1] + [w for w in words if w in ("--png", "--video", "mugs/mugs.csv", "ffhq.zip")]
    )
    return Written(name, (*words, *more), inputs, tuple(varies))


COMMANDS = (
    _written("import scene --class cars -o disk", "scene"),
    _written("import mugs/mugs.csv --class mugs/mug.toml -o disk", "mugs"),
    _written("import ffhq.zip --class cars -o disk/ffhq", "ffhq.zip"),
    _written("segment photos --method color -o disk/masks.h5", "photos"),
    _written("segment photos --method color -o disk/masks.h5 --png disk/png", "photos"),
    _written("synth cars disk/cars -n 3 --size 24"),
    _written("export-cameras photos -o disk/scene", "photos"),
    _written("export model.h5 --rows 0 --resolution 12 -o disk/mesh.obj", "model.h5"),
    _written("render model.h5 --rows 0 --yaw 0 --size 8 -o disk/views.h5 --png disk/png", "model.h5"),
    _written(
        "render model.h5 --rows 0 --yaw 0,20 --size 32 -o disk/views.h5 --video disk/turn.mp4", "model.h5"
    ),
    _written("classes cat -o disk/cat.toml"),
    _written("train photos -o disk/model.h5", "photos", more=_TRAIN, varies=(".jsonl", "model.h5")),
)


def build_library(folder: Path) -> Path:
    """The library that makes calls fail; it needs a C compiler."""
    library = folder / "faulty_io.so"
    subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, LIBRARY, "-ldl"], check=True)
    return library


def prepare(command: Written, folder: Path, good: Path) -> None:
    """The inputs of a command, an empty ``disk``, and nothing that it would write."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "disk").mkdir(parents=True)
    for name in command.inputs:
        source = good / ("photos" if name == "scene" else name)
        (shutil.copytree if source.is_dir() else shutil.copyfile)(source, folder / name)
    for name in ("scene/cameras.h5", "scene/masks.h5", "mugs/landmarks.h5", "photos/masks.h5"):
        if name != "photos/masks.h5" or command.name != "train":
            (folder / name).unlink(missing_ok=True)


def _files(folder: Path, varies: Sequence[str]) -> dict[str, str]:
    found = reliability_rows.content(folder)
    return {name: "" if name.endswith(tuple(varies)) else digest for name, digest in found.items()}


def faults(
    command: Written, folder: Path, done: Finished, expected: dict[str, str], *, may_succeed: bool
) -> list[str]:
    """What is wrong with a command that could not write or read."""
    wrong = []
    errors = [line for line in done.err.splitlines() if line.startswith("nerfgen: ")]
    if done.code == 0:
        if not may_succeed:
            wrong.append("exit code 0")
        if _files(folder, command.varies) != expected:
            wrong.append("exit code 0 with other files")
        return wrong
    if done.code != 2:
        wrong.append(f"exit code {done.code}")
    if len(errors) != 1:
        wrong.append(f"{len(errors)} lines of error")
    elif not any(word in errors[0] for word in ("disk", *command.inputs)):
        wrong.append("names no file")
    if "Traceback" in done.err or "a fault in nerfgen" in done.err:
        wrong.append("a fault")
    found = _files(folder, command.varies)
    for name, digest in found.items():
        if ".partial" in name:
            wrong.append(f"left: {name}")
        elif (
            name not in expected and not name.endswith((".journal", ".writer")) and ".checkpoint-" not in name
        ):
            wrong.append(f"written: {name}")
        elif name in expected and digest != expected[name]:
            wrong.append(f"not whole: {name}")
    if wrong:
        wrong.append(f"said: {done.err.strip()[-300:]}")
    return wrong


def injected(
    good: Path,
    scratch: Path,
    library: Path,
    count: int,
    chance: random.Random,
    commands: Sequence[Written] = COMMANDS,
) -> Iterator[tuple[str, str, list[str]]]:
    """Command, failing call and what is wrong, of ``count`` failures of each command and call."""
    folder, counter = scratch / "work", scratch / "calls"
    with ForkedProgram(scratch / "io", environment={"LD_PRELOAD": os.fspath(library)}) as program:

        def run(command: Written, call: str, at: int, number: int) -> Finished:
            prepare(command, folder, good)
            environment = {
                "FAULT_CALL": call,
                "FAULT_FOLDER": os.fspath(
                    folder.resolve() if call == "read" else (folder / "disk").resolve()
                ),
                "FAULT_AT": str(at),
                "FAULT_ERRNO": str(number),
                "FAULT_COUNT": "" if at else os.fspath(counter),
            }
            return program.run(command.words, folder, environment=environment, seconds=60)

        for command in commands:
            for call, numbers in CALLS.items():
                counter.unlink(missing_ok=True)
                whole = run(command, call, 0, 0)
                expected = _files(folder, command.varies)
                if whole.code:
                    yield command.name, call, [f"without a failure: {whole}"]
                    continue
                calls = int(counter.read_text()) if counter.exists() else 0
                for at in sorted(chance.sample(range(1, calls + 1), min(count, calls))):
                    number = chance.choice(numbers)
                    done = run(command, call, at, number)
                    # An unreadable image is a status, not an error; the files then differ.
                    found = (
                        []
                        if call == "read" and done.code == 0
                        else faults(command, folder, done, expected, may_succeed=False)
                    )
                    label = f"{call} {at} of {calls}, {errno.errorcode[number]}"
                    yield command.name, label, found


def full_disks(
    good: Path, scratch: Path, count: int, chance: random.Random, commands: Sequence[Written] = COMMANDS
) -> Iterator[tuple[str, str, list[str]]]:
    """The same on a small disk in memory of ``count`` sizes; needs the right to mount one."""
    folder = scratch / "work"
    with ForkedProgram(scratch / "io") as program:
        for command in commands:
            prepare(command, folder, good)
            whole = program.run(command.words, folder, seconds=60)
            expected = _files(folder, command.varies)
            used = sum(path.stat().st_size for path in (folder / "disk").rglob("*") if path.is_file())
            if whole.code:
                yield command.name, "tmpfs", [f"without a limit: {whole}"]
                continue
            for _ in range(count):
                pages = chance.randint(1, max(2, used // 4096))
                prepare(command, folder, good)
                with mounted(folder / "disk", pages):
                    done = program.run(command.words, folder, seconds=60)
                    found = faults(command, folder, done, expected, may_succeed=True)
                yield command.name, f"disk of {4 * pages} KiB, {used // 1024} KiB needed", found


def campaign(
    good: Path,
    scratch: Path,
    count: int,
    chance: random.Random,
    commands: Sequence[Written] = COMMANDS,
    say: Callable[[str], None] = lambda line: None,
) -> Iterator[tuple[str, str, list[str]]]:
    """:func:`injected` and :func:`full_disks`, as far as this machine can."""
    if shutil.which("cc") and sys.platform == "linux":
        yield from injected(good, scratch, build_library(scratch), count, chance, commands)
    else:
        say("no C compiler: calls that fail are left out")
    if can_mount():
        yield from full_disks(good, scratch, count, chance, commands)
    else:
        say("no right to mount: full disks are left out")


class mounted:
    """A disk of some pages of 4 KiB in memory, at a folder."""

    def __init__(self, folder: Path, pages: int) -> None:
        self._folder, self._pages = folder, pages

    def __enter__(self) -> None:
        words = ["mount", "-t", "tmpfs", "-o", f"size={self._pages * 4096}", "tmpfs", os.fspath(self._folder)]
        subprocess.run(words, check=True, capture_output=True)

    def __exit__(self, *_: object) -> None:
        subprocess.run(["umount", os.fspath(self._folder)], check=True, capture_output=True)


def can_mount() -> bool:
    with tempfile.TemporaryDirectory() as folder:
        try:
            with mounted(Path(folder), 16):
                return True
        except (OSError, subprocess.CalledProcessError):
            return False
