"""A schema: the datasets of one kind of file, with their shapes, units and frames."""

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
    """One kind of file. ``groups`` hold trees of arrays whose names depend on the model; ``optional_groups`` may be
    absent."""

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
    "stage_version": "version of the code's meaning: raised when equal inputs and parameters give other contents",
}

# What every file with one row per image holds.
IMAGE = Dataset(
    "image", "string", ("image",), "path of the image relative to DATA, UTF-8, `/` between folders"
)
STATUS = Dataset("status", "string", ("image",), "whether the image is usable and, if not, why")
