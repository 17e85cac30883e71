"""What a run computes, as one value: the recipe it follows, its state and its step.

The recipe is the given one without what the run's cameras, class, masks or base model rule out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P

from nerfgen import storage
from nerfgen.data import (
    BaseModel,
    BatchSource,
    PixelCache,
    TableRows,
    choose_placement,
    pixel_bytes,
    table_rows,
)
from nerfgen.errors import InputError
from nerfgen.model import Model, Recipe
from nerfgen.objectclass import ObjectClass
from nerfgen.optimize import ONE_HOST, Advance, Hosts, place
from nerfgen.pretrained import FeatureParameters, find_feature_weights, load_feature_network
from nerfgen.train.initial_codes import (
    Components,
    codes_from_images,
    seen_from_one_side,
    thumbnail_components,
)
from nerfgen.train.machine import Machine
from nerfgen.train.state import (
    OCCUPANCY_SIZE,
    TrainState,
    initial_occupancy,
    initial_state,
    with_first_columns,
)
from nerfgen.train.step import make_step
from nerfgen.train.step_plan import StepInput, StepPlan

_CONTINUED_STEPS = 1000
# A lower learning rate limits catastrophic forgetting.
_CONTINUED_RATE = 0.2
ADVERSARIAL_WEIGHT = 0.003
# Patches of a step that are judged, and decay of the moving average, of adversarial fine-tuning.
_JUDGED_PATCHES, _ADVERSARIAL_AVERAGE = 8, 0.99
# Fraction of the networks' rate at the start, and of all rates at the end.
_ADVERSARIAL_RATE, _ADVERSARIAL_FINAL = 0.1, 0.2


def effective_recipe(
    recipe: Recipe,
    described: ObjectClass,
    cameras: Path,
    *,
    masks: Path | None,
    refine_cameras: bool | None = None,
) -> Recipe:
    """The recipe with what does not apply switched off.

    Args:
        cameras: ``cameras/1`` or ``truth/1`` file.
        masks: ``masks/1`` or ``truth/1`` file, if there is one. True masks are exact at the outline, where those of a
            segmenter are only unsure, so that nothing is to be sharpened.
        refine_cameras: None refines cameras that were fitted to landmarks, and keeps those that are known.

    Raises:
        InputError: ``cameras`` is missing or no such file.
        MissingDependencyError: a loss needs the feature network, and its weights are missing.
    """
    if recipe.has_patches:
        # Reported before images are framed, which takes longer.
        find_feature_weights()
    with storage.reading(cameras, "cameras/1", "truth/1") as file:
        refine_cameras = "canonical" in file if refine_cameras is None else refine_cameras
        usable = storage.usable(storage.strings(file["status"]))
        one_side = seen_from_one_side(file["cam_to_world"][:][usable])
    if not one_side:
        # What one view shows of an object is then no guide to the others: local features would learn it by heart, and
        # thumbnails tell little but the pose.
        recipe = replace(
            recipe,
            initial_codes="noise",
            local_size=0,
            local_channels=0,
            background_cells=0,
            background_channels=0,
        )
    unsure = masks is not None and not _true_masks(masks)
    camera_learning_rate = recipe.camera_learning_rate if refine_cameras else 0.0
    return replace(
        recipe,
        mirror=recipe.mirror and described.mirror,
        lambda_mask=recipe.lambda_mask if masks else 0.0,
        mask_margin=recipe.mask_margin if unsure else 0.0,
        lambda_opaque=recipe.lambda_opaque if unsure else 0.0,
        camera_learning_rate=camera_learning_rate,
        lambda_camera=recipe.lambda_camera if camera_learning_rate > 0 else 0.0,
    )


def feature_parameters(recipe: Recipe) -> FeatureParameters | None:
    """What a step of the recipe is given as ``features``.

    Raises:
        MissingDependencyError: a loss needs the feature network, and its weights are missing.
    """
    return load_feature_network().parameters if recipe.has_patches else None


def _true_masks(masks: Path) -> bool:
    """Whether a file of masks is one of ground truth; False if it does not exist, which is reported elsewhere."""
    if not masks.is_file():
        return False
    with storage.reading(masks, "masks/1", "truth/1") as file:
        return str(file.attrs["nerfgen_schema"]) == "truth/1"


def continued_recipe(model: Model) -> Recipe:
    """The recipe that continues a model's training: its own, shorter and slower, with all latent dimensions in use."""
    own = model.recipe
    return replace(
        own,
        steps=_CONTINUED_STEPS,
        learning_rate=_CONTINUED_RATE * own.learning_rate,
        freeze="none",
        camera_start=0.0,
        pose_fraction=0.0,
    )


def adversarial_recipe(model: Model) -> Recipe:
    """The recipe that fine-tunes a model adversarially: the one that continues it, with cameras as they are, the
    adversarial loss, and a moving average of the networks."""
    own = model.recipe
    return replace(
        continued_recipe(model),
        learning_rate=_ADVERSARIAL_RATE * own.learning_rate,
        # Adam's first step has the size of the rate, however small the gradient: codes go on where they ended.
        latent_learning_rate=own.final_rate * own.latent_learning_rate,
        local_learning_rate=own.final_rate * own.local_learning_rate,
        final_rate=_ADVERSARIAL_FINAL,
        camera_learning_rate=0.0,
        focal_learning_rate=0.0,
        lambda_adversarial=ADVERSARIAL_WEIGHT,
        patches_per_batch=math.gcd(_JUDGED_PATCHES, own.images_per_batch),
        patch_size=min(own.patch_size, own.size),
        average_decay=_ADVERSARIAL_AVERAGE,
    )


def require_same_networks(recipe: Recipe, model: Model) -> None:
    """Check that a recipe has the networks of a model.

    Raises:
        InputError: naming the first size that differs.
    """
    wanted = recipe.field_config(model.config.bounds)
    for name, value in vars(model.config).items():
        if getattr(wanted, name) != value:
            raise InputError(
                f"`{name}` is {value} in the model that training continues, not {getattr(wanted, name)}; "
                "leave it as it is, or train a new model without a base model"
            )


# Reading the losses waits for the device: once in this number of steps, or of multiplications if that is sooner.
_REPORT_EVERY = 20
_WORK_BETWEEN_REPORTS = 1 << 29
_HULL_IMAGES = 400
_HULL_SIZE = 64


@dataclass(frozen=True)
class Setup:
    """What a run computes, and on which devices.

    Attributes:
        recipe: the effective one.
        object_class: what is known of the class.
        cache: pixels and cameras of all images.
        rows: row of the table of every image.
        plan: of the step.
        mesh: devices.
        base: the model that training continues with new images, if any.
        hosts: that run it together.
        start: the model that is fine-tuned on its own images, if any.
    """

    recipe: Recipe
    object_class: ObjectClass
    cache: PixelCache
    rows: TableRows
    plan: StepPlan
    mesh: Mesh
    base: BaseModel | None = None
    hosts: Hosts = ONE_HOST
    start: Model | None = None

    @property
    def report_every(self) -> int:
        """Number of steps between two looks at losses and time limits."""
        recipe = self.recipe
        work = recipe.rays_per_batch * recipe.samples * recipe.width * recipe.depth
        return min(_REPORT_EVERY, max(1, _WORK_BETWEEN_REPORTS // work))

    def batches(self, placement: str) -> BatchSource:
        """The input of every step, with the pixels kept at ``placement``, see :func:`choose_placement`.

        By default each of several hosts reads from the file what its own devices need.
        """
        if placement == "auto" and self.hosts.count > 1:
            placement = "disk"
        needed = pixel_bytes(len(self.cache.row), self.cache.size)
        chosen = choose_placement(placement, needed, list(self.mesh.local_devices))
        return BatchSource(self.cache, chosen, self.plan.sampling, self.mesh)

    def initial_state(self) -> TrainState:
        """The state before the first step, on the devices."""
        base, cache, rows, recipe = self.base, self.cache, self.rows, self.recipe
        known = base.model if base else self.start
        if known:
            occupancy = known.occupancy
        else:
            (occupancy,) = self.hosts.first_arrays("the visual hull", lambda: [self._visual_hull()])
        bounds, seed = self.object_class.bounds, self.plan.seed
        state = initial_state(recipe, bounds, rows, seed, occupancy, base, self.mesh, self.start)
        if recipe.initial_codes != "images" or known:
            return state
        found = self.hosts.first_arrays(
            "the initial codes", lambda: thumbnail_components(cache, rows, recipe)
        )
        components = Components(*found)
        codes = partial(codes_from_images, cache, rows, recipe, components)
        return with_first_columns(state, codes, len(components.axes), self.mesh)

    def state_shapes(self) -> TrainState:
        """Structure and shapes of a state without padding, with no values."""
        grid = np.zeros((OCCUPANCY_SIZE,) * 3, np.float32)
        bounds, seed = self.object_class.bounds, self.plan.seed
        return jax.eval_shape(
            lambda: initial_state(self.recipe, bounds, self.rows, seed, grid, self.base, start=self.start)
        )

    def compile_step(self, source: BatchSource, state: TrainState, first: int) -> Advance[TrainState]:
        """The compiled step, for a loop.

        Args:
            first: the number of the first step.
        """
        row_of_image = place(self.rows.lookup, self.mesh, P())
        features = place(feature_parameters(self.recipe), self.mesh, P())
        jitted = make_step(self.plan, self.mesh, streamed=source.streamed)
        sample = StepInput(source.batch(first), row_of_image, np.float32(0), features)  # type: ignore[arg-type]
        compiled: Callable[..., Any] = jitted.lower(state, sample).compile()

        def advance(state: TrainState, step: int, until: int, fraction: float) -> TrainState:
            for number in range(step, until):
                part = np.float32(fraction)
                given = StepInput(source.batch(number), row_of_image, part, features)  # type: ignore[arg-type]
                state = compiled(state, given)
            return state

        return advance

    def _visual_hull(self) -> np.ndarray:
        cache, count = self.cache, len(self.cache.images)
        chosen = np.arange(0, count, max(1, count // _HULL_IMAGES))
        # Masks are subsampled to the grid's resolution, which takes the same memory at any size.
        stride = max(1, cache.size // _HULL_SIZE)
        masks = np.stack(
            [raster[stride // 2 :: stride, stride // 2 :: stride, 3] for raster in cache.rasters(chosen)]
        )
        intrinsics = cache.raster_intrinsics[chosen] * np.array([1 / stride, 1 / stride, 1.0])[:, None]
        return initial_occupancy(masks, intrinsics, cache.cam_to_world[chosen], self.object_class.bounds)


def set_up(
    recipe: Recipe,
    object_class: ObjectClass,
    cache: PixelCache,
    seed: int,
    machine: Machine,
    mesh: Mesh,
    base: BaseModel | None = None,
    hosts: Hosts = ONE_HOST,
    start: Model | None = None,
) -> Setup:
    """The run of a recipe on the images of a cache, with all random numbers from ``seed``.

    Args:
        start: a model that is fine-tuned on its own images, from the cameras that it has.

    Raises:
        InputError: the batch can't be divided among the devices, or ``start`` has other images.
    """
    num_inputs = len(cache.images) - (len(base.rows) if base else 0)
    rows = table_rows(cache.instance[:num_inputs], base)
    if start:
        cache = _with_cameras_of(start, cache, rows)
    plan = StepPlan.of_rows(
        recipe,
        object_class.bounds,
        rows,
        seed,
        cache.canonical,
        **machine.execution(recipe, mesh),
    )
    return Setup(recipe, object_class, cache, rows, plan, mesh, base, hosts, start)


def _with_cameras_of(model: Model, cache: PixelCache, rows: TableRows) -> PixelCache:
    """The cache with the cameras that a model has for the images of its rows.

    Raises:
        InputError: the cache has other images, or shows other windows of them.
    """
    places = rows.first_image
    for image, known in itertools.zip_longest((cache.images[first] for first in places), model.images):
        if image != known:
            raise InputError(
                f"adversarial fine-tuning needs the images that the model was trained on: {known or 'no image'} is "
                f"expected where the cameras list {image or 'none'}"
            )
    if [cache.digests[first] for first in places] != model.digests or not np.array_equal(
        cache.window[places], model.window
    ):
        raise InputError(
            "the images or their windows have changed since the model was trained; train a new model on them first"
        )
    intrinsics, poses = cache.intrinsics.copy(), cache.cam_to_world.copy()
    intrinsics[places], poses[places] = model.intrinsics, model.cam_to_world
    return replace(cache, intrinsics=intrinsics, cam_to_world=poses)
