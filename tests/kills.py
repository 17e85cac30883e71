"""Commands that are killed at random moments: what they leave, and what the next run makes of it."""

from __future__ import annotations

import hashlib
import os
import random
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

TOKEN = "NERFGEN_CAMPAIGN_TOKEN"
EXIT_CODES = {signal.SIGKILL: -signal.SIGKILL, signal.SIGTERM: 143, signal.SIGINT: 130}
# A program that has not yet installed its handlers ends by the signal itself.
EARLY_SECONDS = 0.25


def heed_interrupts() -> None:
    """In the background of a shell script Ctrl-C is ignored, here and in the commands that are started; undo that."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@dataclass(frozen=True)
class KilledCommand:
    """A command of the campaign.

    Attributes:
        name: of the row in the table.
        words: after ``nerfgen``; run in a copy of ``inputs``.
        inputs: folder that is copied for each run.
        ignored: endings of files whose content may differ from run to run, such as logs with times.
        again: words of the rerun, if they differ.
        partial: endings of files that an interrupted run may leave, complete, such as checkpoints.
    """

    name: str
    words: Sequence[str]
    inputs: Path
    ignored: tuple[str, ...] = ()
    again: Sequence[str] = ()


@dataclass
class Outcome:
    """What the kills of one command by one signal led to."""

    tried: int = 0
    finished_before: int = 0
    continued: int = 0
    faults: list[str] = field(default_factory=list)


def kill_campaign(
    commands: Iterable[KilledCommand],
    moments: int = 30,
    signals: Sequence[signal.Signals] = (signal.SIGKILL, signal.SIGTERM, signal.SIGINT),
    *,
    seed: int = 0,
    warnings_are_errors: bool = False,
) -> dict[tuple[str, str], Outcome]:
    """Kill every command at random moments by every signal, and run it again.

    Checked after each kill: the exit code; no traceback; no process left; each output absent or equal to that of an
    undisturbed run; then, after the rerun, all files equal to an undisturbed run's and no temporary file left.
    """
    chance = random.Random(seed)
    table: dict[tuple[str, str], Outcome] = {}
    flags = ["-W", "error"] if warnings_are_errors else []
    with tempfile.TemporaryDirectory(prefix="campaign-") as scratch:
        for command in commands:
            place = Path(scratch) / "work"
            expected, seconds = _reference(command, place, flags)
            for number in signals:
                outcome = table.setdefault((command.name, number.name), Outcome())
                for _ in range(moments):
                    moment = chance.uniform(0.03, seconds * 1.02)
                    for fault in _kill(command, place, flags, number, moment, expected, outcome):
                        outcome.faults.append(f"{moment:.3f} of {seconds:.2f} s: {fault}")
                print(command.name, number.name, f"{seconds:.2f} s", outcome, file=sys.stderr, flush=True)
    return table


def _reference(command: KilledCommand, place: Path, flags: Sequence[str]) -> tuple[dict[str, str], float]:
    """Files of an undisturbed run by name, with their digests, and its duration."""
    for _ in range(2):  # the second has compiled programs
        _fresh(command, place)
        start = time.monotonic()
        done = subprocess.run(
            _line(command.words, flags), cwd=place, capture_output=True, text=True, check=False
        )
        seconds = time.monotonic() - start
        if done.returncode:
            raise RuntimeError(f"{command.name}: {done.stderr}")
    return _contents(place, command.ignored), seconds


def _kill(
    command: KilledCommand,
    place: Path,
    flags: Sequence[str],
    number: signal.Signals,
    moment: float,
    expected: Mapping[str, str],
    outcome: Outcome,
) -> list[str]:
    faults = []
    inputs = _contents(command.inputs, ())
    _fresh(command, place)
    token = secrets.token_hex(8)
    outcome.tried += 1
    job = subprocess.Popen(
        _line(command.words, flags),
        cwd=place,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {TOKEN: token},
    )
    time.sleep(moment)
    was_running = job.poll() is None
    job.send_signal(number)
    # Not communicate: a process that is left would hold the pipes.
    try:
        code = job.wait(timeout=30)
    except subprocess.TimeoutExpired:
        job.kill()
        code = job.wait()
        faults.append("still running 30 s after the signal")
    left = _left(token)
    if left:
        faults.append(f"processes left: {left}")
        for process in left:
            os.kill(process, signal.SIGKILL)
    said = job.communicate()[1]
    if not was_running or code == 0:
        outcome.finished_before += 1
        if code:
            faults.append(f"exit code {code} without a signal: {said[-300:]}")
    elif code != EXIT_CODES[number] and not (code == -number and moment < EARLY_SECONDS):
        faults.append(f"exit code {code}: {said[-600:]}")
    if "Traceback" in said or "Error" in said or "Exception ignored" in said:
        faults.append(f"said: {said[-900:]}")
    elif code in (130, 143) and said.count("nerfgen: ") != 1:
        faults.append(f"not one line: {said[-300:]}")
    found = _contents(place, command.ignored)
    hidden = {name for name in found if _is_hidden(name)}
    for name, digest in found.items():
        if (
            name not in inputs
            and name not in hidden
            and ".checkpoint-" not in name
            and digest != expected.get(name)
        ):
            faults.append(f"{name} is neither absent nor complete")
    if number != signal.SIGKILL and (partial := [name for name in hidden if ".partial" in name]):
        faults.append(f"temporary files left: {partial}")
    again = subprocess.run(
        _line(command.again or command.words, flags), cwd=place, capture_output=True, text=True, check=False
    )
    if again.returncode:
        faults.append(f"rerun: exit code {again.returncode}: {again.stderr[-600:]}")
    outcome.continued += "continue" in again.stderr
    after = _contents(place, command.ignored)
    if after != expected:
        names = sorted(
            name for name in after.keys() | expected.keys() if after.get(name) != expected.get(name)
        )
        faults.append(f"after the rerun these differ: {names[:5]}")
    return faults


def _line(words: Sequence[str], flags: Sequence[str]) -> list[str]:
    return [sys.executable, *flags, "-m", "nerfgen", *words]


def _fresh(command: KilledCommand, place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    shutil.copytree(command.inputs, place)


def _contents(folder: Path, ignored: tuple[str, ...]) -> dict[str, str]:
    """Digest of every file by its name; of an ignored one only that it is there."""
    return {
        path.relative_to(folder).as_posix(): ""
        if path.name.endswith(ignored)
        else hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in Path(name).parts)


def _left(token: str) -> list[int]:
    """Processes with the token in their environment that are there after some seconds, as they have time to end."""
    deadline = time.monotonic() + 8
    while True:
        found = []
        for folder in Path("/proc").glob("[0-9]*"):
            try:
                if token.encode() in (folder / "environ").read_bytes():
                    found.append(int(folder.name))
            except OSError:
                continue
        if not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def report(table: Mapping[tuple[str, str], Outcome]) -> str:
    """The table as lines: command, signal, tried, finished before, continued, faults."""
    lines = [f"{'command':16} {'signal':8} tried finished continued faults"]
    for (name, number), outcome in table.items():
        lines.append(
            f"{name:16} {number:8} {outcome.tried:5} {outcome.finished_before:8} {outcome.continued:9} "
            f"{len(outcome.faults):6}"
        )
    return "\n".join(lines)


def commands(good: Path, scratch: Path, tiny: Sequence[str]) -> Iterable[KilledCommand]:
    """The commands that write, with inputs of :mod:`good_files`.

    Args:
        scratch: folder for the copies of inputs.
        tiny: the smallest recipe as options.
    """

    def inputs(name: str, *files: str, without: Sequence[str] = ()) -> Path:
        folder = scratch / name
        folder.mkdir(parents=True)
        for file in files:
            source, target = good / file, folder / Path(file).name
            (shutil.copytree if source.is_dir() else shutil.copyfile)(source, target)
        for file in without:
            (folder / file).unlink(missing_ok=True)
        return folder

    train = ["train", "photos", *tiny, "--no-preview", "-o", "model.h5", "--checkpoint-minutes", "0"]
    render = ["render", "model.h5", "--rows", "0-2", "--yaw", "0,20", "--size", "8", "-o", "views.h5"]
    unfinished = ["photos/cameras.h5", "photos/masks.h5", "photos/pixels.h5"]
    yield KilledCommand(
        "synth", ["synth", "cars", "out", "-n", "12", "--size", "48", "--views", "1"], inputs("synth")
    )
    yield KilledCommand(
        "segment",
        ["segment", "photos", "--method", "color"],
        inputs("segment", "photos", without=unfinished[1:]),
    )
    yield KilledCommand(
        "segment --png",
        ["segment", "photos", "--method", "color", "--png", "png"],
        inputs("segment-png", "photos", without=unfinished[1:]),
    )
    yield KilledCommand(
        "import", ["import", "photos", "--class", "cars"], inputs("import", "photos", without=unfinished)
    )
    yield KilledCommand(
        "import landmarks",
        ["import", "mugs/mugs.csv", "--class", "mugs/mug.toml"],
        inputs("landmarks", "mugs", without=["mugs/landmarks.h5"]),
    )
    yield KilledCommand(
        "import zip", ["import", "ffhq.zip", "--class", "cars", "-o", "out"], inputs("zip", "ffhq.zip")
    )
    yield KilledCommand("fit-cameras", ["fit-cameras", "mugs"], inputs("fit", "mugs"))
    yield KilledCommand(
        "export-cameras", ["export-cameras", "photos", "-o", "scene"], inputs("export-cameras", "photos")
    )
    yield KilledCommand(
        "render", [*render, "--png", "png", "--sheet", "sheet.png"], inputs("render", "model.h5")
    )
    yield KilledCommand(
        "sample --dataset",
        [
            "sample",
            "model.h5",
            "-n",
            "4",
            "--size",
            "8",
            "--dataset",
            "out",
            "--views",
            "2",
            "--shard-size",
            "2",
        ],
        inputs("dataset", "model.h5"),
    )
    yield KilledCommand(
        "export",
        ["export", "model.h5", "--rows", "0", "--resolution", "12", "-o", "mesh.glb"],
        inputs("export", "model.h5"),
    )
    if (good / "mug.h5").exists():  # the files that take long to make are there
        words = ["landmark", "mugs", "--class", "mugs/mug.toml", "--model", "mug.h5", "--workers", "2"]
        yield KilledCommand(
            "landmark", words, inputs("landmark", "mugs", "mug.h5", without=["mugs/landmarks.h5"])
        )
        words = ["train-landmarker", "mugs", "mugs/mugs.csv", "--class", "mugs/mug.toml", "--steps", "4"]
        yield KilledCommand(
            "train-landmarker", [*words, "--batch", "4"], inputs("train-landmarker", "mugs"), (".jsonl",)
        )
        words = ["evaluate", "trained.h5", "--data", "photos", "--tables", "train", "-n", "2"]
        yield KilledCommand("evaluate", words, inputs("evaluate", "trained.h5", "photos"), (".jsonl",))
    yield KilledCommand(
        "train", train, inputs("train", "photos", without=unfinished[2:]), ignored=(".jsonl",)
    )
    yield KilledCommand(
        "train --resume",
        [*train, "--resume"],
        inputs("resume", "photos", without=unfinished[2:]),
        ignored=(".jsonl",),
    )
