"""How a program ends from outside: signals, closed pipes, and what a terminal shows meanwhile."""

from __future__ import annotations

import contextlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import h5py
import pytest

from nerfgen.stopping import stop_signals
from nerfgen.storage import atomic, hdf5, single_writer

STOPPED = """
import os, signal, sys
from nerfgen.stopping import stop_signals
{before}
with stop_signals() as stop:
    os.kill(os.getpid(), signal.{name})
    print("stopped" if stop else "went on", flush=True)
print("published", flush=True)
"""


ENDS = pytest.mark.parametrize(
    ("name", "code", "word"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)


def end_of(script: str, seconds: float | None = 25) -> tuple[int, str]:
    """Exit code and messages of a program that ends within some seconds."""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=seconds
    )
    return done.returncode, done.stderr


def stopped(name: str, before: str = "") -> tuple[int, list[str]]:
    """Exit code and output of a program that gets a signal within ``stop_signals``."""
    script = STOPPED.format(before=before, name=name)
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    return done.returncode, done.stdout.split("\n")[:-1]


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_nothing_after_a_stop_goes_on(name: str) -> None:
    # Tests that run in the background ignore Ctrl-C.
    usual = {"SIGINT": "signal.default_int_handler", "SIGTERM": "signal.SIG_DFL"}[name]
    code, lines = stopped(name, f"signal.signal(signal.{name}, {usual})")
    assert lines == ["stopped"]
    assert code != 0


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_ignored_signals_stay_ignored(name: str) -> None:
    assert stopped(name, f"signal.signal(signal.{name}, signal.SIG_IGN)") == (0, ["went on", "published"])


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_handler_that_returns_does_not_let_a_stopped_run_go_on(name: str) -> None:
    code, lines = stopped(name, f"signal.signal(signal.{name}, lambda *_: print('handled', flush=True))")
    assert lines == ["stopped", "handled"]
    assert code != 0


def test_an_outer_block_collects_what_arrives_in_an_inner_one() -> None:
    def run() -> None:
        with stop_signals() as outer:
            with stop_signals() as inner:
                signal.raise_signal(signal.SIGINT)
                assert inner
            assert outer, "the run goes on to its next checkpoint"

    with pytest.raises(KeyboardInterrupt):
        run()
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("kind", ["file", "folder", "hdf5", "claim"])
def test_a_signal_at_any_line_of_the_writer_leaves_nothing(kind: str, tmp_path: Path) -> None:
    files = {atomic.__file__, hdf5.__file__, single_writer.__file__}
    writers = {"file": atomic.atomic_path, "folder": atomic.atomic_folder, "claim": single_writer.claim}

    def write(place: Path) -> None:
        if kind == "hdf5":
            with hdf5.create_file(place / "x", {"nerfgen_schema": "landmarker/1"}):
                raise ZeroDivisionError
        with writers[kind](place / "x"):
            pass

    def interrupted(at: int, place: Path) -> bool:
        """Whether there are so many lines."""
        seen = 0

        def trace(frame: FrameType, event: str, argument: object) -> Callable[..., Any] | None:
            nonlocal seen
            if frame.f_code.co_filename not in files:
                return None
            if event == "line":
                seen += 1
                if seen == at:
                    sys.settrace(None)
                    signal.raise_signal(signal.SIGINT)
            return trace

        sys.settrace(trace)
        try:
            with contextlib.suppress(KeyboardInterrupt, ZeroDivisionError):
                write(place)
        finally:
            sys.settrace(None)
        return seen >= at

    at = 1
    place = tmp_path / str(at)
    while interrupted(at, place):
        left = [path.name for path in place.glob(".*")] if place.exists() else []
        assert left == [], f"at line {at}"
        at += 1
        place = tmp_path / str(at)
    assert at > 10


@pytest.mark.slow
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_training_in_the_background_of_a_script(
    cars: Path, tiny_options: list[str], tmp_path: Path, name: str
) -> None:
    """A shell starts background jobs with SIGINT ignored: Ctrl-C does not stop them, SIGTERM does."""
    model, steps = tmp_path / "model.h5", 3000
    truth = str(cars / "truth.h5")
    words = ["train", str(cars), "--cameras", truth, "--masks", truth, *tiny_options, "-o", str(model)]
    words += ["--cache", str(tmp_path / "pixels.h5"), "--set", f"steps={steps}", "--no-preview"]
    job = subprocess.Popen(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", sys.executable, "-m", "nerfgen", *words],
        stderr=subprocess.DEVNULL,
    )
    log = model.with_suffix(".log.jsonl")
    wait_for(lambda: log.exists() and log.stat().st_size > 0, job)
    job.send_signal(signal.Signals[name])
    code = job.wait(timeout=300)
    if name == "SIGINT":
        assert code == 0
        with h5py.File(model) as file:
            assert file["log_step"][-1] == steps
    else:
        assert code == 143
        assert not model.exists()
        assert list(tmp_path.glob("model.checkpoint-*.h5"))


@ENDS
@pytest.mark.parametrize("module", ["typer", "jaxlib"])
def test_a_signal_during_imports_ends_the_program_in_order(
    name: str, code: int, word: str, module: str
) -> None:
    script = (
        "import os, signal, sys\n"
        "sent = []\n"
        "class Finder:\n"
        "    def find_spec(self, name, *rest):\n"
        f"        if name == {module!r} and not sent:\n"
        "            sent.append(name)\n"
        f"            os.kill(os.getpid(), signal.{name})\n"
        "sys.meta_path.insert(0, Finder())\n"
        "sys.argv = ['nerfgen', 'info', '--devices']\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from nerfgen.__main__ import main\n"
        "main()\n"
    )
    assert end_of(script, None) == (code, f"nerfgen: {word}; no partial output is left\n")


def test_an_interruption_that_python_drops_is_repeated() -> None:
    script = (
        "import os, signal, time\n"
        "from nerfgen.stopping import ending_signals\n"
        "class Late:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "        time.sleep(0.1)\n"
        "with ending_signals():\n"
        "    late = Late()\n"
        "    del late\n"
        "    time.sleep(30)\n"
    )
    assert end_of(script) == (143, "nerfgen: terminated; no partial output is left\n")


@ENDS
def test_one_signal_while_hdf5_writes_is_one_signal(tmp_path: Path, name: str, code: int, word: str) -> None:
    script = (
        "import pathlib, signal, sys, time\n"
        "from nerfgen.stopping import ending_signals\n"
        "from nerfgen.storage import hdf5\n"
        "def at_write(frame, event, called):\n"
        "    if event == 'c_call' and frame.f_code is hdf5._Stream.write.__code__ and called.__name__ == 'write':\n"
        "        sys.setprofile(None)\n"
        f"        signal.raise_signal(signal.{name})\n"
        "with ending_signals():\n"
        f"    with hdf5.create_file(pathlib.Path({str(tmp_path / 'file.h5')!r}), {{}}) as file:\n"
        "        sys.setprofile(at_write)\n"
        "        file['numbers'] = range(100_000)\n"
        "        file.flush()\n"
        "        time.sleep(30)\n"
    )
    assert end_of(script) == (code, f"nerfgen: {word}; no partial output is left\n")
    assert list(tmp_path.iterdir()) == []


def test_a_second_signal_ends_at_once() -> None:
    script = (
        "import hashlib, os, signal, threading, time\n"
        "from nerfgen.stopping import ending_signals\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "with ending_signals():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(30)\n"
        "    finally:\n"
        "        threading.Timer(0.5, os.kill, (os.getpid(), signal.SIGINT)).start()\n"
        # Does not return for long to the interpreter, which calls handlers.
        "        hashlib.pbkdf2_hmac('sha256', b'', b'', 10**9)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=25
    )
    assert done.returncode == 130
    assert "twice" in done.stderr.splitlines()[-1]


def wait_for(condition: Callable[[], bool], job: subprocess.Popen[bytes]) -> None:
    """Wait until a condition holds, while the job runs."""
    for _ in range(3000):
        if condition():
            return
        assert job.poll() is None, "the job ended early"
        time.sleep(0.1)
    raise AssertionError("nothing happened within 300 s")


@pytest.mark.parametrize("words", [["classes"], ["classes", "--json"], ["sample", "--help"], ["--version"]])
def test_a_closed_pipe_ends_quietly(words: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)  # as `| head -0` does
    command = [sys.executable, "-m", "nerfgen", *words]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, b"")


def test_a_closed_stdout_ends_quietly() -> None:
    command = f"exec {sys.executable} -m nerfgen classes >&-"
    done = subprocess.run(["sh", "-c", command], stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


def test_closed_standard_streams_and_narrow_encodings(cars: Path, tmp_path: Path) -> None:
    """Files do not take the descriptors of closed streams; names that an encoding lacks are escaped."""
    folder = tmp_path / "bücher"
    folder.mkdir()
    (folder / "0.png").write_bytes((cars / "000000.png").read_bytes())
    words = f"-m nerfgen segment {folder} --cameras {folder}/cameras.h5"
    command = f"exec {sys.executable} {words} <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", command], check=False).returncode == 2
    done = subprocess.run(
        [sys.executable, *words.split()],
        env=os.environ | {"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert r"b\xfccher" in done.stderr
    truth = tmp_path / "truth"
    command = f"exec {sys.executable} -m nerfgen synth cars {truth} -n 1 --size 16 --views 0 2>&-"
    assert subprocess.run(["sh", "-c", command], capture_output=True, check=False).returncode == 0
    with h5py.File(truth / "truth.h5") as file:
        assert len(file["image"]) == 1


def test_a_platform_that_is_not_there_is_named() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "nerfgen", "info", "--devices"],
        env=os.environ | {"JAX_PLATFORMS": "nonsense"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert done.stderr.startswith("nerfgen: JAX_PLATFORMS is 'nonsense', but JAX finds only ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_behind_stdout_is_an_error() -> None:
    with open("/dev/full", "wb") as full:
        command = [sys.executable, "-m", "nerfgen", "classes"]
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, check=False)
    assert done.returncode == 2
    assert done.stderr.count(b"\n") == 1


def test_a_pipe_of_another_program_that_breaks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from nerfgen.cli import options
    from nerfgen.errors import NerfgenError

    def broken() -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(NerfgenError, match="another program"):
        options.translate_errors(broken)


class Screen:
    """What a terminal shows, of the control sequences that progress displays use."""

    def __init__(self) -> None:
        self.lines: list[str] = [""]
        self.row = self.column = 0

    def feed(self, text: str) -> None:
        for part in re.findall(r"\x1b\[[?\d;]*[A-Za-z]|[\r\n]|[^\x1b\r\n]+", text):
            if part == "\r":
                self.column = 0
            elif part == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif part.startswith("\x1b["):
                self._control(part[2:-1], part[-1])
            else:
                line = self.lines[self.row].ljust(self.column)
                self.lines[self.row] = line[: self.column] + part + line[self.column + len(part) :]
                self.column += len(part)

    def _control(self, argument: str, letter: str) -> None:
        count = int(argument) if argument.isdigit() else 1
        if letter == "A":
            self.row = max(0, self.row - count)
        elif letter == "B":
            self.row += count
        elif letter == "K":
            self.lines[self.row] = "" if argument == "2" else self.lines[self.row][: self.column]


def in_terminal(command: list[str]) -> tuple[int, str, list[str]]:
    """Exit code, output and last screen of a command whose stderr is a terminal."""
    master, slave = pty.openpty()
    environment = os.environ | {"COLUMNS": "100", "LINES": "30", "TERM": "xterm", "NO_COLOR": "1"}
    job = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=slave, stdin=slave, env=environment)
    os.close(slave)
    seen = b""
    while True:
        ready, _, _ = select.select([master], [], [], 0.2)
        if ready:
            try:
                seen += os.read(master, 65536)
                continue
            except OSError:  # Linux reports the closed terminal so
                break
        if job.poll() is not None:
            break
    out = job.communicate(timeout=60)[0].decode()
    os.close(master)
    screen = Screen()
    screen.feed(seen.decode(errors="replace"))
    return job.returncode, out, [line.rstrip() for line in screen.lines if line.strip()]


THREE_TASKS = """
import time
from nerfgen.cli.progress import Reporter
reporter = Reporter()
with reporter.progress("first") as first, reporter.progress("second", "steps") as second, reporter.progress("never"):
    for step in range(1, 6):
        first(step, 5)
        time.sleep(0.15)
    reporter.say("a message")
    for step in range(1, 6):
        second(step, 5, f"loss {step}")
        time.sleep(0.15)
reporter.result({}, "done")
"""


def test_tasks_share_one_display() -> None:
    code, out, screen = in_terminal([sys.executable, "-c", THREE_TASKS])
    assert (code, out) == (0, "done\n")
    assert [line.split()[0] for line in screen] == ["a", "first", "second"], screen
    assert "5/5 images" in screen[1]
    assert "5/5 steps" in screen[2]
    assert "loss 5" in screen[2]


@pytest.mark.slow
def test_training_in_a_terminal_shows_each_task_once(
    cars: Path, tiny_options: list[str], tmp_path: Path
) -> None:
    truth = str(cars / "truth.h5")
    words = ["train", str(cars), "--cameras", truth, "--masks", truth, *tiny_options, "--no-preview"]
    words += ["-o", str(tmp_path / "model.h5"), "--cache", str(tmp_path / "pixels.h5")]
    code, _, screen = in_terminal([sys.executable, "-m", "nerfgen", *words])
    assert code == 0, screen
    tasks = [line.split()[0] for line in screen if ("/" in line and "images" in line) or "steps" in line]
    assert tasks == ["framing", "training"], screen


def test_a_timer_that_a_library_left_does_not_hold_the_program() -> None:
    script = (
        "import os, signal, threading\n"
        "from nerfgen.stopping import ending_signals\n"
        "with ending_signals(until_exit=True):\n"
        "    threading.Timer(3, print, ['late']).start()\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    threading.Event().wait()\n"
    )
    assert end_of(script) == (130, "nerfgen: interrupted; no partial output is left\n")
