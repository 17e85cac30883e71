"""Photographs that the model has not seen, with the codes that are fitted to them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen import artifact
from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.sources import Settings, Sources, choose
from nerfgen.field import Model
from nerfgen.generate import fit_latents, frame_photographs
from nerfgen.parallel import Progress, silent
from nerfgen.photo import digest_images, find_images
from nerfgen.train import Framed, Preset, load_framed


@dataclass(frozen=True)
class Unseen:
    """New photographs with codes.

    Attributes:
        framed: the photographs, their names relative to the folder, and their cameras as fitted with the codes.
        files: where they are.
        latents: their codes.
        notes: which they are, and what became of others.
    """

    framed: Framed
    files: list[Path]
    latents: Float[np.ndarray, "photographs latent"]
    notes: list[str]


def fit_unseen(
    model: Model, sources: Sources, settings: Settings, workers: int = 0, progress: Progress = silent
) -> Unseen:
    """Choose photographs of ``sources.others`` that the model does not know, and fit codes to them.

    Raises:
        InputError: no folder of others was given, or none of its photographs can be used.
    """
    if sources.others is None:
        raise InputError("photographs that the model has not seen: give --others FOLDER")
    fresh, known = unknown_images(model, sources.others)
    chosen = [fresh[place] for place in choose(fresh, settings.images, settings.seed)]
    if not chosen:
        raise InputError(f"the model knows all {known} photographs of {sources.others.name}")
    fitted = fit_photographs(model, sources, chosen, settings, workers, progress)
    notes = [
        f"{len(chosen)} of {len(fresh)} photographs of {sources.others.name}, chosen by seed {settings.seed}"
    ]
    if known:
        notes.append(f"{known} more are known to the model, and left out")
    return replace(fitted, notes=[*notes, *fitted.notes])


def unknown_images(model: Model, folder: Path) -> tuple[list[str], int]:
    """The images of a folder that the model was not trained on, by their bytes, and how many others there are."""
    names = find_images(folder)
    known = {*model.digests, *model.further_digests}
    digests = digest_images(folder, names)
    fresh = [name for name, (_, digest) in zip(names, digests, strict=True) if digest not in known]
    return fresh, len(names) - len(fresh)


def fit_photographs(
    model: Model,
    sources: Sources,
    names: Sequence[str],
    settings: Settings,
    workers: int = 0,
    progress: Progress = silent,
) -> Unseen:
    """Fit codes to these photographs of ``sources.others``.

    Raises:
        InputError: none of them can be used.
    """
    framed, status = frame_unseen(model, sources, names, workers)
    # A model that learned from whole photographs is fitted to them, whatever masks there are to judge it by.
    seen = framed if _learned_from_masks(model) else replace(framed, mask=np.full_like(framed.mask, 255))
    fitted = fit_latents(model, seen, steps=settings.fit_steps, seed=settings.seed, progress=progress)
    unusable = Counter(value for value in status if value not in artifact.USABLE)
    notes = [f"{count} of them can't be used: {value}" for value, count in sorted(unusable.items())]
    if not fitted.converged.all():
        notes.append(f"{int((~fitted.converged).sum())} fits did not converge: these have the mean code")
    assert sources.others is not None
    return Unseen(
        framed=replace(framed, cam_to_world=fitted.cam_to_world),
        files=[sources.others / name for name in framed.images],
        latents=fitted.latents,
        notes=notes,
    )


def frame_unseen(
    model: Model, sources: Sources, names: Sequence[str], workers: int = 0
) -> tuple[Framed, list[str]]:
    """Cameras and masks of photographs of ``sources.others``, framed as the training images are; and all statuses.

    Where the training cameras were fitted to landmarks, those of new photographs are too. Where they were known, so
    have the others' to be: from cameras.h5, or truth.h5. Masks are all 255 where the model needs none and none exist.

    Raises:
        InputError: none of them can be used.
    """
    others = sources.others
    assert others is not None
    if len(model.canonical):
        try:
            given = frame_photographs(
                model, [others / name for name in names], landmarker=sources.landmarker, workers=workers
            )
        except MissingDependencyError as error:  # what a table lacks, as photographs that can't be used are
            raise InputError(str(error)) from error
        own = dict(zip(given.names, names, strict=True))
        return replace(given.framed, images=[own[name] for name in given.framed.images]), given.status
    cameras, masks = (_beside(others, name) for name in ("cameras.h5", "masks.h5"))
    needed = _learned_from_masks(model)
    framed = load_framed(
        others, cameras, masks if needed or masks.is_file() else None, model.size, only=names
    )
    lost = [reason for reason, count in framed.skipped.items() for _ in range(count)]
    unlisted = len(names) - len(framed.images) - len(lost)
    return framed, [*["ok"] * len(framed.images), *lost, *["no_camera"] * unlisted]


def instances_of(others: Path, names: Sequence[str]) -> list[str]:
    """The object that each photograph shows, by cameras.h5 or truth.h5; each its own where they don't say."""
    file_name = _beside(others, "cameras.h5")
    if not file_name.is_file():
        return list(names)
    with artifact.reading(file_name, "cameras/1", "truth/1") as file:
        if "instance" not in file:
            return list(names)
        instances = artifact.strings(file["instance"])
        places = artifact.positions(names, artifact.strings(file["image"]))
    return [instances[place] if place >= 0 else name for place, name in zip(places, names, strict=True)]


def _learned_from_masks(model: Model) -> bool:
    return Preset(**model.preset).lambda_mask > 0


def _beside(folder: Path, name: str) -> Path:
    """A stage's file of a folder, or the truth that serves in its place."""
    return folder / name if (folder / name).is_file() else folder / "truth.h5"
