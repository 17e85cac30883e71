"""Training on many hosts: several processes of the real command on this machine, joined by gloo."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from typing import ClassVar

import h5py
import numpy as np
import pytest

from nerfgen import storage
from nerfgen.model import load_model
from nerfgen.train import TrainingFiles, train
from nerfgen.train.metrics_log import COLUMNS

STEPS = 60
# Of gradients, which differ most by rounding, and of codes.
NORMS = [COLUMNS.index("gradient_norm"), COLUMNS.index("latent_norm")]


@pytest.fixture(scope="module")
def words(cars, tiny_options):
    """``nerfgen train`` of the tiny cars but for the output."""
    common = ["train", cars, "--cameras", cars / "truth.h5", "--masks", cars / "truth.h5", *tiny_options]
    return [*common, "--steps", STEPS, "--no-preview"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture(autouse=True)
def no_host_is_left():
    """Hosts of a test that failed would wait for each other."""
    yield
    while Group.started:
        Group.started.pop().kill()


class Group:
    """Some or all hosts of a run, started with the same words, their messages in files."""

    started: ClassVar[list[subprocess.Popen]] = []

    def __init__(self, folder, count, *words, only=None, program=("-m", "nerfgen"), cluster=None):
        """``cluster`` gives the variables of a cluster for a host, in place of the options."""
        folder.mkdir(exist_ok=True)
        address = f"127.0.0.1:{free_port()}"
        self.folder, self.processes = folder, {}
        for index in range(count) if only is None else only:
            own = ["--distributed"]
            environment = os.environ | {"JAX_PLATFORMS": "cpu"}
            if cluster:
                environment |= cluster(index)
            else:
                own += ["--coordinator", address, "--num-hosts", count, "--host-index", index]
            command = [sys.executable, *program, *map(str, [*words, *own])]
            with open(folder / f"out{index}", "w") as out, open(folder / f"err{index}", "w") as err:
                self.processes[index] = subprocess.Popen(command, stdout=out, stderr=err, env=environment)
            self.started.append(self.processes[index])

    def wait(self, seconds=600):
        """The exit codes, in the order of the hosts."""
        deadline = time.monotonic() + seconds
        return [each.wait(deadline - time.monotonic()) for each in self.processes.values()]

    def out(self, index):
        return (self.folder / f"out{index}").read_text()

    def err(self, index):
        return (self.folder / f"err{index}").read_text()


def finished(folder, count, *words, **rest):
    """All hosts of a run that ends well; the first one has said so, the others nothing."""
    group = Group(folder, count, *words, "--json", "--quiet", **rest)
    codes = group.wait()
    assert codes == [0] * count, "\n".join(group.err(index) for index in range(count))
    assert [group.out(index) for index in range(1, count)] == [""] * (count - 1)
    return json.loads(group.out(0))


def log_of(path):
    """Step and values of every entry of a model's log."""
    with storage.reading(path, "model/1") as file:
        return np.column_stack([file["log_step"][:], file["log_values"][:]])


def assert_same_curves(found, expected):
    np.testing.assert_allclose(np.delete(found, NORMS, 1), np.delete(expected, NORMS, 1), rtol=2e-4)
    np.testing.assert_allclose(found[:, NORMS], expected[:, NORMS], rtol=5e-3)


def checkpoints(folder):
    return sorted(path.name for path in folder.glob("model.checkpoint-*"))


def wait_until(happened, seconds=600):
    deadline = time.monotonic() + seconds
    while not happened() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert happened()


def test_two_hosts_train_as_one_does(words, cars, tiny, tmp_path):
    """The same batches, divided; the first host writes all that there is."""
    folder = tmp_path / "two"
    told = finished(folder, 2, *words, "--steps", 40, "-o", folder / "model.h5")
    assert (told["hosts"], told["devices"], told["steps"], told["data"]) == (2, 2, 40, "disk")
    assert {path.name for path in folder.iterdir()} == {
        *("model.h5", "model.log.jsonl"),
        *(f"{name}{index}" for name in ("out", "err") for index in range(2)),
    }
    files = TrainingFiles(cars, cars / "truth.h5", cars / "truth.h5", tmp_path / "one.h5")
    train(files, tiny.with_values(steps=40), object_class="cars")
    assert_same_curves(log_of(folder / "model.h5"), log_of(files.output))
    one, two = load_model(files.output), load_model(folder / "model.h5")
    assert two.images == one.images
    assert np.abs(one.latents - two.latents).max() < 0.02 * np.abs(one.latents).max()


def test_without_a_cluster_the_options_are_named(words, tmp_path):
    """JAX looks for the cluster in the environment, where this command finds none."""
    command = [
        sys.executable,
        "-m",
        "nerfgen",
        *map(str, words),
        "-o",
        tmp_path / "model.h5",
        "--distributed",
    ]
    clean = {
        name: value for name, value in os.environ.items() if not name.startswith(("SLURM", "OMPI", "TPU"))
    }
    done = subprocess.run(
        command, capture_output=True, text=True, env=clean | {"JAX_PLATFORMS": "cpu"}, check=False
    )
    assert done.returncode == 2
    assert "give --coordinator, --num-hosts and --host-index" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_blocks_of_a_table_give_the_bytes_of_the_whole(tmp_path):
    values = np.random.default_rng(0).normal(size=(50, 3))
    whole, blocks = (tmp_path / name for name in ("whole.h5", "blocks.h5"))
    for path in (whole, blocks):
        with h5py.File(path, "w") as file:
            file.attrs["nerfgen_schema"] = "model/1"
            if path == whole:
                storage.put(file, "latents", values)
            else:
                storage.put_blocks(file, "latents", values.shape, [values[:20], values[20:40], values[40:]])
    assert blocks.read_bytes() == whole.read_bytes()


# A job's number, from which JAX derives the port.
JOB = os.getpid()


def slurm(index):
    """What srun gives its tasks."""
    return {
        "SLURM_JOB_ID": str(JOB),
        "SLURM_STEP_NODELIST": "localhost",
        "SLURM_NTASKS": "2",
        "SLURM_PROCID": str(index),
        "SLURM_LOCALID": str(index),
        "SLURM_STEP_NUM_NODES": "1",
    }


def open_mpi(index):
    """What mpirun gives its processes."""
    return {
        "OMPI_MCA_orte_hnp_uri": f"{JOB * 2**12}.0;tcp://127.0.0.1:34911",
        "OMPI_COMM_WORLD_SIZE": "2",
        "OMPI_COMM_WORLD_RANK": str(index),
        "OMPI_COMM_WORLD_LOCAL_RANK": str(index),
    }


@pytest.mark.slow
@pytest.mark.parametrize("cluster", [slurm, open_mpi])
def test_the_cluster_is_detected(words, tmp_path, cluster):
    """With no option but ``--distributed``."""
    told = finished(tmp_path, 2, *words, "--steps", 20, "-o", tmp_path / "model.h5", cluster=cluster)
    assert (told["hosts"], told["steps"]) == (2, 20)


@pytest.mark.slow
def test_a_missing_host_is_named(words, tmp_path):
    """By the first host, which knows how many have come, and by one that finds no first host."""
    for only, told in (
        ([0], "only 1 of 3 hosts came (itself included)"),
        ([0, 2], "only 2 of 3 hosts came (itself included)"),
        ([1], "host 0 does not answer at 127.0.0.1:"),
    ):
        group = Group(tmp_path, 3, *words, "-o", tmp_path / "model.h5", "--wait-minutes", 0.5, only=only)
        assert group.wait(120) == [2] * len(only)
        assert told in group.err(only[0])
        for index in only:
            assert len(group.err(index).splitlines()) == 1
            assert group.err(index).startswith(f"nerfgen: host {index} waited 0.5 minutes")
        assert not (tmp_path / "model.h5").exists()


@pytest.mark.slow
def test_hosts_with_other_options_are_refused(words, tmp_path):
    """All end, and the first one says why."""
    script = tmp_path / "program.py"
    script.write_text(
        "import sys\n"
        "if sys.argv[-1] == '1': sys.argv += ['--seed', '7']\n"
        "from nerfgen.__main__ import main\n"
        "main()\n"
    )
    group = Group(tmp_path, 2, *words, "-o", tmp_path / "model.h5", program=(script,))
    assert group.wait() == [2, 2]
    assert "host 1 was started with --seed 7, and host 0 with 0" in group.err(0)
    assert len(group.err(0).splitlines()) == 1
    assert not (tmp_path / "model.h5").exists()


@pytest.mark.slow
def test_four_hosts_with_refined_cameras_and_small_blocks(words, run, tmp_path):
    """A table that four hosts can't share evenly, written in blocks of a few rows; the same numbers as four devices of
    one process give."""
    moving = [
        word
        for name in ("camera_learning_rate=0.01", "focal_learning_rate=0.002")
        for word in ("--set", name)
    ]
    script = tmp_path / "program.py"
    script.write_text(
        "from nerfgen.optimize import placement\n"
        "placement._BLOCK_BYTES = 1000\n"
        "from nerfgen.__main__ import main\n"
        "main()\n"
    )
    many = tmp_path / "many"
    told = finished(many, 4, *words, *moving, "--data", "host", "-o", many / "model.h5", program=(script,))
    assert (told["hosts"], told["devices"], told["data"]) == (4, 4, "host")
    one = run(*words, *moving, "-o", tmp_path / "model.h5", "--devices", 4, "--quiet", timeout=900)
    assert one.code == 0, one.err
    assert_same_curves(log_of(many / "model.h5"), log_of(tmp_path / "model.h5"))
    found, expected = load_model(many / "model.h5"), load_model(tmp_path / "model.h5")
    assert np.abs(found.latents - expected.latents).max() < 0.02 * np.abs(expected.latents).max()
    np.testing.assert_allclose(found.cam_to_world, expected.cam_to_world, atol=1e-2)
    assert found.guess is not None
    assert (many / "model.cameras.h5").exists()


@pytest.mark.slow
def test_codes_from_images_do_not_depend_on_the_number_of_hosts(run, tiny_options, tmp_path):
    """Each host computes those of its own rows."""
    from nerfgen.synth import SynthSettings, synthesize

    heads = tmp_path / "heads"
    synthesize("heads", heads, SynthSettings(num_images=21, size=32, views=0, seed=3))
    words = ["train", heads, "--cameras", heads / "truth.h5", "--masks", heads / "truth.h5", *tiny_options]
    words += ["--steps", 20]
    told = finished(tmp_path / "two", 2, *words, "--data", "device", "-o", tmp_path / "two" / "model.h5")
    assert told["data"] == "device"
    assert told["non_flatness"] > 0, "a preview was drawn"
    assert (tmp_path / "two" / "model.preview.png").exists()
    one = run(*words, "-o", tmp_path / "model.h5", "--quiet")
    assert one.code == 0, one.err
    assert_same_curves(log_of(tmp_path / "two" / "model.h5"), log_of(tmp_path / "model.h5"))


@pytest.mark.slow
def test_two_hosts_continue_a_model(trained, model, tmp_path):
    """Its rows stay as they are; the first host renders the rehearsal for both."""
    from edited import edited

    from nerfgen.synth import SynthSettings, synthesize

    garage = tmp_path / "garage"
    truth = synthesize("cars", garage, SynthSettings(num_images=5, size=32, views=0, seed=11))
    (garage / "own").mkdir()
    for image in garage.glob("*.png"):
        image.rename(garage / "own" / image.name)
    with edited(truth) as file:
        file["image"][...] = [f"own/{name}" for name in storage.strings(file["image"])]
    words = ["train", garage, "--cameras", truth, "--masks", truth, "--init", trained, "--rehearse", 16]
    folder = tmp_path / "two"
    told = finished(folder, 2, *words, "--steps", 30, "--no-preview", "-o", folder / "model.h5")
    assert (told["images"], told["rows"], told["hosts"]) == (5, 45, 2)
    after = load_model(folder / "model.h5")
    np.testing.assert_array_equal(after.latents[:40], model.latents)
    assert after.images[40:] == [f"own/{index:06d}.png" for index in range(5)]
    assert np.abs(after.latents[40:] - model.latents.mean(axis=0)).max() > 1e-3


@pytest.mark.slow
def test_minutes_end_a_run_of_hosts_alike(words, tmp_path):
    """By the time of the first host."""
    told = finished(
        tmp_path, 2, *words[:-3], "--steps", 10**6, "--minutes", 0.05, "-o", tmp_path / "model.h5"
    )
    assert 20 <= told["steps"] < 10**6
    assert told["steps"] % 20 == 0
    assert told["seconds"] >= 3


@pytest.fixture(scope="module")
def undisturbed(words, tmp_path_factory):
    """The model file of two hosts that nothing disturbs."""
    folder = tmp_path_factory.mktemp("undisturbed")
    finished(folder, 2, *words, "-o", folder / "model.h5")
    return folder / "model.h5"


@pytest.mark.slow
@pytest.mark.parametrize("killed", [0, 1])
def test_one_killed_and_all_started_again_end_with_the_same_bytes(words, undisturbed, tmp_path, killed):
    command = [*words, "-o", tmp_path / "model.h5", "--checkpoint-minutes", 0]
    group = Group(tmp_path, 2, *command)
    wait_until(lambda: "model.checkpoint-000000020" in checkpoints(tmp_path))
    group.processes[killed].kill()
    codes = group.wait(300)
    assert codes[killed] == -signal.SIGKILL
    assert codes[1 - killed] not in (0, -signal.SIGKILL), "it has noticed"
    if killed == 1:
        assert re.search(r"^nerfgen: a host has ended during the run", group.err(0), re.MULTILINE)
    assert not (tmp_path / "model.h5").exists()
    assert finished(tmp_path, 2, *command, "--resume")["steps"] == STEPS
    assert (tmp_path / "model.h5").read_bytes() == undisturbed.read_bytes()
    assert checkpoints(tmp_path) == []


@pytest.mark.slow
def test_a_signal_to_one_stops_all_and_any_number_goes_on(words, run, undisturbed, tmp_path):
    """Two hosts stop with a checkpoint; one process goes on to another, and three hosts to the end."""
    long = ["--checkpoint-minutes", 10_000, "--steps", 3000]
    log = tmp_path / "model.log.jsonl"
    group = Group(tmp_path, 2, *words, *long, "-o", tmp_path / "model.h5")
    wait_until(lambda: log.exists() and log.stat().st_size > 0)
    group.processes[1].send_signal(signal.SIGTERM)
    assert group.wait() == [143, 143]
    (folder,) = checkpoints(tmp_path)
    assert re.fullmatch(r"model\.checkpoint-\d{9}", folder)
    assert f"{folder} holds the run so far" in group.err(0)
    assert "terminated" in group.err(1)
    step = int(folder[-9:])
    assert json.loads(log.read_text().splitlines()[-1])["step"] == step

    # One process, which is stopped in its turn.
    command = [
        sys.executable,
        "-m",
        "nerfgen",
        *map(str, [*words, *long, "-o", tmp_path / "model.h5", "--resume"]),
    ]
    with open(tmp_path / "alone", "w") as told:
        alone = subprocess.Popen(command, stdout=told, stderr=told)
    wait_until(lambda: json.loads(log.read_text().splitlines()[-1])["step"] > step)
    alone.send_signal(signal.SIGTERM)
    assert alone.wait(60) == 143
    (file,) = checkpoints(tmp_path)
    assert file.endswith(".h5")

    # Other options are another run, which is told before anything is written.
    other = run(*words, "--steps", 2999, "-o", tmp_path / "model.h5", "--resume")
    assert other.code == 2
    assert "differs in parameter steps" in other.err
    steps = [json.loads(line)["step"] for line in log.read_text().splitlines()]
    assert steps == list(range(20, steps[-1] + 1, 20)), "no entry is missing or there twice"


@pytest.mark.slow
@pytest.mark.parametrize(("before", "after"), [(2, 1), (1, 2), (2, 4)])
def test_a_checkpoint_is_restored_on_another_number_of_hosts(
    words, run, undisturbed, tmp_path, before, after
):
    """What follows differs by rounding."""
    command = [*words, "-o", tmp_path / "model.h5", "--quiet", "--json"]

    def started(count, *more):
        if count > 1:
            return finished(tmp_path, count, *command, *more)
        done = run(*command, *more)
        assert done.code == 0, done.err
        return json.loads(done.out)

    started(before, "--checkpoint-minutes", 0, "--keep", 1)
    (kept,) = checkpoints(tmp_path)
    assert kept == "model.checkpoint-000000040" + ("" if before > 1 else ".h5")
    (tmp_path / "model.h5").unlink()
    told = started(after, "--resume")
    assert (told["hosts"], told["steps"]) == (after, STEPS)
    logged = (tmp_path / "model.log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in logged] == [20, 40, 60]
    assert_same_curves(log_of(tmp_path / "model.h5"), log_of(undisturbed))
