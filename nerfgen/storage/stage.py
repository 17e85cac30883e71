"""A stage as a value: one output and everything that determines its content."""

from __future__ import annotations

import contextlib
import glob
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py

import nerfgen
from nerfgen.errors import InputError, OutputExistsError
from nerfgen.objectclass import ObjectClass
from nerfgen.objectclass import object_class as named_class
from nerfgen.storage.atomic import WriteError, remove_temporaries
from nerfgen.storage.digest import InputRecord
from nerfgen.storage.hdf5 import create_file
from nerfgen.storage.journal import Journal
from nerfgen.storage.reader import open_hdf5
from nerfgen.storage.schema import ROOT_ATTRIBUTES
from nerfgen.storage.single_writer import OutputBusyError, claim

ELSEWHERE = "choose another `output`"
REPLACE = f"give `overwrite` to replace it, or {ELSEWHERE}"


@dataclass(frozen=True)
class Stage:
    """What one output file is made of; equal stages give equal files.

    Attributes:
        output: file to write.
        schema: key of ``SCHEMAS``, or the kind of a file in another format.
        object_class: the class, or the name of one that ships with nerfgen.
        parameters: every parameter that the content depends on (JSON), the seed included.
        inputs: provenance records of the input files, see :mod:`nerfgen.storage.digest`.
        version: version of the code's meaning. A stage raises it when equal inputs and parameters give other contents
            than before; outputs of earlier versions are then no longer current. Files that record none count as 1.
    """

    output: Path
    schema: str
    object_class: ObjectClass | str
    parameters: Mapping[str, object] = field(default_factory=dict)
    inputs: Sequence[InputRecord] = ()
    version: int = 1

    def is_current(
        self,
        *,
        overwrite: bool = False,
        remedy: str = REPLACE,
        read: Callable[[Path], Mapping[str, object]] | None = None,
    ) -> bool:
        """Whether the output already holds exactly this, so that it is kept.

        False if there is none, or if ``overwrite`` permits to replace it.

        Args:
            remedy: the next step that an error names: what helps here.
            read: gives the root attributes of an output that is not HDF5; none if nerfgen did not write it.

        Raises:
            OutputExistsError: something else stands there; the message names the first difference.
        """
        if self.output.is_dir():
            raise OutputExistsError(f"{self.output} is a folder; {ELSEWHERE}")
        if overwrite or not self.output.exists():
            return False
        try:
            found = (read or _read_attributes)(self.output)
        except (InputError, OSError) as error:
            cause = str(error).rpartition("; ")[0] or error
            raise OutputExistsError(f"{cause}; {remedy}") from error
        self.require_equal(found, remedy=remedy)
        # A killed run with ``overwrite`` may have left the beginning of what is there already.
        if any(self.output.parent.glob(f".{glob.escape(self.output.stem)}.*")):
            with contextlib.suppress(OutputBusyError, WriteError), self.claimed():
                remove_temporaries(self.output)
                self._journal_path.unlink(missing_ok=True)
        return True

    def require_equal(self, found: Mapping[str, object], *, remedy: str = REPLACE) -> None:
        """Check that what the output records of itself is this stage.

        Args:
            found: its attributes.
            remedy: the next step that an error names.

        Raises:
            OutputExistsError: it is another one; the message names the first difference.
        """
        difference = self._difference({name: str(value) for name, value in found.items()})
        if difference:
            raise OutputExistsError(f"{self.output} {difference}; {remedy}")

    def attributes(self) -> dict[str, str]:
        """The root attributes of the output: its provenance."""
        described = named_class(self.object_class)
        return {
            "nerfgen_schema": self.schema,
            "nerfgen_version": nerfgen.__version__,
            "class": described.name,
            "class_description": described.text,
            "parameters": json.dumps(self.parameters, sort_keys=True),
            "inputs": json.dumps(list(self.inputs), sort_keys=True),
            "stage_version": str(self.version),
        }

    @contextlib.contextmanager
    def claimed(self) -> Iterator[None]:
        """Be the only writer of the output within the block, around all the work that leads to it.

        Raises:
            OutputBusyError: another process writes it; the message names its host and number.
        """
        with claim(self.output):
            yield

    @contextlib.contextmanager
    def create(self) -> Iterator[h5py.File]:
        """Open the output for writing; it appears when the block ends without error, complete by its schema."""
        attributes = self.attributes()
        inputs = attributes.pop("inputs")
        with self.claimed(), create_file(self.output, attributes) as file:
            yield file
            # Last, wherever they became known: how a file came about does not show in its bytes.
            if "inputs" not in file.attrs:
                file.attrs["inputs"] = inputs

    @contextlib.contextmanager
    def journal(self) -> Iterator[Journal]:
        """The journal of finished images beside the output: a context around :meth:`create`."""
        attributes = self.attributes()
        del attributes["nerfgen_version"]  # the stage's version says whether rows mean the same
        with self.claimed(), Journal(self._journal_path, json.dumps(attributes, sort_keys=True)) as journal:
            yield journal

    @property
    def _journal_path(self) -> Path:
        return self.output.with_name(f".{self.output.name}.journal")

    def _difference(self, found: Mapping[str, str]) -> str:
        """How an existing file's provenance differs, as the end of "FILE ..."; empty where it does not."""
        if not found.keys() >= ROOT_ATTRIBUTES.keys() - {"stage_version"}:
            return "was not written by nerfgen"
        # In the order of the stage, whose first parameters say most.
        wanted = self.attributes() | {"parameters": json.dumps(self.parameters)}
        try:
            there, version = compared(found), int(found.get("stage_version", 1))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return "has a description that cannot be read"
        here = compared(wanted)
        for key in [*here, *there]:
            if here.get(key) != there.get(key):
                key, before, now = _innermost(key, there.get(key), here.get(key))
                old, new = _short(before), _short(now)
                values = f": {old} in the file, {new} now" if old != new else ""
                return f"differs in {key}{values}"
        if version != self.version:
            age = "an older" if version < self.version else "a newer"
            return f"was made by {age} version of this stage ({version}, now {self.version})"
        return ""


def put_inputs(file: h5py.File, inputs: Sequence[InputRecord]) -> None:
    """Give a new file its provenance records, for inputs whose digests are known only at the end."""
    file.attrs["inputs"] = json.dumps(list(inputs), sort_keys=True)


def _read_attributes(path: Path) -> dict[str, object]:
    with open_hdf5(path) as file:
        return {name: value for name, value in file.attrs.items() if name in ROOT_ATTRIBUTES}


def compared(attributes: Mapping[str, str]) -> dict[str, object]:
    """Provenance item by item, so that a difference can be named."""
    items: dict[str, object] = {
        "schema": attributes["nerfgen_schema"],
        "class": attributes["class"],
        "class description": attributes["class_description"],
    }
    items |= {f"parameter {name}": value for name, value in json.loads(attributes["parameters"]).items()}
    # Inputs of one name, from different folders, are compared together.
    digests: dict[str, list[str]] = {}
    for record in json.loads(attributes["inputs"]):
        digests.setdefault(f"input {record['file']}", []).append(record["sha256"])
    return items | {name: " ".join(values) for name, values in digests.items()}


def _innermost(name: str, one: Any, other: Any) -> tuple[str, Any, Any]:
    """Name and values of the first difference of two unequal values; of mappings, that of their items."""
    while isinstance(one, Mapping) and isinstance(other, Mapping):
        keys = [*other, *(key for key in one if key not in other)]
        key = next(key for key in keys if (key in one, one.get(key)) != (key in other, other.get(key)))
        name, one, other = f"{name} {key}", one.get(key), other.get(key)
    return name, one, other


def _short(value: Any) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:12] + "…"
