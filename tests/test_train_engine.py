"""The training engine: devices, precision, placement, logs, divergence, refined cameras, sizes told beforehand."""

from __future__ import annotations

import json
import struct
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from edited import edited

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import optical_axis, project, turned_views, with_focal
from nerfgen.metric import psnr
from nerfgen.model import PRESETS, load_model
from nerfgen.render import render_views
from nerfgen.train import DivergedError, Machine, TrainingFiles, train
from nerfgen.train.metrics_log import COLUMNS
from nerfgen.train.state import initial_keys
from nerfgen.train.step import step_keys

# Long enough for three refreshes of the occupancy.
STEPS = 60
ENTRY = {*COLUMNS, "learning_rate", "rays_per_second", "data_wait_share", "seconds"}


def files_in(cars, folder, name="model.h5", cameras=None):
    return TrainingFiles(cars, cameras or cars / "truth.h5", cars / "truth.h5", folder / name)


def log_of(path):
    """Step and values of every entry of a model's log."""
    with storage.reading(path, "model/1") as file:
        return np.column_stack([file["log_step"][:], file["log_values"][:]])


@pytest.fixture(scope="module")
def single(cars, tiny, tmp_path_factory):
    """The model file of a short run on one device that holds the pixels, with nothing special."""
    files = files_in(cars, tmp_path_factory.mktemp("single"))
    train(files, tiny.with_values(steps=STEPS), object_class="cars")
    return files.output


def some_cameras(cars, path, without=1):
    """True cameras of all cars but some, as a camera file."""
    with storage.reading(cars / "truth.h5", "truth/1") as file:
        names, values = (
            storage.strings(file["image"])[without:],
            {name: file[name][without:] for name in CAMERA},
        )
    with storage.Stage(path, "cameras/1", "cars").create() as file:
        storage.put(file, "image", names)
        storage.put(file, "status", ["no_object", *["ok"] * (len(names) - 1)])
        for name, value in values.items():
            storage.put(file, name, value)
    return path


CAMERA = ("image_size", "intrinsics", "cam_to_world", "window")
MOVING = {"camera_learning_rate": 0.01, "camera_start": 0.1, "focal_learning_rate": 2e-3, "steps": STEPS}

# Four devices have to be asked for before JAX is first used: a process of its own.
ON_MANY = """
import json, sys
from pathlib import Path
from nerfgen.model import PRESETS
from nerfgen.train import Machine, TrainingFiles, train

cars, cameras, folder, values = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), json.loads(sys.argv[4])
for devices, placement in ((4, "device"), (2, "host"), (1, "device")):
    files = TrainingFiles(cars, cameras, cars / "truth.h5", folder / f"{devices}.h5")
    preset = PRESETS["fast"].with_values(**values)
    told = train(files, preset, object_class="cars", machine=Machine(devices=devices, placement=placement))
    assert (told["devices"], told["data"], told["images"]) == (devices, placement, 38), told
"""


@pytest.fixture(scope="module")
def moving(cars, tiny, tmp_path_factory):
    """A folder with models of 38 cars whose cameras and focal lengths move, trained on 1, 2 and 4 devices."""
    folder = tmp_path_factory.mktemp("moving")
    cameras = some_cameras(cars, folder / "cameras.h5")
    values = json.dumps(vars(tiny) | MOVING)
    done = subprocess.run(
        [sys.executable, "-c", ON_MANY, cars, cameras, folder, values],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 4])
def test_many_devices_train_as_one_does(moving, devices):
    """The same batch dealt out among devices, for a table that they can't share evenly."""
    one, many = moving / "1.h5", moving / f"{devices}.h5"
    found, expected = log_of(many), log_of(one)
    # Of gradients, which differ most by rounding, and of codes.
    norms = [COLUMNS.index("gradient_norm"), COLUMNS.index("latent_norm")]
    np.testing.assert_allclose(np.delete(found, norms, 1), np.delete(expected, norms, 1), rtol=2e-4)
    np.testing.assert_allclose(found[:, norms], expected[:, norms], rtol=5e-3)
    one, many = load_model(one), load_model(many)
    assert np.abs(one.latents - many.latents).max() < 0.02 * np.abs(one.latents).max()
    assert len(many.latents) == len(many.cam_to_world) == 38
    np.testing.assert_allclose(many.cam_to_world, one.cam_to_world, atol=1e-2)
    np.testing.assert_allclose(many.intrinsics, one.intrinsics, rtol=1e-3)


def test_batches_that_devices_can_not_share_are_told_before_anything_is_done(run, cars, tmp_path):
    words = ["train", cars, "--cameras", cars / "truth.h5", "--no-masks", "--cache", tmp_path / "p.h5"]
    for more, told in (
        (
            ["--devices", 3, "--images-per-batch", 20],
            "--images-per-batch 20 can't be divided among 3 devices",
        ),
        (
            ["--devices", 2, "--images-per-batch", 20, "--micro-batch", 3],
            "--micro-batch 3 does not divide the 10 images of a device",
        ),
    ):
        done = run(*words, "-o", tmp_path / "m.h5", *more)
        assert done.code == 2
        assert told in done.err
        assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_devices_that_are_not_there_are_told():
    there = len(jax.devices())
    with pytest.raises(InputError, match=rf"`devices` is 64, but JAX has {there} "):
        Machine(devices=64).mesh()
    for wrong in ({"precision": "float8"}, {"placement": "tape"}):
        with pytest.raises(InputError, match="is one of auto"):
            Machine(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("placement", ["host", "disk"])
def test_where_pixels_are_kept_changes_no_byte(cars, tiny, single, tmp_path, placement):
    files = files_in(cars, tmp_path)
    machine = Machine(placement=placement)
    told = train(files, tiny.with_values(steps=STEPS), object_class="cars", machine=machine)
    assert told["data"] == placement
    assert files.output.read_bytes() == single.read_bytes()


@pytest.mark.slow
@pytest.mark.parametrize("how", [{"micro_batch": 5}, {"micro_batch": 10, "rematerialise": True}])
def test_less_memory_changes_only_rounding(cars, tiny, single, tmp_path, how):
    files = files_in(cars, tmp_path)
    train(files, tiny.with_values(steps=STEPS), object_class="cars", machine=Machine(**how))
    np.testing.assert_allclose(log_of(files.output), log_of(single), rtol=1e-5)


@pytest.mark.slow
def test_bfloat16_trains_alike_with_float32_parameters(cars, tiny, single, tmp_path):
    files = files_in(cars, tmp_path)
    machine = Machine(precision="bfloat16")
    train(files, tiny.with_values(steps=STEPS), object_class="cars", machine=machine)
    found, exact = log_of(files.output), log_of(single)
    np.testing.assert_allclose(found, exact, rtol=0.02)
    assert (found != exact).any(), "it was rounded"
    model = load_model(files.output)
    for array in (*jax.tree.leaves(model.parameters), model.latents, model.occupancy):
        assert array.dtype == np.float32
        assert np.isfinite(array).all()
    # Another precision is another result, and a file of it is not kept as if it were this one.
    with pytest.raises(InputError.__base__, match="parameter precision"):
        train(files, tiny.with_values(steps=STEPS), object_class="cars")


def entries(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_every_entry_of_the_log_is_finite(trained):
    log = entries(trained.with_suffix(".log.jsonl"))
    assert [entry["step"] for entry in log] == list(range(20, 501, 20))
    for entry in log:
        assert entry.keys() == ENTRY
        assert all(np.isfinite(value) for value in entry.values())
        assert 0 <= entry["data_wait_share"] <= 1
    assert (np.diff([entry["seconds"] for entry in log]) > 0).all()
    rates = [entry["learning_rate"] for entry in log]
    recipe = load_model(trained).recipe
    assert rates[-1] == pytest.approx(recipe.learning_rate * recipe.final_rate)
    assert (np.diff(rates) < 0).all()
    stored = log_of(trained)
    for column, name in enumerate(COLUMNS):
        np.testing.assert_allclose([entry[name] for entry in log], stored[:, column], rtol=1e-6)


def scalars(folder):
    """(name, step, value) of all event files of a folder, in the order in which they were written."""
    from tensorboardX.proto.event_pb2 import Event

    found = []
    for path in sorted(folder.iterdir()):
        data, at = path.read_bytes(), 0
        while at < len(data):
            (length,) = struct.unpack_from("<Q", data, at)
            event = Event.FromString(data[at + 12 : at + 12 + length])
            found += [(value.tag, event.step, value.simple_value) for value in event.summary.value]
            at += 16 + length
    return found


def test_tensorboard_shows_the_log(cars, tiny, tmp_path):
    pytest.importorskip("tensorboardX")
    files, board = files_in(cars, tmp_path), tmp_path / "board"
    train(files, tiny.with_values(steps=STEPS), object_class="cars", tensorboard=board)
    expected = [
        (name, entry["step"], pytest.approx(value, rel=1e-5))
        for entry in entries(files.log)
        for name, value in entry.items()
        if name != "step"
    ]
    assert scalars(board) == expected
    assert {name for name, _, _ in expected} == ENTRY - {"step"}


def test_without_tensorboard_the_extra_is_named(cars, tmp_path):
    start = "import sys; sys.modules['tensorboardX'] = None; from nerfgen.cli.main import main; main()"
    words = ["train", cars, "--cameras", cars / "truth.h5", "--no-masks", "-o", tmp_path / "m.h5"]
    words += ["--tensorboard", tmp_path / "board", "--cache", tmp_path / "pixels.h5"]
    done = subprocess.run(
        [sys.executable, "-c", start, *map(str, words)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "nerfgen[tensorboard]" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_what_is_no_number_stops_the_run_and_leaves_the_checkpoint(run, cars, tiny_options, tmp_path):
    """Cameras fly off after half of the run, of which a checkpoint was written at every entry of the log."""
    words = ["train", cars, "--cameras", cars / "truth.h5", "--masks", cars / "truth.h5", *tiny_options]
    words += ["--set", "camera_learning_rate=1e30", "--set", "camera_start=0.5", "--steps", 120]
    words += ["--checkpoint-minutes", 0, "--no-preview", "--quiet", "-o", tmp_path / "model.h5"]
    for again in ([], ["--resume"]):
        done = run(*words, *again)
        assert done.code == 1, done.err
        assert "diverged" in done.err
        assert len(done.err.splitlines()) == 1
        left = {path.name for path in tmp_path.iterdir()}
        assert left == {"model.checkpoint-000000060.h5", "model.log.jsonl"}, "and it can be loaded"
    with storage.reading(tmp_path / "model.checkpoint-000000060.h5", "checkpoint/1") as file:
        file["state"].visititems(lambda name, item: finite(item))
    assert [entry["step"] for entry in entries(tmp_path / "model.log.jsonl")] == [20, 40, 60]


def finite(item):
    assert not hasattr(item, "shape") or np.isfinite(item[()]).all(), item.name


def test_a_loss_far_above_the_first_stops_the_run(cars, tiny, tmp_path):
    """A run that is told that it began with a loss of a hundredth of what it has now."""
    files, preset = files_in(cars, tmp_path), tiny.with_values(steps=STEPS)
    train(files, preset, object_class="cars", keep=1, checkpoint_minutes=0.0)
    files.output.unlink()
    (checkpoint,) = tmp_path.glob("model.checkpoint-*.h5")
    assert checkpoint.name == "model.checkpoint-000000040.h5"
    with edited(checkpoint) as file:
        file["log"][0, 1] *= 0.01
    before = checkpoint.read_bytes()
    with pytest.raises(DivergedError, match="diverged before step 60"):
        train(files, preset, object_class="cars", resume=True)
    assert checkpoint.read_bytes() == before
    assert not files.output.exists()


@pytest.mark.slow
def test_refined_cameras_are_a_camera_file(moving, cars, tiny, tmp_path):
    """The same images, in the same order, with the model's cameras; of use to another run."""
    model = load_model(moving / "1.h5")
    with (
        storage.reading(moving / "cameras.h5", "cameras/1") as given,
        storage.reading(moving / "1.cameras.h5", "cameras/1") as refined,
    ):
        names = storage.strings(refined["image"])
        assert names == storage.strings(given["image"])
        assert storage.strings(refined["status"]) == storage.strings(given["status"])
        for name in ("image_size", "window"):
            np.testing.assert_array_equal(refined[name][:], given[name][:])
        rows = storage.positions(model.images, names)
        assert sorted(rows) == list(range(1, 39)), "the first has no object"
        for name in ("intrinsics", "cam_to_world"):
            np.testing.assert_array_equal(refined[name][:][rows], getattr(model, name))
            np.testing.assert_array_equal(refined[name][0], given[name][0])
            assert (refined[name][:][rows] != given[name][:][rows]).any()
        # One factor for all focal lengths.
        factor = model.intrinsics[:, 0, 0] / given["intrinsics"][:][rows, 0, 0]
    np.testing.assert_allclose(factor, factor[0], rtol=1e-6)
    assert abs(factor[0] - 1) > 1e-3
    fixed = tiny.with_values(steps=20)
    files = files_in(cars, tmp_path, cameras=moving / "1.cameras.h5")
    train(files, fixed, object_class="cars")
    np.testing.assert_array_equal(load_model(files.output).cam_to_world, model.cam_to_world)


def test_refined_cameras_do_not_replace_those_they_come_from(cars, tiny, tmp_path):
    cameras = some_cameras(cars, tmp_path / "model.cameras.h5")
    before = cameras.read_bytes()
    with pytest.raises(InputError, match=r"model\.cameras\.h5 would be replaced"):
        train(files_in(cars, tmp_path, cameras=cameras), tiny.with_values(**MOVING), object_class="cars")
    assert cameras.read_bytes() == before


def test_a_shared_focal_length_changes_perspective_and_not_size(cars):
    with storage.reading(cars / "truth.h5", "truth/1") as file:
        matrix, pose = file["intrinsics"][:], file["cam_to_world"][:]
    changed_matrix, changed = map(np.asarray, with_focal(matrix, pose, 1.4))
    np.testing.assert_allclose(changed_matrix[:, [0, 1], [0, 1]], 1.4 * matrix[:, [0, 1], [0, 1]], rtol=1e-6)
    np.testing.assert_allclose(changed_matrix[:, :2, 2], matrix[:, :2, 2], rtol=1e-6)
    np.testing.assert_allclose(changed[:, :3, :3], pose[:, :3, :3], atol=1e-6)
    for own in range(3):
        before, after = (matrix[own], pose[own]), (changed_matrix[own], changed[own])
        away, right = optical_axis(pose[own]), pose[own][:3, 0]
        depth = -pose[own][:3, 3] @ away
        for offset in (-0.3, 0.0, 0.3):
            # A short stick across the view, at the origin and before and behind it.
            ends = away * offset + np.array([-1, 1])[:, None] * right * 1e-3
            sizes = [np.linalg.norm(np.diff(project(ends, *camera)[0], axis=0)) for camera in (before, after)]
            expected = 1.4 * (depth + offset) / (1.4 * depth + offset)
            assert sizes[1] / sizes[0] == pytest.approx(expected, rel=1e-3)


@pytest.mark.slow
def test_a_dry_run_tells_sizes_and_writes_nothing(run, cars, tiny_options, single, tmp_path):
    before = sorted((path.name, path.stat().st_mtime_ns) for path in cars.iterdir())
    words = ["train", cars, "--cameras", cars / "truth.h5", "--masks", cars / "truth.h5", *tiny_options]
    done = run(*words, "--cache", tmp_path / "p.h5", "-o", tmp_path / "m.h5", "--dry-run", "--json")
    assert done.code == 0, done.err
    told, model = json.loads(done.out), load_model(single)
    assert told["images"] == 40
    assert told["steps"] == 60
    assert told["network_parameters"] == sum(array.size for array in jax.tree.leaves(model.parameters))
    assert told["table_parameters"] == model.latents.size + 40 * 6
    assert told["devices"] == 1
    assert (told["precision"], told["images_at_a_time"]) == ("float32", 20)
    for name in ("data_mib", "state_mib", "step_mib", "seconds_per_step", "rays_per_second"):
        assert told[name] > 0, name
    assert told["hours"] >= 0
    assert sorted((path.name, path.stat().st_mtime_ns) for path in cars.iterdir()) == before
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--steps", "-5"], "--steps"),
        (["--set", "steps=-5"], "steps has to be at least 1, not -5"),
        (["--set", "steps=0"], "steps"),
        (["--set", "samples=0"], "samples has to be at least 1, not 0"),
        (["--set", "final_rate=2"], "final_rate has to be at most 1, not 2"),
        (["--set", "learning_rate=nan"], "learning_rate has to be finite, not nan"),
        (["--set", "learning_rate=inf"], "learning_rate has to be finite, not inf"),
        (["--set", "width=1.5"], "width takes a value of type int, not '1.5'"),
    ],
)
def test_values_out_of_range_are_usage_errors(run, cars, tmp_path, words, told):
    common = ["train", cars, "--cameras", cars / "truth.h5", "--no-masks", "--cache", tmp_path / "p.h5"]
    done = run(*common, *words, "-o", tmp_path / "m.h5")
    assert done.code == 2
    assert told in done.err
    assert "Traceback" not in done.err
    if words[0] == "--set":
        assert len(done.err.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("samples", [16, 32])
def test_few_guided_samples_show_what_many_even_ones_do(model, samples):
    yaw = np.linspace(-60, 60, 4)
    cameras = turned_views(yaw, np.full(4, 10.0), model.distance, 32)
    even = replace(model, recipe=replace(model.recipe, sampler="stratified"))
    assert model.recipe.sampler == PRESETS["fast"].sampler == "occupancy"
    expected = render_views(even, model.latents[::10], *cameras, 32, samples=512)
    found = render_views(model, model.latents[::10], *cameras, 32, samples=samples)
    assert psnr(found.foreground, expected.foreground) > 40
    assert psnr(found.opacity, expected.opacity) > 40
    assert psnr(found.rgb / 255, expected.rgb / 255) > 40
    assert expected.opacity.max() > 0.95, "there is something to see"


def test_no_step_has_the_random_keys_of_the_initial_state():
    """Also none of the keys that a step's are made from: with equal keys, noise would repeat parameters."""
    root = jax.random.key(3)
    numbers = jnp.arange(2000)
    folded = jax.vmap(lambda number: jax.random.key_data(jax.random.fold_in(root, number)))(numbers)
    keys = jax.vmap(lambda number: jnp.stack([jax.random.key_data(key) for key in step_keys(3, number)]))
    used = {tuple(key) for key in np.concatenate([folded, np.reshape(keys(numbers), (-1, 2))]).tolist()}
    for key in initial_keys(3):
        assert tuple(jax.random.key_data(key).tolist()) not in used
