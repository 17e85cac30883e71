"""New images on their way into a model: landmarks, camera and mask of each, and its window. All in memory."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen import storage
from nerfgen.camera import (
    CameraSettings,
    FittedCameras,
    Observations,
    fit_cameras,
    observe,
    with_canonical,
)
from nerfgen.data import FramedImages, frame_mask
from nerfgen.errors import InputError
from nerfgen.image import ImageStore, InputImage, UnreadableImageError, find_images, image_folder
from nerfgen.landmark import Detection, EstimatorSpec, estimator_for, map_landmarks
from nerfgen.mask import MaskSettings, Segmentation, SegmentationRequest, SegmenterSpec, map_masks
from nerfgen.model import Model
from nerfgen.parallel import map_threads

# An image file, or an upright RGB image.
ImageSource = InputImage | Path | str | UInt8[np.ndarray, "_ _ 3"]
Warn = Callable[[str], None]

# Images whose status an error lists.
_LISTED = 3
# Masks are at least of this size, pixels: segmentation at a smaller one is coarse.
_MIN_MASK_SIZE = 64


class NoUsableImageError(InputError):
    """None of some images can be fitted.

    Attributes:
        status: of each image, why.
    """

    def __init__(self, names: Sequence[str], status: Sequence[str], class_name: str) -> None:
        reasons = [f"{name}: {value}" for name, value in zip(names, status, strict=True)]
        more = f"; and {len(reasons) - _LISTED} more" if len(reasons) > _LISTED else ""
        super().__init__(
            f"no image is usable ({'; '.join(reasons[:_LISTED])}{more}); is there a {class_name} in it?"
        )
        self.status = list(status)


@dataclass(frozen=True)
class PreparedImages:
    """Images with landmarks, cameras and masks, ready to be fitted.

    Attributes:
        names: of all images, usable or not.
        status: ``ok``, or why an image is unusable.
        framed: the usable ones.
        index: which of all images these are.
        points: where the canonical points of ``framed`` were detected in each usable image, pixels; NaN where they were
            not.
    """

    names: list[str]
    status: list[str]
    framed: FramedImages
    index: Int[np.ndarray, "usable"]
    points: Float[np.ndarray, "usable points 2"]


def prepare_images(
    model: Model,
    images: Sequence[ImageSource],
    *,
    landmarker: Path | None = None,
    models: Path | None = None,
    workers: int | None = None,
    warn: Warn = lambda line: None,
) -> PreparedImages:
    """Estimate landmarks, camera and mask of each image, and frame it, with the settings of the model's training.

    Raises:
        InputError: a path does not exist.
        NoUsableImageError: no image is usable.
    """
    inputs, names = name_images(images)
    detections, mesh_index = _landmarks(model, inputs, landmarker, models, workers, warn)
    cameras, observed = _cameras(model, names, detections, mesh_index)
    status = list(cameras.status)
    masks: dict[int, np.ndarray | None] = dict.fromkeys(np.flatnonzero(storage.usable(status)).tolist())
    if model.recipe.lambda_mask > 0:
        for place, found in _masks(model, inputs, names, detections, cameras, models, workers, warn).items():
            masks[place] = found.mask
            if found.status not in storage.USABLE:
                status[place] = found.status
    rgb: list[np.ndarray] = []
    mask: list[np.ndarray] = []
    valid: list[np.ndarray] = []
    usable = np.flatnonzero(storage.usable(status)).tolist()

    def frame(place: int) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
        return _frame(inputs[place], masks[place], cameras.window[place], model.size)

    for place, found_raster in zip(usable, map_threads(frame, usable), strict=True):
        if isinstance(found_raster, str):
            status[place] = found_raster
            continue
        for rasters, raster in zip((rgb, mask, valid), found_raster, strict=True):
            rasters.append(raster)
    index = np.flatnonzero(storage.usable(status))
    if not len(index):
        raise NoUsableImageError(names, status, model.object_class.name)
    framed = FramedImages(
        images=[names[place] for place in index],
        rgb=np.stack(rgb),
        mask=np.stack(mask),
        valid=np.stack(valid),
        image_size=np.array([detections[place].image_size for place in index], np.int32),
        intrinsics=cameras.intrinsics[index],
        cam_to_world=cameras.cam_to_world[index],
        window=cameras.window[index],
        canonical_index=observed.index,
        canonical=cameras.canonical,
        skipped=dict(Counter(each for each in status if each not in storage.USABLE)),
    )
    return PreparedImages(names, status, framed, index, observed.points_of(index))


def find_networks(
    model: Model,
    *,
    landmarker: Path | None = None,
    models: Path | None = None,
    warn: Warn = lambda line: None,
) -> None:
    """Find, and download if need be, the networks by which images of a model's class are prepared.

    Raises:
        NerfgenError: images can't be prepared here; says what is missing.
    """
    _estimator_of(model, landmarker, models, warn)
    if model.recipe.lambda_mask > 0:
        _segmenter_of(model, models, warn)


def _estimator_of(model: Model, landmarker: Path | None, models: Path | None, warn: Warn) -> EstimatorSpec:
    return estimator_for(model.object_class, landmarker, models=models).prepared(warn)


def _segmenter_of(model: Model, models: Path | None, warn: Warn) -> SegmenterSpec:
    settings = model.preparation.masks
    if settings is None:
        method = f"the method of class {model.object_class.name}"
        warn(f"the model's masks came from files; new images are segmented by {method}")
        settings = MaskSettings()
    return SegmenterSpec(settings, model.object_class, models).prepared(warn)


def _landmarks(
    model: Model,
    inputs: Sequence[InputImage],
    landmarker: Path | None,
    models: Path | None,
    workers: int | None,
    warn: Warn,
) -> tuple[list[Detection], Int[np.ndarray, "mesh"]]:
    spec = _estimator_of(model, landmarker, models, warn)
    for line in spec.warnings():
        warn(line)
    return list(map_landmarks(inputs, spec, workers=workers)), spec.mesh_index


def _cameras(
    model: Model, names: Sequence[str], detections: Sequence[Detection], mesh_index: Int[np.ndarray, "mesh"]
) -> tuple[FittedCameras, Observations]:
    """Cameras in the model's world, whose canonical keypoints and focal length are fixed, and the points that they were
    fitted to."""
    preparation, described = model.preparation, model.object_class
    settings = CameraSettings(
        focal=model.focal,
        depth_weight=preparation.depth_weight,
        robust=preparation.robust,
        max_error=preparation.max_error,
    )
    points = settings.points
    if len(model.canonical_index):
        described, points = with_canonical(described, model.canonical_index, model.canonical)
    observed = observe(
        names,
        [detection.status for detection in detections],
        np.array([detection.image_size for detection in detections], np.int32),
        np.stack([detection.landmarks for detection in detections]),
        described,
        points,
        mesh=np.stack([detection.mesh for detection in detections]),
        mesh_index=mesh_index,
    )
    return fit_cameras(observed, described, settings), observed


def _masks(
    model: Model,
    inputs: Sequence[InputImage],
    names: Sequence[str],
    detections: Sequence[Detection],
    cameras: FittedCameras,
    models: Path | None,
    workers: int | None,
    warn: Warn,
) -> dict[int, Segmentation]:
    """The segmentation of every image that has a camera, by its index."""
    usable = np.flatnonzero(storage.usable(cameras.status)).tolist()
    spec = _segmenter_of(model, models, warn)
    requests = [
        SegmentationRequest(
            inputs[place],
            tuple(cameras.window[place].tolist()),
            max(model.size, _MIN_MASK_SIZE),
            names[place],
            model.object_class.bounds,
            cameras.intrinsics[place],
            cameras.cam_to_world[place],
            detections[place].landmarks.astype(np.float64),
        )
        for place in usable
    ]
    return dict(zip(usable, map_masks(requests, spec, workers=workers), strict=True))


def _frame(
    image: InputImage, mask: np.ndarray | None, window: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray] | str:
    """Colour, mask and validity of an image's window, or the status that says why there are none."""
    try:
        # A copy: the decoded image is released with it.
        rgb, valid = copy.copy(image).resample(window, size)
    except UnreadableImageError as error:
        return error.status
    if not valid.any():
        return "too_small"
    framed = np.full((size, size), 255, np.uint8) if mask is None else frame_mask(mask, window, window, size)
    return rgb, framed, valid


def name_images(images: Sequence[ImageSource]) -> tuple[list[InputImage], list[str]]:
    """The images that paths of files and folders mean, in order, and a distinct name for each.

    The name of a file is its own, or its path within a given folder, preceded by as many parent folders as distinguish
    it from others. Repeated files and images in memory are numbered.

    Raises:
        InputError: a path does not exist.
        StoreError: an object store does not answer.
    """
    sources: list[InputImage] = []
    paths: list[Path] = []
    lengths: list[int] = []
    for given in images:
        source = image_folder(given) if isinstance(given, str) else given
        if isinstance(source, ImageStore):
            is_folder = source.is_folder()
            folder, own = (source, find_images(source)) if is_folder else (source.parent, [source.name])
            found = [InputImage(name, folder) for name in own]
        elif isinstance(source, Path) and source.is_dir():
            found = [InputImage(name, source) for name in find_images(source)]
        elif isinstance(source, Path) and not source.exists():
            raise InputError(f"{source} does not exist; give an image or a folder of images")
        else:
            found = [source if isinstance(source, InputImage) else InputImage(source)]
        sources += found
        paths += [image.path or Path("/image") for image in found]
        lengths += [max(1, len(Path(image.name).parts)) for image in found]
    return sources, _distinct_names([Path(os.path.abspath(path)) for path in paths], lengths)


def _distinct_names(files: Sequence[Path], lengths: Sequence[int]) -> list[str]:
    """A different name for each file: the last parts of its path, at least as many as its length says."""
    lengths = list(lengths)
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
    used: set[str] = set()
    for place, name in enumerate(names):
        number, distinct = 1, name
        while distinct in used:
            number += 1
            distinct = f"{name} ({number})"
        used.add(distinct)
        names[place] = distinct
    return names
