"""Held-out images: selection, cameras and masks, and latent codes fitted to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.data import FramedImages, load_framed
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.inputs import choose_subset, folder_name
from nerfgen.evaluate.settings import EvaluationInputs, EvaluationSettings
from nerfgen.image import ImageFolder, InputImage, digest_images, find_images, local_folder
from nerfgen.inversion import fit_latents, prepare_images
from nerfgen.model import Model
from nerfgen.parallel import Progress, silent


@dataclass(frozen=True)
class FittedImages:
    """Held-out images with fitted latent codes.

    Attributes:
        framed: the framed images with names relative to their folder, and the cameras refined with the codes.
        files: the images.
        latents: latent code of each image.
        initial: cameras before the fit refined them: fitted to landmarks, or given.
        points: where the canonical points were detected, pixels of the images; None where cameras are given.
        notes: which images these are, and why others were left out.
    """

    framed: FramedImages
    files: list[InputImage]
    latents: Float[np.ndarray, "images latent"]
    initial: Float[np.ndarray, "images 4 4"]
    points: Float[np.ndarray, "images points 2"] | None
    notes: list[str]


class FramedHeldOut(NamedTuple):
    """Held-out images before fitting.

    Attributes:
        framed: the usable images, with names relative to their folder.
        status: of all images, in no particular order.
        points: where the canonical points were detected, pixels of the images; None where cameras are given.
    """

    framed: FramedImages
    status: list[str]
    points: Float[np.ndarray, "images points 2"] | None


def fit_held_out(
    model: Model,
    inputs: EvaluationInputs,
    settings: EvaluationSettings,
    workers: int | None = None,
    progress: Progress = silent,
) -> FittedImages:
    """Choose images of ``inputs.held_out`` that the model was not trained on, and fit latent codes to them.

    Raises:
        InputError: there is no such folder, or none of its images is usable.
    """
    if inputs.held_out is None:
        raise InputError("no held-out images; set `held_out` to their folder")
    unknown, known = untrained_images(model, inputs.held_out)
    chosen = [unknown[place] for place in choose_subset(unknown, settings.images, settings.seed)]
    if not chosen:
        raise InputError(
            f"the model was trained on all {known} images of {folder_name(inputs.held_out)}; "
            "set `held_out` to a folder of other images"
        )
    fitted = fit_images(model, inputs, chosen, settings, workers, progress)
    notes = [
        f"{len(chosen)} of {len(unknown)} images of {folder_name(inputs.held_out)}, chosen by seed {settings.seed}"
    ]
    if known:
        notes.append(f"{known} more are training images and were left out")
    return replace(fitted, notes=[*notes, *fitted.notes])


def untrained_images(model: Model, folder: ImageFolder) -> tuple[list[str], int]:
    """Images of a folder that the model was not trained on, by content, and the number of the remaining ones."""
    names = find_images(folder)
    known = {*model.digests, *model.further_digests}
    digests = digest_images(folder, names)
    unknown = [name for name, (_, digest) in zip(names, digests, strict=True) if digest not in known]
    return unknown, len(names) - len(unknown)


def fit_images(
    model: Model,
    inputs: EvaluationInputs,
    names: Sequence[str],
    settings: EvaluationSettings,
    workers: int | None = None,
    progress: Progress = silent,
) -> FittedImages:
    """Fit latent codes to images of ``inputs.held_out``.

    Raises:
        InputError: none of the images is usable.
    """
    framed, status, points = frame_held_out(model, inputs, names, workers)
    # A model trained without masks is fitted without masks, even if the folder has some.
    observed = framed if trained_with_masks(model) else replace(framed, mask=np.full_like(framed.mask, 255))
    fitted = fit_latents(model, observed, steps=settings.fit_steps, seed=settings.seed, progress=progress)
    unusable = Counter(value for value in status if value not in storage.USABLE)
    notes = [f"{count} of them are unusable: {value}" for value, count in sorted(unusable.items())]
    if not fitted.converged.all():
        notes.append(f"{int((~fitted.converged).sum())} fits did not converge; they use the mean latent code")
    assert inputs.held_out is not None
    return FittedImages(
        framed=replace(framed, cam_to_world=fitted.cam_to_world),
        files=[InputImage(name, inputs.held_out) for name in framed.images],
        latents=fitted.latents,
        initial=framed.cam_to_world,
        points=points,
        notes=notes,
    )


def frame_held_out(
    model: Model, inputs: EvaluationInputs, names: Sequence[str], workers: int | None = None
) -> FramedHeldOut:
    """Images of ``inputs.held_out``, framed like the training images with cameras and masks.

    Cameras are obtained as for training: fitted to landmarks, or else read from cameras.h5 or truth.h5 of the folder.
    Masks are all 255 where the model needs none and the folder has none.

    Raises:
        InputError: none of the images is usable.
    """
    folder = inputs.held_out
    assert folder is not None
    if len(model.canonical):
        try:
            given = prepare_images(
                model,
                [InputImage(name, folder) for name in names],
                landmarker=inputs.landmarker,
                workers=workers,
            )
        except MissingDependencyError as error:  # listed as missing in the table, like unusable images
            raise InputError(str(error)) from error
        own = dict(zip(given.names, names, strict=True))
        framed = replace(given.framed, images=[own[name] for name in given.framed.images])
        return FramedHeldOut(framed, given.status, given.points)
    cameras, masks = (_stage_file(folder, name) for name in ("cameras.h5", "masks.h5"))
    needed = trained_with_masks(model)
    framed = load_framed(
        folder, cameras, masks if needed or masks.is_file() else None, model.size, only=names
    )
    skipped = [reason for reason, count in framed.skipped.items() for _ in range(count)]
    unlisted = len(names) - len(framed.images) - len(skipped)
    status = [*["ok"] * len(framed.images), *skipped, *["no_camera"] * unlisted]
    return FramedHeldOut(framed, status, None)


def instance_names(folder: ImageFolder, names: Sequence[str]) -> list[str]:
    """The object that each image shows, by cameras.h5 or truth.h5; the image's own name where they do not say."""
    cameras = _stage_file(folder, "cameras.h5")
    if not cameras.is_file():
        return list(names)
    with storage.reading(cameras, "cameras/1", "truth/1") as file:
        if "instance" not in file:
            return list(names)
        instances = storage.strings(file["instance"])
        places = storage.positions(names, storage.strings(file["image"]))
    return [instances[place] if place >= 0 else name for place, name in zip(places, names, strict=True)]


def trained_with_masks(model: Model) -> bool:
    """Whether masks were part of the model's training: it separates objects from their background."""
    return model.recipe.lambda_mask > 0


def _stage_file(images: ImageFolder, name: str) -> Path:
    """A stage's file of a folder, or the ground truth that serves in its place."""
    folder = local_folder(images)
    return folder / name if (folder / name).is_file() else folder / "truth.h5"
