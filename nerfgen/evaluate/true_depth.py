"""True depth of images: from synthetic ground truth, given keypoints, or the landmarks' relative depth as a proxy."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.evaluate.context import EvaluationContext
from nerfgen.evaluate.held_out_images import FittedImages, fit_images
from nerfgen.evaluate.held_out_views import SOLID
from nerfgen.evaluate.inputs import choose_subset, folder_name, read_keypoints, read_visible
from nerfgen.geometry import optical_axis, project
from nerfgen.image import InputImage, existing_images, local_folder
from nerfgen.parallel import Progress, silent

# A keypoint farther behind the surface than this fraction of the window's side is hidden. Visible keypoints lie up to
# about this far below the surface (mouth corners of synthetic heads); one hidden by less has almost the visible depth.
_HIDDEN = 0.025


@dataclass(frozen=True)
class ModelImages:
    """Images with their latent codes and cameras in a model's world.

    Attributes:
        names: name of each image.
        files: the images.
        latents: latent code of each image.
        intrinsics: pinhole matrices, pixels of the images.
        cam_to_world: camera poses in the model's world.
        window: (x0, y0, side) of each object's window, pixels of the images.
    """

    names: list[str]
    files: list[InputImage]
    latents: Float[np.ndarray, "images latent"]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    window: Float[np.ndarray, "images 3"]

    def subset(self, chosen: Int[np.ndarray, "chosen"]) -> ModelImages:
        """The images at these indices."""
        arrays = {
            name: getattr(self, name)[chosen] for name in ("latents", "intrinsics", "cam_to_world", "window")
        }
        names, files = ([listed[place] for place in chosen] for listed in (self.names, self.files))
        return ModelImages(names, files, **arrays)


@dataclass(frozen=True)
class DepthMaps:
    """True depth of every pixel.

    Attributes:
        window: the part of each image that its map spans.
        intrinsics: true pinhole matrices of the images.
        cam_to_world: true camera poses of the images.
        depth: along the optical axis, in units of the true world; 0 where a pixel does not show the object alone.
    """

    window: Float[np.ndarray, "images 3"]
    intrinsics: Float[np.ndarray, "images 3 3"]
    cam_to_world: Float[np.ndarray, "images 4 4"]
    depth: Float[np.ndarray, "images size size"]


@dataclass(frozen=True)
class TrueDepth:
    """Images with true depth.

    Attributes:
        images: the images.
        keypoints: x and y in pixels of the image, and depth: :func:`normalize_depth` of it if there are ``maps``, else
            in a unit and from a zero that differ between images. NaN where hidden or unknown.
        maps: depth maps; None if only keypoints are known.
        notes: where the depth comes from.
        visible: which keypoints the image shows; None if that is unknown.
    """

    images: ModelImages
    keypoints: Float[np.ndarray, "images keypoints 3"]
    maps: DepthMaps | None
    notes: list[str]
    visible: Bool[np.ndarray, "images keypoints"] | None = None


def true_depth(context: EvaluationContext, progress: Progress = silent) -> TrueDepth | str:
    """The first available of: given keypoints; ground truth of the held-out images; ground truth of the training
    images; the relative depth of the training images' landmarks. If there is none, what is missing.

    Args:
        progress: progress of latent fitting.

    Raises:
        InputError: the given keypoints are unusable.
    """
    inputs = context.inputs
    if inputs.visible and not inputs.keypoints:
        raise InputError(f"{inputs.visible.name}: its points are unknown; set `keypoints` too")
    if inputs.keypoints:
        return _from_keypoints(context, inputs.keypoints, progress)
    held_out = inputs.held_out
    if held_out and (truth := local_folder(held_out) / "truth.h5").is_file():
        try:
            fitted = context.held_out_images(progress)
        except InputError as error:
            return context.portable_message(error)
        source = f"held-out images of {folder_name(held_out)}, a latent code fitted to each"
        return _from_truth(_of_fitted(fitted), truth, source)
    model, settings = context.model, context.settings
    trained = _of_rows(context, choose_subset(model.images, settings.images, settings.seed))
    truth = local_folder(inputs.data) / "truth.h5"
    if truth.is_file():
        return _from_truth(trained, truth, "training images, rendered from the table's latent codes")
    return _from_landmark_mesh(trained, local_folder(inputs.data) / "landmarks.h5")


def normalize_depth(
    depth: Float[np.ndarray, "images *points"],
    intrinsics: Float[np.ndarray, "images 3 3"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    side: Float[np.ndarray, "images"],
) -> Float[np.ndarray, "images *points"]:
    """Depth behind the world's origin in sides of the object's window: (z - z0) f / (z0 side).

    z0 is the depth of the origin and f the focal length in pixels of the image: lengths are measured by the pixels
    they span at the object. The result depends neither on the world's unit nor on the trade-off between focal length
    and distance, which an image does not determine.

    Args:
        side: sides of the windows, pixels of the images.
    """
    scale, origin = _scale_and_origin(intrinsics, cam_to_world, side, depth.ndim)
    return (depth - origin) / scale


def denormalize_depth(
    normalized: Float[np.ndarray, "images *points"],
    intrinsics: Float[np.ndarray, "images 3 3"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    side: Float[np.ndarray, "images"],
) -> Float[np.ndarray, "images *points"]:
    """The inverse of :func:`normalize_depth`."""
    scale, origin = _scale_and_origin(intrinsics, cam_to_world, side, normalized.ndim)
    return normalized * scale + origin


def _scale_and_origin(
    intrinsics: Float[np.ndarray, "images 3 3"],
    cam_to_world: Float[np.ndarray, "images 4 4"],
    side: Float[np.ndarray, "images"],
    axes: int,
) -> tuple[Float[np.ndarray, "images *ones"], Float[np.ndarray, "images *ones"]]:
    """Length of each window's side at the object, and depth of the origin, for broadcasting over ``axes`` axes."""
    origin = -np.einsum("ni,ni->n", cam_to_world[:, :3, 3], optical_axis(cam_to_world))
    shape = (-1, *(1,) * (axes - 1))
    return (origin * side / intrinsics[:, 0, 0]).reshape(shape), origin.reshape(shape)


def _from_keypoints(context: EvaluationContext, path: Path, progress: Progress) -> TrueDepth | str:
    """Keypoints of a CSV file."""
    inputs, settings = context.inputs, context.settings
    given = read_keypoints(path)
    folder = inputs.held_out or inputs.data
    there = existing_images(folder, list(given))
    for name in given:
        if name not in there:
            raise InputError(f"{path.name}: {name} is not in {folder_name(folder)}")
    listed = list(given)
    listed = [listed[place] for place in choose_subset(listed, settings.images, settings.seed)]
    notes = [f"true keypoints of {len(listed)} of {len(given)} images of {path.name}"]
    if inputs.held_out:
        try:
            fitted = fit_images(context.model, inputs, listed, settings, context.workers, progress)
        except InputError as error:
            return context.portable_message(error)
        images = _of_fitted(fitted)
        notes += fitted.notes
    else:
        rows = storage.positions(listed, context.model.images)
        if not (rows >= 0).any():
            return f"{path.name} lists no training image; set `held_out` to the folder of its images"
        images = _of_rows(context, rows[rows >= 0])
        notes[0] += ", rendered from the table's latent codes"
        if (rows < 0).any():
            notes.append(f"{(rows < 0).sum()} of them have no row in the table and were left out")
    keypoints = np.stack([given[name] for name in images.names])
    return TrueDepth(images, keypoints, None, notes, _visible(context, images.names, keypoints.shape[1]))


def _visible(
    context: EvaluationContext, names: list[str], count: int
) -> Bool[np.ndarray, "images keypoints"] | None:
    """Which of the given keypoints are visible, if that is given too.

    Raises:
        InputError: the file lacks an image, or has another number of points than the keypoints.
    """
    path = context.inputs.visible
    if path is None:
        return None
    given = read_visible(path)
    for name in names:
        if name not in given:
            raise InputError(f"{path.name}: {name} is not listed; add a line for every image of `keypoints`")
        if len(given[name]) != count:
            raise InputError(f"{path.name}: {len(given[name])} points an image, but {count} in `keypoints`")
    return np.stack([given[name] for name in names])


def _from_truth(images: ModelImages, truth: Path, source: str) -> TrueDepth | str:
    """Depth maps and keypoints of a synthetic class."""
    with storage.reading(truth, "truth/1") as file:
        place = storage.positions(images.names, storage.strings(file["image"]))
        present = np.flatnonzero(place >= 0)
        if not len(present):
            return f"truth.h5 of {folder_name(truth.parent)} has none of the images"
        own, rows = images.subset(present), place[present]
        depth = np.stack([file["depth"][row] for row in rows]).astype(np.float64)
        solid = np.stack([file["mask"][row] for row in rows]) > SOLID * 255
        cameras = file["intrinsics"][:][rows], file["cam_to_world"][:][rows]
        window, points = file["mask_window"][:][rows], file["keypoints"][:][rows]
    pixels, point_depth = project(points, *cameras)
    side = own.window[:, 2]
    keypoints = np.concatenate([pixels, normalize_depth(point_depth, *cameras, side)[..., None]], axis=-1)
    hidden = _hidden(keypoints, normalize_depth(_farthest_nearby(depth), *cameras, side), window)
    notes = [f"{len(present)} {source}; depth from their truth.h5"]
    if len(present) < len(images.names):
        notes.append(f"{len(images.names) - len(present)} more are not in truth.h5")
    if hidden.any():
        notes.append(f"{hidden.sum()} of {hidden.size} keypoints are hidden by the object and were left out")
    keypoints = np.where(hidden[..., None], np.nan, keypoints)
    return TrueDepth(own, keypoints, DepthMaps(window, *cameras, np.where(solid, depth, 0)), notes)


def _farthest_nearby(
    depth: Float[np.ndarray, "images size size"],
) -> Float[np.ndarray, "images size size"]:
    """The largest depth among each pixel and its eight neighbours: a point at a depth edge is not hidden by the nearer
    surface."""
    size = depth.shape[-1]
    padded = np.pad(depth, ((0, 0), (1, 1), (1, 1)))
    return np.max([padded[:, y : y + size, x : x + size] for y in range(3) for x in range(3)], axis=0)


def _hidden(
    keypoints: Float[np.ndarray, "images keypoints 3"],
    surface: Float[np.ndarray, "images size size"],
    window: Float[np.ndarray, "images 3"],
) -> Bool[np.ndarray, "images keypoints"]:
    """Which keypoints lie behind the visible surface at their pixel, or outside the depth map."""
    size = surface.shape[-1]
    raster = (keypoints[..., :2] - window[:, None, :2]) * (size / window[:, None, 2:])
    column, row = np.moveaxis(np.floor(raster).astype(int), -1, 0)
    outside = (np.minimum(column, row) < 0) | (np.maximum(column, row) >= size)
    visible = surface[np.arange(len(surface))[:, None], row.clip(0, size - 1), column.clip(0, size - 1)]
    return outside | (keypoints[..., 2] - visible > _HIDDEN)


def _from_landmark_mesh(images: ModelImages, landmarks: Path) -> TrueDepth | str:
    """The landmark estimator's relative depth of its dense points, as a proxy."""
    absent = (
        "no true depth; set `keypoints`, or set `held_out` or `data` to a folder with truth.h5. Relative depth of a "
        "landmark estimator with a dense mesh would serve as a proxy"
    )
    if not landmarks.is_file():
        return absent
    with storage.reading(landmarks, "landmarks/1") as file:
        if "mesh" not in file or not file["mesh"].shape[1]:
            return absent
        place = storage.positions(images.names, storage.strings(file["image"]))
        usable = storage.usable(storage.strings(file["status"]))
        present = np.flatnonzero((place >= 0) & usable[place])
        if not len(present):
            return absent
        mesh = np.stack([file["mesh"][row] for row in place[present]]).astype(np.float64)
    return TrueDepth(
        images.subset(present),
        mesh,
        None,
        [
            f"a proxy, not ground truth: relative depth of the landmark estimator's {mesh.shape[1]} points, including "
            f"hidden ones, on {len(present)} of {len(images.names)} training images, rendered from the table's latent "
            "codes"
        ],
    )


def _of_fitted(fitted: FittedImages) -> ModelImages:
    framed = fitted.framed
    return ModelImages(
        framed.images, fitted.files, fitted.latents, framed.intrinsics, framed.cam_to_world, framed.window
    )


def _of_rows(context: EvaluationContext, rows: Int[np.ndarray, "rows"]) -> ModelImages:
    model, data = context.model, context.inputs.data
    return ModelImages(
        model.images,
        [InputImage(name, data) for name in model.images],
        model.latents,
        model.intrinsics,
        model.cam_to_world,
        model.window,
    ).subset(rows)
