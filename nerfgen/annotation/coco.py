"""COCO's keypoint annotations."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from nerfgen.annotation.annotations import Annotations
from nerfgen.annotation.table import extent
from nerfgen.annotation.text import text_of
from nerfgen.errors import InputError


def read_coco(path: Path) -> Annotations:
    """A JSON file with ``images``, ``annotations`` and ``categories`` that name their ``keypoints``.

    A keypoint of visibility 0 is missing. Several annotations of one image: the one with the largest box, or, where
    there is no box, whose points extend farthest. The label is the category's name. Crowds are left out.

    Raises:
        InputError: the file is no such JSON; names the line or the annotation.
    """
    try:
        content = json.loads(text_of(path))
    except json.JSONDecodeError as error:
        raise InputError(f"{path} line {error.lineno}: not valid JSON ({error.msg})") from error
    if not isinstance(content, dict) or not {"images", "annotations", "categories"} <= content.keys():
        raise InputError(f"{path}: COCO keypoints are an object with images, annotations and categories")
    try:
        files = {item["id"]: str(item["file_name"]).replace("\\", "/") for item in content["images"]}
        categories = {item["id"]: item for item in content["categories"]}
        names = _names(path, categories)
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: an entry of images or categories lacks {error}") from error
    rows: dict[str, tuple[float, np.ndarray, str]] = {}
    left_out = {
        "crowds": 0,
        "annotations without a keypoint": 0,
        "objects beside a larger one in the same image": 0,
    }
    for number, item in enumerate(content["annotations"]):
        where = f"{path}: annotation {item.get('id', number) if isinstance(item, dict) else number}"
        if not isinstance(item, dict) or item.get("image_id") not in files:
            raise InputError(f"{where} names no image of the file")
        if item.get("category_id") not in categories:
            raise InputError(f"{where} names no category of the file")
        if item.get("iscrowd"):
            left_out["crowds"] += 1
            continue
        category = categories[item["category_id"]]
        points = _points(where, item, list(category.get("keypoints", ())), names)
        if points is None or np.isnan(points).all():
            left_out["annotations without a keypoint"] += 1
            continue
        box = item.get("bbox")
        size = float(max(box[2:])) if isinstance(box, list) and len(box) == 4 else extent(points)
        image = files[item["image_id"]]
        left_out["objects beside a larger one in the same image"] += image in rows
        if image not in rows or size > rows[image][0]:
            rows[image] = (size, points, str(category.get("name", "")))
    if not rows:
        raise InputError(f"{path} holds no annotation with a keypoint")
    bare = len(set(files.values()) - rows.keys())
    notes = [f"{count} {what}" for what, count in left_out.items() if count]
    if bare:
        notes.append(f"{bare} images without an annotation")
    return Annotations(
        tuple(rows),
        names,
        np.stack([points for _, points, _ in rows.values()]),
        tuple(label for _, _, label in rows.values()),
        tuple(notes),
    )


def _names(path: Path, categories: dict[Any, dict[str, Any]]) -> tuple[str, ...]:
    """The keypoints of all categories, each once, in the order in which they are first named."""
    names = tuple(
        dict.fromkeys(str(name) for item in categories.values() for name in item.get("keypoints", ()))
    )
    if not names:
        raise InputError(f"{path}: no category names its keypoints")
    return names


def _points(where: str, item: dict[str, Any], own: list[str], names: tuple[str, ...]) -> np.ndarray | None:
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
