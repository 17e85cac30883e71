"""Held-out views of synthetic objects, and the scores of a model on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float, Int, PyTree, UInt8

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import invert_rigid, pixel_centers, sphere_window, window_intrinsics
from nerfgen.image import resample_window
from nerfgen.metric import frame_rotation, intersection_over_union, pearson, psnr, rotation_errors
from nerfgen.model import Model
from nerfgen.render import Views, render_views

# Coverage above which a pixel shows the object alone.
SOLID = 0.99


@dataclass(frozen=True)
class HeldOutViews:
    """Held-out views of objects that are known from one image each, and their cameras in the model's world.

    Attributes:
        row: index of the image that shows each view's object.
        rgb: views composited over white, in [0, 1].
        mask: foreground coverage, in [0, 1].
        depth: along the optical axis, world units; meaningful where ``mask`` is 1.
        intrinsics: pinhole matrices, pixels.
        cam_to_world: camera poses in the model's world.
        scale: size of the model's world unit in units of the true world, per view.
    """

    row: Int[np.ndarray, "views"]
    rgb: Float[np.ndarray, "views size size 3"]
    mask: Float[np.ndarray, "views size size"]
    depth: Float[np.ndarray, "views size size"]
    intrinsics: Float[np.ndarray, "views 3 3"]
    cam_to_world: Float[np.ndarray, "views 4 4"]
    scale: Float[np.ndarray, "views"]


def camera_errors(model: Model, truth: Path) -> Float[np.ndarray, "rows"]:
    """Rotation error in degrees of every training camera after one global alignment."""
    return rotation_errors(*_estimated_and_true_poses(model, truth))


def fitted_camera_errors(
    model: Model,
    truth: Path,
    fitted: Float[np.ndarray, "images 4 4"],
    true: Float[np.ndarray, "images 4 4"],
) -> Float[np.ndarray, "images"]:
    """Rotation error in degrees of cameras fitted to new images, in the frame that the training cameras define.

    Args:
        truth: ground truth of the training images.
        fitted: fitted poses of the new images.
        true: true poses of the new images, in the world of ``truth``.
    """
    return rotation_errors(fitted, true, frame_rotation(*_estimated_and_true_poses(model, truth)))


def _estimated_and_true_poses(
    model: Model, truth: Path
) -> tuple[Float[np.ndarray, "rows 4 4"], Float[np.ndarray, "rows 4 4"]]:
    """The model's training cameras and the true ones, for the images in both."""
    with storage.reading(truth, "truth/1") as file:
        place = storage.positions(model.images, storage.strings(file["image"]))
        return model.cam_to_world[place >= 0], file["cam_to_world"][:][place[place >= 0]]


def held_out_views(model: Model, truth: Path) -> HeldOutViews:
    """Held-out views of the objects in the model's table; see :func:`held_out_views_for_images`.

    Raises:
        InputError: no held-out view shows any of them.
    """
    return held_out_views_for_images(model.images, model.intrinsics, model.cam_to_world, model.size, truth)


def held_out_views_for_images(
    images: Sequence[str],
    intrinsics: Float[np.ndarray, "images 3 3"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    size: int,
    truth: Path,
) -> HeldOutViews:
    """Held-out views of the objects that images show, with cameras relative to the images' estimated cameras.

    Frame and scale of an object in the model's world are unknown. A held-out camera is therefore the image's estimated
    camera times the true relative motion; the translation is scaled by the ratio of the distances from the origin, the
    focal length by the ratio of the image's focal lengths.

    Args:
        images: paths of the images, as in ``truth``.
        intrinsics: estimated pinhole matrices of the images.
        cam_to_world: estimated poses of the images, in the model's world.
        size: size of the views, pixels.

    Raises:
        InputError: no held-out view shows an object of the images.
    """
    with storage.reading(truth, "truth/1") as file:
        objects, count = file["heldout_rgb"].shape[:2]
        shown = _image_of_each_object(file, objects, list(images))
        chosen = np.flatnonzero(shown[:, 0] >= 0)
        if not len(chosen) or not count:
            raise InputError(
                f"{truth}: no held-out view shows an object of the model; synthesise with `views` above 0"
            )
        row = np.repeat(shown[chosen, 1], count)
        true_k, true_pose = (file[name][:][shown[chosen, 0]] for name in ("intrinsics", "cam_to_world"))
        view_k = file["heldout_intrinsics"][:][chosen].reshape(-1, 3, 3)
        view_pose = file["heldout_cam_to_world"][:][chosen].reshape(-1, 4, 4)
        views = [
            resample_truth(
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
    rgb, mask, depth = (np.stack(values) for values in zip(*views, strict=True))
    return HeldOutViews(
        row=row,
        rgb=rgb,
        mask=mask,
        depth=depth,
        intrinsics=window_intrinsics(matrices, sphere_window(view_k, view_pose), size),
        cam_to_world=own_pose @ motion,
        scale=1 / ratio,
    )


def _image_of_each_object(file: h5py.File, objects: int, images: list[str]) -> Int[np.ndarray, "objects 2"]:
    """One image of each of the first objects of a ground truth: its row there and its index in ``images``; -1, -1 if
    none of the images shows the object."""
    names = storage.strings(file["image"])
    instances = storage.strings(file["instance"]) if "instance" in file else names
    number = {instance: index for index, instance in enumerate(dict.fromkeys(instances))}
    found = np.full((objects, 2), -1)
    for row, place in reversed(list(enumerate(storage.positions(names, images)))):
        if place >= 0 and number[instances[row]] < objects:
            found[number[instances[row]]] = row, place
    return found


def composite_over_white(views: Views) -> Float[np.ndarray, "views size size 3"]:
    """Foregrounds composited over white, in [0, 1]."""
    return views.foreground + (1 - views.opacity[..., None])


def solid_pixels(views: HeldOutViews) -> Bool[np.ndarray, "views size size"]:
    """Pixels that show the object alone."""
    return views.mask > SOLID


def score_views(views: Views, true: HeldOutViews) -> dict[str, float]:
    """PSNR over white, foreground PSNR and mask IoU as means over views, and depth correlations.

    Depths are correlated over the pixels that both the ground truth and the rendering count as foreground: pooled over
    all views (``depth_correlation``), and within each view as a mean over views (``depth_correlation_within_views``).
    """
    renderings, foreground = composite_over_white(views), solid_pixels(true)
    scores: dict[str, list[float]] = {"psnr_db": [], "foreground_psnr_db": [], "mask_iou": []}
    predicted_depth, true_depth = [], []
    for view in range(len(true.rgb)):
        both = foreground[view] & (views.opacity[view] > 0.5)
        scores["psnr_db"].append(psnr(renderings[view], true.rgb[view]))
        scores["foreground_psnr_db"].append(psnr(renderings[view], true.rgb[view], foreground[view]))
        scores["mask_iou"].append(intersection_over_union(views.opacity[view] > 0.5, true.mask[view] > 0.5))
        predicted_depth.append(views.depth[view][both] * true.scale[view])
        true_depth.append(true.depth[view][both].astype(np.float64))
    within = [pearson(p, t) if len(t) > 2 else 0.0 for p, t in zip(predicted_depth, true_depth, strict=True)]
    return {name: float(np.mean(values)) for name, values in scores.items()} | {
        "depth_correlation": pearson(np.concatenate(predicted_depth), np.concatenate(true_depth)),
        "depth_correlation_within_views": float(np.mean(within)),
    }


def score_latents(
    model: Model,
    latents: Float[np.ndarray, "images latent"],
    true: HeldOutViews,
    tuned: Mapping[int, dict[str, PyTree]] | None = None,
) -> dict[str, float]:
    """:func:`score_views` of the held-out views rendered from latent codes, one per image.

    Args:
        tuned: changes of the networks' parameters for an image, by its index.
    """

    def render(model: Model, chosen: Any) -> Views:
        row, matrices, poses = (values[chosen] for values in (true.row, true.intrinsics, true.cam_to_world))
        return render_views(model, latents[row], matrices, poses, model.size)

    if not tuned:
        return score_views(render(model, slice(None)), true)
    rows = np.unique(true.row)
    groups = [np.flatnonzero(true.row == row) for row in rows]
    parts = [render(model.tuned(tuned.get(int(row))), group) for row, group in zip(rows, groups, strict=True)]
    order = np.argsort(np.concatenate(groups))
    names = ("rgb", "foreground", "opacity", "depth")
    joined = {name: np.concatenate([getattr(part, name) for part in parts])[order] for name in names}
    return score_views(Views(**joined), true)


def score_model(model: Model, truth: Path) -> dict[str, float]:
    """Scores of the table's latent codes on held-out views and, prefixed ``class_mean_``, of the mean code."""
    true = held_out_views(model, truth)
    average = score_latents(model, np.broadcast_to(model.latents.mean(0), model.latents.shape), true)
    return score_latents(model, model.latents, true) | {
        f"class_mean_{name}": value for name, value in average.items()
    }


def resample_truth(
    rgb: UInt8[np.ndarray, "height width 3"],
    mask: UInt8[np.ndarray, "height width"],
    depth: Float[np.ndarray, "height width"],
    window: Float[np.ndarray, "3"],
    size: int,
) -> tuple[Float[np.ndarray, "size size 3"], Float[np.ndarray, "size size"], Float[np.ndarray, "size size"]]:
    """A true view composited over white, its mask in [0, 1] and its depth, resampled to a window."""
    import scipy.ndimage

    color = resample_window(rgb, window, size)[0] / 255.0
    coverage = resample_window(mask[..., None], window, size)[0][..., 0] / 255.0
    centers = pixel_centers(size) * (window[2] / size) + window[:2] - 0.5
    nearest = scipy.ndimage.map_coordinates(depth, centers[:, ::-1].T, order=0, mode="nearest").reshape(
        size, size
    )
    return color * coverage[..., None] + 1 - coverage[..., None], coverage, nearest
