"""Worker processes: they end with their parent, need no guard in scripts, and say why they ended."""

from __future__ import annotations

import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from nerfgen.errors import InputError
from nerfgen.parallel import core_count, in_turns, map_ordered, quota_cores
from nerfgen.workers import WorkerError

TOKEN = "NERFGEN_TEST_TOKEN"


def square(number: int) -> int:
    return number * number


def square_of_small_numbers(number: int) -> int:
    if number > 3:
        raise InputError(f"{number} is too large")
    return number * number


def end_at_three(how: int) -> int:
    if how == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    if how == -3:
        os.kill(os.getpid(), signal.SIGSEGV)
    return how


def fail(*_: object) -> None:
    raise InputError("no model file; give one")


def processes(token: str) -> list[int]:
    """The processes that were started with a token in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if token.encode() in (folder / "environ").read_bytes():
                found.append(int(folder.name))
        except OSError:  # ended meanwhile
            continue
    return found


def wait_until_ended(token: str, seconds: float = 30.0) -> list[int]:
    """The processes that are left after some time."""
    deadline = time.monotonic() + seconds
    while (left := processes(token)) and time.monotonic() < deadline:
        time.sleep(0.05)
    return left


def test_results_are_in_order_and_counted() -> None:
    seen: list[int] = []
    results = list(map_ordered(square, range(50), workers=2, progress=lambda done, *_: seen.append(done)))
    assert results == [number * number for number in range(50)]
    assert seen == list(range(1, 51))


def test_an_error_of_a_worker_is_raised_here_with_its_traceback() -> None:
    with pytest.raises(InputError, match="4 is too large") as caught:
        list(map_ordered(square_of_small_numbers, range(9), workers=2))
    assert "square_of_small_numbers" in caught.value.__notes__[0]


def test_an_error_of_the_initializer_is_raised_here() -> None:
    with pytest.raises(InputError, match="no model file"):
        list(map_ordered(square, range(9), workers=2, initializer=fail))


def test_a_killed_worker_names_memory_and_the_option() -> None:
    with pytest.raises(WorkerError, match="memory ran out; use fewer `workers`"):
        list(map_ordered(end_at_three, range(9), workers=2))
    with pytest.raises(WorkerError, match="SIGSEGV"):
        list(map_ordered(end_at_three, [0, -1, -2, -3, -4], workers=2))


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="needs /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_of_a_killed_command_is_left_running(tmp_path: Path, number: signal.Signals) -> None:
    token = f"{TOKEN}={tmp_path.name}-{os.getpid()}"
    words = ["synth", "heads", str(tmp_path / "out"), "-n", "400", "--size", "64", "--workers", "2"]
    # A signal may end the import of a module whose file Python has opened.
    warnings = ["-W", "error", "-W", "ignore:unclosed file:ResourceWarning"]
    job = subprocess.Popen(
        [sys.executable, *warnings, "-m", "nerfgen", *words],
        stderr=subprocess.PIPE,
        env=os.environ | dict([token.split("=")]),
        process_group=0,
    )
    try:
        deadline = time.monotonic() + 120
        while not list(tmp_path.glob("out/*.png")) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert len(processes(token)) >= 4  # the command, the server, its workers
        if number == signal.SIGINT:
            os.killpg(job.pid, number)  # as a terminal does
        else:
            job.send_signal(number)
        code = job.wait(timeout=60)
        assert wait_until_ended(token) == []
    finally:
        job.kill()
    assert job.stderr is not None
    said = job.stderr.read().decode()
    job.stderr.close()
    assert code == {signal.SIGKILL: -9, signal.SIGTERM: 143, signal.SIGINT: 130}[number]
    assert "Traceback" not in said
    assert said.count("nerfgen: ") == (number != signal.SIGKILL)
    assert not list(tmp_path.glob("out/.*.partial*")) or number == signal.SIGKILL
    assert not (tmp_path / "out" / "truth.h5").exists()


SCRIPT = """
from nerfgen.synth import SynthSettings, synthesize
print(synthesize("cars", "out", SynthSettings(num_images=4, size=16, views=0), workers=2))
"""


@pytest.mark.parametrize("way", ["file", "stdin"])
def test_scripts_need_no_guard_and_temporary_folders_may_be_deep(tmp_path: Path, way: str) -> None:
    deep = tmp_path / ("a" * 60) / ("b" * 60)  # a socket there would have too long a name
    deep.mkdir(parents=True)
    (tmp_path / "script.py").write_text(SCRIPT, encoding="utf-8")
    words = ["script.py"] if way == "file" else ["-"]
    done = subprocess.run(
        [sys.executable, "-W", "error", *words],
        cwd=tmp_path,
        input=SCRIPT if way == "stdin" else "",
        env=os.environ | {"TMPDIR": str(deep), "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == Path("out/truth.h5")


def test_functions_of_the_main_script_are_refused_in_one_line(tmp_path: Path) -> None:
    script = (
        "from nerfgen.parallel import map_ordered\n"
        "from nerfgen.errors import NerfgenError\n"
        "def own(item):\n    return item\n"
        "try:\n    list(map_ordered(own, range(9), workers=2))\n"
        "except NerfgenError as error:\n    print(error)\n"
    )
    (tmp_path / "script.py").write_text(script, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "script.py"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "move it to a module, or use `workers` 1" in done.stdout


@pytest.mark.parametrize(
    ("groups", "files", "cores"),
    [
        ("0::/a/b\n", {"a/cpu.max": "250000 100000\n", "a/b/cpu.max": "max 100000\n"}, 2.5),
        ("0::/host/path\n", {"cpu.max": "50000 100000\n"}, 0.5),
        ("0::/\n", {}, math.inf),
        (
            "4:memory:/x\n3:cpu,cpuacct:/docker/1\n",
            {"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"},
            3.0,
        ),
        ("3:cpu:/\n", {"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, math.inf),
    ],
)
def test_the_quota_of_a_container_counts(
    tmp_path: Path, groups: str, files: dict[str, str], cores: float
) -> None:
    for name, text in {"proc/self/cgroup": groups}.items() | {
        f"sys/fs/cgroup/{name}": text for name, text in files.items()
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="ascii")
    assert quota_cores(tmp_path) == cores
    assert core_count() >= 1


def test_tasks_take_turns_and_keep_their_order():
    steps = []

    def task(name, count):
        for _ in range(count):
            steps.append(name)
            yield
        return name

    assert list(in_turns((task(*each) for each in [("a", 2), ("b", 1), ("c", 0), ("d", 3)]), 2)) == list(
        "abcd"
    )
    assert "".join(steps) == "abaddd"
    assert list(in_turns([], 3)) == []
