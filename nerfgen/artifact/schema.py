"""What a schema is: the datasets of a kind of file, with their shapes, units and frames; and statuses of images."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

Kind = Literal["string", "uint8", "int32", "int64", "float16", "float32", "float64"]


@dataclass(frozen=True)
class Dataset:
    """One dataset: ``shape`` names its axes (equal names mean equal lengths) or fixes their lengths."""

    name: str
    kind: Kind
    shape: tuple[str | int, ...]
    description: str
    unit: str = ""
    frame: str = ""
    optional: bool = False


@dataclass(frozen=True)
class Schema:
    """A kind of file. ``groups`` hold trees of arrays whose names depend on the model; not every file has the
    ``optional_groups``."""

    name: str
    title: str
    datasets: tuple[Dataset, ...]
    attributes: dict[str, str] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    optional_groups: dict[str, str] = field(default_factory=dict)


ROOT_ATTRIBUTES = {
    "nerfgen_schema": "name and version of the schema, such as `landmarks/1`",
    "nerfgen_version": "version of nerfgen that wrote the file",
    "class": "name of the object class",
    "class_description": "the file that describes the class (TOML or JSON); empty for a class that ships with nerfgen",
    "parameters": "JSON object: every parameter that the content depends on, the seed included",
    "inputs": "JSON list of {file, size, sha256}; a folder of images is one entry with their `count`",
}

# Images with these statuses are used by the commands that follow; all others are skipped by them.
USABLE = ("ok", "ok_largest")
STATUSES = {
    "ok": "usable",
    "ok_largest": "usable; several objects were found and the largest was taken",
    "unreadable": "the file can't be decoded as an image",
    "no_object": "the estimator found no object of the class",
    "too_small": "the object is too small in the photograph",
    "no_alpha": "the image has no alpha channel to take a mask from",
    "not_converged": "no acceptable camera: fewer than four landmarks, flipped, behind the camera, or too large a "
    "reprojection error; of a "
    "fitted photograph, also no code better than where the fit started",
    "no_mask": "the segmenter found no foreground in the window, or there is no mask of the image",
    "no_plain_background": "the photograph's edge is of several colours, so that no colour tells the background",
    "bad_mask": "the mask that was given can't be read, or has another shape than the photograph",
    "skipped": "an earlier stage could not use this image",
    "absent": "listed among the images, but the file is not there",
    "no_camera": "nothing says its camera, or what does is none: no rotation, or no focal length",
    "looks_away": "its camera looks away from the origin of the world, where objects are",
    "wrong_shape": "the picture has other proportions than its camera is for",
    "not_annotated": "its landmarks are not annotated, or not all of them",
    "not_chosen": "other images of its object were chosen",
    "known": "the model that training goes on from has a row of this photograph already",
}
