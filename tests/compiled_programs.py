"""Every program that nerfgen compiles, with the shapes of its arguments; nothing is computed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import cache, partial
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AbstractMesh, AxisType, NamedSharding
from jax.sharding import PartitionSpec as P

from nerfgen.bench import rendering
from nerfgen.camera import joint, solve
from nerfgen.camera.solve import Pose, double_precision
from nerfgen.data import (
    Batch,
    Patches,
    PatchPlan,
    PixelTable,
    SamplingPlan,
    TableRows,
    gather_batch,
    readers,
    sample_indices,
    separate_rows,
)
from nerfgen.field import latent_condition, parameter_shapes, tunable_parameters
from nerfgen.geometry import Cameras
from nerfgen.inversion import code_search, joint_fitting, latent_fitting, objective, tuning
from nerfgen.inversion.reconstruction import ADAM, Network
from nerfgen.landmark import augmentation, network_estimator, training
from nerfgen.landmark.network import LANDMARK_SIZE, PROPOSAL_SIZE, Networks
from nerfgen.mesh import stage as surfaces
from nerfgen.metric import feature_networks
from nerfgen.model import PRESETS
from nerfgen.optimize import AXIS, placement
from nerfgen.pretrained import load_feature_network
from nerfgen.render import object_renderer
from nerfgen.train.state import OCCUPANCY_SIZE, STATE_SPECS, TrainState, initial_state
from nerfgen.train.step import make_step
from nerfgen.train.step_plan import StepInput, StepPlan
from nerfgen.volume import visual_hull

# Compiled functions and their arguments, of which arrays are shapes, by the place of `jax.jit` in nerfgen. What follows
# a colon tells the programs of one place apart.
Programs = dict[str, tuple[Callable[..., Any], tuple[Any, ...]]]

BOUNDS = (0.9, 0.8, 0.7)
SIZE, IMAGES, RAYS, POINTS, KEYPOINTS = 24, 8, 6, 5, 5
SMALL = {
    "size": SIZE,
    "latent_size": 6,
    "width": 16,
    "depth": 2,
    "background_width": 8,
    "background_depth": 1,
    "plane_size": 12,
    "plane_channels": 4,
    "samples": 8,
    "images_per_batch": IMAGES,
    "rays_per_image": RAYS,
    "pose_latent_size": 3,
}
LOCAL = {"local_size": 4, "local_channels": 2, "background_cells": 4, "background_channels": 2}
PLANES = PRESETS["fast"].with_values(**SMALL, **LOCAL, focal_learning_rate=1e-3)
PERCEPTUAL = PLANES.with_values(lambda_perceptual=0.1, patch_size=16, patches_per_batch=4)
# Adversarial fine-tuning of vector-quantised codes: both have a state of their own.
ADVERSARIAL = PLANES.with_values(
    lambda_adversarial=0.1,
    patch_size=16,
    patches_per_batch=4,
    average_decay=0.9,
    latent="vq",
    codebook_groups=2,
)
MLP = PRESETS["paper"].with_values(**SMALL)


def array(*shape: int, dtype: Any = jnp.float32) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, dtype)


def random_key() -> Any:
    return jax.eval_shape(lambda: jax.random.key(0))


def pixel_table() -> PixelTable:
    return PixelTable(
        pixels=array(IMAGES, SIZE**2, 4, dtype=jnp.uint8),
        order=array(IMAGES, SIZE**2, dtype=jnp.uint16),
        inside=array(IMAGES, dtype=jnp.int32),
        valid=array(IMAGES, dtype=jnp.int32),
        intrinsics=array(IMAGES, 3, 3),
        cam_to_world=array(IMAGES, 4, 4),
    )


def feature_shapes() -> Any:
    return jax.tree.map(lambda values: array(*values.shape), load_feature_network().parameters)


# --- a trained model: views, surfaces, fitting --------------------------------------------------------------------


def programs_of_a_model(recipe) -> Programs:
    config = recipe.field_config(BOUNDS)
    parameters = parameter_shapes(config)
    code, points = array(config.code_size), array(POINTS, 3)
    condition = jax.eval_shape(partial(latent_condition, config), parameters, array(1, config.code_size))
    rays, grid = object_renderer._Rays(array(RAYS, 3), array(RAYS, 3)), array(*(object_renderer.GRID,) * 3)
    estimate = (config, parameters, code, grid, rays)
    weights, *_ = jax.eval_shape(partial(object_renderer._estimate, config), *estimate[1:])
    fixed = (config, parameters, condition)
    return {
        "render.object_renderer._condition_and_density": (
            object_renderer._condition_and_density,
            (config, parameters, code),
        ),
        "render.object_renderer._estimate": (object_renderer._estimate, estimate),
        "render.object_renderer._background": (
            object_renderer._background,
            (config, parameters, code, array(RAYS, 3)),
        ),
        "render.object_renderer._chosen": (
            object_renderer._chosen,
            (rays, weights, array(4, dtype=jnp.int32)),
        ),
        "render.object_renderer._shaded": (
            object_renderer._shaded,
            (config, recipe.samples, *fixed[1:], rays, weights),
        ),
        "render.object_renderer._normals": (object_renderer._normals, (*fixed, rays, array(RAYS))),
        "mesh.stage._condition": (surfaces._condition, (config, parameters, code)),
        "mesh.stage._foreground": (surfaces._foreground, (*fixed, points)),
        "bench.rendering._even": (rendering._even, (config, parameters, code, *rays)),
    }


def programs_of_fitting(recipe) -> Programs:
    config = recipe.field_config(BOUNDS)
    parameters = parameter_shapes(config)
    guide = array(*(OCCUPANCY_SIZE,) * 3) if recipe.sampler == "occupancy" else None
    network = Network(parameters, guide)
    components, local, number = recipe.latent_size, config.code_size - recipe.latent_size, jnp.int32
    space = objective.Space(
        array(config.code_size),
        array(components, config.code_size),
        array(),
        array(local),
        array(KEYPOINTS, 3),
    )
    rates = {"codes": 0.2, "local": 0.2, "cameras": 5e-3}
    plan = latent_fitting._Plan(random_key(), array(), rates, array(IMAGES, components))
    codebook, latents = array(4, 6, recipe.latent_size // 4), array(IMAGES, config.code_size)
    unknown = {"codes": array(IMAGES, components), "local": array(IMAGES, local), "cameras": array(IMAGES, 6)}
    moments = jax.eval_shape(ADAM.init, unknown)
    step, until = array(dtype=number), array(dtype=number)
    shared = {"codes": array(1, components), "local": array(1, local)}
    together = {
        **shared,
        "own_codes": unknown["codes"],
        "own_local": unknown["local"],
        "cameras": unknown["cameras"],
    }
    own_rates = {**rates, "own_codes": 0.2, "own_local": 0.2}
    joint_plan = joint_fitting._Plan(random_key(), array(), array(), own_rates)
    fitting = latent_fitting._Search(unknown, moments, step, array(IMAGES), array(IMAGES))
    deltas = jax.tree.map(lambda each: array(IMAGES, *each.shape), tunable_parameters(parameters))
    tuned = tuning._Search(deltas, jax.eval_shape(ADAM.init, deltas), step)
    images = tuning._Images(pixel_table(), array(IMAGES, config.code_size), array(IMAGES, 4, 4))
    views = Cameras(array(tuning._CAMERAS, 3, 3), array(tuning._CAMERAS, 4, 4))
    fixed = (config, recipe, network)
    return {
        "inversion.latent_fitting._advance": (
            jax.jit(latent_fitting._advance.__wrapped__, static_argnums=(0, 1)),
            (*fixed, space, pixel_table(), plan, fitting, until),
        ),
        "inversion.joint_fitting._advance": (
            jax.jit(joint_fitting._advance.__wrapped__, static_argnums=(0, 1)),
            (
                *(*fixed, space, pixel_table(), joint_plan),
                joint_fitting._Search(together, jax.eval_shape(ADAM.init, together), step),
                until,
            ),
        ),
        "inversion.code_search.search_entries": (
            jax.jit(code_search.search_entries.__wrapped__, static_argnums=(0, 1)),
            (*fixed, codebook, latents, array(IMAGES, 4, 4), pixel_table(), random_key()),
        ),
        "inversion.tuning._advance": (
            jax.jit(tuning._advance.__wrapped__, static_argnums=(0, 1)),
            (*fixed, views, images, random_key(), array(), tuned, until),
        ),
    }


# --- training -----------------------------------------------------------------------------------------------------


# Eight images of five new objects, two of them rehearsal renderings of a base model of three.
CONTINUED = TableRows(np.array([3, 3, 4, 5, 6, 7, 0, 2]), np.array([0, 2, 3, 4, 5]), 3, 2)


def initialise(recipe, rows: TableRows) -> Callable[[], TrainState]:
    """The initial state, continued from a base model where some rows are one's, as a function without arguments."""
    config, base = recipe.field_config(BOUNDS), None
    if rows.num_base:
        parameters = jax.tree.map(lambda each: np.zeros(each.shape, each.dtype), parameter_shapes(config))
        latents = np.zeros((rows.num_base, config.code_size), np.float32)
        model = SimpleNamespace(parameters=parameters, latents=latents, codebook=None)
        base = SimpleNamespace(model=model)
    occupancy = np.zeros((OCCUPANCY_SIZE,) * 3, np.float32)
    return partial(initial_state, recipe, BOUNDS, rows, 0, occupancy, base)


def programs_before_a_step() -> Programs:
    plan = SamplingPlan(0, IMAGES, IMAGES, RAYS, 0.5, 2, PatchPlan(2, 16, SIZE))
    mesh = AbstractMesh((2,), (AXIS,), axis_types=(AxisType.Auto,))
    masks, step = array(IMAGES, SIZE, SIZE, dtype=jnp.uint8), array(dtype=jnp.int32)
    cameras = array(IMAGES, 3, 3), array(IMAGES, 4, 4)
    states = {
        "planes": initialise(PLANES, separate_rows(IMAGES)),
        "mlp": initialise(MLP, separate_rows(IMAGES)),
        "continued": initialise(MLP, CONTINUED),
    }
    return {
        **{
            f"train.state.initial_state.initialise:{name}": (jax.jit(state), ())
            for name, state in states.items()
        },
        "train.state.initial_occupancy": (
            jax.jit(visual_hull, static_argnums=(3, 4)),
            (masks, *cameras, OCCUPANCY_SIZE, BOUNDS),
        ),
        "train.state.with_first_columns": (
            jax.jit(lambda latents, first: latents.at[:, : first.shape[1]].set(first)),
            (array(IMAGES, 6), array(IMAGES, 3)),
        ),
        "optimize.placement._gather": (
            placement._gather(mesh),
            (placed(mesh, P(AXIS), array(IMAGES, 6)), placed(mesh, P(), array(3, dtype=jnp.int32))),
        ),
        "data.readers._sample_many": (readers._sample_many, (plan, step)),
        "bench.training_step._Drawer.__init__": (
            jax.jit(lambda pixels, step: gather_batch(pixels, *sample_indices(plan, step), 0.5)),
            (pixel_table(), step),
        ),
        "bench.published_step.Product.__init__": (jax.jit(jnp.matmul), (array(4, 4), array(4, 4))),
    }


def step_batch(recipe, plan: PatchPlan | None) -> Batch:
    shape = (recipe.patches_per_batch, recipe.patch_size, recipe.patch_size)
    patches = Patches(
        array(*shape, 4, dtype=jnp.uint8), array(shape[0], 2, dtype=jnp.int32), array(*shape, dtype=bool)
    )
    return Batch(
        images=array(IMAGES, dtype=jnp.int32),
        rgb_mask=array(IMAGES, RAYS, 4, dtype=jnp.uint8),
        centers=array(IMAGES, RAYS, 2),
        intrinsics=array(IMAGES, 3, 3),
        cam_to_world=array(IMAGES, 4, 4),
        patches=patches if plan else None,
    )


def placed(mesh: AbstractMesh, specs: Any, tree: Any) -> Any:
    """The shapes with their places on the mesh; ``specs`` is a prefix of the tree."""

    def place(spec: P, part: Any) -> Any:
        sharding = NamedSharding(mesh, spec)
        return jax.tree.map(
            lambda each: jax.ShapeDtypeStruct(each.shape, each.dtype, sharding=sharding), part
        )

    return jax.tree.map(place, specs, tree)


def programs_of_a_step(
    recipe, *, devices: int, streamed: bool, rows: TableRows | None = None, passes: int = 1, **execution: Any
) -> Programs:
    """The training step over devices that need not exist."""
    rows = rows or separate_rows(IMAGES)
    mesh = AbstractMesh((devices,), (AXIS,), axis_types=(AxisType.Auto,))
    plan = StepPlan.of_rows(
        recipe,
        BOUNDS,
        rows,
        0,
        np.array([[0.0, 0.0, 0.0], [0.1, 0.2, 0.3]]),
        num_devices=devices,
        images_per_pass=IMAGES // devices // passes,
        **execution,
    )
    state = jax.eval_shape(initialise(recipe, rows))
    given = StepInput(
        step_batch(recipe, plan.patches) if streamed else pixel_table(),
        array(rows.num_images, dtype=jnp.int32),
        array(),
        feature_shapes() if plan.patches else None,
    )
    specs = StepInput(P(AXIS) if streamed else P(), P(), P(), P())
    arguments = placed(mesh, STATE_SPECS, state), placed(mesh, specs, given)
    return {"train.step.make_step": (make_step(plan, mesh, streamed=streamed), arguments)}


# --- landmarks and image features ---------------------------------------------------------------------------------


def programs_of_landmarks() -> Programs:
    sizes = (KEYPOINTS, 2)

    def windows(size: int, counts: augmentation.Counts) -> augmentation.Windows:
        """Two of those without an object for each that counts."""
        count = counts.objects + 2 * counts.others
        return augmentation.Windows(
            array(count, size, size, 3, dtype=jnp.uint8),
            array(count, KEYPOINTS, 2),
            array(count, dtype=jnp.int32),
        )

    proposed, located = augmentation.window_counts(3)
    batch = augmentation.Batch(windows(PROPOSAL_SIZE, proposed), windows(LANDMARK_SIZE, located))
    state = jax.eval_shape(lambda: training.initial_state(*sizes, 0))
    classify, propose, locate = network_estimator._programs(*sizes)
    return {
        "landmark.network.Networks.initial": (jax.jit(lambda: Networks(*sizes).initial(0)), ()),
        "landmark.training.make_step.step": (
            training.make_step(*sizes, 0, 3),
            (state, batch, np.int32(0), np.float32(0)),
        ),
        "landmark.network_estimator._programs": (classify, (state.parameters, batch.proposal.pixels)),
        "landmark.network_estimator._programs.compiled:propose": (
            propose,
            (state.parameters, batch.proposal.pixels),
        ),
        "landmark.network_estimator._programs.compiled:locate": (
            locate,
            (state.parameters, batch.landmark.pixels),
        ),
    }


def programs_of_image_features() -> Programs:
    compiled, parameters, images = feature_networks._compiled, feature_shapes(), array(4, 32, 32, 3)
    return {
        "metric.feature_networks._compiled:distances": (
            compiled(feature_networks._weighted_distances),
            (parameters, images, images, array(4, 32, 32)),
        ),
        "metric.feature_networks._compiled:pooled": (
            compiled(feature_networks._pooled_resized),
            (parameters, images),
        ),
    }


# --- cameras ------------------------------------------------------------------------------------------------------


def programs_of_cameras() -> Programs:
    """In double precision. They run on the CPU, except where JAX is told to do without it."""
    double = partial(array, dtype=jnp.float64)
    poses = Pose(double(IMAGES, 3, 3), double(IMAGES, 3), double(IMAGES))
    shape, views, unit = double(KEYPOINTS, 3), double(IMAGES, KEYPOINTS, 3), double(IMAGES, 3)
    seen = (poses, shape, double(3), views, unit, double())
    return {
        **{
            f"camera.solve._solve_batch:{name}": (
                solve._solve_batch,
                (views, shape, unit, double(IMAGES), double(), 0.05, free_focal),
            )
            for name, free_focal in (("known focal length", False), ("free focal length", True))
        },
        "camera.joint._costs": (joint._costs, (*seen, 0.05)),
        "camera.joint._normal_blocks": (joint._normal_blocks, (*seen, 1e-4, 0.05)),
        "camera.joint._moved": (joint._moved, (poses, double(IMAGES, 6))),
    }


FAMILIES = {
    "planes, rendered": partial(programs_of_a_model, PLANES),
    "planes, fitted": partial(programs_of_fitting, PLANES),
    "mlp, rendered": partial(programs_of_a_model, MLP),
    "mlp, fitted": partial(programs_of_fitting, MLP),
    "before a step": programs_before_a_step,
    "planes, trained": partial(programs_of_a_step, PLANES, devices=1, streamed=False),
    "planes, trained on many devices": partial(
        programs_of_a_step,
        PERCEPTUAL,
        devices=2,
        streamed=False,
        rows=CONTINUED,
        precision="bfloat16",
        rematerialise=True,
    ),
    "planes, fine-tuned": partial(programs_of_a_step, ADVERSARIAL, devices=2, streamed=True),
    "mlp, trained": partial(programs_of_a_step, MLP, devices=1, streamed=True, passes=2, rematerialise=True),
    "mlp, trained on many devices": partial(
        programs_of_a_step, MLP, devices=4, streamed=False, precision="bfloat16"
    ),
    "landmarks": programs_of_landmarks,
    "image features": programs_of_image_features,
    "cameras": programs_of_cameras,
}
# Those that need the weights of the feature network.
WITH_FEATURES = ("planes, trained on many devices", "planes, fine-tuned", "image features")


def precision_of(family: str) -> AbstractContextManager[None]:
    """The context in which the programs of a family are lowered."""
    return double_precision() if family == "cameras" else nullcontext()


@cache
def programs(family: str) -> Programs:
    with precision_of(family):
        return FAMILIES[family]()
