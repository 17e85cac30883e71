"""Where the pixels of training are kept: on the device, in host memory or on disk.

All three give bit-identical batches (see :mod:`nerfgen.data.batch`). From the device, the step gathers its own batch;
from elsewhere, a :class:`Reader` prepares it in a thread.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial

import h5py
import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Int

from nerfgen.data.batch import (
    Array,
    Batch,
    PixelTable,
    SamplingPlan,
    add_patches,
    gather_batch,
    sample_corners,
    sample_indices,
)
from nerfgen.data.framing import FramedImages, order_pixels
from nerfgen.data.pixel_cache import PixelCache
from nerfgen.optimize import free_device_memory, free_host_memory, host_device, place, place_parts

# Steps whose random numbers are drawn in one call, and batches that are ready ahead of the step.
_STEPS_PER_DRAW = 64
_AHEAD = 4
# Fraction of the free memory that the pixels may take; the step needs some too.
_MEMORY_FRACTION = 0.5

# Number of a part of a batch, and how many parts there are.
Part = tuple[int, int]


def device_pixels(cache: PixelCache) -> PixelTable:
    """All pixels in the memory of the device."""
    pixels, order = _read_all(cache)
    return _with_cameras(cache, jnp.asarray(pixels), jnp.asarray(order))


def framed_pixels(framed: FramedImages) -> PixelTable:
    """The pixels of images that were framed in memory, on the device."""
    ordered = order_pixels(framed.rgb, framed.mask, framed.valid)
    return PixelTable(
        pixels=jnp.asarray(ordered.pixels),
        order=jnp.asarray(ordered.order),
        inside=jnp.asarray(ordered.inside),
        valid=jnp.asarray(ordered.valid),
        intrinsics=jnp.asarray(framed.raster_intrinsics, jnp.float32),
        cam_to_world=jnp.asarray(framed.cam_to_world, jnp.float32),
    )


def pixel_bytes(images: int, size: int) -> int:
    """Memory of the pixels of ``images`` images of ``size`` x ``size`` pixels, on the device or the host."""
    return images * size**2 * (4 + _order_dtype(size).itemsize)


class Reader:
    """Batches that a thread samples and gathers some steps ahead; a context manager.

    Args:
        part: which part of a batch to gather, and the number of parts.

    Attributes:
        waited: seconds that the callers of :meth:`batch` have waited so far.
    """

    def __init__(self, table: PixelTable, plan: SamplingPlan, part: Part = (0, 1)) -> None:
        self.waited = 0.0
        self._table, self._plan, self._part = table, plan, part
        self._first_drawn = -1
        self._drawn: _Drawn | None = None
        # One thread: it alone uses what was drawn and the file.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="nerfgen-reader")
        self._ahead: deque[tuple[int, Future[Batch]]] = deque()

    def batch(self, step: int) -> Batch:
        """The batch of a step, or the part of it, as numpy arrays; prepared ahead where steps are requested in order.

        Raises:
            OSError: the pixels can't be read (errors of the thread are raised here).
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
        images, places, corners = self._sample(step)
        batch = gather_batch(self._table, images, places, self._plan.foreground_fraction)
        return add_patches(batch, self._table, corners, self._plan.patches)

    def _sample(self, step: int) -> _Drawn:
        """The random numbers of the step; those of many steps in one call, because each call of JAX costs."""
        first = step - step % _STEPS_PER_DRAW
        if self._drawn is None or self._first_drawn != first:
            # On the host, which needs them; the numbers are the same on every device.
            with jax.default_device(host_device()):
                self._drawn = jax.tree.map(np.asarray, _sample_many(self._plan, first))
            self._first_drawn = first
        index, parts = self._part

        def own(steps: np.ndarray) -> np.ndarray:
            length = steps.shape[1] // parts
            return steps[step - first, index * length : (index + 1) * length]

        drawn: _Drawn = jax.tree.map(own, self._drawn)
        return drawn


def host_reader(cache: PixelCache, plan: SamplingPlan, part: Part = (0, 1)) -> Reader:
    """A :class:`Reader` with all pixels in host memory."""
    return Reader(_with_cameras(cache, *_read_all(cache)), plan, part)


def disk_reader(cache: PixelCache, plan: SamplingPlan, part: Part = (0, 1)) -> Reader:
    """A :class:`Reader` that leaves the pixels in the file and holds those of one image at a time.

    Its memory depends neither on the number of images nor, but for that one image, on the resolution.
    """
    pixels, order = (_StoredRows(cache.file[name], cache.row) for name in ("pixels", "order"))
    return Reader(_with_cameras(cache, pixels, order), plan, part)


class BatchSource:
    """What the step is given: all pixels, if they are on the device, or a batch for each step; a context manager.

    Each of several hosts gathers the images of its own devices.

    Attributes:
        placement: ``device``, ``host`` or ``disk``.
        streamed: whether a step is given batches.
    """

    def __init__(self, cache: PixelCache, placement: str, plan: SamplingPlan, mesh: Mesh) -> None:
        self.placement, self.streamed, self._mesh = placement, placement != "device", mesh
        self._reader: Reader | None = None
        if self.streamed:
            part = jax.process_index(), jax.process_count()
            self._reader = (host_reader if placement == "host" else disk_reader)(cache, plan, part)
        else:
            self._pixels = place(device_pixels(cache), mesh, P())

    @property
    def waited(self) -> float:
        """Seconds that steps have waited for data."""
        return self._reader.waited if self._reader else 0.0

    def batch(self, step: int) -> PixelTable | Batch:
        """Input of a step, on the device."""
        if self._reader is None:
            return self._pixels
        batch: Batch = place_parts(self._reader.batch(step), self._mesh)
        return batch

    def close(self) -> None:
        """End the reading thread."""
        if self._reader:
            self._reader.close()

    def __enter__(self) -> BatchSource:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def choose_placement(requested: str, needed: int, devices: Sequence[jax.Device]) -> str:
    """Where the pixels are kept: ``device``, ``host`` or ``disk``.

    ``auto`` takes the first of them with twice the room: the device (each of several holds all pixels; they pass
    through the host's memory), then the host, then the disk.

    Args:
        requested: ``auto``, ``device``, ``host`` or ``disk``.
        needed: size of the pixels, bytes.
    """
    if requested != "auto":
        return requested
    host = _MEMORY_FRACTION * free_host_memory()
    if needed > host:
        return "disk"
    free = [free_device_memory(device) for device in devices]
    fits = needed * free.count(None) <= host and all(
        needed <= _MEMORY_FRACTION * room for room in free if room is not None
    )
    return "device" if fits else "host"


# Images, places and, where there are patches, their corners: of one step, or of many along a first axis.
_Drawn = tuple[Array, Array, Array | None]


@partial(jax.jit, static_argnums=0)
def _sample_many(plan: SamplingPlan, first: int) -> _Drawn:
    """:func:`sample_indices` and :func:`sample_corners` of the steps from ``first`` on."""

    def sample(step: Int[jax.Array, ""]) -> _Drawn:
        return *sample_indices(plan, step), sample_corners(plan, step)

    drawn: _Drawn = jax.vmap(sample)(first + jnp.arange(_STEPS_PER_DRAW))
    return drawn


class _StoredRows:
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


def _read_all(cache: PixelCache) -> tuple[np.ndarray, np.ndarray]:
    """Pixels and their order of all images, one image read at a time."""
    arrays = []
    for name, dtype in (("pixels", np.dtype(np.uint8)), ("order", _order_dtype(cache.size))):
        dataset = cache.file[name]
        values = np.empty((len(cache.row), *dataset.shape[1:]), dtype)
        for image, row in enumerate(cache.row):
            values[image] = dataset[row]
        arrays.append(values)
    return arrays[0], arrays[1]


def _order_dtype(size: int) -> np.dtype:
    """The smallest type that holds every place of a raster: half the bytes for all but large ones."""
    return np.dtype(np.uint16 if size <= 256 else np.int32)


def _with_cameras(cache: PixelCache, pixels: Array, order: Array) -> PixelTable:
    """The pixels with their cameras, where the pixels are: on the device or on the host."""
    as_array = jnp.asarray if isinstance(pixels, jax.Array) else np.asarray
    return PixelTable(
        pixels=pixels,
        order=order,
        inside=as_array(cache.inside),
        valid=as_array(cache.valid),
        intrinsics=as_array(cache.raster_intrinsics.astype(np.float32)),
        cam_to_world=as_array(cache.cam_to_world.astype(np.float32)),
    )
