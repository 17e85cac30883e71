"""The data of training: the pixel cache, what is drawn from it, and the places where it can be kept."""

from __future__ import annotations

import shutil
import threading
import tracemalloc
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import h5py
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from nerfgen import storage
from nerfgen.data import (
    PatchPlan,
    PixelTable,
    SamplingPlan,
    add_patches,
    choose_placement,
    gather_batch,
    load_framed,
    open_pixel_cache,
    pixel_bytes,
    sample_corners,
    sample_indices,
)
from nerfgen.data import readers as readers_module
from nerfgen.data.framing import order_pixels
from nerfgen.data.readers import Reader, device_pixels, disk_reader, host_reader
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.image import digest_images
from nerfgen.parallel import core_count, map_threads

SIZE = 24
PLAN = SamplingPlan(5, 40, images_per_batch=6, rays_per_image=16, foreground_fraction=0.5)


def cached(path, data, cameras=None, masks=None, size=SIZE, **options):
    """The cache of a folder, with its provenance taken as ``nerfgen train`` takes it."""
    cameras = cameras or data / "truth.h5"
    with storage.reading(cameras, "cameras/1", "truth/1") as file:
        images = storage.strings(file["image"])
    inputs = [storage.file_record(file) for file in (cameras, masks) if file]
    inputs.append(storage.folder_record(images, digest_images(data, images)))
    return open_pixel_cache(
        data, cameras, masks, size, object_class="cars", inputs=inputs, path=path, **options
    )


@pytest.fixture(scope="module")
def cache(cars, tmp_path_factory):
    return cached(tmp_path_factory.mktemp("cache") / "pixels.h5", cars, masks=cars / "truth.h5")


@pytest.fixture
def folder(cars, tmp_path):
    """A copy of the cars that a test may change."""
    return shutil.copytree(cars, tmp_path / "cars")


@pytest.fixture
def mixed(folder):
    """Cameras and masks of which some images are unusable, each for another reason; the photographs beside them."""
    with storage.reading(folder / "truth.h5", "truth/1") as file:
        names, values = storage.strings(file["image"]), {name: file[name][:] for name in file}
    (folder / names[4]).write_bytes(b"no picture")
    values["window"][6] = (1000.0, 1000.0, 10.0)
    status = ["ok"] * len(names)
    status[1], status[2], status[3] = "ok_largest", "not_converged", "no_object"
    cameras, masks = folder / "cameras.h5", folder / "masks.h5"
    with storage.Stage(cameras, "cameras/1", "cars").create() as file:
        storage.put(file, "image", names)
        storage.put(file, "status", status)
        for name in ("image_size", "intrinsics", "cam_to_world", "window"):
            storage.put(file, name, values[name])
    rows = [row for row in np.random.default_rng(0).permutation(len(names)) if row != 5]
    with storage.Stage(masks, "masks/1", "cars").create() as file:
        storage.put(file, "image", [names[row] for row in rows])
        storage.put(file, "status", ["no_mask" if row in (3, 7) else "ok" for row in rows])
        for name in ("image_size", "mask_window", "mask"):
            storage.put(file, name, values[name][rows])
    return SimpleNamespace(data=folder, cameras=cameras, masks=masks, names=names)


def assert_same_pixels(cache, framed):
    for name in ("images", "skipped", "image_size", "intrinsics", "cam_to_world", "window", "canonical"):
        np.testing.assert_equal(getattr(cache, name), getattr(framed, name), err_msg=name)
    np.testing.assert_array_equal(cache.raster_intrinsics, framed.raster_intrinsics)
    expected = np.concatenate([framed.rgb, framed.mask[..., None]], -1)
    np.testing.assert_array_equal(np.stack(list(cache.rasters(np.arange(len(cache.images))))), expected)
    ordered = order_pixels(framed.rgb, framed.mask, framed.valid)
    np.testing.assert_array_equal(cache.inside, ordered.inside)
    np.testing.assert_array_equal(cache.valid, ordered.valid)
    np.testing.assert_array_equal(cache.file["order"][:][cache.row], ordered.order)


@pytest.mark.parametrize("with_masks", [True, False])
def test_the_cache_holds_the_framed_photographs(cars, cache, tmp_path, with_masks):
    masks = cars / "truth.h5" if with_masks else None
    if not with_masks:
        cache = cached(tmp_path / "pixels.h5", cars)
    assert_same_pixels(cache, load_framed(cars, cars / "truth.h5", masks, SIZE))
    assert pixel_bytes(40, SIZE) == 40 * SIZE * SIZE * 6


def test_one_image_is_one_uncompressed_chunk(cache):
    with storage.reading(Path(cache.file.filename), "pixels/1") as file:
        for name in ("pixels", "order"):
            assert file[name].chunks == (1, *file[name].shape[1:])
            assert file[name].compression is None


def test_every_image_has_its_status(mixed, tmp_path):
    told = []
    cache = cached(
        tmp_path / "pixels.h5",
        mixed.data,
        mixed.cameras,
        mixed.masks,
        progress=lambda done, total: told.append((done, total)),
    )
    assert cache.skipped == {
        "not_converged": 1,
        "no_object": 1,
        "unreadable": 1,
        "no_mask": 2,
        "too_small": 1,
    }
    assert cache.images == [name for row, name in enumerate(mixed.names) if row not in range(2, 8)]
    assert_same_pixels(cache, load_framed(mixed.data, mixed.cameras, mixed.masks, SIZE))
    assert told[0] == (1, 36)
    assert told[-1] == (36, 36)
    with storage.reading(Path(cache.file.filename), "pixels/1") as file:
        assert storage.strings(file["image"]) == mixed.names, "unusable images keep their row"
        status = storage.strings(file["status"])
        assert status[:8] == [
            "ok",
            "ok",
            "not_converged",
            "no_object",
            "unreadable",
            "no_mask",
            "too_small",
            "no_mask",
        ]
        assert not file["valid"][2:8].any()
        assert (file["valid"][8:] > 0).all()


def test_a_current_cache_is_kept(cars, tmp_path):
    path = tmp_path / "pixels.h5"
    first = cached(path, cars, masks=cars / "truth.h5")
    before = path.stat()
    again = cached(path, cars, masks=cars / "truth.h5", progress=lambda *_: pytest.fail("decoded again"))
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == (before.st_mtime_ns, before.st_ino)
    np.testing.assert_equal({**vars(again), "file": 0}, {**vars(first), "file": 0})


def test_a_stale_cache_is_made_anew(mixed, tmp_path):
    path = tmp_path / "pixels.h5"
    made = partial(cached, path, mixed.data, mixed.cameras, mixed.masks)
    first, before = made(), path.read_bytes()
    shutil.copy(mixed.data / mixed.names[10], mixed.data / mixed.names[11])
    changed = made()
    assert_same_pixels(changed, load_framed(mixed.data, mixed.cameras, mixed.masks, SIZE))
    assert path.read_bytes() != before
    with storage.reading(mixed.masks, "masks/1") as file:
        values = {name: file[name][()] for name in file}
    with storage.Stage(mixed.masks, "masks/1", "cars").create() as file:
        for name, value in values.items():
            storage.put(file, name, value if name != "mask" else value // 2)
    assert_same_pixels(made(), load_framed(mixed.data, mixed.cameras, mixed.masks, SIZE))
    assert_same_pixels(made(size=12), load_framed(mixed.data, mixed.cameras, mixed.masks, 12))
    assert first.size == SIZE
    assert_same_pixels(
        cached(path, mixed.data, mixed.cameras), load_framed(mixed.data, mixed.cameras, None, SIZE)
    )


def test_the_same_file_as_cameras_with_and_without_masks_is_not_the_same_cache(cars, tmp_path):
    path = tmp_path / "pixels.h5"
    assert (cached(path, cars, masks=cars / "truth.h5").inside < SIZE * SIZE).all()
    assert (cached(path, cars).inside == SIZE * SIZE).all()


def test_a_damaged_cache_is_made_anew(cars, tmp_path):
    path = tmp_path / "pixels.h5"
    with h5py.File(path, "w") as file:
        file.attrs["nerfgen_schema"] = "pixels/1"
    assert_same_pixels(cached(path, cars), load_framed(cars, cars / "truth.h5", None, SIZE))


@pytest.mark.parametrize("kind", ["another schema", "a picture", "another HDF5 file"])
def test_a_foreign_file_is_never_replaced(cars, tmp_path, kind):
    path = tmp_path / "pixels.h5"
    if kind == "another schema":
        shutil.copy(cars / "truth.h5", path)
    elif kind == "a picture":
        Image.new("RGB", (4, 4)).save(path, "png")
    else:
        h5py.File(path, "w").close()
    before = path.read_bytes()
    with pytest.raises(OutputExistsError, match=r"pixels\.h5.*`cache`"):
        cached(path, cars)
    assert path.read_bytes() == before


def test_an_interrupted_cache_leaves_nothing(cars, tmp_path):
    def interrupt(done, total):
        if done == 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "pixels.h5", cars, progress=interrupt)
    assert list(tmp_path.iterdir()) == []


def test_threads_keep_the_order_and_run_only_a_little_ahead():
    begun = []
    results = map_threads(lambda item: begun.append(item) or -item, range(1000))
    assert [next(results) for _ in range(10)] == [-item for item in range(10)]
    assert len(begun) <= 10 + 4 * core_count()
    results.close()
    assert list(map_threads(abs, [])) == []


def test_no_usable_photograph_is_an_error_that_leaves_nothing(folder, tmp_path):
    for file in folder.glob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(InputError, match=r"no image.*usable \(unreadable: 40\)"):
        cached(tmp_path / "pixels.h5", folder)
    assert not (tmp_path / "pixels.h5").exists()


def test_draws_depend_on_seed_and_step_only():
    def sampled(seed, step):
        plan = SamplingPlan(seed, 1000, images_per_batch=64, rays_per_image=32, foreground_fraction=0.5)
        return jax.jit(sample_indices, static_argnums=0)(plan, step)

    plan = SamplingPlan(3, 1000, images_per_batch=64, rays_per_image=32, foreground_fraction=0.5)
    images, places = map(np.asarray, sample_indices(plan, 7))
    assert (images.dtype, places.dtype) == (np.int32, np.float32)
    assert 0 <= images.min() < 200
    assert 800 < images.max() < 1000
    assert 0 <= places.min() < 0.01
    assert 0.99 < places.max() < 1
    for found, expected in zip(sampled(3, 7), (images, places), strict=True):
        np.testing.assert_array_equal(found, expected)
    for seed, step in ((4, 7), (3, 8)):
        others = map(np.asarray, sampled(seed, step))
        assert all((other != own).mean() > 0.9 for other, own in zip(others, (images, places), strict=True))


def assert_same_batch(found, expected):
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for (name, got), wanted in zip(jax.tree.leaves_with_path(found), jax.tree.leaves(expected), strict=True):
        assert got.dtype == wanted.dtype, name
        np.testing.assert_array_equal(got, wanted, err_msg=name)


@pytest.mark.parametrize("patches", [None, PatchPlan(every=2, side=16, size=SIZE)])
def test_device_host_and_disk_give_the_same_batches(mixed, tmp_path, patches):
    """Rows of the file that are not those of the table, and steps beyond those drawn together."""
    cache = cached(tmp_path / "pixels.h5", mixed.data, mixed.cameras, mixed.masks)
    table, plan = device_pixels(cache), replace(PLAN, num_images=len(cache.images), patches=patches)

    @jax.jit
    def on_device(table, step):
        batch = gather_batch(table, *sample_indices(plan, step), 0.5)
        return add_patches(batch, table, sample_corners(plan, step), patches)

    with host_reader(cache, plan) as host, disk_reader(cache, plan) as disk:
        for step in (61, 62, 63, 64, 65, 66, 3, 3, 4):
            expected = on_device(table, step)
            for reader in (host, disk):
                found = reader.batch(step)
                assert all(type(value) is np.ndarray for value in jax.tree.leaves(found))
                assert_same_batch(found, expected)
        assert host.waited > 0
    assert expected.images.shape == (6,)
    assert expected.rgb_mask.shape == (6, 16, 4)
    assert patches is None or expected.patches.rgb_mask.shape == (3, 16, 16, 4)


def test_a_batch_is_what_the_rasters_show(cars, cache):
    framed = load_framed(cars, cars / "truth.h5", cars / "truth.h5", SIZE)
    with disk_reader(cache, PLAN) as reader:
        batch = reader.batch(0)
    columns, rows = np.moveaxis(batch.centers - 0.5, -1, 0).astype(int)
    images = batch.images[:, None]
    np.testing.assert_array_equal(batch.rgb_mask[..., :3], framed.rgb[images, rows, columns])
    np.testing.assert_array_equal(batch.rgb_mask[..., 3], framed.mask[images, rows, columns])
    np.testing.assert_array_equal(batch.intrinsics, framed.raster_intrinsics[batch.images].astype(np.float32))
    np.testing.assert_array_equal(batch.cam_to_world, framed.cam_to_world[batch.images].astype(np.float32))


@pytest.mark.parametrize("xp", [np, jnp])
def test_taken_pixels_lie_on_the_photograph_and_their_share_on_the_object(xp):
    mask = np.zeros((4, 20, 20), np.uint8)
    mask[0, 5:12, 6:9], mask[1, 0:3, 0:3], mask[2] = 255, 255, 255
    valid = np.ones((4, 20, 20), bool)
    valid[2, :, 12:] = False
    rgb = np.repeat(mask[..., None], 3, -1)
    values, order, inside, there = order_pixels(rgb, mask, valid)
    camera = np.tile(np.eye(4, dtype=np.float32), (4, 1, 1))
    table = PixelTable(*map(xp.asarray, (values, order, inside, there, camera[:, :3, :3], camera)))
    images = xp.asarray(np.array([0, 1, 2, 3, 0], np.int32))
    places = xp.asarray(np.random.default_rng(0).random((5, 2000), np.float32))
    batch = (gather_batch if xp is np else jax.jit(gather_batch, static_argnums=3))(
        table, images, places, 0.25
    )
    assert batch.centers.dtype == np.float32
    columns, rows = np.moveaxis(np.asarray(batch.centers) - 0.5, -1, 0).astype(int)
    grown = [set(order[k, : inside[k]].tolist()) for k in range(4)]
    for place, image in enumerate(images.tolist()):
        assert valid[image, rows[place], columns[place]].all()
        np.testing.assert_array_equal(batch.rgb_mask[place, :, 3], mask[image, rows[place], columns[place]])
        flat = rows[place] * 20 + columns[place]
        if inside[image]:
            assert set(flat[:500].tolist()) <= grown[image]
        # The rest is anywhere: in a large enough draw every pixel of the photograph is met about equally often.
        rest = np.bincount(flat[500:], minlength=400)[valid[image].ravel()]
        assert (rest > 0).mean() > 0.9
        assert rest.max() < 8 * rest.mean()


def test_places_near_one_stay_within_the_pixels(cache):
    with host_reader(cache, PLAN) as reader:
        table = reader._table
    last = np.full((2, 3), np.nextafter(np.float32(1), np.float32(0)))
    small = replace(table, valid=np.full_like(table.valid, 3), inside=np.zeros_like(table.inside))
    batch = gather_batch(small, np.array([0, 1], np.int32), last, 0.0)
    flat = (batch.centers[..., 1] - 0.5) * SIZE + batch.centers[..., 0] - 0.5
    np.testing.assert_array_equal(flat, np.repeat(table.order[:2, 2:3], 3, 1))


def reader_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("nerfgen-reader")]


@pytest.mark.parametrize("kind", [host_reader, disk_reader])
def test_close_ends_the_thread(cache, kind):
    reader = kind(cache, PLAN)
    reader.batch(0)
    assert len(reader_threads()) == 1
    reader.close()
    reader.close()
    assert not reader_threads()


def test_what_fails_in_the_thread_is_raised_at_the_step(cache):
    class Failing:
        shape = (40, SIZE * SIZE, 4)

        def __getitem__(self, at):
            raise OSError("disk on fire")

    with host_reader(cache, PLAN) as whole:
        table = replace(whole._table, pixels=Failing())
    with Reader(table, PLAN) as reader, pytest.raises(OSError, match="on fire"):
        reader.batch(0)
    assert not reader_threads()


def test_batches_are_ready_ahead_of_the_step(cache, monkeypatch):
    made = threading.Semaphore(0)
    original = Reader._make

    def counted(self, step):
        try:
            return original(self, step)
        finally:
            made.release()

    monkeypatch.setattr(Reader, "_make", counted)
    with host_reader(cache, PLAN) as reader:
        reader.batch(10)
        for _ in range(5):
            assert made.acquire(timeout=30), "one asked for and four ahead"
        assert not made.acquire(timeout=0.1), "and no more"


def test_the_disk_reader_holds_one_image_at_a_time(cars, tmp_path):
    cache = cached(tmp_path / "pixels.h5", cars, size=96)
    reader = disk_reader(cache, PLAN)
    with reader:
        reader.batch(0)
        tracemalloc.start()
        for step in range(1, 12):
            reader.batch(step)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 4 * 96 * 96 * 8 < pixel_bytes(40, 96) / 6


def device(platform="gpu", **stats):
    return SimpleNamespace(platform=platform, memory_stats=lambda: stats or None)


CPU, GPU = device("cpu"), device(bytes_limit=100, bytes_in_use=20)


@pytest.mark.parametrize(
    ("requested", "needed", "devices", "expected"),
    [
        ("device", 10**12, [CPU], "device"),
        ("host", 1, [GPU], "host"),
        ("disk", 1, [CPU], "disk"),
        ("auto", 40, [GPU], "device"),
        ("auto", 41, [GPU], "host"),
        ("auto", 500, [GPU], "host"),
        ("auto", 501, [GPU], "disk"),
        ("auto", 40, [GPU, device(bytes_limit=100, bytes_in_use=30)], "host"),
        ("auto", 500, [CPU], "device"),
        ("auto", 250, [CPU, CPU], "device"),
        ("auto", 251, [CPU, CPU], "host"),
        ("auto", 501, [CPU], "disk"),
        ("auto", 501, [device(bytes_limit=10**6, bytes_in_use=0)], "disk"),
        ("auto", 500, [device()], "device"),
    ],
)
def test_pixels_stay_where_there_is_twice_the_room(monkeypatch, requested, needed, devices, expected):
    monkeypatch.setattr(readers_module, "free_host_memory", lambda: 1000)
    assert choose_placement(requested, needed, devices) == expected


def test_placement_on_this_machine():
    assert readers_module.free_host_memory() > 1 << 20
    assert choose_placement("auto", 1000, jax.devices("cpu")) == "device"
    assert choose_placement("auto", 1 << 60, jax.devices("cpu")) == "disk"


def test_a_cache_is_named_by_its_content_and_survives_its_removal(folder):
    truth = folder / "truth.h5"
    first = cached(None, folder, masks=truth)
    (path,) = folder.glob("pixels-*.h5")
    before = list(first.rasters(np.arange(3)))
    second = cached(None, folder, masks=truth, size=SIZE + 1)
    (other,) = folder.glob("pixels-*.h5")
    assert other != path, "the former one is gone, though a run still reads it"
    np.testing.assert_array_equal(list(first.rasters(np.arange(3))), before)
    with disk_reader(first, PLAN) as reader, host_reader(cached(None, folder, masks=truth), PLAN) as again:
        assert_same_batch(reader.batch(0), again.batch(0))
    second.close()
