"""What a run would need of TPUs that are not here, and its time there, by the TPU's own compiler."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding
from jax.sharding import PartitionSpec as P
from jaxtyping import Float

from nerfgen.data import TableRows
from nerfgen.model import Recipe
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.optimize import AXIS
from nerfgen.storage import Record
from nerfgen.tpu import Chip, Cost, Needs, chip_of, program_needs, topology_mesh
from nerfgen.train.dry_run import random_batch
from nerfgen.train.machine import Machine
from nerfgen.train.setup import feature_parameters
from nerfgen.train.state import OCCUPANCY_SIZE, initial_state, state_placement
from nerfgen.train.step import OCCUPANCY_EVERY, make_step
from nerfgen.train.step_plan import StepInput, StepPlan

_MEBIBYTE = 1 << 20
# The parts of a step, by the scopes in its code.
_PARTS = {"sampling": "sampling", "networks": "networks", "GenerativeField": "networks", "table": "table"}


def estimate_on_topology(
    recipe: Recipe,
    topology: str,
    *,
    num_images: int,
    object_class: ObjectClass | str,
    machine: Machine = Machine(),
) -> Record:
    """What a run would need of each chip of a TPU topology, and its time there, by the TPU's own compiler.

    The step is compiled as it would be there, with batches streamed from the host; every image is of another object.
    Where it does not fit, it is compiled again with fewer images at a time, and the figures are those.

    Args:
        recipe: the effective one, see :func:`effective_recipe`.
        topology: such as ``v5e:2x2``.
        num_images: images, with a row of the table each.

    Returns:
        topology, chip, chips, precision, images, steps; micro_batch and rematerialise, as asked for or by default;
        ``needed_mib`` with them, ``memory_mib`` of a chip, and whether it ``fits``; ``fitting``, the micro_batch and
        rematerialise that the following figures are for, None where none fits. Then for each chip:
        arguments_mib, temporaries_mib; for each step: gflop, traffic_mib (of its memory), sent_mib (to other chips),
        indexed_rows (gathered or scattered one by one), products_ms (of its products at the published peak),
        roofline_ms (see :class:`nerfgen.tpu.Cost`), estimated_ms (by the compiler's estimates), and ``parts`` with the
        same figures and their ``share`` of roofline_ms. For the run: hours and chip_hours by roofline_ms, None without
        a number of steps.

    Raises:
        InputError: there is no such topology, or the batch can't be divided among its chips.
        MissingDependencyError: the compiler is not installed.
    """
    described = named_class(object_class)
    mesh = topology_mesh(topology, AXIS)
    chip = chip_of(mesh.devices.flat[0])
    assert chip is not None
    rows = _separate_rows(num_images)
    plan = StepPlan.of_rows(
        recipe,
        described.bounds,
        rows,
        0,
        _keypoints(described),
        **machine.execution(recipe, mesh),
    )
    needs = _step_needs(plan, mesh)
    fitting: StepPlan | None = plan
    measured = needs
    if needs.total > chip.memory or not needs.parts:
        fitting, measured = _fitting(plan, mesh, needs, chip)
    cost = measured.cost
    seconds = cost.seconds if fitting else None
    hours = recipe.steps * seconds / 3600 if recipe.steps and seconds else None
    return {
        "topology": topology,
        "chip": chip.kind,
        "chips": mesh.size,
        "precision": plan.precision,
        "images": num_images,
        "steps": recipe.steps,
        "micro_batch": plan.images_per_pass,
        "rematerialise": plan.rematerialise,
        "needed_mib": _mebibytes(needs.total),
        "memory_mib": _mebibytes(chip.memory),
        "fits": fitting is plan,
        "fitting": None
        if fitting is None
        else {"micro_batch": fitting.images_per_pass, "rematerialise": fitting.rematerialise},
        "arguments_mib": _mebibytes(measured.arguments),
        "temporaries_mib": _mebibytes(measured.temporaries),
        **_figures(cost),
        "products_ms": round(1e3 * cost.flops / chip.flops, 4),
        "parts": {
            name: {"share": round(part.seconds / max(cost.seconds, 1e-12), 4), **_figures(part)}
            for name, part in sorted(measured.parts.items())
        },
        "hours": None if hours is None else round(hours, 5),
        "chip_hours": None if hours is None else round(hours * mesh.size, 4),
    }


def _fitting(plan: StepPlan, mesh: Mesh, needs: Needs, chip: Chip) -> tuple[StepPlan | None, Needs]:
    """The plan with the most images at a time that fits, kept activations before rematerialised ones; what it needs."""
    own = plan.images_per_device
    counts = [count for count in range(plan.images_per_pass, 0, -1) if own % count == 0]
    for rematerialise in sorted({plan.rematerialise, True}):
        count = plan.images_per_pass if rematerialise else plan.images_per_pass // 2
        while found := [each for each in counts if each <= count]:
            smaller = dataclasses.replace(plan, images_per_pass=found[0], rematerialise=rematerialise)
            measured = _step_needs(smaller, mesh)
            if measured.parts and measured.total <= chip.memory:
                return smaller, measured
            count = found[0] // 2
    return None, needs


def _step_needs(plan: StepPlan, mesh: Mesh) -> Needs:
    """What the step of a plan needs of the chips of a topology."""
    recipe, rows = plan.recipe, _separate_rows(plan.num_images)
    grid = np.zeros((OCCUPANCY_SIZE,) * 3, np.float32)
    state = jax.eval_shape(lambda: initial_state(recipe, plan.bounds, rows, plan.seed, grid))

    def placed(tree: Any, spec: P) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda array: jax.ShapeDtypeStruct(np.shape(array), array.dtype, sharding=sharding), tree
        )

    count = recipe.images_per_batch
    cameras = np.zeros((count, 3, 3)), np.zeros((count, 4, 4))
    batch = jax.eval_shape(
        lambda: random_batch(recipe, plan.patches, np.zeros(count, int), *cameras, recipe.size)
    )
    given = StepInput(
        placed(batch, P(AXIS)),
        *placed((rows.lookup, jnp.float32(0), feature_parameters(recipe)), P()),
    )
    lowered = make_step(plan, mesh, streamed=True).lower(state_placement(state, mesh), given)
    return program_needs(lowered, mesh, _PARTS, branch_fraction=1 / OCCUPANCY_EVERY)


def _keypoints(described: ObjectClass) -> Float[np.ndarray, "points 3"]:
    """The canonical keypoints of a class, or as many points where they are estimated from its images."""
    return described.canonical if len(described.canonical) else np.ones((len(described.landmark_names), 3))


def _separate_rows(count: int) -> TableRows:
    """A row for each image, where only their number matters: it takes no memory, whatever the number."""
    numbers = np.broadcast_to(np.int64(0), count)
    return TableRows(numbers, numbers)


def _figures(cost: Cost) -> Record:
    return {
        "gflop": round(cost.flops / 1e9, 4),
        "traffic_mib": round(cost.traffic / _MEBIBYTE, 2),
        "sent_mib": round(cost.sent / _MEBIBYTE, 3),
        "indexed_rows": round(cost.rows),
        "roofline_ms": round(1e3 * cost.seconds, 4),
        "estimated_ms": round(1e3 * cost.estimated_seconds, 4),
    }


def _mebibytes(size: int | None) -> float | None:
    return None if size is None else round(size / _MEBIBYTE, 1)
