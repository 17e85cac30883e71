"""The camera stage on a folder: landmarks.h5 in, cameras.h5 out."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from nerfgen import storage
from nerfgen.camera.fitting import fit_cameras, images_to_estimate_from
from nerfgen.camera.observations import read_observations, with_canonical
from nerfgen.camera.settings import CameraSettings
from nerfgen.errors import InputError
from nerfgen.image import ImageFolder, digest_images, local_folder, possibly_changed

_SCHEMA = "cameras/1"
# Raise when equal landmarks and settings give other cameras.
_VERSION = 1
# What is written of each image's fit.
_FITTED = ("status", "intrinsics", "cam_to_world", "window", "reprojection_rmse", "iterations")


def fit_folder(
    data: ImageFolder,
    output: Path,
    settings: CameraSettings = CameraSettings(),
    *,
    landmarks: Path | None = None,
    canonical: tuple[Int[np.ndarray, "points"], Float[np.ndarray, "points 3"]] | None = None,
    shard: storage.Shard = storage.Shard(),
    workers: int | None = None,
    scheduler: str | None = None,
    overwrite: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> storage.Record:
    """Fit the camera and the window of every image that has landmarks; write ``cameras/1``.

    Args:
        landmarks: file of the landmark stage; ``local_folder(data) / "landmarks.h5"`` by default.
        canonical: (index, keypoints) of an earlier fit; by default those of the class.
        shard: the part of the images to fit; `nerfgen join` joins the outputs. What all images have in common,
            such as estimated canonical keypoints, is computed from all of them.
        workers, scheduler: take workers of Dask, see :class:`nerfgen.cluster.ClusterWorkers`.
        say: receives a line when canonical keypoints are estimated, and a warning if they are uncertain.

    Returns:
        Summary: images, fitted, reprojection_rmse_px_median, statuses, canonical (points, depth_extent, and the number
        of images that they were estimated from), kept (whether the output was current).

    Raises:
        InputError: the landmarks are missing, not those of the class, or too few to estimate canonical keypoints; or no
            image gets a camera.
        OutputExistsError: the output exists and was made from other inputs or settings.
    """
    source = landmarks or local_folder(data) / "landmarks.h5"
    parameters = asdict(settings)
    points = settings.points
    with storage.reading(source, "landmarks/1", made_by=f"nerfgen landmark {data}") as file:
        described = storage.class_of(file)
        if canonical is not None and len(canonical[0]):
            described, points = with_canonical(described, *canonical)
            parameters["canonical"] = canonical[1].tolist()
        observed = read_observations(file, described, points)
        reasons = storage.strings(file["reason"]) if "reason" in file else [""] * len(observed.images)
        digests = storage.image_digests(file)
        sizes = dict(zip(observed.images, file["image_bytes"][:].tolist(), strict=True))
    present = _suspects(data, source, sizes)
    status, changed = storage.changed_images(observed.status, observed.images, present, digests)
    if changed:
        observed = replace(observed, status=status)
        now = [(0, present[image]) for image in changed]
        parameters["changed_images"] = storage.folder_record(changed, now)["sha256"]
        commands = f"`nerfgen landmark {data} --overwrite` or the import"
        say(storage.changed_notice(changed, source, commands))
    chosen = images_to_estimate_from(observed, settings, str(source))
    parameters["estimate_canonical"] = bool(chosen)
    parameters |= shard.parameters(observed.images)
    rows = shard.rows(len(observed.images))
    stage = storage.Stage(
        output,
        _SCHEMA,
        described,
        parameters=parameters,
        inputs=[storage.file_record(source)],
        version=_VERSION,
    )
    kept = stage.is_current(overwrite=overwrite)
    if not kept:
        with stage.claimed():
            fitted = fit_cameras(
                observed,
                described,
                settings,
                only=rows,
                workers=workers,
                scheduler=scheduler,
                source=str(source),
                say=say,
            )
        if shard.is_whole:
            _require_one(fitted.status, source)
        with stage.create() as file:
            writer = storage.RowWriter(file, len(rows), intrinsics=(3, 3), cam_to_world=(4, 4))
            for row in rows:
                image = observed.images[row]
                writer.add(
                    {
                        "image": image,
                        "reason": reasons[row],
                        "image_size": observed.image_size[row],
                        **{name: getattr(fitted, name)[row] for name in _FITTED},
                        "image_sha256": digests[image],
                    }
                )
            writer.finish(canonical_index=observed.index, canonical=fitted.canonical)
    summary = _summarise(output)
    summary["canonical"]["images"] = len(chosen)
    return summary | {"kept": kept}


def _require_one(status: Sequence[str], source: Path) -> None:
    """Raise :class:`InputError` if no image has a camera."""
    if storage.usable(status).any():
        return
    counts = Counter(status).most_common()
    reasons = ", ".join(f"{reason}: {count}" for reason, count in counts)
    why = f"; {counts[0][0]} means: {storage.STATUSES[counts[0][0]]}" if counts else "it lists none"
    raise InputError(f"{source}: no image gets a camera ({reasons}{why}); add images, or check the class")


def _suspects(data: ImageFolder, landmarks: Path, sizes: Mapping[str, int]) -> dict[str, str]:
    """SHA-256 of the images that may have changed since the landmarks were made: of another size, or newer.

    The cameras are fitted to the landmarks alone, so that the images need neither be read nor be there.
    """
    suspects = possibly_changed(data, sizes, os.stat(landmarks).st_mtime_ns)
    return {image: sha256 for image, (_, sha256) in zip(suspects, digest_images(data, suspects), strict=True)}


def _summarise(path: Path) -> storage.Record:
    with storage.reading(path, _SCHEMA) as file:
        status = storage.strings(file["status"])
        usable = storage.usable(status)
        error = file["reprojection_rmse"][:][usable]
        canonical = file["canonical"][:]
    return {
        "images": len(status),
        "fitted": int(usable.sum()),
        "reprojection_rmse_px_median": float(np.median(error)) if len(error) else None,
        "statuses": dict(Counter(status)),
        "canonical": {"points": len(canonical), "depth_extent": float(np.ptp(canonical[:, 2]))},
        "output": str(path),
    }
