"""How a run is computed: devices, precision, memory. What it computes is the preset's."""

from __future__ import annotations

import contextlib
import ctypes
import os
from dataclasses import dataclass
from pathlib import Path

import jax
import numpy as np
from jax.sharding import Mesh

from nerfgen.errors import InputError
from nerfgen.field.precision import PRECISIONS
from nerfgen.train.preset import Preset
from nerfgen.train.source import PLACEMENTS
from nerfgen.train.table import AXIS

# Points that a coordinate network is best asked for at a time on a CPU: their activations stay in its caches.
_POINTS_IN_CACHE = 4096

# Of glibc's malloc.h.
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4


@dataclass(frozen=True)
class Execution:
    """Choices that change speed and memory, and results only by rounding.

    Attributes:
        devices: how many of JAX's devices; 0 for all. On a CPU more than one splits its cores.
        precision: of the factors of matrix products: ``float32``, ``bfloat16``, or ``auto``, which is bfloat16 on
            GPUs and TPUs.
        micro_batch: images per device whose gradients are computed at a time, and then added up; 0 takes all on
            a GPU or TPU, and on a CPU what its caches hold.
        rematerialise: compute the network's layers once more for the gradient in place of keeping them.
        placement: where the pixels are kept: ``device``, ``host``, ``disk``, or ``auto``, the first that has room.
        cache: file of the framed pixels; None for ``pixels.h5`` beside the photographs.
    """

    devices: int = 0
    precision: str = "auto"
    micro_batch: int = 0
    rematerialise: bool = False
    placement: str = "auto"
    cache: Path | None = None

    def __post_init__(self) -> None:
        for name, value, choices in (
            ("precision", self.precision, ("auto", *PRECISIONS)),
            ("data", self.placement, PLACEMENTS),
        ):
            if value not in choices:
                raise InputError(f"{name} is one of {', '.join(choices)}, not {value!r}")

    def mesh(self) -> Mesh:
        """The devices as a mesh of one axis.

        Raises:
            InputError: there are fewer.
        """
        if self.devices > 1:
            # A CPU is one device until told otherwise, which it can be only before its first use.
            with contextlib.suppress(RuntimeError):
                jax.config.update("jax_num_cpu_devices", self.devices)
        found = jax.local_devices()
        if self.devices > len(found):
            raise InputError(
                f"{self.devices} devices were asked for, but JAX sees {len(found)} ({found[0].platform}); "
                "`nerfgen info --devices` lists them"
            )
        return Mesh(np.array(found[: self.devices or len(found)]), (AXIS,))

    def effective_precision(self, mesh: Mesh) -> str:
        """``float32`` or ``bfloat16``."""
        if self.precision != "auto":
            return self.precision
        return "float32" if platform(mesh) == "cpu" else "bfloat16"

    def images_at_a_time(self, preset: Preset, mesh: Mesh) -> int:
        """Images per device in one pass of the step: a divisor of those that the device has.

        Raises:
            InputError: the batch can't be divided so.
        """
        if preset.images_per_batch % mesh.size:
            raise InputError(
                f"images_per_batch {preset.images_per_batch} can't be divided among {mesh.size} devices; "
                "choose a multiple or give --devices"
            )
        own = preset.images_per_batch // mesh.size
        if self.micro_batch:
            if own % self.micro_batch:
                raise InputError(
                    f"micro batches of {self.micro_batch} images don't divide the {own} images of a device"
                )
            return self.micro_batch
        if platform(mesh) != "cpu" or preset.field != "mlp":
            return own
        most = max(1, _POINTS_IN_CACHE // (preset.rays_per_image * preset.samples))
        return max(count for count in range(1, own + 1) if own % count == 0 and count <= most)


def keep_freed_memory() -> bool:
    """Have this process keep large blocks that it frees, and hand them out again; whether the C library can.

    On a CPU a step takes tens of megabytes and frees them. glibc returns them to the system each time, and the next
    step waits while the same pages are cleared anew.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    if mallopt is None:
        return False
    return bool(mallopt(_M_MMAP_MAX, 0) and mallopt(_M_TRIM_THRESHOLD, 2**31 - 1))


def platform(mesh: Mesh) -> str:
    """``cpu``, ``gpu`` or ``tpu``."""
    return str(mesh.devices.flat[0].platform)
