"""Where the pixels of training are kept: on the device, in host memory or on disk.

All three give the same batches to the bit (see :mod:`nerfgen.train.batch`). From the device, the step gathers its own
batch; from elsewhere, a :class:`Reader` has it ready.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float, Int

from nerfgen.errors import InputError
from nerfgen.train.batch import Array, Batch, Pixels, draw, take
from nerfgen.train.cache import PixelCache
from nerfgen.train.data import Framed, packed_pixels
from nerfgen.train.preset import Preset
from nerfgen.train.table import AXIS

PLACEMENTS = ("auto", "device", "host", "disk")

# Steps whose numbers are drawn at a time, and batches that are ready ahead of the step.
_DRAWN_TOGETHER = 64
_AHEAD = 4
# Share of the free memory that the pixels may take; the step needs some too.
_SHARE = 0.5


def device_pixels(cache: PixelCache) -> Pixels:
    """All pixels in the memory of the device."""
    with h5py.File(cache.path, "r") as file:
        return _table(
            cache,
            jnp.asarray(_loaded(file["pixels"], cache.row, np.dtype(np.uint8))),
            jnp.asarray(_loaded(file["order"], cache.row, _order_kind(cache.size))),
        )


def framed_pixels(framed: Framed) -> Pixels:
    """The pixels of photographs that were framed in memory, on the device."""
    values, order, inside, valid = packed_pixels(framed.rgb, framed.mask, framed.valid)
    return Pixels(
        pixels=jnp.asarray(values),
        order=jnp.asarray(order),
        inside=jnp.asarray(inside),
        valid=jnp.asarray(valid),
        intrinsics=jnp.asarray(framed.raster_intrinsics, jnp.float32),
        cam_to_world=jnp.asarray(framed.cam_to_world, jnp.float32),
    )


def bytes_needed(cache: PixelCache) -> int:
    """Memory of :func:`device_pixels` or of a :class:`HostReader`, but for some bytes an image beside its pixels."""
    return pixel_bytes(len(cache.row), cache.size)


def pixel_bytes(images: int, size: int) -> int:
    """The same for so many images of ``size`` x ``size`` pixels that need not be there yet."""
    return images * size**2 * (4 + _order_kind(size).itemsize)


class Reader:
    """Batches that a thread draws and gathers some steps ahead; a context manager.

    Attributes:
        waited: seconds that the callers of :meth:`batch` have waited so far.
    """

    def __init__(
        self,
        table: Pixels,
        *,
        seed: int,
        images_per_batch: int,
        rays_per_image: int,
        foreground_share: float,
        num_pictures: int = 0,
    ) -> None:
        self.waited = 0.0
        self._table, self._share = table, foreground_share
        self._drawing = (seed, len(table.valid), images_per_batch, rays_per_image, num_pictures)
        self._first_drawn = -1
        self._drawn: tuple[np.ndarray, np.ndarray] | None = None
        # One thread: it alone touches what is drawn and the file.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nerfgen-reader")
        self._ahead: deque[tuple[int, Future[Batch]]] = deque()

    def batch(self, step: int) -> Batch:
        """The batch of a step, as numpy arrays; made ahead where steps are asked for in order.

        Raises:
            OSError: the pixels can't be read (what goes wrong in the thread is raised here).
        """
        began = time.perf_counter()
        if not self._ahead or self._ahead[0][0] != step:
            self._drop()
            self._ahead.append((step, self._thread.submit(self._make, step)))
        while len(self._ahead) <= _AHEAD:
            following = self._ahead[-1][0] + 1
            self._ahead.append((following, self._thread.submit(self._make, following)))
        found = self._ahead.popleft()[1].result()
        self.waited += time.perf_counter() - began
        return found

    def close(self) -> None:
        """End the thread."""
        self._drop()
        self._thread.shutdown(wait=True, cancel_futures=True)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _drop(self) -> None:
        while self._ahead:
            self._ahead.popleft()[1].cancel()

    def _make(self, step: int) -> Batch:
        images, places = self._numbers(step)
        return take(self._table, images, places, self._share)

    def _numbers(self, step: int) -> tuple[np.ndarray, np.ndarray]:
        """What :func:`draw` gives for the step; drawn for many steps at once, because each call to JAX costs."""
        first = step - step % _DRAWN_TOGETHER
        if self._drawn is None or self._first_drawn != first:
            with jax.default_device(_host_device()):
                images, places = _draw_block(first, *self._drawing)
            self._first_drawn, self._drawn = first, (np.asarray(images), np.asarray(places))
        return self._drawn[0][step - first], self._drawn[1][step - first]


class HostReader(Reader):
    """A :class:`Reader` with all pixels in host memory. Keywords are those of :class:`Reader`."""

    def __init__(self, cache: PixelCache, **drawing: Any) -> None:
        with h5py.File(cache.path, "r") as file:
            pixels = _loaded(file["pixels"], cache.row, np.dtype(np.uint8))
            order = _loaded(file["order"], cache.row, _order_kind(cache.size))
        super().__init__(_table(cache, pixels, order), **drawing)


class DiskReader(Reader):
    """A :class:`Reader` that leaves the pixels in the file and holds those of one image at a time.

    Its memory depends neither on the number of images nor, but for that one image, on the resolution.
    Keywords are those of :class:`Reader`.
    """

    def __init__(self, cache: PixelCache, **drawing: Any) -> None:
        self._file = h5py.File(cache.path, "r")
        pixels, order = (_Stored(self._file[name], cache.row) for name in ("pixels", "order"))
        super().__init__(_table(cache, pixels, order), **drawing)

    def close(self) -> None:
        """End the thread and close the file."""
        super().close()
        self._file.close()


class Data:
    """What the step is given: all pixels, if they are on the device, or a batch a step."""

    def __init__(
        self,
        cache: PixelCache,
        placement: str,
        preset: Preset,
        seed: int,
        mesh: Mesh,
        *,
        num_pictures: int = 0,
    ) -> None:
        self.placement, self.streamed = placement, placement != "device"
        self.waited_before = 0.0
        self._reader: Reader | None = None
        if self.streamed:
            make = HostReader if placement == "host" else DiskReader
            self._reader = make(
                cache,
                seed=seed,
                images_per_batch=preset.images_per_batch,
                rays_per_image=preset.rays_per_image,
                foreground_share=preset.foreground_share,
                num_pictures=num_pictures,
            )
            self._sharding = NamedSharding(mesh, P(AXIS))
        else:
            self._pixels = jax.device_put(device_pixels(cache), NamedSharding(mesh, P()))

    @property
    def waited(self) -> float:
        """Seconds that steps have waited for data."""
        return self._reader.waited if self._reader else 0.0

    def batch(self, step: int) -> Pixels | Batch:
        """For a step, on the device."""
        if self._reader is None:
            return self._pixels
        return jax.device_put(self._reader.batch(step), self._sharding)

    def close(self) -> None:
        """End the reading thread."""
        if self._reader:
            self._reader.close()


def choose_placement(requested: str, needed: int, devices: Sequence[jax.Device]) -> str:
    """Where the pixels stay: ``device``, ``host`` or ``disk``.

    ``auto`` takes the first of them with twice the room: the device (each of several holds all; what goes there
    passes through the host's memory), then the host, then the disk.

    Args:
        requested: one of ``PLACEMENTS``.
        needed: size of the pixels, bytes.

    Raises:
        InputError: there is no such placement.
    """
    if requested not in PLACEMENTS:
        raise InputError(f"pixels are kept on {', '.join(PLACEMENTS)}, not {requested!r}")
    if requested != "auto":
        return requested
    host = _SHARE * free_memory()
    if needed > host:
        return "disk"
    in_host = sum(_free_on(device) is None for device in devices)
    fits = needed * in_host <= host and all(
        needed <= _SHARE * free for device in devices if (free := _free_on(device)) is not None
    )
    return "device" if fits else "host"


def free_memory() -> int:
    """Bytes of the host's memory that new data may take without swapping.

    All of the memory where that isn't known, and 4 GiB where that isn't either.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        known = hasattr(os, "sysconf")
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 4 << 30


def _free_on(device: jax.Device) -> int | None:
    """Bytes that are free on a device; None for one whose memory is the host's."""
    stats = None if device.platform == "cpu" else device.memory_stats()
    return stats["bytes_limit"] - stats["bytes_in_use"] if stats else None


@partial(jax.jit, static_argnums=(1, 2, 3, 4, 5))
def _draw_block(
    first: int, seed: int, num_images: int, images_per_batch: int, rays_per_image: int, num_pictures: int
) -> tuple[Int[jax.Array, "steps images"], Float[jax.Array, "steps images rays"]]:
    """What :func:`draw` gives for the steps from ``first`` on."""
    steps = first + jnp.arange(_DRAWN_TOGETHER)
    return jax.vmap(
        lambda step: draw(seed, step, num_images, images_per_batch, rays_per_image, num_pictures)
    )(steps)


class _Stored:
    """Some rows of a dataset, indexed as an array is by (images, places), one image read at a time."""

    def __init__(self, dataset: h5py.Dataset, rows: Int[np.ndarray, "images"]) -> None:
        self._dataset, self._rows = dataset, rows
        self.shape = (len(rows), *dataset.shape[1:])

    def __getitem__(
        self, at: tuple[Int[np.ndarray, "images 1"], Int[np.ndarray, "images rays"]]
    ) -> np.ndarray:
        images, places = at
        rows = self._rows[images[:, 0]]
        return np.stack([self._dataset[row][own] for row, own in zip(rows, places, strict=True)])


def _loaded(dataset: h5py.Dataset, rows: Int[np.ndarray, "images"], kind: np.dtype) -> np.ndarray:
    values = np.empty((len(rows), *dataset.shape[1:]), kind)
    for place, row in enumerate(rows):
        values[place] = dataset[row]
    return values


def _order_kind(size: int) -> np.dtype:
    """The smallest type that holds every place of a raster: half the bytes for all but large ones."""
    return np.dtype(np.uint16 if size <= 256 else np.int32)


def _table(cache: PixelCache, pixels: Array, order: Array) -> Pixels:
    """The pixels with their cameras, where the pixels are: on the device or on the host."""
    place = jnp.asarray if isinstance(pixels, jax.Array) else np.asarray
    return Pixels(
        pixels=pixels,
        order=order,
        inside=place(cache.inside),
        valid=place(cache.valid),
        intrinsics=place(cache.raster_intrinsics.astype(np.float32)),
        cam_to_world=place(cache.cam_to_world.astype(np.float32)),
    )


def _host_device() -> jax.Device:
    """The CPU, or whatever there is where JAX was started without it: the numbers are the same."""
    try:
        return jax.devices("cpu")[0]
    except RuntimeError:
        return jax.devices()[0]
