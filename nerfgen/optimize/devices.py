"""The devices that JAX computes on, as a mesh of one axis."""

from __future__ import annotations

import contextlib
import functools
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import jax
import numpy as np
from jax.sharding import AbstractMesh, Mesh

from nerfgen.errors import InputError
from nerfgen.tpu import chip_of

AXIS = "device"

Result = TypeVar("Result")


def device_mesh(devices: int | None = None) -> Mesh:
    """The first ``devices`` of every host as a mesh of one axis; None takes all.

    Those of one host are neighbours, in the order of the hosts.

    Raises:
        InputError: JAX has fewer, or hosts have different numbers.
    """
    if devices is not None and devices > 1:
        # JAX splits a CPU into devices only if told so before their first use.
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", devices)
    found = jax.local_devices()
    if devices is not None and devices > len(found):
        raise InputError(
            f"`devices` is {devices}, but JAX has {len(found)} ({found[0].platform}); "
            "`nerfgen info --devices` lists them"
        )
    if jax.process_count() == 1:
        return Mesh(np.array(found[:devices]), (AXIS,))
    of_host: list[list[jax.Device]] = [[] for _ in range(jax.process_count())]
    for device in sorted(jax.devices(), key=lambda device: device.id):
        of_host[device.process_index].append(device)
    chosen = [own[:devices] for own in of_host]
    if len({len(own) for own in chosen}) > 1:
        numbers = ", ".join(str(len(own)) for own in chosen)
        raise InputError(f"the hosts have different numbers of devices: {numbers}; give `devices`")
    return Mesh(np.array(chosen).reshape(-1), (AXIS,))


def platform_problem() -> str:
    """What is wrong with the platforms that JAX was told to use, in one line; empty where nothing is.

    Where something is, this process uses the platforms that there are from then on.
    """
    wanted = os.environ.get("JAX_PLATFORMS", "")
    try:
        jax.local_devices()
        return ""
    except (AssertionError, RuntimeError):
        jax.config.update("jax_platforms", "")
    try:
        found = ", ".join(sorted({device.platform for device in jax.local_devices()}))
    except (AssertionError, RuntimeError):
        found = "no device"
    remedy = "; pip install 'nerfgen[cuda12]' adds NVIDIA GPUs" if "cuda" in wanted else ""
    return (
        f"JAX_PLATFORMS is {wanted!r}, but JAX finds only {found} here; unset or change JAX_PLATFORMS{remedy}"
    )


def platform(mesh: Mesh | AbstractMesh) -> str:
    """``cpu``, ``gpu`` or ``tpu``; empty for an abstract mesh, which has no devices."""
    return "" if isinstance(mesh, AbstractMesh) else str(mesh.devices.flat[0].platform)


def host_device() -> jax.Device:
    """The CPU, or JAX's first device where ``JAX_PLATFORMS`` leaves out the CPU."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:
        return jax.local_devices()[0]


# JAX's first release that has been measured to use the CPU's matrix units for bfloat16. 0.7.1 does not.
_BFLOAT16_JAX = (0, 10)


def cpu_multiplies_bfloat16() -> bool:
    """Whether products of bfloat16 matrices are faster than those of float32 on this machine's CPU.

    CPUs with matrix units (AMX) take half to a third of the time.
    """
    release = tuple(int(part) for part in jax.__version__.split(".")[:2])
    try:
        has_units = "amx_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return False
    return has_units and release >= _BFLOAT16_JAX


def free_device_memory(device: jax.Device) -> int | None:
    """Free bytes of a device's own memory; None for a device that uses the host's, or does not report it.

    A device that programs are only compiled for has all that its kind has, devices of other hosts what the first one
    here has.
    """
    if jax.process_count() > 1 and device.process_index != jax.process_index():
        device = jax.local_devices()[0]
    try:
        stats = None if device.platform == "cpu" else device.memory_stats()
    except jax.errors.JaxRuntimeError:
        chip = chip_of(device)
        return chip.memory if chip else None
    return stats["bytes_limit"] - stats["bytes_in_use"] if stats else None


def free_host_memory() -> int:
    """Bytes of the host's memory that new data may take without swapping.

    The whole memory where the free part is unknown, and 4 GiB where that is unknown too.
    """
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        known = hasattr(os, "sysconf")
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") if known else 4 << 30


def quickly_compiled(
    static_argnums: tuple[int, ...],
) -> Callable[[Callable[..., Result]], Callable[..., Result]]:
    """``jax.jit`` for programs that run for seconds only.

    On a CPU, some compiler passes take half of the compilation, longer than they save; they are left out there.
    """

    def decorate(function: Callable[..., Result]) -> Callable[..., Result]:
        @functools.cache
        def compiled() -> Callable[..., Result]:
            on_cpu = jax.default_backend() == "cpu"
            options = {"xla_llvm_disable_expensive_passes": True} if on_cpu else None
            return jax.jit(function, static_argnums=static_argnums, compiler_options=options)

        @functools.wraps(function)
        def call(*arguments: Any) -> Result:
            return compiled()(*arguments)

        return call

    return decorate
