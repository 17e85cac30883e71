"""Personalisation: a code for one object by several images of it, and the networks adjusted to all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from nerfgen.errors import InputError
from nerfgen.geometry import yaw_pitch_roll
from nerfgen.inversion.image_preparation import (
    ImageSource,
    PreparedImages,
    Warn,
    name_images,
    prepare_images,
)
from nerfgen.inversion.joint_fitting import fit_one_object
from nerfgen.inversion.new_images import FittedImages, as_objects, tune_prepared
from nerfgen.inversion.settings import FitSettings, PersonalSettings
from nerfgen.inversion.tuning import Tuned
from nerfgen.model import Model, Objects, concatenate
from nerfgen.parallel import Progress, silent

# All are fitted at the same time, in some 7 MB each at 64 x 64 pixels.
_MOST_IMAGES = 1000


def personalise(
    model: Model,
    images: Sequence[ImageSource],
    *,
    name: str = "object",
    settings: PersonalSettings = PersonalSettings(),
    fitting: FitSettings = FitSettings(),
    progress: Progress = silent,
    warn: Warn = lambda line: None,
) -> Objects:
    """Learn one object from several images of it, prepared like the training images.

    The code of the object and those of its images are fitted together (:func:`nerfgen.inversion.fit_one_object`). Then
    the networks are tuned to all images at once (:func:`nerfgen.inversion.tune_networks`), around these codes.

    Args:
        images: image files and folders of images, as paths or as URLs of an object store, and images in memory.
        name: of the object.
        fitting: how latent codes are fitted; ``tune`` and ``residual`` have no effect.
        progress: receives the steps of fitting, then those of tuning.
        warn: receives a line for each incomplete part of the installation, and before a download.

    Returns:
        The object itself, with the camera of its most frontal image, and then each image, usable or not. All have the
        same change of the networks, if it improves the mean PSNR.

    Raises:
        InputError: a path does not exist, there are more than 1,000 images, or no image could be fitted.
        NoUsableImageError: no image is usable.
    """
    inputs, names = name_images(images)
    if len(inputs) > _MOST_IMAGES:
        raise InputError(f"{len(inputs):,} images are too many of one object; give at most {_MOST_IMAGES:,}")
    prepared = prepare_images(
        model,
        inputs,
        landmarker=fitting.landmarker,
        models=fitting.models,
        workers=fitting.workers,
        warn=warn,
    )
    return personalise_prepared(model, replace(prepared, names=names), name, settings, fitting, progress)


def personalise_prepared(
    model: Model,
    prepared: PreparedImages,
    name: str,
    settings: PersonalSettings = PersonalSettings(),
    fitting: FitSettings = FitSettings(),
    progress: Progress = silent,
) -> Objects:
    """As :func:`personalise`, of prepared images."""
    joint = fit_one_object(
        model,
        prepared.framed,
        steps=fitting.steps,
        start=fitting.start,
        refine_cameras=fitting.refine_cameras,
        spread=settings.spread,
        seed=fitting.seed,
        progress=progress,
    )
    each = as_objects(model, prepared, joint.fitted, Tuned({}, joint.fitted.psnr))
    if settings.tune:
        found = FittedImages(each, joint.fitted)
        each = tune_prepared(model, prepared, found, fitting, progress, shared=True)
    usable = prepared.index[joint.fitted.converged]
    assert each.cameras is not None
    turns = np.abs(yaw_pitch_roll(each.cameras.cam_to_world[usable])[:, :2]).sum(axis=1)
    frontal = each.some([int(usable[turns.argmin()])])
    whole = replace(frontal, names=[name], latents=joint.latent[None], images={})
    every = concatenate([whole, each])
    psnr, iterations = each.extra["fit_psnr"], each.extra["fit_iterations"]
    extra = {
        "fit_psnr": np.concatenate([[psnr[usable].mean()], psnr]).astype(np.float32),
        "fit_iterations": np.concatenate([[iterations[usable].max()], iterations]).astype(np.int32),
    }
    shared = dict.fromkeys(range(len(every)), whole.tuned[0]) if whole.tuned else {}
    return replace(every, extra=extra, tuned=shared)
