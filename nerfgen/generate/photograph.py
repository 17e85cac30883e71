"""From photographs to codes in one go: landmarks, camera, mask, latent fitting."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from nerfgen import artifact
from nerfgen.camera import fit_folder
from nerfgen.errors import InputError
from nerfgen.field import Model
from nerfgen.generate.codes import Objects
from nerfgen.generate.fit import fit_latents
from nerfgen.geometry import Cameras, window_intrinsics
from nerfgen.landmark import landmark_folder
from nerfgen.mask import segment_folder
from nerfgen.parallel import Progress, silent
from nerfgen.photo import find_images
from nerfgen.train import load_framed


def photograph_objects(
    model: Model,
    photographs: Sequence[Path],
    *,
    steps: int = 150,
    seed: int = 0,
    workers: int = 0,
    progress: Progress = silent,
    warn: Callable[[str], None] = lambda line: None,
) -> Objects:
    """Fit a code to each photograph, through the same stages as the training images.

    Args:
        photographs: image files and folders of images.
        steps: of latent fitting.

    Returns:
        The objects with their framed photographs; those that could not be used with their status, and without.

    Raises:
        InputError: a path does not exist, or no photograph is usable.
    """
    files = photograph_files(photographs)
    with tempfile.TemporaryDirectory(prefix="nerfgen-") as folder:
        data = Path(folder)
        names = [f"{place:06d}{file.suffix}" for place, file in enumerate(files)]
        for name, file in zip(names, files, strict=True):
            shutil.copyfile(file, data / name)
        masks, cameras = data / "masks.h5", data / "cameras.h5"
        landmark_folder(
            data, data / "landmarks.h5", object_class=model.object_class, workers=workers, warn=warn
        )
        fit_folder(data, cameras, focal=model.focal, canonical=(model.canonical_index, model.canonical))
        segment_folder(data, masks, workers=workers, size=max(model.size, 64), warn=warn)
        status = _statuses(names, cameras, masks)
        if not any(value in artifact.USABLE for value in status):
            reasons = "; ".join(f"{file.name}: {value}" for file, value in zip(files, status, strict=True))
            raise InputError(f"no photograph is usable ({reasons}); is there a {model.object_class} in it?")
        framed = load_framed(data, cameras, masks, model.size)
    fitted = fit_latents(model, framed, steps=steps, seed=seed, progress=progress)
    count = len(files)
    latents = np.tile(model.latents.mean(0), (count, 1)).astype(np.float32)
    intrinsics, poses = np.tile(np.eye(3), (count, 1, 1)), np.tile(np.eye(4), (count, 1, 1))
    quality = np.full(count, np.nan, np.float32)
    place = artifact.positions(framed.images, names)
    latents[place], poses[place], quality[place] = fitted.latents, fitted.cam_to_world, fitted.psnr
    intrinsics[place] = window_intrinsics(framed.intrinsics, framed.window, 1)
    for row, good in zip(place, fitted.converged, strict=True):
        if not good:
            status[row] = "not_converged"
    return Objects(
        names=[file.name for file in files],
        status=status,
        rows=np.full(count, -1),
        latents=latents,
        cameras=Cameras(intrinsics, poses),
        photographs={int(row): picture for row, picture in zip(place, framed.rgb, strict=True)},
        extra={"fit_psnr": quality},
    )


def photograph_files(photographs: Sequence[Path]) -> list[Path]:
    """The image files that paths to images and folders name, in order.

    Raises:
        InputError: a path does not exist.
    """
    files: list[Path] = []
    for path in photographs:
        if path.is_dir():
            files += [path / name for name in find_images(path)]
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"{path} does not exist; give a photograph or a folder of photographs")
    return files


def _statuses(names: list[str], cameras: Path, masks: Path) -> list[str]:
    """Why each photograph can or can't be used: the first stage's word that is not ``ok``."""
    with artifact.reading(cameras, "cameras/1") as file:
        place = artifact.positions(names, artifact.strings(file["image"]))
        status = [artifact.strings(file["status"])[p] if p >= 0 else "unreadable" for p in place]
    with artifact.reading(masks, "masks/1") as file:
        masked = artifact.strings(file["status"])
        place = artifact.positions(names, artifact.strings(file["image"]))
    return [
        masked[p] if own in artifact.USABLE and masked[p] not in artifact.USABLE else own
        for own, p in zip(status, place, strict=True)
    ]
