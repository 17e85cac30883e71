"""Objects of a model by their codes: rows of its table, and objects of the files that it made."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Int, UInt8

from nerfgen import artifact
from nerfgen.errors import InputError
from nerfgen.field import Model
from nerfgen.geometry import Cameras, window_intrinsics


@dataclass(frozen=True)
class Objects:
    """Objects to be rendered, walked between or exported.

    Attributes:
        names: for people.
        status: ``ok``, or why an object can't be used; its pictures are then black.
        rows: table rows; -1 for objects that are not in the table.
        latents: codes.
        cameras: one of each object, that of its own photograph's window; None where there are no photographs.
        tuned: what was added to the network's parameters for an object (a tree of arrays), by its place here.
        photographs: the framed photograph that an object was fitted to, by its place here.
        extra: further datasets of ``views/1`` with an entry per object.
    """

    names: list[str]
    status: list[str]
    rows: Int[np.ndarray, "objects"]
    latents: Float[np.ndarray, "objects latent"]
    cameras: Cameras | None = None
    tuned: dict[int, dict[str, Any]] = field(default_factory=dict)
    photographs: dict[int, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)


def table_objects(model: Model, rows: Sequence[int]) -> Objects:
    """Training objects by table row, with their own cameras."""
    chosen = np.array(rows, dtype=int)
    return Objects(
        names=[model.images[row] for row in rows],
        status=["ok"] * len(rows),
        rows=chosen,
        latents=model.latents[chosen],
        cameras=Cameras(
            window_intrinsics(model.intrinsics[chosen], model.window[chosen], 1), model.cam_to_world[chosen]
        ),
    )


def stored_objects(model: Model, model_digest: str, path: Path, which: str = "all") -> Objects:
    """Objects of a ``views/1`` file, such as fitted photographs and samples, with the codes that it holds.

    Args:
        model_digest: SHA-256 of the model's file: a code means nothing to another model, even of the same sizes.
        which: their numbers in the file, such as ``0,5-9``.

    Raises:
        InputError: it is no such file, lacks these objects, or was made with another model.
    """
    with artifact.reading(path, "views/1") as file:
        names = artifact.strings(file["name"])
        chosen = np.array(parse_numbers(which, len(names), f"{path}:{which}", "objects"), dtype=int)
        made_from = json.loads(file.attrs["inputs"])
        if model_digest not in [record["sha256"] for record in made_from]:
            raise InputError(
                f"{path} was made with another model; give that model, or make it anew with this one"
            )
        status = artifact.strings(file["status"])
        cameras = None
        if "own_cam_to_world" in file:
            cameras = Cameras(file["own_intrinsics"][:][chosen], file["own_cam_to_world"][:][chosen])
        stored = file.get("tuned", {})
        tuned = {
            place: artifact.get_tree(stored[str(number)])
            for place, number in enumerate(chosen)
            if str(number) in stored
        }
        framed = file.get("photographs", {})
        photographs = {
            place: framed[str(number)][:] for place, number in enumerate(chosen) if str(number) in framed
        }
        return Objects(
            names=[names[number] for number in chosen],
            status=[status[number] for number in chosen],
            rows=file["row"][:][chosen],
            latents=file["latents"][:][chosen],
            cameras=cameras,
            tuned=tuned,
            photographs=photographs,
        )


def find_objects(model: Model, model_digest: str, references: Sequence[str]) -> Objects:
    """Objects by what a user calls them, one after the other.

    Args:
        model_digest: see :func:`stored_objects`.
        references: rows of the table (``3``, ``0,5-9``, ``all``), files that this model made
            (``fitted.h5``), or some of a file's objects (``fitted.h5:0,2``).

    Raises:
        InputError: one of them names nothing.
    """
    found = [_find(model, model_digest, reference) for reference in references]
    if not found:
        raise InputError("no objects: give rows such as 0,5-9, or a file of codes such as fitted.h5:0")
    return joined(found)


def referenced(model: Model, references: Sequence[str]) -> tuple[list[str], list[Path]]:
    """What :func:`find_objects` would find, for an account of what a file was made from.

    Returns:
        A name for each object, such as ``3`` or ``fitted.h5:0``, the same however a user put them together; and the
        files that hold some of them.

    Raises:
        InputError: one of them names nothing.
    """
    names: list[str] = []
    files: dict[Path, None] = {}
    for reference in references:
        if _names_rows(reference):
            names += map(str, parse_numbers(reference, len(model.images), reference, "rows"))
            continue
        path, which = file_reference(reference)
        with artifact.reading(path, "views/1") as file:
            count = len(file["name"])
        names += [f"{path.name}:{number}" for number in parse_numbers(which, count, reference, "objects")]
        files[path] = None
    return names, list(files)


def joined(parts: Sequence[Objects]) -> Objects:
    """Objects one after the other; with cameras only if all have them, and without ``extra``."""
    starts = np.cumsum([0, *(len(part) for part in parts)]).tolist()
    cameras = [part.cameras for part in parts]
    return Objects(
        names=[name for part in parts for name in part.names],
        status=[status for part in parts for status in part.status],
        rows=np.concatenate([part.rows for part in parts]),
        latents=np.concatenate([part.latents for part in parts]),
        cameras=None
        if any(each is None for each in cameras)
        else Cameras(*(np.concatenate(arrays) for arrays in zip(*cameras, strict=True))),
        tuned=_shifted(starts, [part.tuned for part in parts]),
        photographs=_shifted(starts, [part.photographs for part in parts]),
    )


def file_reference(reference: str) -> tuple[Path, str]:
    """File and numbers of ``FILE`` or ``FILE:NUMBERS``; a file whose whole name has a colon is found too."""
    path, colon, which = reference.rpartition(":")
    if colon and Path(path).is_file():
        return Path(path), which
    return Path(reference), "all"


def parse_numbers(text: str, count: int, shown: str, what: str) -> list[int]:
    """Numbers from 0 to ``count`` - 1 from words such as ``0,5-9`` or ``all``.

    Args:
        shown: how an error names what the user gave.
        what: how an error names what is counted.

    Raises:
        InputError: none, or numbers that there are not.
    """
    if text == "all":
        return list(range(count))
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not (last.isdigit() and int(first) <= int(last))):
            raise InputError(f"{shown}: give {what} such as 0,5-9, or all")
        numbers += range(int(first), int(last or first) + 1)
    if not numbers or max(numbers) >= count:
        raise InputError(f"{shown}: there are {what} 0 to {count - 1}")
    return numbers


def _shifted(starts: Sequence[int], parts: Sequence[dict[int, Any]]) -> dict[int, Any]:
    """Things by place in each part as one dictionary by place in the whole."""
    return {
        start + place: value
        for start, part in zip(starts, parts, strict=False)
        for place, value in part.items()
    }


def _find(model: Model, model_digest: str, reference: str) -> Objects:
    if _names_rows(reference):
        return table_objects(model, parse_numbers(reference, len(model.images), reference, "rows"))
    path, which = file_reference(reference)
    return stored_objects(model, model_digest, path, which)


def _names_rows(reference: str) -> bool:
    return reference == "all" or (reference[:1].isdigit() and set(reference) <= set("0123456789,- "))
