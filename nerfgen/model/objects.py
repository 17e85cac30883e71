"""Objects of a model as latent codes: rows of its table, and objects of files that were made with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import h5py
import numpy as np
from jaxtyping import Float, Int, PyTree, UInt8

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import Cameras, window_intrinsics
from nerfgen.model.codebook import dequantised
from nerfgen.model.latent_space import Principal, require_codes, truncated_draws
from nerfgen.model.settings import SampleSettings
from nerfgen.model.trained import Model, has_all, read_parameters
from nerfgen.settings import parse_count
from nerfgen.untrusted import content_of, parse_json

Value = TypeVar("Value")
_SCHEMAS = ("views/1", "personal/1")
_MOST_NUMBERS = 10_000_000


class ModelShape(NamedTuple):
    """The sizes of a model, which the objects of its files fit.

    Attributes:
        rows: of the table.
        code_size: numbers of a latent code.
        parameters: of the networks: a tree of arrays, or of what has their shapes.
    """

    rows: int
    code_size: int
    parameters: Mapping[str, PyTree]

    @classmethod
    def of(cls, model: Model) -> ModelShape:
        """The sizes of a model in memory."""
        return cls(len(model.images), model.config.code_size, model.parameters)


@dataclass(frozen=True)
class Objects:
    """Objects to render, interpolate or export.

    Attributes:
        names: for messages and figures.
        status: ``ok``, or why an object is unusable; its views are then black.
        rows: table rows; -1 for objects that are not in the table.
        latents: latent codes.
        cameras: of each object's own framed image; None where objects have no images.
        tuned: change of the network parameters (a tree of arrays) for an object, by its index here.
        images: the framed image that an object was fitted to, by its index here.
        extra: further datasets of ``views/1`` with an entry per object.
    """

    names: list[str]
    status: list[str]
    rows: Int[np.ndarray, "objects"]
    latents: Float[np.ndarray, "objects latent"]
    cameras: Cameras | None = None
    tuned: dict[int, dict[str, PyTree]] = field(default_factory=dict)
    images: dict[int, UInt8[np.ndarray, "_ _ 3"]] = field(default_factory=dict)
    extra: dict[str, np.ndarray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.names)

    def some(self, numbers: Sequence[int]) -> Objects:
        """Some of them, in this order."""
        chosen = list(numbers)
        return Objects(
            names=[self.names[number] for number in chosen],
            status=[self.status[number] for number in chosen],
            rows=self.rows[chosen],
            latents=self.latents[chosen],
            cameras=self.cameras and Cameras(*(part[chosen] for part in self.cameras)),
            tuned={place: self.tuned[number] for place, number in enumerate(chosen) if number in self.tuned},
            images={
                place: self.images[number] for place, number in enumerate(chosen) if number in self.images
            },
            extra={name: values[chosen] for name, values in self.extra.items()},
        )

    def check(self, shape: ModelShape) -> None:
        """Check objects that were read from a file against the model that they are of.

        Raises:
            InputError: naming the first dataset that does not fit.
        """
        if self.latents.shape[1] != shape.code_size:
            raise InputError(
                f"dataset latents has {self.latents.shape[1]} columns, but the model's codes have {shape.code_size}"
            )
        if not ((self.rows >= -1) & (self.rows < shape.rows)).all():
            raise InputError("dataset row has rows that the model lacks")
        # Objects that could not be fitted may have neither camera nor code.
        usable = storage.usable(self.status)
        own = (
            {f"own_{name}": values for name, values in self.cameras._asdict().items()} if self.cameras else {}
        )
        for name, values in {"latents": self.latents, **own}.items():
            if not np.isfinite(values[usable]).all():
                raise InputError(f"dataset {name} has numbers that are not finite")


def table_objects(model: Model, rows: Sequence[int]) -> Objects:
    """Training objects by table row, with the cameras of their images."""
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


def new_objects(model: Model, sampling: SampleSettings = SampleSettings()) -> Objects:
    """New objects of a model; sample i depends on the seed and i only. ``coefficients`` in ``extra``.

    Raises:
        InputError: the prior is of entries of codebooks, and the model has none.
    """
    prior = sampling.prior or ("gaussian" if model.codebook is None else "codes")
    principal = model.principal.first(sampling.components or 0)
    count, truncation, seed = sampling.count, sampling.truncation, sampling.seed
    if prior == "gaussian":
        return drawn_objects(principal, count, truncation, seed)
    require_codes(count, len(principal.mean))
    if prior == "mixture":
        coefficients = np.zeros((count, len(principal.deviation)))
        drawn = model.mixture.draws(count, truncation, seed)[:, : coefficients.shape[1]]
        coefficients[:, : drawn.shape[1]] = drawn
        return _of_coefficients(principal, coefficients, truncation, seed)
    chosen = model.code_prior.draw(count, truncation, seed)
    assert model.codebook is not None
    entries = dequantised(model.codebook, chosen)
    latents = np.zeros((count, len(principal.mean)))
    latents[:, : entries.shape[1]] = entries
    objects = _of_coefficients(principal, principal.coefficients(latents), truncation, seed)
    objects.latents[:, : entries.shape[1]] = entries
    return objects


def typicality(model: Model) -> Float[np.ndarray, "rows"]:
    """Log-likelihood of each row's global dimensions by the mixture, natural logarithm per dimension: rows that are
    unlike the others have the lowest."""
    coefficients = model.principal.only_varying().coefficients(model.latents)
    return model.mixture.log_likelihood(coefficients) / max(coefficients.shape[1], 1)


def drawn_objects(principal: Principal, count: int, truncation: float, seed: int) -> Objects:
    """New objects: :func:`truncated_draws` along all axes of ``principal``, with local features of their own;
    ``coefficients`` in ``extra``."""
    require_codes(count, len(principal.mean))
    coefficients = truncated_draws(count, len(principal.deviation), truncation, seed)
    return _of_coefficients(principal, coefficients, truncation, seed)


def _of_coefficients(
    principal: Principal, coefficients: Float[np.ndarray, "samples axes"], truncation: float, seed: int
) -> Objects:
    """New objects at coordinates, with local features that vary as in the table."""
    keys = [(seed, sample) for sample in range(len(coefficients))]
    objects = named_samples(principal.drawn_codes(coefficients, truncation, keys))
    return replace(objects, extra={"coefficients": coefficients})


def named_samples(latents: Float[np.ndarray, "samples latent"]) -> Objects:
    """Latent codes of new objects as objects."""
    count = len(latents)
    names = [f"sample {number}" for number in range(count)]
    return Objects(names, ["ok"] * count, np.full(count, -1), latents)


def stored_objects(model: Model, model_digest: str, path: Path, which: str = "all") -> Objects:
    """Objects of a ``views/1`` file, such as fitted images and samples, or of a ``personal/1`` file.

    Args:
        model_digest: SHA-256 of the model's file: latent codes are meaningless to another model, even of equal sizes.
        which: their numbers in the file, such as ``0,5-9``.

    Raises:
        InputError: the file is not of this kind, lacks these objects, or was made with another model.
    """
    return read_objects(ModelShape.of(model), model_digest, path, which)


def read_objects(shape: ModelShape, model_digest: str, path: Path, which: str = "all") -> Objects:
    """As :func:`stored_objects`, of a model that is elsewhere."""
    with storage.reading(path, *_SCHEMAS) as file:
        names = storage.strings(file["name"])
        chosen = np.array(parse_numbers(which, len(names), f"{path}:{which}", "objects"), dtype=int)
        made_from = parse_json(str(file.attrs.get("inputs", "[]")), f"{path}: attribute inputs")
        digests = [each.get("sha256") for each in made_from if isinstance(each, dict)]
        if model_digest not in digests:
            raise InputError(
                f"{path} was made with another model; use that model, or re-create the file with this one"
            )
        with content_of(path, "re-create it with this model"):
            return _read_objects(file, shape, names, chosen)


def _read_objects(
    file: h5py.File, shape: ModelShape, names: list[str], chosen: Int[np.ndarray, "chosen"]
) -> Objects:
    status = storage.strings(file["status"])
    cameras = None
    if has_all(file, "own_cam_to_world", "own_intrinsics"):
        cameras = Cameras(file["own_intrinsics"][:][chosen], file["own_cam_to_world"][:][chosen])
    stored, framed = (_by_number(file, name, chosen) for name in ("tuned", "photographs"))
    tuned = {
        place: read_parameters(item, shape.parameters, where=f"tuned/{chosen[place]}", some=True)
        for place, item in stored.items()
    }
    if "delta" in file:
        delta = read_parameters(file["delta"], shape.parameters, where="delta", some=True)
        tuned = dict.fromkeys(range(len(chosen)), delta)
    found = Objects(
        names=[names[number] for number in chosen],
        status=[status[number] for number in chosen],
        rows=file["row"][:][chosen],
        latents=file["latents"][:][chosen],
        cameras=cameras,
        tuned=tuned,
        images={place: _read_image(item) for place, item in framed.items()},
    )
    found.check(shape)
    return found


def _by_number(file: h5py.File, name: str, chosen: Int[np.ndarray, "chosen"]) -> dict[int, Any]:
    """What a group holds of the chosen objects, by their place among these."""
    group = file.get(name)
    if not isinstance(group, h5py.Group):
        return {}
    return {place: group[str(number)] for place, number in enumerate(chosen) if str(number) in group}


def _read_image(item: Any) -> UInt8[np.ndarray, "_ _ 3"]:
    is_image = isinstance(item, h5py.Dataset) and item.dtype == np.uint8 and len(item.shape) == 3
    if not is_image or item.shape[0] != item.shape[1] or item.shape[2] != 3 or not item.size:
        raise InputError(f"{item.name} is not a square image")
    return np.asarray(item[()])


def find_objects(model: Model, model_digest: str, references: Sequence[str]) -> Objects:
    """Objects by reference, in order.

    Args:
        model_digest: see :func:`stored_objects`.
        references: rows of the table (``3``, ``0,5-9``, ``all``), files that were made with this model
            (``fitted.h5``), or some of a file's objects (``fitted.h5:0,2``).

    Raises:
        InputError: there is no reference, or one that names nothing.
    """
    found = [_find(model, model_digest, reference) for reference in references]
    if not found:
        raise InputError("no objects; give rows such as 0,5-9, or a file of latent codes such as fitted.h5:0")
    return concatenate(found)


def resolve_references(model: Model, references: Sequence[str]) -> tuple[list[str], list[Path]]:
    """The objects of :func:`find_objects` for provenance.

    Returns:
        A name for each object, such as ``3`` or ``fitted.h5:0``, independent of how the references group them; and
        the files among the references.

    Raises:
        InputError: a reference names nothing.
    """
    names: list[str] = []
    files: dict[Path, None] = {}
    for reference in references:
        if names_rows(reference):
            names += map(str, parse_numbers(reference, len(model.images), reference, "rows"))
            continue
        path, which = file_reference(reference)
        with storage.reading(path, *_SCHEMAS) as file:
            count = len(file["name"])
        names += [f"{path.name}:{number}" for number in parse_numbers(which, count, reference, "objects")]
        files[path] = None
    return names, list(files)


def concatenate(parts: Sequence[Objects]) -> Objects:
    """Objects in order; with cameras only if all parts have them, and without ``extra``.

    Raises:
        InputError: there are no parts.
    """
    if not parts:
        raise InputError("no objects; give at least one")
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
        images=_shifted(starts, [part.images for part in parts]),
    )


def file_reference(reference: str) -> tuple[Path, str]:
    """File and numbers of ``FILE`` or ``FILE:NUMBERS``; the name of a file may have a colon itself."""
    path, colon, which = reference.rpartition(":")
    if colon and Path(path).is_file():
        return Path(path), which
    return Path(reference), "all"


def parse_numbers(text: str, count: int, shown: str, what: str, most: int = _MOST_NUMBERS) -> list[int]:
    """Numbers from 0 to ``count`` - 1 from text such as ``0,5-9`` or ``all``.

    Args:
        shown: the text as an error quotes it.
        what: what is numbered, for errors.
        most: numbers at most.

    Raises:
        InputError: the text has another form, a number is out of range, or there are too many.
    """
    too_many = InputError(f"{shown}: more than {most:,} {what}; give fewer")
    if text == "all":
        if count > most:
            raise too_many
        return list(range(count))
    numbers: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        try:
            start = parse_count(first)
            stop = parse_count(last) if dash else start
        except ValueError:
            start, stop = 1, 0
        if start > stop:
            raise InputError(f"{shown}: give {what} such as 0,5-9, or all")
        if stop >= count:  # Checked before a range is expanded, which may not fit into memory.
            valid = f"{what} 0 to {count - 1} exist" if count else f"no {what} exist"
            raise InputError(f"{shown}: out of range; {valid}")
        if len(numbers) + stop + 1 - start > most:
            raise too_many
        numbers += range(start, stop + 1)
    return numbers


def _shifted(starts: Sequence[int], parts: Sequence[dict[int, Value]]) -> dict[int, Value]:
    """Values by index in each part, by index in the whole."""
    return {
        start + place: value
        for start, part in zip(starts, parts, strict=False)
        for place, value in part.items()
    }


def _find(model: Model, model_digest: str, reference: str) -> Objects:
    if names_rows(reference):
        return table_objects(model, parse_numbers(reference, len(model.images), reference, "rows"))
    path, which = file_reference(reference)
    return stored_objects(model, model_digest, path, which)


def names_rows(reference: str) -> bool:
    """Whether a reference names rows of the table, not a file."""
    return reference == "all" or (reference[:1].isdigit() and set(reference) <= set("0123456789,- "))
