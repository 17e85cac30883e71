"""Runs that are stopped, killed and gone on with: to the same bytes as if nothing had happened."""

from __future__ import annotations

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from nerfgen import storage
from nerfgen.train import TrainingFiles, train

pytestmark = pytest.mark.slow

STEPS = 500  # those of the fixture `trained`, which nothing disturbs
KILLS = 10
HUGE = ["--checkpoint-minutes", 10_000]


@pytest.fixture(scope="module")
def words(cars, tiny_options):
    """``nerfgen train`` of the tiny cars but for the output."""
    common = ["train", cars, "--cameras", cars / "truth.h5", "--masks", cars / "truth.h5", *tiny_options]
    return [*common, "--steps", STEPS, "--no-preview"]


def started(words, told):
    """The program, with its messages in a file."""
    with open(told, "w") as stream:
        command = [sys.executable, "-m", "nerfgen", *map(str, words)]
        return subprocess.Popen(command, stdout=stream, stderr=stream)


def wait_until(process, happened, seconds=120):
    deadline = time.monotonic() + seconds
    while not happened() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.005)
    assert happened()


def logged_steps(path):
    return [json.loads(line)["step"] for line in path.read_text().splitlines()]


def checkpoints(folder):
    return sorted(folder.glob("model.checkpoint-*.h5"))


def step_of(checkpoint):
    with storage.reading(checkpoint, "checkpoint/1") as file:
        step = int(file["step"][()])
    assert checkpoint.name == f"model.checkpoint-{step:09d}.h5"
    return step


def test_a_run_killed_again_and_again_ends_with_the_same_bytes(words, trained, tmp_path):
    """Killed at any moment: in start-up, while compiling, in a step, while a checkpoint or the model is written.

    A run that is finished before all kills are spent is compared and begun again.
    """
    output = tmp_path / "out" / "model.h5"
    log = output.with_suffix(".log.jsonl")
    command = [
        *words,
        "--checkpoint-minutes",
        0.003,
        "--cache",
        tmp_path / "pixels.h5",
        "-o",
        output,
        "--resume",
    ]
    steps = list(range(20, STEPS + 1, 20))
    expected = trained.read_bytes()
    moments, kills, resumed_at = random.Random(4), 0, set()

    def compare():
        assert output.read_bytes() == expected
        assert logged_steps(log) == steps, "no entry is missing or there twice"
        assert {path.name for path in output.parent.iterdir()} == {"model.h5", "model.log.jsonl"}

    # How long a start takes on this machine: half of the kills hit what comes after it.
    began = time.monotonic()
    process = started(command, tmp_path / "told")
    wait_until(process, log.exists)
    start = time.monotonic() - began
    while kills < KILLS:
        try:
            moment = moments.uniform(0, 1) + kills % 2
            code = process.wait(moment * start if kills else 0.3)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
        else:
            assert code == 0, (tmp_path / "told").read_text()
            compare()
            shutil.rmtree(output.parent)
        if checkpoints(output.parent):
            resumed_at.add(step_of(checkpoints(output.parent)[-1]))
        process = started(command, tmp_path / "told")
    assert process.wait(300) == 0, (tmp_path / "told").read_text()
    compare()
    assert len(resumed_at) >= 2, "it went on from different places"


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_writes_a_checkpoint_first(words, trained, run, tmp_path, number, code):
    folder, told = tmp_path / "out", tmp_path / "told"
    log = folder / "model.log.jsonl"
    command = [*words, *HUGE, "-o", folder / "model.h5"]
    process = started(command, told)
    wait_until(process, lambda: log.exists() and log.stat().st_size > 0)
    process.send_signal(number)
    assert process.wait(60) == code
    assert "Traceback" not in told.read_text()
    assert told.read_text().splitlines()[-1].startswith("nerfgen: ")
    (checkpoint,) = checkpoints(folder)
    assert {path.name for path in folder.iterdir()} == {checkpoint.name, log.name}
    assert 20 <= logged_steps(log)[-1] <= step_of(checkpoint) < STEPS
    done = run(*command, "--resume", "--quiet")
    assert done.code == 0, done.err
    assert (folder / "model.h5").read_bytes() == trained.read_bytes()
    assert logged_steps(log) == list(range(20, STEPS + 1, 20))
    assert checkpoints(folder) == []


def test_a_second_signal_acts_at_once(words, tmp_path):
    """While the checkpoint of the first is being written or the step is under way."""
    folder, told = tmp_path / "out", tmp_path / "told"
    log = folder / "model.log.jsonl"
    process = started([*words, *HUGE, "-o", folder / "model.h5"], told)
    wait_until(process, lambda: log.exists() and log.stat().st_size > 0)
    for _ in range(2):
        process.send_signal(signal.SIGTERM)
    assert process.wait(60) in (143, -signal.SIGTERM)
    assert not [path for path in folder.iterdir() if "partial" in path.name]


def test_checkpoints_are_kept_as_asked(cars, tiny, tmp_path):
    expected = {0: [], 1: [80], 3: [40, 60, 80]}
    for keep, steps in expected.items():
        folder = tmp_path / str(keep)
        files = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", folder / "model.h5")
        train(files, tiny.with_values(steps=100), object_class="cars", keep=keep, checkpoint_minutes=0.0)
        assert [step_of(path) for path in checkpoints(folder)] == steps


def test_a_run_begun_anew_does_not_go_on_from_an_older_one(cars, tiny, tmp_path):
    """What an abandoned run left is not mixed up with the checkpoints of the new one."""
    files = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", tmp_path / "model.h5")
    longer, shorter = tiny.with_values(steps=100), tiny.with_values(steps=60)
    train(files, longer, object_class="cars", keep=2, checkpoint_minutes=0.0)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [60, 80]
    train(files, shorter, object_class="cars", keep=2, checkpoint_minutes=0.0, overwrite=True)
    assert [step_of(path) for path in checkpoints(tmp_path)] == [20, 40]
    files.output.unlink()
    assert train(files, shorter, object_class="cars", resume=True)["steps"] == 60


def test_what_a_killed_writer_left_is_removed(cars, tiny, tmp_path):
    """Half-written checkpoints of whatever step, and of other runs nothing."""
    killed = "import os, sys; from nerfgen.storage import atomic_path; from pathlib import Path\n"
    killed += "with atomic_path(Path(sys.argv[1])): os._exit(9)"
    for name in ("model.h5", "model.checkpoint-000000013.h5", "other.h5"):
        subprocess.run([sys.executable, "-c", killed, str(tmp_path / name)], check=False)
    left = {path.name for path in tmp_path.iterdir()}
    assert len(left) == 3
    others = {name for name in left if name.startswith(".other.")}
    files = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", tmp_path / "model.h5")
    train(files, tiny.with_values(steps=60), object_class="cars", checkpoint_minutes=0.0)
    assert {path.name for path in tmp_path.iterdir()} == {"model.h5", "model.log.jsonl", *others}


def test_a_checkpoint_of_one_device_is_gone_on_with_on_two(words, run, cars, tiny, tmp_path):
    """The file holds no trace of the devices; what follows differs by rounding."""
    files = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", tmp_path / "one" / "model.h5")
    train(files, tiny.with_values(steps=60), object_class="cars", keep=1, checkpoint_minutes=0.0)
    (checkpoint,) = checkpoints(files.output.parent)
    (tmp_path / "two").mkdir()
    shutil.copy(checkpoint, tmp_path / "two")
    told = [*words[:-3], "--steps", 60, "--no-preview", "--devices", 2, "--resume", "--json", "--quiet"]
    done = run(*told, "-o", tmp_path / "two" / "model.h5")
    assert done.code == 0, done.err
    result = json.loads(done.out)
    assert (result["devices"], result["steps"]) == (2, 60)
    assert logged_steps(tmp_path / "two" / "model.log.jsonl") == [60], "it went on from step 40"
    logs = []
    for name in ("one", "two"):
        with storage.reading(tmp_path / name / "model.h5", "model/1") as file:
            logs.append(file["log_values"][:])
            np.testing.assert_array_equal(file["log_step"][:], [20, 40, 60])
    np.testing.assert_allclose(logs[1], logs[0], rtol=1e-4)


def test_tensorboard_goes_on_where_the_checkpoint_was(cars, tiny, tmp_path):
    """Nothing of the log is hidden: what is void begins after the step that the run goes on from."""
    pytest.importorskip("tensorboardX")
    files = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", tmp_path / "model.h5")
    board, preset = tmp_path / "board", tiny.with_values(steps=60)
    train(files, preset, object_class="cars", keep=1, checkpoint_minutes=0.0, tensorboard=board)
    files.output.unlink()
    time.sleep(1.1)  # event files are told apart by the second
    train(files, preset, object_class="cars", resume=True, tensorboard=board)
    newest = max(board.iterdir(), key=lambda path: int(re.findall(r"\d{9,}", path.name)[0]))
    assert session_starts(newest) == [41]


def session_starts(path):
    """Steps from which on an event file makes void what older ones hold."""
    import struct

    from tensorboardX.proto.event_pb2 import Event, SessionLog

    data, at, found = path.read_bytes(), 0, []
    while at < len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        event = Event.FromString(data[at + 12 : at + 12 + length])
        if event.session_log.status == SessionLog.START:
            found.append(event.step)
        at += 16 + length
    return found
