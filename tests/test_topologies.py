"""The training step compiled by the TPU's own compiler, for chips that are not here.

    python -m pytest -m tpu                     compile, and compare with what was recorded
    NERFGEN_RECORD=1 python -m pytest -m tpu    record

Needs libtpu (`pip install 'nerfgen[tpu]'`) and some minutes. The figures depend on the compiler's release, which is
recorded with them.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
from pathlib import Path

import pytest

pytest.importorskip("libtpu")
pytestmark = pytest.mark.tpu

RECORDED = Path(__file__).parent / "data" / "topologies.json"
COMPILER = {name: importlib.metadata.version(name) for name in ("jax", "jaxlib", "libtpu")}
PRESETS = ("fast", "quality", "paper", "paper-hq")
TOPOLOGIES = ("v5e:2x2", "v4:4x4x4")
# More than this is a change that has to be meant: then record the figures again.
MOST_MORE = 1.1


@pytest.fixture
def estimate(run, monkeypatch):
    # The other tests' setting for CPUs.
    monkeypatch.delenv("XLA_FLAGS", raising=False)

    def figures(*options: object) -> dict:
        done = run("train", "--dry-run", "--json", *options, timeout=1500)
        assert done.code == 0, done.err
        assert done.err == ""
        return json.loads(done.out)

    return figures


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("preset", PRESETS)
def test_the_step_compiles_and_needs_no_more_than_recorded(estimate, preset, topology):
    found = estimate("--topology", topology, "--preset", preset)
    assert found["fits"], found
    assert found["needed_mib"] < found["memory_mib"]
    assert found["products_ms"] <= found["roofline_ms"]
    assert sum(part["share"] for part in found["parts"].values()) == pytest.approx(1, abs=0.01)
    kept = {name: found[name] for name in ("gflop", "traffic_mib", "sent_mib", "indexed_rows", "needed_mib")}
    everything = json.loads(RECORDED.read_text()) if RECORDED.exists() else {"steps": {}}
    key = f"{preset} {topology}"
    if "NERFGEN_RECORD" in os.environ:
        everything = {"compiler": COMPILER, "steps": {**everything["steps"], key: kept}}
        RECORDED.write_text(json.dumps(everything, indent=1, sort_keys=True) + "\n")
        return
    recorded = everything["steps"][key]
    more = {
        name: f"{recorded[name]} -> {kept[name]}" for name in kept if kept[name] > MOST_MORE * recorded[name]
    }
    assert not more, f"{more}; recorded with {everything['compiler']}, now {COMPILER}"


def test_the_published_run_reaches_most_of_its_products_peak(estimate):
    found = estimate("--topology", "v4:4x4x4", "--preset", "paper-hq")
    assert found["products_ms"] > 0.7 * found["roofline_ms"]


def test_a_step_costs_the_same_however_many_rows_the_table_has(estimate):
    """Only the rows of a batch travel and are read."""
    small, large = (
        estimate("--topology", "v4:4x4x4", "--preset", "paper", "--images", count)
        for count in (10_000, 10_000_000)
    )
    assert large["arguments_mib"] > 20 * small["arguments_mib"]
    assert large["traffic_mib"] == pytest.approx(small["traffic_mib"], rel=0.05)
    assert large["sent_mib"] == pytest.approx(small["sent_mib"], rel=0.01)


def test_where_a_step_does_not_fit_fewer_images_at_a_time_do(estimate):
    found = estimate(
        "--topology",
        "v5e:1x1",
        "--preset",
        "paper",
        "--images-per-batch",
        256,
        "--micro-batch",
        256,
        "--width",
        1024,
    )
    assert not found["fits"]
    assert found["needed_mib"] > found["memory_mib"]
    assert found["fitting"]["micro_batch"] < 256 or found["fitting"]["rematerialise"]
    assert found["arguments_mib"] + found["temporaries_mib"] < found["memory_mib"]


@pytest.mark.parametrize("generation", ["v4", "v5e", "v5p", "v6e"])
def test_the_compiler_estimates_products_at_the_published_peak(generation):
    """The chip's clock turns its estimates of cycles into times."""
    import jax
    import jax.numpy as jnp
    from jax.sharding import NamedSharding
    from jax.sharding import PartitionSpec as P

    from nerfgen.tpu import chip_of, program_needs, topology_mesh

    mesh = topology_mesh(f"{generation}:2x2{'' if generation.endswith('e') else 'x1'}", "device")
    whole = NamedSharding(mesh, P())
    matrix = jax.ShapeDtypeStruct((8192, 8192), jnp.bfloat16, sharding=whole)
    lowered = jax.jit(jnp.matmul, out_shardings=whole).lower(matrix, matrix)
    cost = program_needs(lowered, mesh, {}).cost
    assert cost.flops == 2 * 8192**3
    assert cost.flops == pytest.approx(lowered.compile().cost_analysis()["flops"], rel=0.01)
    at_peak = cost.flops / chip_of(mesh.devices.flat[0]).flops
    # It also moves the factors to the fast memory.
    assert cost.seconds == pytest.approx(at_peak, rel=0.05)
    assert cost.estimated_seconds == pytest.approx(at_peak, rel=0.5)


def test_a_second_estimate_is_read_from_the_cache(estimate, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    asked = (
        "--topology",
        "v5e:1x1",
        "--size",
        16,
        "--images",
        10,
        "--images-per-batch",
        2,
        "--set",
        "plane_size=8",
    )
    first = estimate(*asked)
    (kept,) = (tmp_path / "nerfgen" / "topologies").iterdir()
    changed = json.loads(kept.read_text())
    changed["total"] += 1 << 20
    kept.write_text(json.dumps(changed))
    assert estimate(*asked)["needed_mib"] == pytest.approx(first["needed_mib"] + 1, abs=0.2)
