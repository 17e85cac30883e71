"""A model against the truth of a synthetic class: held-out views that no training image showed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import scipy.ndimage
from jaxtyping import Float, Int

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.field import Model
from nerfgen.generate import Views, render_views
from nerfgen.geometry import invert_rigid, pixel_centers, sphere_window, window_intrinsics
from nerfgen.metric.camera import frame_rotation, rotation_errors
from nerfgen.metric.correlation import pearson
from nerfgen.metric.image import intersection_over_union, psnr
from nerfgen.photo import resample_window


@dataclass(frozen=True)
class HeldOut:
    """Held-out views of objects with a photograph each, and the cameras that a model is to see them from.

    Attributes:
        row: which of the photographs shows each view's object.
        rgb: pictures over white, in [0, 1].
        mask: foreground coverage, in [0, 1].
        depth: along the optical axis, world units; meaningful where ``mask`` is 1.
        intrinsics, cam_to_world: cameras in the model's world.
        scale: size of the model's world unit in the true one, per view.
    """

    row: np.ndarray
    rgb: Float[np.ndarray, "views size size 3"]
    mask: Float[np.ndarray, "views size size"]
    depth: Float[np.ndarray, "views size size"]
    intrinsics: Float[np.ndarray, "views 3 3"]
    cam_to_world: Float[np.ndarray, "views 4 4"]
    scale: Float[np.ndarray, "views"]


def camera_errors(model: Model, truth: Path) -> Float[np.ndarray, "rows"]:
    """Rotation error in degrees of every training camera after one global alignment."""
    return rotation_errors(*_both_cameras(model, truth))


def fitted_camera_errors(
    model: Model,
    truth: Path,
    fitted: Float[np.ndarray, "photographs 4 4"],
    true: Float[np.ndarray, "photographs 4 4"],
) -> Float[np.ndarray, "photographs"]:
    """Rotation error in degrees of cameras fitted to new photographs, in the frame that the training cameras define.

    Args:
        truth: of the training images.
        true: cameras of the photographs, in the same world as ``truth``.
    """
    return rotation_errors(fitted, true, frame_rotation(*_both_cameras(model, truth)))


def _both_cameras(model: Model, truth: Path) -> tuple[np.ndarray, np.ndarray]:
    """Training cameras as the model has them, and as they are."""
    with artifact.reading(truth, "truth/1") as file:
        place = artifact.positions(model.images, artifact.strings(file["image"]))
        return model.cam_to_world[place >= 0], file["cam_to_world"][:][place[place >= 0]]


def held_out_views(model: Model, truth: Path) -> HeldOut:
    """The held-out views of the objects that are in the model's table; see :func:`held_out_views_of`.

    Raises:
        InputError: there is none.
    """
    return held_out_views_of(model.images, model.intrinsics, model.cam_to_world, model.size, truth)


def held_out_views_of(
    images: Sequence[str],
    intrinsics: Float[np.ndarray, "images 3 3"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    size: int,
    truth: Path,
) -> HeldOut:
    """The held-out views of the objects that some photographs show, by the photographs' estimated cameras.

    The frame and the scale of an object in the model's world can't be known: a held-out camera is the
    photograph's own camera (as it was estimated) times the true relative motion, with the
    translation scaled by the ratio of the distances from the origin and the focal length by the ratio
    of the photograph's focal lengths.

    Args:
        images: paths of the photographs, as ``truth`` has them.
        intrinsics, cam_to_world: estimated cameras of the photographs, in the model's world.
        size: edge of the pictures, pixels.

    Raises:
        InputError: there is none.
    """
    with artifact.reading(truth, "truth/1") as file:
        objects, count = file["heldout_rgb"].shape[:2]
        shown = _photographs(file, objects, list(images))
        chosen = np.flatnonzero(shown[:, 0] >= 0)
        if not len(chosen) or not count:
            raise InputError(
                f"{truth}: no held-out view shows an object of the model; synthesise with --views"
            )
        row = np.repeat(shown[chosen, 1], count)
        true_k, true_pose = (file[name][:][shown[chosen, 0]] for name in ("intrinsics", "cam_to_world"))
        view_k = file["heldout_intrinsics"][:][chosen].reshape(-1, 3, 3)
        view_pose = file["heldout_cam_to_world"][:][chosen].reshape(-1, 4, 4)
        pictures = [
            _framed(
                file["heldout_rgb"][k, v],
                file["heldout_mask"][k, v],
                file["heldout_depth"][k, v],
                window,
                size,
            )
            for (k, v), window in zip(
                ((k, v) for k in chosen for v in range(count)), sphere_window(view_k, view_pose), strict=True
            )
        ]
    true_k, true_pose = np.repeat(true_k, count, axis=0), np.repeat(true_pose, count, axis=0)
    own_k, own_pose = intrinsics[row], cam_to_world[row]
    motion = invert_rigid(true_pose) @ view_pose
    ratio = np.linalg.norm(own_pose[:, :3, 3], axis=-1) / np.linalg.norm(true_pose[:, :3, 3], axis=-1)
    motion[:, :3, 3] *= ratio[:, None]
    matrices = view_k.copy()
    matrices[:, (0, 1), (0, 1)] *= (own_k[:, 0, 0] / true_k[:, 0, 0])[:, None]
    rgb, mask, depth = (np.stack(values) for values in zip(*pictures, strict=True))
    return HeldOut(
        row=row,
        rgb=rgb,
        mask=mask,
        depth=depth,
        intrinsics=window_intrinsics(matrices, sphere_window(view_k, view_pose), size),
        cam_to_world=own_pose @ motion,
        scale=1 / ratio,
    )


def _photographs(file: h5py.File, objects: int, images: list[str]) -> Int[np.ndarray, "objects 2"]:
    """A photograph of each of the first objects of a truth: its row there, and its place among ``images``; -1, -1 where
    none of them shows the object."""
    names = artifact.strings(file["image"])
    instances = artifact.strings(file["instance"]) if "instance" in file else names
    number = {instance: index for index, instance in enumerate(dict.fromkeys(instances))}
    found = np.full((objects, 2), -1)
    for row, place in reversed(list(enumerate(artifact.positions(names, images)))):
        if place >= 0 and number[instances[row]] < objects:
            found[number[instances[row]]] = row, place
    return found


def judge_views(views: Views, held_out: HeldOut) -> dict[str, float]:
    """PSNR over white, PSNR of the foreground and mask IoU, as means over views, and depth correlations.

    Depths are correlated over the pixels that truth and model both call foreground: pooled over all views
    (``depth_correlation``), and within each view, as a mean over views (``depth_correlation_within_views``).
    """
    over_white = views.foreground + (1 - views.opacity[..., None])
    scores: dict[str, list[float]] = {"psnr_db": [], "foreground_psnr_db": [], "mask_iou": []}
    predicted, true = [], []
    for view in range(len(held_out.rgb)):
        solid = held_out.mask[view] > 0.99
        both = solid & (views.opacity[view] > 0.5)
        scores["psnr_db"].append(psnr(over_white[view], held_out.rgb[view]))
        scores["foreground_psnr_db"].append(psnr(over_white[view], held_out.rgb[view], solid))
        scores["mask_iou"].append(
            intersection_over_union(views.opacity[view] > 0.5, held_out.mask[view] > 0.5)
        )
        predicted.append(views.depth[view][both] * held_out.scale[view])
        true.append(held_out.depth[view][both].astype(np.float64))
    within = [pearson(p, t) if len(t) > 2 else 0.0 for p, t in zip(predicted, true, strict=True)]
    return {name: float(np.mean(values)) for name, values in scores.items()} | {
        "depth_correlation": pearson(np.concatenate(predicted), np.concatenate(true)),
        "depth_correlation_within_views": float(np.mean(within)),
    }


def judge_codes(
    model: Model,
    latents: Float[np.ndarray, "photographs latent"],
    held_out: HeldOut,
    tuned: Mapping[int, dict[str, Any]] | None = None,
) -> dict[str, float]:
    """:func:`judge_views` of the views that codes, one a photograph, give.

    Args:
        tuned: what is added to the networks' parameters for a photograph, by its place.
    """

    def seen(model: Model, chosen: Any) -> Views:
        row, matrices, poses = (
            values[chosen] for values in (held_out.row, held_out.intrinsics, held_out.cam_to_world)
        )
        return render_views(model, latents[row], matrices, poses, model.size)

    if not tuned:
        return judge_views(seen(model, slice(None)), held_out)
    rows = np.unique(held_out.row)
    groups = [np.flatnonzero(held_out.row == row) for row in rows]
    parts = [seen(model.tuned(tuned.get(int(row))), group) for row, group in zip(rows, groups, strict=True)]
    order = np.argsort(np.concatenate(groups))
    names = ("rgb", "foreground", "opacity", "depth")
    whole = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    return judge_views(Views(**whole), held_out)


def judge(model: Model, truth: Path) -> dict[str, float]:
    """Held-out views by the model's own codes and, with ``class_mean_`` before the name, by the mean code."""
    held_out = held_out_views(model, truth)
    average = judge_codes(model, np.broadcast_to(model.latents.mean(0), model.latents.shape), held_out)
    return judge_codes(model, model.latents, held_out) | {
        f"class_mean_{name}": value for name, value in average.items()
    }


def _framed(
    rgb: np.ndarray, mask: np.ndarray, depth: np.ndarray, window: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A held-out picture over white, its mask and depth, resampled to its window."""
    color = resample_window(rgb, window, size)[0] / 255.0
    coverage = resample_window(mask[..., None], window, size)[0][..., 0] / 255.0
    centers = pixel_centers(size) * (window[2] / size) + window[:2] - 0.5
    there = scipy.ndimage.map_coordinates(depth, centers[:, ::-1].T, order=0, mode="nearest").reshape(
        size, size
    )
    return color * coverage[..., None] + 1 - coverage[..., None], coverage, there
