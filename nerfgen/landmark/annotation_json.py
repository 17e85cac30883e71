"""Annotations as JSON: COCO's keypoints, and FFHQ's file."""

from __future__ import annotations

import json
import re
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.landmark.annotations import Annotations, extent, read_text
from nerfgen.storage import Record


def read_coco(path: Path) -> Annotations:
    """A JSON file with ``images``, ``annotations`` and ``categories`` that name their ``keypoints``.

    A keypoint of visibility 0 is missing. Of several annotations of one image, the one with the largest box is taken,
    or with the largest extent where there is no box. The label is the category's name. Crowds are skipped.

    Raises:
        InputError: the file has another form; names the line or the annotation.
    """
    try:
        content = json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: not valid JSON ({error.msg})") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise InputError(f"{path}: COCO keypoints are an object with images, annotations and categories")
    try:
        files = {item["id"]: str(item["file_name"]).replace("\\", "/") for item in content["images"]}
        categories = {item["id"]: item for item in content["categories"]}
        names = _keypoint_names(path, categories)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: an entry of images or categories lacks {error}") from error
    rows: dict[str, tuple[float, np.ndarray, str]] = {}
    skipped = {
        "crowds": 0,
        "annotations without a keypoint": 0,
        "objects with a larger one in the same image": 0,
    }
    for number, item in enumerate(content["annotations"]):
        where = f"{path}: annotation {item.get('id', number) if isinstance(item, dict) else number}"
        if not isinstance(item, dict) or item.get("image_id") not in files:
            raise InputError(f"{where} does not name an image of the file")
        if item.get("category_id") not in categories:
            raise InputError(f"{where} does not name a category of the file")
        if item.get("iscrowd"):
            skipped["crowds"] += 1
            continue
        category = categories[item["category_id"]]
        points = _keypoints(where, item, list(category.get("keypoints", ())), names)
        if points is None or np.isnan(points).all():
            skipped["annotations without a keypoint"] += 1
            continue
        box = item.get("bbox")
        size = float(max(box[2:])) if isinstance(box, list) and len(box) == 4 else extent(points)
        image = files[item["image_id"]]
        skipped["objects with a larger one in the same image"] += image in rows
        if image not in rows or size > rows[image][0]:
            rows[image] = (size, points, str(category.get("name", "")))
    if not rows:
        raise InputError(f"{path} has no annotation with a keypoint")
    unannotated = len(set(files.values()) - rows.keys())
    notes = [f"{count} {what}" for what, count in skipped.items() if count]
    if unannotated:
        notes.append(f"{unannotated} images without an annotation")
    return Annotations(
        tuple(rows),
        names,
        np.stack([points for _, points, _ in rows.values()]),
        tuple(label for _, _, label in rows.values()),
        tuple(notes),
    )


def _keypoint_names(path: Path, categories: dict[Any, Record]) -> tuple[str, ...]:
    """The names of all categories' keypoints, each once, in order of appearance."""
    names = tuple(
        dict.fromkeys(str(name) for item in categories.values() for name in item.get("keypoints", ()))
    )
    if not names:
        raise InputError(f"{path}: no category has names of keypoints")
    return names


def _keypoints(where: str, item: Record, own: list[str], names: tuple[str, ...]) -> np.ndarray | None:
    """x and y in the order of ``names``; None for an annotation without keypoints."""
    values = item.get("keypoints")
    if not values:
        return None
    if len(values) != 3 * len(own) or not all(isinstance(value, int | float) for value in values):
        raise InputError(
            f"{where} has {len(values)} keypoint values; its category has {len(own)} keypoints, x, y, v each"
        )
    triples = np.asarray(values, np.float64).reshape(-1, 3)
    points = np.full((len(names), 2), np.nan)
    for name, (x, y, visibility) in zip(own, triples, strict=True):
        if visibility > 0:
            points[names.index(str(name))] = x, y
    return points


# Each landmark is the mean of these points. Sides are the viewer's, who sees the person's right eye on the left.
_FFHQ_LANDMARKS = {
    "eye_left": range(36, 42),
    "eye_right": range(42, 48),
    "nose_tip": range(30, 31),
    "mouth_left": range(48, 49),
    "mouth_right": range(54, 55),
}
_FFHQ_POINTS = 68


def is_ffhq(beginning: str) -> bool:
    """Whether a file begins like FFHQ's: an object whose keys are numbers."""
    return re.match(r'\s*\{\s*"\d+"\s*:\s*\{', beginning) is not None


def read_ffhq(path: Path, images: Path) -> Annotations:
    """The points of the aligned images, of their thumbnails, or of the images in the wild: of those in the folder.

    Args:
        images: folder of the images with the paths of the file, or its first subfolder.

    Raises:
        InputError: the file has another form.
    """
    try:
        entries = list(json.loads(read_text(path)).values())
        kind = _ffhq_kind(entries, images)
        found = [_ffhq_entry(entry, kind, images) for entry in entries]
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: not valid JSON ({error.msg})") from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} is not FFHQ's: an entry has image and in_the_wild with file_path and {_FFHQ_POINTS} face_landmarks"
        ) from error
    names, points = zip(*found, strict=True)
    return Annotations(
        tuple(names), tuple(_FFHQ_LANDMARKS), np.stack(points), ("",) * len(names), (f"points of {kind}",)
    )


def _ffhq_kind(entries: list[Record], images: Path) -> str:
    """Which set of images the folder has; the aligned ones if none."""
    for kind in ("image", "thumbnail", "in_the_wild"):
        if any(
            (images / _below(entry[kind]["file_path"], images)).is_file()
            for entry in entries
            if kind in entry
        ):
            return kind
    return "image"


def _ffhq_entry(entry: Record, kind: str, images: Path) -> tuple[str, Float[np.ndarray, "landmarks 2"]]:
    # Thumbnails are reduced aligned images, without points of their own.
    own = entry["in_the_wild" if kind == "in_the_wild" else "image"]
    points = np.array(own["face_landmarks"], dtype=float).reshape(_FFHQ_POINTS, 2)
    if kind == "thumbnail":
        points = points * (np.array(entry[kind]["pixel_size"]) / np.array(own["pixel_size"]))
    path = _below(entry[kind]["file_path"], images)
    return path, np.stack([points[list(chosen)].mean(axis=0) for chosen in _FFHQ_LANDMARKS.values()])


def _below(file_path: str, images: Path) -> str:
    """An image's path relative to ``images``, which may be its first folder."""
    path = PurePosixPath(file_path)
    return (path.relative_to(path.parts[0]) if images.name == path.parts[0] else path).as_posix()
