"""The annotated images that an estimator is trained on, and those that are held out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int
from PIL import Image

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.image import InputImage, UnreadableImageError, digest_images, find_images
from nerfgen.landmark import similarity
from nerfgen.landmark.annotation_formats import read_annotations
from nerfgen.landmark.annotation_tables import CAT_SUFFIX
from nerfgen.landmark.annotations import Annotations, upright_points
from nerfgen.landmark.union import LandmarkUnion
from nerfgen.objectclass import ObjectClass
from nerfgen.parallel import Progress, map_threads, silent
from nerfgen.untrusted import printable

_MAX_LISTED = 12
_MIN_IMAGES = 8  # annotated images without which there is no training


class AnnotatedFolder(NamedTuple):
    """A folder of images and the file or folder of their annotations."""

    images: Path
    annotations: Path


@dataclass(frozen=True)
class AnnotatedImages:
    """Annotated images of all sources.

    Attributes:
        paths, names: files, and their paths relative to the folder of their source.
        points: in the image's pixels; NaN where missing.
        labels: 1 for the first class, and so on.
        groups: name of each image's group, which is held out as a whole.
        notes: what was skipped, one line each.
        inputs: provenance records.
    """

    paths: list[Path]
    names: list[str]
    points: Float[np.ndarray, "image landmark 2"]
    labels: Int[np.ndarray, " image"]
    groups: list[str]
    notes: list[str]
    inputs: list[storage.InputRecord]


def annotated_classes(sources: Sequence[AnnotatedFolder]) -> list[str]:
    """The classes that the annotations name, in order of appearance; "" for objects without a class."""
    return list(dict.fromkeys(label for source in sources for label in _read(source).labels))


def gather_images(
    sources: Sequence[AnnotatedFolder], classes: Sequence[ObjectClass], split_by: int = 0
) -> AnnotatedImages:
    """Read the annotations of all sources.

    Objects whose annotations name no class have the only class, or, with as many classes as sources, the class of the
    source's position.

    Args:
        split_by: number of leading characters of a file name that name an image's group; 0: each image is a group.

    Raises:
        InputError: the annotations don't fit the classes, or too few images remain.
    """
    for described in classes:
        if len(described.landmark_names) < 2:
            raise InputError(f"class {described.name} has too few landmarks; name two or more in its file")
    landmarks = LandmarkUnion.of(classes)
    paths: list[Path] = []
    names: list[str] = []
    notes: list[str] = []
    points, labels, groups, inputs = [], [], [], []
    for place, source in enumerate(sources):
        found = _read(source)
        by_place = place if len(sources) == len(classes) else 0
        own = _labels(found, classes, source, by_place, notes, len(sources))
        found = _in_union(found, own, classes, landmarks, str(source.annotations))
        there = find_images(source.images)
        found = found.of_files(there, source.images, source.annotations)
        notes += [f"{source.annotations}: {note} skipped" for note in found.notes]
        present = set(there)
        known = np.array([name in present for name in found.images])
        found, fits = _in_pixels(found, source.images, known)
        enough = np.isfinite(found.points).all(-1).sum(-1) >= 2
        for what, lost in (
            ("annotated images that are not in the folder", ~known),
            ("images of another shape than annotated", known & ~fits & (own > 0)),
            ("images with fewer than two points", known & fits & ~enough & (own > 0)),
        ):
            if lost.any():
                example = printable(found.images[int(np.flatnonzero(lost)[0])])
                notes.append(f"{source.annotations}: {int(lost.sum())} {what} skipped, such as {example}")
        unannotated = len(present - set(found.images))
        if unannotated:
            notes.append(f"{source.images}: {unannotated} images without an annotation skipped")
        rows = np.flatnonzero(known & fits & enough & (own > 0))
        kept = found.rows(rows.tolist())
        names += kept.images
        paths += [source.images / name for name in kept.images]
        points.append(kept.points)
        labels.append(own[rows])
        groups += [f"{place}/{_group(name, split_by)}" for name in kept.images]
        inputs.append(_record(source.annotations))
        inputs.append(storage.folder_record(kept.images, digest_images(source.images, kept.images)))
    if len(paths) < _MIN_IMAGES:
        reasons = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(
            f"only {len(paths)} annotated images; training needs at least {_MIN_IMAGES}{reasons}"
        )
    return AnnotatedImages(
        paths, names, np.concatenate(points), np.concatenate(labels), groups, notes, inputs
    )


def _read(source: AnnotatedFolder) -> Annotations:
    """Annotations of a source in any format, or the usable landmarks of a file of nerfgen."""
    path = source.annotations
    if path.suffix.lower() not in (".h5", ".hdf5"):
        return read_annotations(path, source.images)
    with storage.reading(path, "landmarks/1", made_by=f"nerfgen landmark {source.images}") as file:
        rows = np.flatnonzero(storage.usable(storage.strings(file["status"])))
        images, described = storage.strings(file["image"]), storage.class_of(file)
        if not len(rows):
            raise InputError(f"{path} has no usable landmarks; give a file that has some")
        return Annotations(
            tuple(images[row] for row in rows),
            tuple(storage.strings(file["landmark_names"])),
            file["landmarks"][:][rows].astype(np.float64),
            (described.name,) * len(rows),
            file["image_size"][:][rows].astype(np.int64),
        )


def _in_union(
    found: Annotations,
    labels: Int[np.ndarray, " image"],
    classes: Sequence[ObjectClass],
    landmarks: LandmarkUnion,
    source: str,
) -> Annotations:
    """Annotations with the points of all landmarks; NaN for those of other classes."""
    points = np.full((len(labels), len(landmarks.names), 2), np.nan)
    for label in np.unique(labels[labels > 0]).tolist():
        rows = np.flatnonzero(labels == label)
        own = found.rows(rows.tolist()).with_names(classes[label - 1].landmark_names, source)
        points[rows] = landmarks.spread(label, own.points)
    return replace(found, names=landmarks.names, points=points)


def draw_held_out(groups: Sequence[str], fraction: float, seed: int) -> Bool[np.ndarray, " image"]:
    """Which images are held out: whole groups, drawn until they make up the fraction of all images.

    Raises:
        InputError: there is only one group.
    """
    sizes = Counter(groups)
    if fraction <= 0:
        return np.zeros(len(groups), bool)
    if len(sizes) < 2:
        raise InputError(
            "all images belong to one group, so none can be held out; raise `split_by`, or set `held_out` to 0"
        )
    names = sorted(sizes)
    chosen: set[str] = set()
    count = 0
    for index in np.random.default_rng(seed).permutation(len(names))[:-1]:
        if count >= fraction * len(groups):
            break
        chosen.add(names[index])
        count += sizes[names[index]]
    return np.array([group in chosen for group in groups])


def _in_pixels(
    found: Annotations, images: Path, known: Bool[np.ndarray, " image"]
) -> tuple[Annotations, Bool[np.ndarray, " image"]]:
    """The annotations with points in the pixels of their files, and which files have the annotated shape.

    Args:
        known: which images exist.
    """

    def place(row: int) -> Float[np.ndarray, "landmark 2"] | None:
        try:
            return upright_points(found.points[row], found.sizes[row], InputImage(images / found.images[row]))
        except UnreadableImageError:  # reported when it is cropped
            return found.points[row]

    rows = np.flatnonzero(known & found.sizes.all(axis=1))
    placed = list(map_threads(place, rows.tolist()))
    points, fits = found.points.copy(), np.ones(len(known), bool)
    for row, own in zip(rows, placed, strict=True):
        if own is None:
            fits[row] = False
        else:
            points[row] = own
    return replace(found, points=points), fits


def _labels(
    found: Annotations,
    classes: Sequence[ObjectClass],
    source: AnnotatedFolder,
    place: int,
    notes: list[str],
    num_sources: int,
) -> Int[np.ndarray, " image"]:
    """Label of each object; 0 for those of other classes."""
    known = {described.name: 1 + index for index, described in enumerate(classes)}
    if "" in found.labels:
        if len(classes) > 1 and num_sources != len(classes):
            raise InputError(
                f"{source.annotations} names no classes; add a column class, or give one pair of IMAGES and "
                "ANNOTATIONS for each class"
            )
        known[""] = 1 + place
    labels = np.array([known.get(label, 0) for label in found.labels], np.int64)
    if not labels.any():
        raise InputError(
            f"{source.annotations} has no object of class {', '.join(item.name for item in classes)}; "
            f"its classes are {printable(', '.join(sorted(set(found.labels))[:_MAX_LISTED]))}"
        )
    if (labels == 0).any():
        notes.append(f"{source.annotations}: {int((labels == 0).sum())} objects of other classes skipped")
    return labels


def _group(name: str, split_by: int) -> str:
    return Path(name).name[:split_by] if split_by else name


def _record(path: Path) -> storage.InputRecord:
    if path.is_file():
        return storage.file_record(path)
    files = sorted(item for item in path.rglob(f"*{CAT_SUFFIX}") if item.is_file())
    names = [item.relative_to(path).as_posix() for item in files]
    return storage.folder_record(names, [storage.file_digest(item) for item in files])


# An example shows 1.8 times the object's window, at 100 pixels per size of the window.
_REACH = 1.8
EXAMPLE_SIZE = round(_REACH * 100)


@dataclass(frozen=True)
class Examples:
    """Crops around annotated objects.

    Attributes:
        images: RGBA of ``EXAMPLE_SIZE`` pixels; transparent beyond the original image, whose border is repeated there.
        points: x, y in pixels of the crops; NaN where missing.
        frames: from the unit window to pixels of the crops; the object is upright in the window.
        labels: 1 for the first class, and so on.
    """

    images: list[Image.Image]
    points: Float[np.ndarray, "example landmark 2"]
    frames: Float[np.ndarray, "example 2 3"]
    labels: Int[np.ndarray, " example"]


def load_examples(
    paths: Sequence[Path],
    points: Float[np.ndarray, "image landmark 2"],
    labels: Int[np.ndarray, " image"],
    frames: Float[np.ndarray, "image 2 3"],
    *,
    progress: Progress = silent,
) -> tuple[Examples, list[Path]]:
    """Crop the examples from their images.

    Args:
        points: in the images' pixels.
        frames: of the objects in their images, see :mod:`nerfgen.landmark.similarity`.

    Returns:
        The examples, and the images that can't be decoded, which are skipped.
    """
    centers = similarity.apply(frames, np.array([[0.5, 0.5]]))[:, 0]
    sides = _REACH * similarity.window_size(frames)
    windows = np.concatenate([centers - sides[:, None] / 2, sides[:, None]], axis=1)
    jobs = list(zip(paths, windows, strict=True))
    crops = list(map_threads(_crop, jobs, progress=progress))
    readable = np.array([crop is not None for crop in crops], bool)
    scale = EXAMPLE_SIZE / sides
    to_crop = np.zeros((len(paths), 2, 3))
    to_crop[:, 0, 0] = to_crop[:, 1, 1] = scale
    to_crop[:, :, 2] = -windows[:, :2] * scale[:, None]
    examples = Examples(
        [crop for crop in crops if crop is not None],
        similarity.apply(to_crop, points)[readable],
        similarity.compose(to_crop, frames)[readable],
        np.asarray(labels)[readable],
    )
    return examples, [path for path, kept in zip(paths, readable, strict=True) if not kept]


def _crop(job: tuple[Path, np.ndarray]) -> Image.Image | None:
    path, window = job
    try:
        raster, valid = InputImage(path).resample(window, EXAMPLE_SIZE)
    except UnreadableImageError:
        return None
    return Image.fromarray(np.concatenate([raster, 255 * valid[..., None].astype(np.uint8)], axis=-1))
