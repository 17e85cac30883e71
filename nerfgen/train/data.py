"""The photographs as the training step sees them: framed, masked, with their cameras."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import scipy.ndimage
from jaxtyping import Bool, Float, Int, UInt8

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.geometry import window_intrinsics
from nerfgen.parallel import Progress, core_count, silent
from nerfgen.photo import UnreadableImageError, decode, resample_window
from nerfgen.train.preset import Preset

# Grown by this share of the raster, a mask also covers what lies just outside: the silhouette is learned there.
_DILATION = 0.05


@dataclass(frozen=True)
class Framed:
    """The usable photographs of a folder, each resampled to the window of its object.

    Attributes:
        images: paths relative to the folder.
        rgb, mask: rasters; mask is probability times 255 (all 255 without masks).
        valid: where a raster pixel lies on the photograph.
        image_size, intrinsics, cam_to_world, window: of the photographs.
        canonical_index, canonical: keypoints that the cameras were fitted to, if they were.
        skipped: images of the folder that are not here, by status.
    """

    images: list[str]
    rgb: UInt8[np.ndarray, "images size size 3"]
    mask: UInt8[np.ndarray, "images size size"]
    valid: Bool[np.ndarray, "images size size"]
    image_size: Int[np.ndarray, "images 2"]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    window: Float[np.ndarray, "images 3"]
    canonical_index: Int[np.ndarray, "points"]
    canonical: Float[np.ndarray, "points 3"]
    skipped: dict[str, int]

    @property
    def raster_intrinsics(self) -> Float[np.ndarray, "images 3 3"]:
        """Pinhole matrices of the rasters."""
        return window_intrinsics(self.intrinsics, self.window, self.rgb.shape[1])


def load_framed(
    data: Path,
    cameras: Path,
    masks: Path | None,
    size: int,
    *,
    progress: Progress = silent,
) -> Framed:
    """Decode and frame every image that has a camera and, where ``masks`` is given, a mask.

    Raises:
        InputError: a file is missing or no image is usable.
    """
    with artifact.reading(cameras, "cameras/1", "truth/1", made_by=f"nerfgen fit-cameras {data}") as file:
        images, status = artifact.strings(file["image"]), artifact.strings(file["status"])
        table = {name: file[name][:] for name in ("image_size", "intrinsics", "cam_to_world", "window")}
        fitted = "canonical" in file
        canonical = {
            "canonical_index": file["canonical_index"][:] if fitted else np.zeros(0, np.int32),
            "canonical": file["canonical"][:] if fitted else np.zeros((0, 3)),
        }
    rows = np.arange(len(images))
    skipped: dict[str, int] = {}
    rows = _drop(rows, artifact.usable(status)[rows], [status[row] for row in rows], skipped)
    mask_at = np.full(len(images), -1)
    if masks is not None:
        with artifact.reading(masks, "masks/1", "truth/1", made_by=f"nerfgen segment {data}") as file:
            mask_status = artifact.strings(file["status"])
            mask_at = artifact.positions(images, artifact.strings(file["image"]))
        reasons = [mask_status[mask_at[row]] if mask_at[row] >= 0 else "no_mask" for row in rows]
        rows = _drop(rows, artifact.usable(reasons), reasons, skipped)
    if not len(rows):
        raise InputError(f"{cameras}: no image of {data} is usable; `status` in the files says why")
    tasks = [(images[row], tuple(table["window"][row])) for row in rows]
    count = len(rows)
    rgb = np.zeros((count, size, size, 3), np.uint8)
    valid = np.zeros((count, size, size), bool)
    reasons = []
    # Decoding and resampling leave the interpreter lock free.
    with ThreadPoolExecutor(core_count()) as threads:
        for place, result in enumerate(threads.map(partial(_frame, data, size), tasks)):
            reasons.append("unreadable" if result is None else "ok" if result[1].any() else "too_small")
            if result is not None:
                rgb[place], valid[place] = result
            progress(place + 1, count)
    mask = np.full((count, size, size), 255, np.uint8)
    if masks is not None:
        with artifact.reading(masks, "masks/1", "truth/1") as file:
            for place, row in enumerate(rows):
                mask[place] = _framed_mask(file, mask_at[row], table["window"][row], size)
    kept = _drop(np.arange(count), artifact.usable(reasons), reasons, skipped)
    if not len(kept):
        raise InputError(f"{data}: none of the {count} images with a camera can be read")
    rows = rows[kept]
    return Framed(
        images=[images[row] for row in rows],
        rgb=rgb[kept],
        mask=mask[kept],
        valid=valid[kept],
        **{name: values[rows] for name, values in table.items()},
        **canonical,
        skipped=skipped,
    )


def for_cameras(preset: Preset, cameras: Path) -> Preset:
    """The preset, without camera refinement where the cameras were not fitted to landmarks: those are known."""
    with artifact.reading(cameras, "cameras/1", "truth/1") as file:
        return preset if "canonical" in file else replace(preset, camera_learning_rate=0.0)


def pixel_order(
    mask: UInt8[np.ndarray, "images size size"], valid: Bool[np.ndarray, "images size size"]
) -> tuple[np.ndarray, Int[np.ndarray, "images"], Int[np.ndarray, "images"]]:
    """Pixel indices of each image: inside the dilated mask first, then the rest of the photograph, then none.

    Returns:
        Indices (images, size^2), and how many are inside and how many valid in all.
    """
    size = mask.shape[-1]
    reach = max(1, round(_DILATION * size))
    width = 2 * reach + 1
    grown = scipy.ndimage.maximum_filter(mask, size=(1, width, width)) > 127
    rank = np.where(valid, np.where(grown, 0, 1), 2).reshape(len(mask), -1)
    order = np.argsort(rank, axis=1, kind="stable")
    kind = np.uint16 if size <= 256 else np.uint32
    return order.astype(kind), (rank == 0).sum(1).astype(np.int32), (rank < 2).sum(1).astype(np.int32)


def _drop(rows: np.ndarray, keep: np.ndarray, reasons: list[str], skipped: dict[str, int]) -> np.ndarray:
    """The rows to keep; the reasons of the others are counted."""
    for reason, good in zip(reasons, keep, strict=True):
        if not good:
            skipped[reason] = skipped.get(reason, 0) + 1
    return rows[keep]


def _frame(
    data: Path, size: int, task: tuple[str, tuple[float, ...]]
) -> tuple[np.ndarray, np.ndarray] | None:
    path, window = task
    try:
        return resample_window(decode(data / path), window, size)
    except UnreadableImageError:
        return None


def _framed_mask(file: object, row: int, window: np.ndarray, size: int) -> np.ndarray:
    """A stored mask, resampled from its own window to another one."""
    x0, y0, side = file["mask_window"][row]  # type: ignore[index]
    mask = file["mask"][row]  # type: ignore[index]
    scale = mask.shape[1] / side
    own = ((window[0] - x0) * scale, (window[1] - y0) * scale, window[2] * scale)
    return resample_window(mask[..., None], own, size)[0][..., 0]
