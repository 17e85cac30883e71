"""From photographs to codes in one go: landmarks, camera, mask, latent fitting, tuning."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from nerfgen import artifact
from nerfgen.camera import fit_folder
from nerfgen.errors import InputError
from nerfgen.field import Model
from nerfgen.generate.codes import Objects
from nerfgen.generate.fit import STEPS, Start, fit_latents
from nerfgen.generate.tune import Tuned, tune_networks
from nerfgen.geometry import Cameras, window_intrinsics
from nerfgen.landmark import landmark_folder
from nerfgen.mask import segment_folder
from nerfgen.parallel import Progress, silent
from nerfgen.photo import find_images
from nerfgen.train import Framed, Preset, load_framed

_TOLD = 3


@dataclass(frozen=True)
class Photographs:
    """Photographs that have gone through the stages before fitting.

    Attributes:
        names: of all of them, usable or not.
        status: why each can or can't be used.
        framed: the usable ones, ``framed.images`` being names.
    """

    names: list[str]
    status: list[str]
    framed: Framed


def photograph_objects(
    model: Model,
    photographs: Sequence[Path],
    *,
    steps: int = STEPS,
    start: Start = "guess",
    fit_cameras: bool | None = None,
    tune_steps: int = 0,
    seed: int = 0,
    landmarker: Path | None = None,
    workers: int = 0,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> Objects:
    """Fit a code to each photograph, through the same stages as the training images.

    Args:
        photographs: image files and folders of images.
        steps, start, fit_cameras: see :func:`fit_latents`.
        landmarker: estimator that `nerfgen train-landmarker` made, for classes that bring none.
        tune_steps: also tune the networks to each photograph, by so many steps (:func:`tune_networks`).
        progress: told of steps, of fitting and then of tuning.
        warn: told, in one line each, what is odd about the installation.

    Returns:
        The objects with their framed photographs; those that could not be used with their status, and without.

    Raises:
        InputError: a path does not exist, or no photograph is usable.
    """
    given = frame_photographs(model, photographs, landmarker=landmarker, workers=workers, warn=warn)
    framed = given.framed
    fitted = fit_latents(
        model, framed, steps=steps, start=start, fit_cameras=fit_cameras, seed=seed, progress=progress
    )
    tuned = Tuned({}, fitted.psnr)
    if tune_steps:
        tuned = tune_networks(model, framed, fitted, steps=tune_steps, seed=seed, progress=progress)
    count, status = len(given.names), list(given.status)
    latents = np.tile(model.latents.mean(0), (count, 1)).astype(np.float32)
    intrinsics, poses = np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))
    quality, iterations = np.full(count, np.nan, np.float32), np.zeros(count, np.int32)
    places = artifact.positions(framed.images, given.names)
    latents[places], poses[places] = fitted.latents, fitted.cam_to_world
    quality[places], iterations[places] = tuned.psnr, fitted.iterations
    intrinsics[places] = window_intrinsics(framed.intrinsics, framed.window, 1)
    for place, good in zip(places, fitted.converged, strict=True):
        if not good:
            status[place] = "not_converged"
    return Objects(
        names=given.names,
        status=status,
        rows=np.full(count, -1),
        latents=latents,
        cameras=Cameras(intrinsics, poses),
        tuned={int(places[number]): delta for number, delta in tuned.deltas.items()},
        photographs={int(place): picture for place, picture in zip(places, framed.rgb, strict=True)},
        extra={"fit_psnr": quality, "fit_iterations": iterations},
    )


def frame_photographs(
    model: Model,
    photographs: Sequence[Path],
    *,
    landmarker: Path | None = None,
    workers: int = 0,
    warn: Callable[[str], None] = lambda line: None,
) -> Photographs:
    """Landmarks, camera and mask of each photograph, and the photograph framed as the training images are.

    The photographs stay where they are: the stages see links to them.

    Raises:
        InputError: a path does not exist, or no photograph is usable.
    """
    files, names = photograph_files(photographs)
    with tempfile.TemporaryDirectory(prefix="nerfgen-") as folder:
        data = Path(folder)
        # What a file is called says nothing of what it holds: any extension of images makes the stages look at it.
        links = [f"{place:09d}.png" for place in range(len(files))]
        for link, file in zip(links, files, strict=True):
            _link(file, data / link)
        cameras = data / "cameras.h5"
        masks = data / "masks.h5" if Preset(**model.preset).lambda_mask > 0 else None
        landmark_folder(
            data,
            data / "landmarks.h5",
            object_class=model.object_class,
            model=landmarker,
            workers=workers,
            warn=warn,
        )
        fit_folder(data, cameras, focal=model.focal, canonical=(model.canonical_index, model.canonical))
        if masks:
            segment_folder(data, masks, workers=workers, size=max(model.size, 64), warn=warn)
        status = _statuses(links, cameras, masks)
        if not artifact.usable(status).any():
            raise InputError(_none_usable(names, status, model.object_class.name))
        framed = load_framed(data, cameras, masks, model.size)
    at = artifact.positions(framed.images, links)
    # What has a camera and a mask and still can't be framed has its window beside the photograph.
    for place in set(np.flatnonzero(artifact.usable(status))) - set(at):
        status[place] = "too_small"
    return Photographs(names, status, replace(framed, images=[names[place] for place in at]))


def photograph_files(photographs: Sequence[Path]) -> tuple[list[Path], list[str]]:
    """The image files that paths to images and folders name, in order, and a name for each.

    A name is a file's own, or its path in the folder that was given. Where names are equal, as many of the folders
    above come before them as tell them apart; a file that was given twice has its number behind its name.

    Raises:
        InputError: a path does not exist.
    """
    files: list[Path] = []
    own: list[int] = []
    for path in photographs:
        if path.is_dir():
            found = find_images(path)
            files += [path / name for name in found]
            own += [len(Path(name).parts) for name in found]
        elif path.is_file():
            files.append(path)
            own.append(1)
        else:
            raise InputError(f"{path} does not exist; give a photograph or a folder of photographs")
    return files, _told_apart([Path(os.path.abspath(file)) for file in files], own)


def _told_apart(files: Sequence[Path], own: Sequence[int]) -> list[str]:
    """A different name for each file: the last ``own`` parts of its path, and more where others have the same."""
    lengths = list(own)
    while True:
        names = ["/".join(file.parts[-length:]) for file, length in zip(files, lengths, strict=True)]
        claims = Counter(name for name, _ in set(zip(names, files, strict=True)))
        longer = [
            min(length + (claims[name] > 1), len(file.parts) - 1)
            for file, name, length in zip(files, names, lengths, strict=True)
        ]
        if longer == lengths:
            break
        lengths = longer
    taken: set[str] = set()
    for place, name in enumerate(names):
        number, different = 1, name
        while different in taken:
            number += 1
            different = f"{name} ({number})"
        taken.add(different)
        names[place] = different
    return names


def _link(file: Path, link: Path) -> None:
    """A link to a file, or a copy where there are no links."""
    try:
        link.symlink_to(file.resolve())
    except OSError:
        shutil.copyfile(file, link)


def _none_usable(names: Sequence[str], status: Sequence[str], class_name: str) -> str:
    reasons = [f"{name}: {value}" for name, value in zip(names, status, strict=True)]
    more = f"; and {len(reasons) - _TOLD} more" if len(reasons) > _TOLD else ""
    return f"no photograph is usable ({'; '.join(reasons[:_TOLD])}{more}); is there a {class_name} in it?"


def _statuses(links: list[str], cameras: Path, masks: Path | None) -> list[str]:
    """Why each photograph can or can't be used: the first stage's word that is not ``ok``."""
    with artifact.reading(cameras, "cameras/1") as file:
        place = artifact.positions(links, artifact.strings(file["image"]))
        stored = artifact.strings(file["status"])
        status = [stored[p] if p >= 0 else "unreadable" for p in place]
    if masks is None:
        return status
    with artifact.reading(masks, "masks/1") as file:
        place = artifact.positions(links, artifact.strings(file["image"]))
        masked = artifact.strings(file["status"])
    return [
        masked[p] if own in artifact.USABLE and masked[p] not in artifact.USABLE else own
        for own, p in zip(status, place, strict=True)
    ]
