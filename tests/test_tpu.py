"""TPUs that are not here: what a compiled program costs, counted from its text, and the command's answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export

from nerfgen.tpu import CHIPS, COLLECTIVES, OTHER, Cost, Program, program_costs

PARTS = {"networks": "networks", "table": "table"}
CHIP = next(chip for chip in CHIPS if chip.generation == "v5e")


def costs_of(function, *arguments, **options) -> dict[str, Cost]:
    """The costs of a function as JAX gives it to a compiler."""
    module = jax.jit(function).lower(*arguments).compiler_ir("hlo").as_hlo_module()
    return program_costs(Program(module.to_string()), CHIP, PARTS, **options)


def analysed_flops(function, *arguments) -> float:
    """The compiler's own count, which includes additions and multiplications outside of products."""
    return jax.jit(function).lower(*arguments).cost_analysis()["flops"]


@pytest.mark.parametrize(
    "product",
    [
        lambda x, w: x[:, 0, 0] @ w[0, 0],
        lambda x, w: jnp.einsum("brci,rcio->bo", x[:, :3, :3], w),
        lambda x, w: jax.lax.conv_general_dilated(
            x, w, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
        ),
        lambda x, w: jax.lax.conv_general_dilated(
            x, w, (2, 1), [(2, 1), (0, 3)], (1, 2), (2, 1), ("NHWC", "HWIO", "NHWC")
        ),
    ],
    ids=["rows", "sums over three axes", "convolution", "padded, dilated and strided"],
)
def test_products_are_counted_as_the_compiler_counts_them(product):
    image, kernel = jnp.zeros((4, 9, 8, 16)), jnp.zeros((3, 3, 16, 32))
    counted = sum(cost.flops for cost in costs_of(product, image, kernel).values())
    assert counted == pytest.approx(analysed_flops(product, image, kernel), rel=1e-6)


def test_loops_are_multiplied_out_and_belong_to_their_part():
    def layers(x, w):
        with jax.named_scope("networks"):
            return jax.lax.scan(lambda h, _: (jnp.tanh(h @ w), None), x, None, length=7)[0]

    costs = costs_of(layers, jnp.zeros((16, 32)), jnp.zeros((32, 32)))
    assert costs["networks"].flops == 7 * 2 * 16 * 32 * 32
    assert costs.get(OTHER, Cost()).flops == 0


def test_of_a_conditional_branch_the_given_fraction_counts():
    def now_and_then(flag, x):
        return jax.lax.cond(flag, lambda x: x @ x, lambda x: x, x)

    costs = costs_of(now_and_then, True, jnp.zeros((64, 64)), branch_fraction=1 / 16)
    assert sum(cost.flops for cost in costs.values()) == 2 * 64**3 / 16


def test_rows_of_a_table_cost_what_a_batch_needs_and_not_the_table():
    def update(table, rows, change):
        with jax.named_scope("table"):
            return table.at[rows].add(change)

    def cost(count: int) -> Cost:
        shapes = [
            jax.ShapeDtypeStruct(shape, dtype)
            for shape, dtype in (((count, 128), jnp.float32), ((8,), jnp.int32), ((8, 128), jnp.float32))
        ]
        return costs_of(update, *shapes)["table"]

    small, large = cost(1_000), cost(10_000_000)
    assert small == large
    assert small.rows == 8
    # The change is read, and as many rows of the table are read and written.
    assert small.traffic == pytest.approx(3 * 8 * 128 * 4, rel=0.05)


# As the compiler for TPUs prints programs: arrays are tiled, some lie in the fast memory S(1), and a collective runs
# while others compute.
PRINTED = (Path(__file__).parent / "data" / "tpu_program.txt").read_text()


def test_tiles_fast_memory_and_overlapped_collectives():
    costs = program_costs(Program(PRINTED), CHIP, PARTS, devices=4)
    # Eight channels are padded to the 128 of a tile, 100 rows to 104; read and written.
    assert costs["networks"].traffic == 2 * 104 * 128 * 4
    assert costs["networks"].estimated_seconds == 3000 / CHIP.clock
    assert costs["networks"].seconds == costs["networks"].traffic / CHIP.bandwidth
    # The collective is counted once, not again where it goes on.
    assert costs[COLLECTIVES].sent == 3 / 4 * 64 * 256 * 4
    # Of the array that is fetched in part, that part is read; the fast memory costs nothing.
    fetched = 8 * 128 * 4
    assert sum(cost.traffic for cost in costs.values()) == pytest.approx(
        costs["networks"].traffic + fetched + 2 * 16 * 256 * 4, abs=16 * 256 * 4
    )


def test_one_device_sends_nothing():
    costs = program_costs(Program(PRINTED), CHIP, PARTS, devices=1)
    assert sum(cost.sent for cost in costs.values()) == 0


def test_what_topology_lacks_is_said_in_one_line(run, tmp_path):
    outcome = {
        ("--topology", "v5e:2x2"): "--topology is for --dry-run only",
        ("--dry-run", "--topology", "v9:2x2"): "--topology v9:2x2 is not a topology",
        ("--dry-run", "--topology", "v5e"): "--topology v5e is not a topology",
        ("--dry-run", "--topology", "v5p:0x2x2"): "--topology v5p:0x2x2 is not a topology",
        ("--dry-run",): "missing argument 'DATA'",
        ("--dry-run", "--images", "5"): "--images is for --topology only",
    }
    if importlib.util.find_spec("libtpu") is None:
        outcome["--dry-run", "--topology", "v5e:2x2"] = "pip install 'nerfgen[tpu]'"
    for options, message in outcome.items():
        done = run("train", *options)
        assert done.code in (1, 2), options
        assert message in done.err, options
        assert len(done.err.splitlines()) == 1, options


def test_tpus_sample_planes_without_gathers():
    from nerfgen.field.planes import sample_planes

    given = jnp.zeros((2, 3, 9, 9, 4)), jnp.zeros((2, 50, 3))

    def loss(planes, points):
        return jnp.sum(sample_planes(planes, points) ** 2)

    texts = {
        platform: str(
            export.export(jax.jit(jax.grad(loss, argnums=(0, 1))), platforms=[platform])(*given).mlir_module()
        )
        for platform in ("tpu", "cpu")
    }
    assert "stablehlo.gather" in texts["cpu"]
    assert "stablehlo.scatter" in texts["cpu"]
    assert "stablehlo.gather" not in texts["tpu"]
    assert "stablehlo.scatter" not in texts["tpu"]


def test_planes_by_products_are_those_by_gathers():
    from nerfgen.field.planes import _products, sample_planes

    rng = np.random.default_rng(0)
    planes = jnp.asarray(rng.normal(size=(2, 3, 9, 9, 4)), jnp.float32)
    points = jnp.asarray(rng.uniform(-1.2, 1.2, (2, 50, 3)), jnp.float32)
    weights = jnp.asarray(rng.normal(size=(2, 50, 4)), jnp.float32)

    def gradients(sample):
        return jax.value_and_grad(lambda *given: jnp.sum(weights * sample(*given)), argnums=(0, 1))(
            planes, points
        )

    jax.tree.map(
        lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5),
        gradients(sample_planes),
        gradients(_products),
    )


def test_lookups_by_products_are_those_by_gathers():
    from nerfgen.field.interpolation import interpolate, interpolate_by_products
    from nerfgen.volume.sampling import _cells_by_gathers, _cells_by_products

    rng = np.random.default_rng(0)
    grids = jnp.asarray(rng.normal(size=(3, 7, 7, 4)), jnp.float32)
    rows, columns = jnp.asarray(rng.uniform(-1.2, 1.2, (2, 3, 20)), jnp.float32)
    np.testing.assert_allclose(
        interpolate(grids, rows, columns), interpolate_by_products(grids, rows, columns), rtol=1e-5, atol=1e-6
    )
    grid = jnp.asarray(rng.random((10, 10, 10)), jnp.float32)
    cells = jnp.asarray(rng.integers(0, 10, (4, 5, 3)), jnp.int32)
    np.testing.assert_array_equal(_cells_by_products(grid, cells), _cells_by_gathers(grid, cells))
