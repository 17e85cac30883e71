"""Which photographs an estimator learns from and which it is judged by."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int

from nerfgen import annotation, artifact
from nerfgen.annotation import Annotations
from nerfgen.errors import InputError
from nerfgen.objectclass import ObjectClass
from nerfgen.photo import digest_images, find_images

_FEWEST = 8


class Source(NamedTuple):
    """A folder of images and what annotates them."""

    images: Path
    annotations: Path


@dataclass(frozen=True)
class Gathered:
    """Annotated photographs of all sources.

    Attributes:
        paths, names: files, and their paths relative to the folder of their source.
        points: pixels of the photographs; NaN where missing.
        labels: 1 for the first class, and so on.
        groups: names of what belongs together, so that it is held out together.
        notes: what was left out, one line each.
        inputs: provenance.
    """

    paths: list[Path]
    names: list[str]
    points: Float[np.ndarray, "image landmark 2"]
    labels: Int[np.ndarray, " image"]
    groups: list[str]
    notes: list[str]
    inputs: list[dict[str, Any]]


def classes_of(sources: Sequence[Source]) -> list[str]:
    """The classes that the annotations themselves name, in the order of their first object; "" for nameless ones."""
    return list(
        dict.fromkeys(
            label for source in sources for label in annotation.read(source.annotations, source.images).labels
        )
    )


def gather(sources: Sequence[Source], classes: Sequence[ObjectClass], split_by: int = 0) -> Gathered:
    """Read the annotations of all sources.

    Objects whose annotations name a class belong to it. Nameless ones are of the only class, or, with as many
    classes as sources, of the one in the source's place.

    Args:
        split_by: first characters of an image's file name that images of one group share; 0: each for itself.

    Raises:
        InputError: the annotations don't fit the classes, or too few are left.
    """
    for described in classes:
        if described.landmark_names != classes[0].landmark_names:
            raise InputError(
                f"classes {classes[0].name} and {described.name} have different landmarks; train one for each"
            )
    if len(classes[0].landmark_names) < 2:
        raise InputError(f"class {classes[0].name} has no landmarks to learn; name two or more in its file")
    paths: list[Path] = []
    names: list[str] = []
    points, labels, groups, notes, inputs = [], [], [], [], []
    for place, source in enumerate(sources):
        found = annotation.read(source.annotations, source.images)
        found = found.with_names(classes[0].landmark_names, str(source.annotations))
        notes += [f"{source.annotations}: {note} left out" for note in found.notes]
        there = find_images(source.images)
        own = _labels(
            found, classes, source, place if len(sources) == len(classes) else 0, notes, len(sources)
        )
        few = np.isfinite(found.points).all(-1).sum(-1) < 2
        known = np.array([name in set(there) for name in found.images]) if found.images else np.zeros(0, bool)
        for what, lost in (
            ("annotated images that are not in the folder", ~known),
            ("images with fewer than two points", known & few & (own > 0)),
        ):
            if lost.any():
                example = found.images[int(np.flatnonzero(lost)[0])]
                notes.append(f"{source.annotations}: {int(lost.sum())} {what} left out, such as {example}")
        bare = len(set(there) - set(found.images))
        if bare:
            notes.append(f"{source.images}: {bare} images without an annotation left out")
        rows = np.flatnonzero(known & ~few & (own > 0))
        kept = found.rows(rows.tolist())
        names += kept.images
        paths += [source.images / name for name in kept.images]
        points.append(kept.points)
        labels.append(own[rows])
        groups += [f"{place}/{_group(name, split_by)}" for name in kept.images]
        inputs.append(_record(source.annotations))
        inputs.append(artifact.folder_record(kept.images, digest_images(source.images, kept.images)))
    if len(paths) < _FEWEST:
        told = f" ({'; '.join(notes)})" if notes else ""
        raise InputError(f"only {len(paths)} annotated images, and at least {_FEWEST} are needed{told}")
    return Gathered(paths, names, np.concatenate(points), np.concatenate(labels), groups, notes, inputs)


def held_out(groups: Sequence[str], share: float, seed: int) -> Bool[np.ndarray, " image"]:
    """Which images are kept from training: whole groups, drawn until they are the share of all images.

    Raises:
        InputError: there is only one group.
    """
    sizes = Counter(groups)
    if share <= 0:
        return np.zeros(len(groups), bool)
    if len(sizes) < 2:
        raise InputError(
            "all images are of one group, so that none can be held out; give a larger --split-by, or --held-out 0"
        )
    names = sorted(sizes)
    chosen: set[str] = set()
    count = 0
    for index in np.random.default_rng(seed).permutation(len(names))[:-1]:
        if count >= share * len(groups):
            break
        chosen.add(names[index])
        count += sizes[names[index]]
    return np.array([group in chosen for group in groups])


def _labels(
    found: Annotations,
    classes: Sequence[ObjectClass],
    source: Source,
    place: int,
    notes: list[str],
    num_sources: int,
) -> Int[np.ndarray, " image"]:
    """Label of each object; 0 for those of other classes."""
    known = {described.name: 1 + index for index, described in enumerate(classes)}
    if "" in found.labels:
        if len(classes) > 1 and num_sources != len(classes):
            raise InputError(
                f"{source.annotations} does not say of which class its objects are; add a column class, "
                "or give one IMAGES ANNOTATIONS pair for each --class"
            )
        known[""] = 1 + place
    labels = np.array([known.get(label, 0) for label in found.labels], np.int64)
    if not labels.any():
        raise InputError(
            f"{source.annotations} has no object of class {', '.join(item.name for item in classes)}; "
            f"its classes are {', '.join(sorted(set(found.labels)))}"
        )
    if (labels == 0).any():
        notes.append(f"{source.annotations}: {int((labels == 0).sum())} objects of other classes left out")
    return labels


def _group(name: str, split_by: int) -> str:
    return Path(name).name[:split_by] if split_by else name


def _record(path: Path) -> dict[str, Any]:
    if path.is_file():
        return artifact.file_record(path)
    files = sorted(item for item in path.rglob("*.cat") if item.is_file())
    names = [item.relative_to(path).as_posix() for item in files]
    return artifact.folder_record(names, [artifact.file_digest(item) for item in files])
