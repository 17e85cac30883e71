"""Programs compiled by the TPU's compiler on a machine without one, and what they would need and cost there."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib.util
import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jaxlib
import numpy as np
from jax.sharding import Mesh

from nerfgen.compilation_cache import user_cache
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.tpu.chips import CHIPS, Chip, chip_of
from nerfgen.tpu.costs import Cost, program_costs
from nerfgen.tpu.program import Program

# What libtpu would otherwise ask Google Cloud's servers for, and complain about on stderr. Programs are compiled for
# any topology whatever the type says.
_ENVIRONMENT = {
    "TPU_SKIP_MDS_QUERY": "1",
    "TPU_ACCELERATOR_TYPE": "v5litepod-4",
    "TPU_WORKER_HOSTNAMES": "localhost",
    "TPU_LOG_DIR": "disabled",
    "TPU_MIN_LOG_LEVEL": "3",
    "TPU_STDERR_LOG_LEVEL": "3",
    "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
}
# What a program would need, in the compiler's words where that is too much.
_USED = re.compile(r"(?:Used |HLO temporaries \()([\d.]+)([KMGT]?)(?: of|\))")
# Raise when equal programs are counted otherwise.
_VERSION = 1
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class Needs:
    """What a program needs of each device.

    Attributes:
        arguments, temporaries: bytes of its arguments, which its results replace, and of what it computes meanwhile;
            None where the compiler gave up because the memory is too small.
        total: bytes in all.
        parts: costs of one run by part, see :func:`program_costs`; empty where the compiler gave up.
    """

    arguments: int | None
    temporaries: int | None
    total: int
    parts: dict[str, Cost] = dataclasses.field(default_factory=dict)

    @property
    def cost(self) -> Cost:
        """The cost of one run."""
        return sum(self.parts.values(), Cost())


def topology_mesh(topology: str, axis: str) -> Mesh:
    """The devices of a topology, which programs can be compiled for, as a mesh of one axis.

    Args:
        topology: generation and chips along each axis, such as ``v5e:2x2``. Chips of two cores are one device each, as
            on Google Cloud's machines.

    Raises:
        InputError: there is no such topology.
        MissingDependencyError: libtpu, which holds the compiler, is not installed.
    """
    from jax.experimental import topologies

    generation, _, shape = topology.partition(":")
    chip = next((chip for chip in CHIPS if chip.generation == generation), None)
    if chip is None or not re.fullmatch(r"[1-9]\d*(x[1-9]\d*){1,2}", shape):
        known = ", ".join(chip.generation for chip in CHIPS)
        raise InputError(
            f"`topology` {topology} is not a topology; give a generation ({known}) and the chips along each axis, such "
            "as v5e:2x2 or v4:4x4x4"
        )
    if importlib.util.find_spec("libtpu") is None:
        raise MissingDependencyError(
            "`topology` needs the compiler for TPUs, which is not installed: pip install 'nerfgen[tpu]'"
        )
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    options = {"chip_config_name": "megacore"} if chip.has_two_cores else {}
    try:
        described = topologies.get_topology_desc(topology, "tpu", **options)
    except jax.errors.JaxRuntimeError as error:
        cause = str(error).splitlines()[0]
        raise InputError(f"the compiler for TPUs knows no `topology` {topology} ({cause})") from error
    return Mesh(np.array(described.devices), (axis,))


def program_needs(lowered: Any, mesh: Mesh, parts: dict[str, str], *, branch_fraction: float = 1.0) -> Needs:
    """Compile a program for the devices of :func:`topology_mesh`, and count what it needs and costs there.

    The result is kept in the user's cache folder, for the same program and compiler.

    Args:
        lowered: what ``jax.jit(...).lower(...)`` gives.
        parts, branch_fraction: see :func:`program_costs`.
    """
    chip = chip_of(mesh.devices.flat[0])
    assert chip is not None
    kept = _kept(lowered.as_text(), chip, mesh.size, parts, branch_fraction)
    try:
        found = json.loads(kept.read_text(encoding="utf-8"))
        return Needs(**{**found, "parts": {name: Cost(**cost) for name, cost in found["parts"].items()}})
    except (OSError, ValueError, TypeError):
        needs = _compiled_needs(lowered, chip, mesh.size, parts, branch_fraction)
    try:
        kept.parent.mkdir(parents=True, exist_ok=True)
        unfinished = kept.with_name(f"{kept.name}.{os.getpid()}")
        unfinished.write_text(json.dumps(dataclasses.asdict(needs)), encoding="utf-8")
        unfinished.replace(kept)
    except OSError:
        pass  # a cache that cannot be written
    return needs


def _compiled_needs(
    lowered: Any, chip: Chip, devices: int, parts: dict[str, str], branch_fraction: float
) -> Needs:
    try:
        compiled = lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        used = _USED.search(str(error))
        if used is None:
            raise
        return Needs(None, None, int(float(used[1]) * _UNITS[used[2]]))
    memory = compiled.memory_analysis()
    arguments, temporaries = memory.argument_size_in_bytes, memory.temp_size_in_bytes
    new = memory.output_size_in_bytes - memory.alias_size_in_bytes
    costs = program_costs(
        Program(compiled.as_text()), chip, parts, devices=devices, branch_fraction=branch_fraction
    )
    return Needs(
        arguments, temporaries, arguments + temporaries + new + memory.generated_code_size_in_bytes, costs
    )


def _kept(text: str, chip: Chip, devices: int, parts: dict[str, str], branch_fraction: float) -> Path:
    """The file that keeps the needs of a program."""
    import libtpu

    release = getattr(libtpu, "__version__", "")
    described = [_VERSION, chip, devices, parts, branch_fraction, jaxlib.__version__, release, text]
    key = hashlib.sha256(repr(described).encode()).hexdigest()[:32]
    return user_cache(os.environ) / "nerfgen" / "topologies" / f"{key}.json"
