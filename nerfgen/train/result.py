"""What a run has learned: the model, and the refined cameras as a file of the camera stage's schema.

Functions that take a state are called by all hosts of a run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from nerfgen import storage
from nerfgen.data import BaseModel
from nerfgen.geometry import corrected_cameras, evenly_chosen, with_focal
from nerfgen.model import Model
from nerfgen.optimize import fetch_rows, row_blocks
from nerfgen.train.setup import Setup
from nerfgen.train.state import TrainState, learned_field, used_latents

# Rows of a divided table that a preview is made of.
_PREVIEW_ROWS = 1024


class RefinedCameras(NamedTuple):
    """Cameras of images, as training refined them."""

    images: list[str]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]


def camera_corrections(setup: Setup, state: TrainState) -> Float[np.ndarray, "images 6"] | None:
    """What training added to the cameras (:func:`nerfgen.geometry.corrected_cameras`); None if it kept them.

    The mean is subtracted, which fixes the gauge; with a base model its frozen cameras do.
    """
    if setup.recipe.camera_learning_rate <= 0:
        return None
    corrections = np.concatenate(list(row_blocks(state.cameras, setup.rows.num_images))).astype(np.float64)
    mean = 0.0 if setup.base else np.asarray(state.camera_sum, np.float64) / len(corrections)
    return corrections - mean


def refined_cameras(setup: Setup, state: TrainState) -> RefinedCameras:
    """The cameras of all images but rehearsal renderings."""
    cache, count = setup.cache, setup.rows.num_inputs
    intrinsics, poses = cache.intrinsics[:count], cache.cam_to_world[:count]
    corrections = camera_corrections(setup, state)
    if corrections is not None:
        moved = corrected_cameras(jnp.asarray(poses), jnp.asarray(corrections[:count]), jnp.zeros(6))
        poses = np.asarray(moved, np.float64)
    if setup.recipe.focal_learning_rate > 0:
        factor = jnp.exp(np.asarray(state.networks["log_focal"]))
        changed = with_focal(jnp.asarray(intrinsics), jnp.asarray(poses), factor)
        intrinsics, poses = (np.asarray(array, np.float64) for array in changed)
    return RefinedCameras(cache.images[:count], intrinsics, poses)


def latent_blocks(
    setup: Setup, state: TrainState, fraction: float
) -> Iterator[Float[np.ndarray, "some latent"]]:
    """The latent table at a fraction of the run, in blocks of rows: all of it on one host, which has it anyway.

    In the middle of a run, latent dimensions that have not faded in yet are as small as the networks see them.
    """
    for block in row_blocks(state.latents, setup.rows.count):
        yield _seen(block, setup, state, fraction)


def some_latents(
    setup: Setup, state: TrainState, fraction: float, rows: Int[np.ndarray, "some"]
) -> Float[np.ndarray, "some latent"]:
    """Some rows of the latent table at a fraction of the run."""
    return _seen(fetch_rows(state.latents, rows), setup, state, fraction)


def _seen(latents: np.ndarray, setup: Setup, state: TrainState, fraction: float) -> np.ndarray:
    reached = jnp.float32(min(fraction, 1.0))
    return np.asarray(used_latents(state, setup.recipe, jnp.asarray(latents), reached))


def model_preview(setup: Setup, state: TrainState, fraction: float) -> Model:
    """The model at a fraction of the run; of a table that is divided among hosts, only some rows."""
    count = setup.rows.count
    if setup.hosts.count == 1:
        return learned_model(setup, state, next(latent_blocks(setup, state, fraction)))
    rows = evenly_chosen(np.arange(count), _PREVIEW_ROWS)
    latents = some_latents(setup, state, fraction, rows)
    model = learned_model(setup, state, latents[:0])
    return replace(
        model,
        latents=latents,
        images=[model.images[row] for row in rows],
        digests=[model.digests[row] for row in rows],
        image_size=model.image_size[rows],
        intrinsics=model.intrinsics[rows],
        cam_to_world=model.cam_to_world[rows],
        window=model.window[rows],
        further_images=[],
        further_digests=[],
        further_row=model.further_row[:0],
    )


def learned_model(setup: Setup, state: TrainState, latents: Float[np.ndarray, "some latent"]) -> Model:
    """The model that a run has learned; of the images of one object, the first represents its row.

    Args:
        latents: the table; none of its rows where they are written to a file as :func:`latent_blocks`.
    """
    cache, rows = setup.cache, setup.rows
    first, additional = rows.first_image, rows.additional_images
    cameras = refined_cameras(setup, state)
    field, occupancy, step = jax.tree.map(np.asarray, (learned_field(state), state.occupancy, state.step))
    columns: storage.Record = {
        "image_size": cache.image_size[first],
        "intrinsics": cameras.intrinsics[first],
        "cam_to_world": cameras.cam_to_world[first],
        "window": cache.window[first],
        "further_row": rows.of_image[additional],
    }
    names: storage.Record = {
        "images": [cache.images[place] for place in first],
        "digests": [cache.digests[place] for place in first],
        "further_images": [cache.images[place] for place in additional],
        "further_digests": [cache.digests[place] for place in additional],
    }
    if setup.base:
        base = setup.base.model
        names = {name: [*getattr(base, name), *values] for name, values in names.items()}
        columns = {name: np.concatenate([getattr(base, name), values]) for name, values in columns.items()}
    return Model(
        object_class=setup.object_class,
        recipe=setup.recipe,
        config=setup.recipe.field_config(setup.object_class.bounds),
        parameters=field,
        latents=latents,
        occupancy=occupancy,
        codebook=np.asarray(state.codebook.entries) if state.codebook else None,
        **names,
        **columns,
        canonical_index=cache.canonical_index,
        canonical=cache.canonical,
        steps=int(step),
    )


def save_refined_cameras(
    stage: storage.Stage, cameras: Path, refined: RefinedCameras, base: BaseModel | None
) -> None:
    """Write ``cameras/1``: the file ``cameras`` with refined poses and focal lengths where training has them.

    Windows stay, so that masks and framed pixels fit as before. The rows of a base model, whose images may be in the
    folder too, are among them.
    """
    if base:
        model = base.model
        refined = RefinedCameras(
            [*model.images, *refined.images],
            np.concatenate([model.intrinsics, refined.intrinsics]),
            np.concatenate([model.cam_to_world, refined.cam_to_world]),
        )
    with storage.reading(cameras, "cameras/1", "truth/1") as file:
        images = storage.strings(file["image"])
        columns = {name: file[name][:] for name in ("image_size", "intrinsics", "cam_to_world", "window")}
        canonical = {name: file[name][:] for name in ("canonical_index", "canonical") if name in file}
        texts = {
            name: storage.strings(file[name])
            for name in ("status", "reason", "image_sha256", "instance")
            if name in file
        }
    rows = storage.positions(images, refined.images)
    known = rows >= 0
    columns["intrinsics"][known] = refined.intrinsics[rows[known]]
    columns["cam_to_world"][known] = refined.cam_to_world[rows[known]]
    with replace(stage, schema="cameras/1").create() as file:
        storage.put(file, "image", images)
        for name, values in (texts | columns | canonical).items():
            storage.put(file, name, values)
