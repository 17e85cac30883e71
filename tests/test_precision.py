"""Matrix products on accelerators: geometry at full precision always, networks as the recipe says."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from nerfgen.data import PixelTable, separate_rows
from nerfgen.field import FieldConfig, GenerativeField
from nerfgen.field.radiance import render_rays
from nerfgen.geometry import corrected_cameras, pixel_rays, project
from nerfgen.landmark.network import expected_points
from nerfgen.model import PRESETS
from nerfgen.train import Machine
from nerfgen.train.state import OCCUPANCY_SIZE, initial_state
from nerfgen.train.step import make_step
from nerfgen.train.step_plan import StepInput, StepPlan

_PRODUCT = re.compile(r"dot_general.*precision = \[(\w+), (\w+)\] : \((.*)\) ->")


def products_on_tpu(function: Callable[..., Any], *arguments: Any) -> list[tuple[str, str]]:
    """Precision and operand types of every matrix product of a function that is compiled for a TPU."""
    jitted = function if hasattr(function, "trace") else jax.jit(function)
    lowered = jitted.trace(*arguments).lower(lowering_platforms=("tpu",)).as_text()
    lines = [line for line in lowered.splitlines() if "dot_general" in line]
    found = [match for line in lines if (match := _PRODUCT.search(line))]
    assert len(found) == len(lines), "every product states its precision"
    return [(f"{left} {right}", operands) for left, right, operands in (match.groups() for match in found)]


def a_field(kind: str) -> tuple[FieldConfig, dict[str, Any]]:
    config = FieldConfig(kind, 4, 8, 2, 8, 2, 12.0, (1.0, 1.0, 1.0), plane_size=8)  # type: ignore[arg-type]
    points = jnp.zeros((1, 1, 3))
    parameters = GenerativeField(config).init(jax.random.key(0), jnp.zeros((1, 4)), points, points)
    return config, parameters["params"]


def test_geometry_is_at_full_precision_whatever_the_networks_are():
    def residual(corrections: jax.Array, points: jax.Array) -> jax.Array:
        poses = corrected_cameras(jnp.tile(jnp.eye(4), (2, 1, 1)), corrections, jnp.zeros(6))
        matrices = jnp.tile(jnp.eye(3), (2, 1, 1))
        pixels, _ = project(points, matrices, poses)
        origins, directions = pixel_rays(pixels, matrices, poses)
        return jnp.sum(origins + directions)

    found = products_on_tpu(jax.grad(residual), jnp.ones((2, 6)), jnp.ones((2, 5, 3)))
    assert len(found) > 5
    assert {precision for precision, _ in found} == {"HIGHEST HIGHEST"}


def test_landmarks_are_located_at_full_precision():
    found = products_on_tpu(expected_points, jnp.zeros((2, 4, 4, 3)))
    assert found
    assert {precision for precision, _ in found} == {"HIGHEST HIGHEST"}


@pytest.mark.parametrize("kind", ["planes", "mlp"])
def test_float32_networks_multiply_float32_factors(kind):
    config, parameters = a_field(kind)

    def total(parameters: dict[str, Any], latents: jax.Array, precision: str) -> jax.Array:
        origins = directions = jnp.ones((2, 5, 3))
        rays, background = render_rays(
            config, parameters, latents, origins, directions, samples=4, precision=precision
        )
        return jnp.sum(rays.color + background)

    for precision in ("float32", "bfloat16"):
        found = products_on_tpu(
            jax.grad(lambda *given, precision=precision: total(*given, precision), argnums=(0, 1)),
            parameters,
            jnp.ones((2, 4)),
        )
        # Those of the layers; features are interpolated by exact ones.
        rounded = [operands for _, operands in found if "bf16" in operands]
        if precision == "float32":
            assert not rounded
            assert len(found) > 20
        else:
            assert len(rounded) > 20
        assert {kind for kind, operands in found if operands not in rounded} <= {"HIGHEST HIGHEST"}


@pytest.mark.parametrize("preset", ["fast", "paper"])
@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_the_training_step_multiplies_as_its_precision_says(preset, precision):
    """Everything but the networks' products is at full precision, whatever they are."""
    recipe = PRESETS[preset].with_values(
        size=8,
        latent_size=4,
        width=8,
        depth=2,
        samples=4,
        images_per_batch=4,
        rays_per_image=4,
        camera_learning_rate=0.01,
        focal_learning_rate=0.01,
    )
    images, bounds, mesh = 4, (1.0, 1.0, 1.0), Machine(devices=1).mesh()
    rows = separate_rows(images)
    plan = StepPlan.of_rows(
        recipe, bounds, rows, 0, np.zeros((0, 3)), num_devices=1, images_per_pass=images, precision=precision
    )
    state = initial_state(recipe, bounds, rows, 0, np.zeros((OCCUPANCY_SIZE,) * 3, np.float32))
    pixels = PixelTable(
        pixels=jnp.zeros((images, 64, 4), jnp.uint8),
        order=jnp.zeros((images, 64), jnp.uint16),
        inside=jnp.full(images, 32),
        valid=jnp.full(images, 64),
        intrinsics=jnp.tile(jnp.eye(3), (images, 1, 1)),
        cam_to_world=jnp.tile(jnp.eye(4), (images, 1, 1)),
    )
    given = StepInput(pixels, jnp.arange(images), jnp.float32(0.5))
    found = products_on_tpu(make_step(plan, mesh, streamed=False), state, given)
    assert len(found) > 20
    networks = {operands for kind, operands in found if kind != "HIGHEST HIGHEST"}
    if precision == "float32":
        assert not networks
    else:
        assert networks
        assert all("bf16" in operands for operands in networks)
