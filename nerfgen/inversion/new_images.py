"""Latent codes of new images: latent fitting and tuning of prepared images, in blocks, here or on a cluster."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import Cameras, window_intrinsics
from nerfgen.image import InputImage
from nerfgen.inversion.image_preparation import (
    ImageSource,
    NoUsableImageError,
    PreparedImages,
    Warn,
    find_networks,
    name_images,
    prepare_images,
)
from nerfgen.inversion.latent_fitting import Fitted, fit_latents
from nerfgen.inversion.settings import FitSettings
from nerfgen.inversion.tuning import Tuned, tune_networks
from nerfgen.model import Model, Objects, concatenate, load_model
from nerfgen.parallel import Progress, map_ordered, silent

# Images that are fitted together. Other blocks give other latent codes, in rounding.
_BLOCK = 100


def fit_images(
    model: Model,
    images: Sequence[ImageSource],
    *,
    fitting: FitSettings = FitSettings(),
    shard: storage.Shard = storage.Shard(),
    file: Path | None = None,
    scheduler: str | None = None,
    progress: Progress = silent,
    warn: Warn = lambda line: None,
) -> Objects:
    """Fit a latent code to each image, prepared like the training images.

    Images are fitted in blocks of a hundred, each independent of the others.

    Args:
        images: image files and folders of images, as paths or as URLs of an object store, and images in memory.
        fitting: how latent codes are fitted.
        shard: the part of the images to fit, see :func:`images_of_shard`.
        file: of the model, which the workers of a scheduler read.
        scheduler: takes workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.
        progress: receives the steps of fitting, then those of tuning; with a scheduler the number of blocks.
        warn: receives a line for each incomplete part of the installation, and before a download.

    Returns:
        An object for each image of the shard, with its framed image; unusable images have a status that says why.

    Raises:
        InputError: a path does not exist, or the shard has no images.
        NoUsableImageError: no image is usable.
    """
    inputs, names = name_images(images)
    own = images_of_shard(shard, len(inputs))
    blocks = [
        (inputs[start : start + _BLOCK], names[start : start + _BLOCK])
        for start in range(own.start, own.stop, _BLOCK)
    ]
    if not blocks:
        raise InputError(
            f"`shard` {shard} has no images: {len(inputs)} images are fitted in {-(-len(inputs) // _BLOCK)} blocks of "
            f"{_BLOCK}; give no more shards than blocks"
        )
    if scheduler:
        find_networks(model, landmarker=fitting.landmarker, models=fitting.models, warn=warn)
        fitted = map_ordered(
            _fit_in_worker,
            blocks,
            workers=fitting.workers,
            initializer=_start,
            initializer_arguments=(file, replace(fitting, workers=1)),
            batch=1,
            scheduler=scheduler,
            name_of=lambda block: f"the fit of {block[1][0]} and the images after it",
            progress=progress,
        )
        parts = list(fitted)
    else:
        parts = [
            _fit_block(model, *block, fitting, _part_of(progress, number, len(blocks)), warn)
            for number, block in enumerate(blocks)
        ]
    status = [each for part in parts for each in part.status]
    if shard.is_whole and not any(part.images for part in parts):
        raise NoUsableImageError(names, status, model.object_class.name)
    found = concatenate(parts)
    extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in parts[0].extra}
    return replace(found, extra=extra)


def images_of_shard(shard: storage.Shard, count: int) -> range:
    """The images of a shard, of ``count`` in all: whole blocks, because images of a block are fitted together."""
    blocks = shard.rows(-(-count // _BLOCK))
    return range(blocks.start * _BLOCK, min(blocks.stop * _BLOCK, count))


def _part_of(progress: Progress, number: int, count: int) -> Progress:
    """The progress of one of several blocks."""

    def report(done: int, total: int, note: str = "") -> None:
        progress(number * total + done, count * total, note)

    return report


def _fit_block(
    model: Model,
    images: Sequence[InputImage],
    names: list[str],
    fitting: FitSettings,
    progress: Progress = silent,
    warn: Warn = lambda line: None,
) -> Objects:
    """The objects of images that are fitted together, usable or not."""
    try:
        prepared = prepare_images(
            model,
            images,
            landmarker=fitting.landmarker,
            models=fitting.models,
            workers=fitting.workers,
            warn=warn,
        )
    except NoUsableImageError as error:
        return _unfitted(model, names, error.status)
    prepared = replace(prepared, names=names)
    fitted = fit_prepared(model, prepared, fitting, progress)
    return tune_prepared(model, prepared, fitted, fitting, progress) if fitting.tune else fitted.objects


# Of a worker of a scheduler.
_model: Model
_fitting: FitSettings


def _start(file: Path, fitting: FitSettings) -> None:
    global _model, _fitting
    _model, _fitting = load_model(file), fitting


def _fit_in_worker(block: tuple[list[InputImage], list[str]]) -> Objects:
    return _fit_block(_model, *block, _fitting)


class FittedImages(NamedTuple):
    """Prepared images with latent codes.

    Attributes:
        objects: as :func:`fit_images` returns them.
        fitted: of the usable images.
    """

    objects: Objects
    fitted: Fitted


def fit_prepared(
    model: Model,
    prepared: PreparedImages,
    fitting: FitSettings = FitSettings(),
    progress: Progress = silent,
) -> FittedImages:
    """Latent codes of prepared images, and cameras if they are to be refined; the networks are not tuned."""
    fitted = fit_latents(
        model,
        prepared.framed,
        steps=fitting.steps,
        start=fitting.start,
        refine_cameras=fitting.refine_cameras,
        residual=fitting.residual,
        seed=fitting.seed,
        progress=progress,
    )
    return FittedImages(as_objects(model, prepared, fitted, Tuned({}, fitted.psnr)), fitted)


def tune_prepared(
    model: Model,
    prepared: PreparedImages,
    found: FittedImages,
    fitting: FitSettings = FitSettings(),
    progress: Progress = silent,
    *,
    shared: bool = False,
) -> Objects:
    """The objects of fitted images with the networks tuned to them, see :func:`nerfgen.inversion.tune_networks`."""
    tuned = tune_networks(
        model,
        prepared.framed,
        found.fitted,
        steps=fitting.tune_steps,
        seed=fitting.seed,
        shared=shared,
        progress=progress,
    )
    return as_objects(model, prepared, found.fitted, tuned)


def as_objects(model: Model, prepared: PreparedImages, fitted: Fitted, tuned: Tuned) -> Objects:
    """All prepared images as :func:`fit_images` returns them, with what was fitted to the usable ones."""
    framed, index = prepared.framed, prepared.index
    found = _unfitted(model, prepared.names, prepared.status)
    assert found.cameras is not None
    found.latents[index] = fitted.latents
    found.cameras.cam_to_world[index] = fitted.cam_to_world
    found.cameras.intrinsics[index] = window_intrinsics(framed.intrinsics, framed.window, 1)
    found.extra["fit_psnr"][index], found.extra["fit_iterations"][index] = tuned.psnr, fitted.iterations
    for place in index[~fitted.converged]:
        found.status[place] = "not_converged"
    return replace(
        found,
        tuned={int(index[number]): delta for number, delta in tuned.deltas.items()},
        images={int(place): image for place, image in zip(index, framed.rgb, strict=True)},
    )


def _unfitted(model: Model, names: list[str], status: Sequence[str]) -> Objects:
    """Objects of images before they are fitted: with the mean latent code."""
    count = len(names)
    return Objects(
        names=names,
        status=list(status),
        rows=np.full(count, -1),
        latents=np.tile(model.latents.mean(0), (count, 1)).astype(np.float32),
        cameras=Cameras(np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))),
        extra={"fit_psnr": np.full(count, np.nan, np.float32), "fit_iterations": np.zeros(count, np.int32)},
    )
