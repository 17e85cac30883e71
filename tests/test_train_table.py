"""The table's optimiser: Adam on the rows of a batch, all others untouched."""

from __future__ import annotations

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from nerfgen import storage
from nerfgen.data import table_rows
from nerfgen.model import load_model
from nerfgen.optimize import AXIS, RowGradient, apply_row_update, gather_rows, row_sparse_adam
from nerfgen.train import Machine, TrainingFiles, load_base_model, train

B1, B2, RATE = 0.9, 0.99, 0.03


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def on_one_device(function):
    mesh = Mesh(np.array(jax.devices("cpu")[:1]), (AXIS,))
    return jax.jit(jax.shard_map(function, mesh=mesh, in_specs=P(), out_specs=P(), check_vma=False))


ADAM = row_sparse_adam(B1, B2)


@on_one_device
def one_step(table, state, rows, gradient):
    update, state = ADAM.update(RowGradient(rows, gradient), state, learning_rate=jnp.float32(RATE))
    table, change = apply_row_update(table, update)
    return table, state, change


def test_where_every_row_is_touched_it_is_adam(rng):
    table = jnp.asarray(rng.normal(size=(9, 4)).astype(np.float32))
    adam = optax.scale_by_adam(b1=B1, b2=B2)
    state, values, moments = ADAM.init(table), table, adam.init(table)
    for _ in range(30):
        rows, gradient = rng.permutation(9), rng.normal(size=(9, 4)).astype(np.float32)
        table, state, _ = one_step(table, state, rows, gradient)
        in_order = jnp.zeros((9, 4)).at[rows].set(gradient)
        move, moments = adam.update(in_order, moments)
        values = values - RATE * move
    np.testing.assert_allclose(table, values, atol=1e-6)
    np.testing.assert_allclose(state.first, moments.mu, atol=1e-6)
    np.testing.assert_allclose(state.second, moments.nu, atol=1e-6)
    np.testing.assert_array_equal(state.steps, 30)


def test_it_follows_a_loop_over_rows(rng):
    """Batches with the same row several times, and rows that are seldom met, each with its own bias correction."""
    start = rng.normal(size=(12, 3)).astype(np.float32)
    table = jnp.asarray(start)
    state = ADAM.init(table)
    value, first, second = start.astype(float), np.zeros((12, 3)), np.zeros((12, 3))
    times, moved = np.zeros(12, int), np.zeros(3)
    for _ in range(40):
        rows = rng.choice(11, 6, p=np.arange(1, 12) / 66)  # the last row is never met
        gradient = rng.normal(size=(6, 3)).astype(np.float32)
        table, state, change = one_step(table, state, rows, gradient)
        before = value.copy()
        for row in set(rows.tolist()):
            total = gradient[rows == row].astype(float).sum(0)
            times[row] += 1
            first[row] = B1 * first[row] + (1 - B1) * total
            second[row] = B2 * second[row] + (1 - B2) * total**2
            unbiased = first[row] / (1 - B1 ** times[row]), second[row] / (1 - B2 ** times[row])
            value[row] -= RATE * unbiased[0] / (np.sqrt(unbiased[1]) + 1e-8)
        np.testing.assert_allclose(change, (value - before).sum(0), atol=1e-5)
        moved += np.asarray(change)
    assert len(set(times.tolist())) > 4, "the rows are met unequally often"
    np.testing.assert_array_equal(state.steps, times)
    np.testing.assert_allclose(table, value, atol=1e-5)
    np.testing.assert_allclose(moved, (np.asarray(table) - start).sum(0), atol=1e-4)


def test_rows_outside_the_batch_stay_bit_identical(rng):
    table = jnp.asarray(rng.normal(size=(20, 5)), jnp.float32)
    state = ADAM.init(table)
    for _ in range(5):
        gradient = rng.normal(size=(8, 5)).astype(np.float32)
        table, state, _ = one_step(table, state, rng.permutation(20)[:8], gradient)
    before = jax.tree.map(np.asarray, (table, state))
    rows = np.array([3, 17, 3, 0])
    *after, _ = one_step(table, state, rows, rng.normal(size=(4, 5)).astype(np.float32))
    rest = np.setdiff1d(np.arange(20), rows)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        np.testing.assert_array_equal(np.asarray(new)[rest], old[rest])
        assert (np.asarray(new)[[0, 3, 17]] != old[[0, 3, 17]]).any()


def test_a_first_step_moves_by_the_rate(rng):
    """However late a row is met first: without a correction of its own it would hardly move."""
    table = jnp.zeros((4, 2))
    state = ADAM.init(table)
    for _ in range(50):
        table, state, _ = one_step(table, state, np.array([0]), np.ones((1, 2), np.float32))
    table, state, _ = one_step(table, state, np.array([2]), np.full((1, 2), -0.01, np.float32))
    np.testing.assert_allclose(table[2], RATE, rtol=1e-4)


def test_rows_are_gathered(rng):
    values = rng.normal(size=(6, 3)).astype(np.float32)
    rows = np.array([5, 0, 0, 3])
    np.testing.assert_array_equal(on_one_device(gather_rows)(jnp.asarray(values), rows), values[rows])


@pytest.mark.slow
def test_images_of_one_object_share_a_row(cars, tiny, tmp_path):
    """Cars whose photographs stand in the file two by two under one name, though they show different cars: each pair
    gets one code, and cameras stay one an image."""
    with h5py.File(cars / "truth.h5") as truth:
        columns = {name: truth[name][:] for name in ("image_size", "intrinsics", "cam_to_world", "window")}
        images = storage.strings(truth["image"])
    cameras = tmp_path / "cameras.h5"
    instance = [f"pair {place % 20}" for place in range(len(images))]
    with storage.Stage(cameras, "cameras/1", "cars").create() as file:
        storage.put(file, "image", images)
        storage.put(file, "status", ["ok"] * len(images))
        storage.put(file, "instance", instance)
        for name, values in columns.items():
            storage.put(file, name, values)
    files = TrainingFiles(cars, cameras, cars / "truth.h5", tmp_path / "model.h5")
    recipe = tiny.with_values(steps=40, camera_learning_rate=0.01)
    told = train(
        files, recipe, object_class="cars", refine_cameras=True, machine=Machine(cache=tmp_path / "pixels.h5")
    )
    assert (told["images"], told["rows"]) == (40, 20)
    model = load_model(files.output)
    assert model.images == images[:20]
    assert model.further_images == images[20:]
    np.testing.assert_array_equal(model.further_row, np.arange(20))
    assert model.latents.shape[0] == len(model.cam_to_world) == 20
    with storage.reading(files.refined_cameras, "cameras/1") as file:
        moved = np.abs(file["cam_to_world"][:] - columns["cam_to_world"]).max((1, 2))
        assert storage.strings(file["instance"]) == instance
    assert (moved > 1e-4).all()  # of every photograph, not only of those that stand for a row
    # Going on, all of them are known.
    base = load_base_model(files.output, recipe.size, renderings=8, seed=0)
    digests = dict(zip(images, [*model.digests, *model.further_digests], strict=True))
    assert base.known(images, digests) == [True] * 40


def test_rows_are_numbered_as_objects_first_appear():
    table = table_rows(["b", "a", "b", "c", "a"])
    assert table.of_image.tolist() == [0, 1, 0, 2, 1]
    assert table.first_image.tolist() == [0, 1, 3]
    assert table.additional_images.tolist() == [2, 4]
    assert (table.count, table.one_image_per_row) == (3, False)
    assert table_rows(["x", "y"]).one_image_per_row
