"""The provenance that a file records, whatever its format."""

from __future__ import annotations

import json
import mmap
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from nerfgen import mesh, storage
from nerfgen.errors import InputError
from nerfgen.model import PERSONAL_SCHEMA
from nerfgen.storage import InputRecord, Record, Schema
from nerfgen.untrusted import parse_json, read_json_input

DATASET = "dataset"
# Files that carry provenance without being HDF5.
_OTHERS = {mesh.MESH_SCHEMA: mesh.SCHEMA, DATASET: Schema(DATASET, "a dataset of synthetic identities", ())}
_DESCRIPTION = "dataset.json"
_HDF5 = (".h5", ".hdf5")
# Datasets of names, and those of the digests of what they name.
_NAMES = {"image": "image_sha256", "further_image": "further_sha256", "name": "", "held_out_image": ""}
# Every file with provenance holds one of these, wherever it is damaged.
_MARKS = (b"nerfgen_schema", b"nerfgen sample --dataset", b"nerfgen, sealed HDF5")


@dataclass(frozen=True)
class Written:
    """What a file says of itself.

    Attributes:
        schema: key of ``SCHEMAS``, ``mesh/1``, or ``dataset`` for the description of a dataset.
        description: the file that describes the class; empty for a class that ships with nerfgen.
        names: of its images, or of those that it was made from; of the objects of rendered views; of the held-out
            images of a landmark estimator.
        digests: SHA-256 of its images, where it holds them.
        content: of the description of a dataset.
    """

    path: Path
    schema: str
    object_class: str
    description: str
    parameters: Record
    inputs: list[InputRecord]
    names: list[str] = field(default_factory=list)
    digests: dict[str, str] = field(default_factory=dict)
    content: Record = field(default_factory=dict)


def is_hdf5(path: Path) -> bool:
    """Whether the name is that of an HDF5 file."""
    return path.suffix.lower() in _HDF5


def may_be_ours(path: Path) -> bool:
    """Whether nerfgen wrote a regular file, as far as its name and a mark in its content say, which damage spares."""
    if not (is_hdf5(path) or path.suffix.lower() in mesh.FORMATS or path.name == _DESCRIPTION):
        return False
    if not path.is_file() or not path.stat().st_size:
        return False
    with open(path, "rb") as stream, mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as content:
        return any(content.find(mark) >= 0 for mark in _MARKS)


def read_written(path: Path) -> Written:
    """The provenance of a file.

    Raises:
        InputError: it does not exist, nerfgen did not write it, or it is damaged.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give a file that nerfgen wrote")
    if path.suffix.lower() in mesh.FORMATS:
        return _checked(path, mesh.read_provenance(path))
    if path.suffix.lower() == ".json":
        return _read_description(path)
    with storage.reading(path, *storage.SCHEMAS) as file:
        names: list[str] = []
        digests: dict[str, str] = {}
        for name, digest in _NAMES.items():
            if name in file:
                own = storage.strings(file[name])
                if file.attrs["nerfgen_schema"] == PERSONAL_SCHEMA:
                    own = own[1:]  # the first is the object itself
                names += own
                if digest in file:
                    digests |= dict(zip(own, storage.strings(file[digest]), strict=True))
        return _written(path, file.attrs, names=names, digests=digests)


def _read_description(path: Path) -> Written:
    content = read_json_input(path)
    made_by = content.get("made_by") if isinstance(content, dict) else None
    if not isinstance(made_by, str) or not made_by.startswith("nerfgen "):
        return _checked(path, {})
    attributes = {
        "nerfgen_schema": DATASET,
        "nerfgen_version": made_by.split()[1].strip(","),
        "class": content.get("class"),
        "parameters": json.dumps(content.get("settings")),
        "inputs": json.dumps(content.get("inputs")),
    }
    return _checked(path, attributes, content=content)


def _checked(path: Path, attributes: Mapping[str, Any], **further: Any) -> Written:
    if not attributes:
        raise InputError(f"{path} was not written by nerfgen; give a file that nerfgen wrote")
    storage.check_attributes(attributes, _OTHERS[attributes["nerfgen_schema"]], path)
    return _written(path, attributes, **further)


def _written(path: Path, attributes: Mapping[str, Any], **further: Any) -> Written:
    return Written(
        path,
        schema=attributes["nerfgen_schema"],
        object_class=attributes["class"],
        description=attributes.get("class_description", ""),
        parameters=parse_json(attributes["parameters"], path),
        inputs=parse_json(attributes["inputs"], path),
        **further,
    )
