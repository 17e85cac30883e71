"""A schema: the datasets and attributes of one kind of file, with their shapes, units, frames and ranges."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, NamedTuple

Kind = Literal["string", "uint8", "int32", "int64", "float16", "float32", "float64"]


@dataclass(frozen=True)
class Values:
    """What the values of a dataset may be. Numbers are finite, but for NaN where it means "unknown".

    Attributes:
        minimum, maximum: the range, ends included.
        nan: where NaN is allowed: nowhere, in the rows of unusable images, or anywhere.
        kind: a further rule. Texts: ``path``, a safe relative path; ``unique path``, the same and none twice; ``name``,
            without control characters. Sizes: ``size``, positive, and of no more pixels than an image can have.
            Matrices: ``intrinsics``, a pinhole matrix; ``pose``, a rotation and translation. Windows: ``window``,
            (x0, y0, side) with a positive side, of a size that images can have.
    """

    minimum: float = -math.inf
    maximum: float = math.inf
    nan: Literal["nowhere", "unusable", "anywhere"] = "nowhere"
    kind: Literal["", "path", "unique path", "name", "size", "intrinsics", "pose", "window"] = ""


@dataclass(frozen=True)
class Dataset:
    """One dataset: ``shape`` names its axes (equal names mean equal lengths) or fixes their lengths.

    Attributes:
        by_item: it is written and read item by item, so that it may be larger than memory.
        compressed: False for items that are read repeatedly and in any order.
        values: what its values may be, checked when a file is opened; None for no check.
    """

    name: str
    kind: Kind
    shape: tuple[str | int, ...]
    description: str
    unit: str = ""
    frame: str = ""
    optional: bool = False
    by_item: bool = False
    compressed: bool = True
    values: Values | None = None

    @property
    def item_axes(self) -> int:
        """Axes before those of an item: an item is of one image, or one view of an object."""
        return 2 if self.shape[:2] == ("object", "view") else 1


class Attribute(NamedTuple):
    """A root attribute: ``object`` and ``list`` are JSON; ``numbers`` a short array."""

    kind: Literal["text", "number", "numbers", "object", "list"]
    description: str
    optional: bool = False


@dataclass(frozen=True)
class Schema:
    """One kind of file. ``groups`` hold trees of arrays whose names depend on the model; ``optional_groups`` may be
    absent."""

    name: str
    title: str
    datasets: tuple[Dataset, ...]
    attributes: dict[str, Attribute] = field(default_factory=dict)
    groups: dict[str, str] = field(default_factory=dict)
    optional_groups: dict[str, str] = field(default_factory=dict)

    @property
    def row_axis(self) -> str | int:
        """Name of the axis of the file's rows: images or objects."""
        return self.datasets[0].shape[0]

    @property
    def arrays(self) -> tuple[Dataset, ...]:
        """Datasets whose items, one a row, are arrays that are stored apart."""
        return tuple(each for each in self._by_row if each.by_item or len(each.shape) > 2)

    @property
    def columns(self) -> tuple[Dataset, ...]:
        """The other datasets with an item a row."""
        return tuple(each for each in self._by_row if each not in self.arrays)

    @property
    def _by_row(self) -> tuple[Dataset, ...]:
        return tuple(each for each in self.datasets if each.shape[:1] == (self.row_axis,))


ROOT_ATTRIBUTES = {
    "nerfgen_schema": Attribute("text", "name and version of the schema, such as `landmarks/1`"),
    "nerfgen_version": Attribute("text", "version of nerfgen that wrote the file"),
    "class": Attribute("text", "name of the object class"),
    "class_description": Attribute(
        "text",
        "the file that describes the class (TOML or JSON); empty for a class that ships with nerfgen",
        optional=True,
    ),
    "parameters": Attribute(
        "object", "JSON object: every parameter that the content depends on, the seed included"
    ),
    "inputs": Attribute(
        "list", "JSON list of {file, size, sha256}; a folder of images is one entry with their `count`"
    ),
    "stage_version": Attribute(
        "text",
        "version of the code's meaning: raised when equal inputs and parameters give other contents",
        optional=True,
    ),
}

# What every file with one row per image holds.
IMAGE = Dataset(
    "image",
    "string",
    ("image",),
    "path of the image relative to DATA, UTF-8, `/` between folders",
    values=Values(kind="unique path"),
)
STATUS = Dataset("status", "string", ("image",), "whether the image is usable and, if not, why")
REASON = Dataset(
    "reason",
    "string",
    ("image",),
    "why the image file could not be used, in words; empty for every other status",
    optional=True,
)
IMAGE_DIGEST = Dataset(
    "image_sha256",
    "string",
    ("image",),
    "SHA-256 of the image file that the row was made of, hexadecimal",
    optional=True,
)
