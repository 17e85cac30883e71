"""Annotations as JSON: COCO's keypoints, and FFHQ's file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.landmark.annotations import Annotations, Collected, stated_size
from nerfgen.storage import Record
from nerfgen.untrusted import excerpt, read_json_input, safe_relative_path

_MAX_LABEL = 200  # characters


class _Image(NamedTuple):
    name: str
    size: tuple[int, int]


class _Category(NamedTuple):
    name: str
    keypoints: tuple[str, ...]


def read_coco(path: Path, images: Path) -> Annotations:
    """A JSON file with ``images``, ``annotations`` and ``categories`` that name their ``keypoints``.

    A keypoint of visibility 0 is missing. Of several annotations of one image, the one with the largest box is taken,
    or with the largest extent where there is no box. The label is the category's name. Crowds, and entries that cannot
    be used, are skipped. Points refer to an image of the stated width and height.

    Args:
        images: folder of the images.

    Raises:
        InputError: the file has another form, or no annotation can be used; names the line or the annotation.
    """
    content = read_json_input(path)
    keys = ("images", "annotations", "categories")
    if not isinstance(content, dict) or not all(isinstance(content.get(key), list) for key in keys):
        raise InputError(
            f"{path}: COCO keypoints are an object with lists of images, annotations and categories"
        )
    categories = {key: _category(item) for key, item in _by_identifier(content["categories"]).items()}
    names = tuple(
        dict.fromkeys(name for category in categories.values() if category for name in category.keypoints)
    )
    if not names:
        raise InputError(f"{path}: no category has names of keypoints")
    place = {name: row for row, name in enumerate(names)}
    collected = Collected(path, images, names)
    listed = _listed_images(content["images"], collected)
    for number, item in enumerate(content["annotations"]):
        with collected.entry():
            if not isinstance(item, dict):
                raise InputError(f"annotation {number} is {excerpt(item)}, not an object")
            where = f"annotation {excerpt(item.get('id', number))}"
            image = listed.get(_identifier(item, "image_id"))
            category = categories.get(_identifier(item, "category_id"))
            if image is None:
                raise InputError(f"{where} does not name an image of the file")
            if category is None:
                raise InputError(f"{where} does not name a category of the file")
            if item.get("iscrowd"):
                collected.skip("crowds")
                continue
            points = np.full((len(names), 2), np.nan)
            for name, (x, y, visibility) in zip(
                category.keypoints, _keypoints(where, item, category.keypoints), strict=True
            ):
                if visibility > 0:
                    points[place[name]] = x, y
            collected.add(
                where, image.name, points, label=category.name, stated=image.size, object_size=_box_size(item)
            )
    return collected.annotations(named=[image.name for image in listed.values()])


def _by_identifier(items: Iterable[Any]) -> dict[int | str, Record]:
    """Entries by their ``id``; those without are left out, as nothing can refer to them."""
    return {
        item["id"]: item for item in items if isinstance(item, dict) and isinstance(item.get("id"), int | str)
    }


def _identifier(item: Record, key: str) -> int | str:
    """What an entry refers to; "" for nothing."""
    value = item.get(key)
    return value if isinstance(value, int | str) else ""


def _category(item: Record) -> _Category | None:
    """The category; None if its keypoints are not a list of different names."""
    keypoints = item.get("keypoints", [])
    if not isinstance(keypoints, list) or not all(isinstance(name, str) and name for name in keypoints):
        return None
    if len({*keypoints}) != len(keypoints):
        return None
    name = item.get("name", "")
    return _Category(name[:_MAX_LABEL] if isinstance(name, str) else "", tuple(keypoints))


def _listed_images(items: Iterable[Any], collected: Collected) -> dict[int | str, _Image]:
    found: dict[int | str, _Image] = {}
    for key, item in _by_identifier(items).items():
        with collected.entry():
            where = f"image {excerpt(key)}"
            name = item.get("file_name")
            if not isinstance(name, str):
                raise InputError(f"{where} has the file_name {excerpt(name)}, which is not a text")
            found[key] = _Image(name, stated_size(where, item.get("width"), item.get("height")))
    return found


def _keypoints(where: str, item: Record, own: tuple[str, ...]) -> Float[np.ndarray, "keypoint 3"]:
    """x, y and visibility; none visible for an annotation without keypoints."""
    values = item.get("keypoints")
    if values is None or values == []:
        return np.zeros((len(own), 3))
    if not isinstance(values, list) or len(values) != 3 * len(own) or not all(map(_is_number, values)):
        has = (
            f"{len(values)} keypoint values"
            if isinstance(values, list)
            else f"the keypoints {excerpt(values)}"
        )
        raise InputError(f"{where} has {has}; its category has {len(own)} keypoints, numbers x, y, v each")
    return np.array(values, np.float64).reshape(-1, 3)


def _box_size(item: Record) -> float | None:
    """The longer side of an object's box; None if it has none."""
    box = item.get("bbox")
    if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
        return None
    return float(max(box[2:]))


def _is_number(value: Any) -> bool:
    return type(value) in (int, float)


# Each landmark is the mean of these points. Sides are the viewer's, who sees the person's right eye on the left.
_FFHQ_LANDMARKS = {
    "eye_left": range(36, 42),
    "eye_right": range(42, 48),
    "nose_tip": range(30, 31),
    "mouth_left": range(48, 49),
    "mouth_right": range(54, 55),
}
_FFHQ_POINTS = 68
_FFHQ_KINDS = ("image", "thumbnail", "in_the_wild")


def is_ffhq(beginning: str) -> bool:
    """Whether a file begins like FFHQ's: an object whose keys are numbers."""
    return re.match(r'\s*\{\s*"[0-9]+"\s*:\s*\{', beginning) is not None


def read_ffhq(path: Path, images: Path) -> Annotations:
    """The points of the aligned images, of their thumbnails, or of the images in the wild: of those in the folder.

    A folder in another layout than the published one has the aligned images, or those in the wild if it is called so.

    Args:
        images: folder of the images with the paths of the file, or its first subfolder.

    Raises:
        InputError: the file has another form, or no entry can be used.
    """
    content = read_json_input(path)
    if not isinstance(content, dict):
        raise InputError(f"{path} is not FFHQ's: it has {excerpt(content)} in place of an object of entries")
    kind = _ffhq_kind(content.values(), images)
    collected = Collected(path, images, tuple(_FFHQ_LANDMARKS))
    for key, entry in content.items():
        with collected.entry():
            where = f"entry {excerpt(key)}"
            # Thumbnails are reduced aligned images, without points of their own.
            own = _part(where, entry, "in_the_wild" if kind == "in_the_wild" else "image")
            shown = _part(where, entry, kind)
            points, stated = _ffhq_points(where, own), _pixel_size(where, shown)
            if kind == "thumbnail":
                full = _pixel_size(where, own)
                if not all((*stated, *full)):
                    raise InputError(f"{where} has no pixel_size of the image and its thumbnail")
                points = points * (np.array(stated) / np.array(full))
            chosen = np.stack([points[list(group)].mean(axis=0) for group in _FFHQ_LANDMARKS.values()])
            collected.add(where, _below(_file_path(where, shown), images), chosen, stated=stated)
    return collected.annotations(notes=[f"points of {kind}"])


def _ffhq_kind(entries: Iterable[Any], images: Path) -> str:
    """Which set of images the folder has."""
    parts = [entry for entry in entries if isinstance(entry, dict)]
    for kind in _FFHQ_KINDS:
        for entry in parts:
            try:
                name = safe_relative_path(_below(_file_path("", _part("", entry, kind)), images), "")
                if (images / name).is_file():
                    return kind
            except (InputError, OSError):
                continue
    return "in_the_wild" if "wild" in images.resolve().name else "image"


def _part(where: str, entry: Any, name: str) -> Record:
    part = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(part, dict):
        raise InputError(f"{where} has no {name}; FFHQ's have file_path, pixel_size and face_landmarks in it")
    return part


def _file_path(where: str, part: Record) -> str:
    name = part.get("file_path")
    if not isinstance(name, str):
        raise InputError(f"{where} has the file_path {excerpt(name)}, which is not a text")
    return name


def _pixel_size(where: str, part: Record) -> tuple[int, int]:
    size = part.get("pixel_size", [None, None])
    if not isinstance(size, list) or len(size) != 2:
        raise InputError(f"{where} has the pixel_size {excerpt(size)}, which is not two numbers")
    return stated_size(where, *size)


def _ffhq_points(where: str, part: Record) -> Float[np.ndarray, "68 2"]:
    points = part.get("face_landmarks")
    fits = (
        isinstance(points, list)
        and len(points) == _FFHQ_POINTS
        and all(
            isinstance(point, list) and len(point) == 2 and all(map(_is_number, point)) for point in points
        )
    )
    if not fits:
        raise InputError(f"{where} has the face_landmarks {excerpt(points)}, not {_FFHQ_POINTS} points x, y")
    return np.array(points, np.float64)


def _below(file_path: str, images: Path) -> str:
    """An image's path relative to ``images``, which may be its first folder."""
    path = PurePosixPath(file_path)
    return (
        path.relative_to(path.parts[0]) if len(path.parts) > 1 and images.name == path.parts[0] else path
    ).as_posix()
