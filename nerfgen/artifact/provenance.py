"""What a file was made from, and whether an existing one can be kept."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypedDict

import h5py

from nerfgen.artifact.schema import ROOT_ATTRIBUTES
from nerfgen.errors import OutputExistsError
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class

_BLOCK = 1 << 20
REMEDY = "give --overwrite to replace it or -o for another place"


class About(TypedDict):
    """What a file says of its making: keyword arguments of :func:`nerfgen.artifact.create` and :func:`is_current`."""

    object_class: ObjectClass | str
    parameters: Mapping[str, Any]
    inputs: list[dict[str, Any]]


def file_digest(path: Path) -> tuple[int, str]:
    """Size in bytes and hexadecimal SHA-256 of a file."""
    digest, size = hashlib.sha256(), 0
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
    return size, digest.hexdigest()


def file_record(path: Path) -> dict[str, Any]:
    """Provenance of one input file, by name (no folder: files move together)."""
    size, sha256 = file_digest(path)
    return {"file": path.name, "size": size, "sha256": sha256}


def folder_record(names: Iterable[str], digests: Iterable[tuple[int, str]]) -> dict[str, Any]:
    """Provenance of a folder of images: their count, total size and a digest of all names and digests.

    Args:
        digests: size in bytes and SHA-256 of every image.
    """
    combined, total, count = hashlib.sha256(), 0, 0
    for name, (size, digest) in zip(names, digests, strict=True):
        combined.update(f"{digest}  {name}\n".encode())
        total += int(size)
        count += 1
    return {"file": ".", "count": count, "size": total, "sha256": combined.hexdigest()}


def is_current(
    path: Path,
    schema: str,
    *,
    object_class: ObjectClass | str,
    parameters: Mapping[str, Any],
    inputs: list[dict[str, Any]],
    overwrite: bool = False,
    remedy: str = REMEDY,
) -> bool:
    """Whether ``path`` already holds exactly this output, so that it is kept.

    False when there is nothing or when ``overwrite`` says to replace what is there.

    Args:
        remedy: what an error tells the user to do.

    Raises:
        OutputExistsError: another file stands there; the message names the first difference.
    """
    if overwrite or not path.exists():
        return False
    try:
        with h5py.File(path, "r") as file:
            found = {name: str(value) for name, value in file.attrs.items() if name in ROOT_ATTRIBUTES}
    except OSError as error:
        raise OutputExistsError(f"{path} exists but can't be read as HDF5 ({error}); {remedy}") from error
    about: About = {"object_class": object_class, "parameters": parameters, "inputs": inputs}
    check_origin(path, found, schema, **about, remedy=remedy)
    return True


def check_origin(
    path: Path,
    found: Mapping[str, str],
    schema: str,
    *,
    object_class: ObjectClass | str,
    parameters: Mapping[str, Any],
    inputs: list[dict[str, Any]],
    remedy: str = REMEDY,
) -> None:
    """Compare what an existing file says of itself with what would be made now.

    Args:
        found: the file's root attributes.
        remedy: what an error tells the user to do.

    Raises:
        OutputExistsError: naming the first difference.
    """
    if not found.keys() >= ROOT_ATTRIBUTES.keys():
        raise OutputExistsError(f"{path} exists and was not written by nerfgen; {remedy}")
    there = {
        "schema": found["nerfgen_schema"],
        "class": found["class"],
        "description of the class": found["class_description"],
        **{f"parameter {k}": v for k, v in json.loads(found["parameters"]).items()},
        **_input_items(json.loads(found["inputs"])),
    }
    described = named_class(object_class)
    wanted = {
        "schema": schema,
        "class": described.name,
        "description of the class": described.text,
        **{f"parameter {k}": v for k, v in json.loads(json.dumps(parameters)).items()},
        **_input_items(inputs),
    }
    for key in [*wanted, *there]:
        if wanted.get(key) != there.get(key):
            raise OutputExistsError(
                f"{path} exists with another {key} ({_short(there.get(key))}, now {_short(wanted.get(key))}); {remedy}"
            )


def _input_items(inputs: list[dict[str, Any]]) -> dict[str, Any]:
    """Digests by name, those of inputs of one name (from different folders) together."""
    items: dict[str, Any] = {}
    for record in inputs:
        items.setdefault(f"input {record['file']}", []).append(record["sha256"])
    return {name: " ".join(digests) for name, digests in items.items()}


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"
