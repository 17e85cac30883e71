"""Whether files are as nerfgen wrote them, and whether their inputs still are what they were made from."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.provenance.examination import INTACT, NO_DIGEST, UNREADABLE, dataset_states, examine
from nerfgen.provenance.recorded_inputs import CHANGED, UNCHANGED, Input, check_inputs
from nerfgen.provenance.written import is_hdf5, may_be_ours, read_written
from nerfgen.storage import Record
from nerfgen.untrusted import printable

_SHOWN = 3
_EARLIER = "no digests: written by an earlier version"


@dataclass(frozen=True)
class Verified:
    """What was found of a file.

    Attributes:
        problems: why it is not as it was written, or not current; empty for a sound file.
        notes: what could not be checked.
        datasets: the state of each dataset, ``ok`` if it matches its digest.
        inputs: the state of each input.
    """

    path: Path
    problems: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    datasets: dict[str, str] = field(default_factory=dict)
    inputs: tuple[Input, ...] = ()

    def as_dict(self) -> Record:
        """The same as JSON."""
        return {
            "file": str(self.path),
            "ok": not self.problems,
            "problems": list(self.problems),
            "notes": list(self.notes),
            "datasets": self.datasets,
            "inputs": [each.as_dict() for each in self.inputs],
        }

    def __str__(self) -> str:
        if self.problems:
            return f"{printable(str(self.path))}: {'; '.join(self.problems)}"
        words = self.notes if _EARLIER in self.notes else ("ok", *self.notes)
        return f"{printable(str(self.path))}: {'; '.join(words)}"


def find_written(paths: Sequence[Path]) -> list[Path]:
    """The given files, and the files below the given folders that nerfgen wrote, sorted.

    Hidden files, which include unfinished ones, are skipped.

    Raises:
        InputError: a path does not exist, or nothing was found.
    """
    found: list[Path] = []
    for given in paths:
        if not given.exists():
            raise InputError(f"{given} does not exist; give a file that nerfgen wrote, or a folder")
        if not given.is_dir():
            found.append(given)
            continue
        for folder, subfolders, names in os.walk(given):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            files = [Path(folder) / name for name in sorted(names) if not name.startswith(".")]
            found += filter(may_be_ours, files)
    if not found:
        raise InputError(f"{paths[0]} has no files that nerfgen wrote; give another folder")
    return list(dict.fromkeys(found))


def verify(path: Path, folders: Sequence[Path] = ()) -> Verified:
    """Check one file: its seal, its schema, the digest of every dataset, and its inputs.

    Args:
        folders: where inputs are looked for, after the file's own folder.
    """
    problems: list[str] = []
    notes: list[str] = []
    datasets: dict[str, str] = {}
    if not may_be_ours(path):
        return Verified(path, ("was not written by nerfgen",))
    if is_hdf5(path):
        problems, notes, datasets = _check_content(path)
    else:
        notes.append("the format has no digests")
    inputs: list[Input] = []
    if not problems:
        try:
            inputs = check_inputs(read_written(path), folders)
        except (InputError, OSError) as error:
            problems.append(_cause(error, path))
        problems += [str(each) for each in inputs if each.state == CHANGED]
        notes += [str(each) for each in inputs if each.state not in (CHANGED, UNCHANGED)]
    return Verified(path, tuple(problems), tuple(notes), datasets, tuple(inputs))


def renew(path: Path) -> bool:
    """Accept the present content of an HDF5 file that another program changed on purpose: renew digests and seal.

    Returns:
        False for a sound file, which is left as it is.

    Raises:
        InputError: nerfgen did not write the file, or it no longer follows its schema.
    """
    if not path.is_file() or not is_hdf5(path) or not may_be_ours(path):
        raise InputError(
            f"{path} is not an HDF5 file that nerfgen wrote; give one that was changed on purpose"
        )
    if not _check_content(path)[0]:
        return False
    content = examine(path)
    unreadable = [name for name, state in content.datasets.items() if state == UNREADABLE]
    if content.end or unreadable:
        cause = content.end or f"{printable(unreadable[0])} cannot be read"
        raise InputError(f"{path} is damaged ({cause}); re-create it")
    if content.fault:
        raise InputError(content.fault)
    storage.renew(path)
    return True


def _check_content(path: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Problems, notes and states of datasets of an HDF5 file."""
    try:
        is_sealed = storage.check_seal(path)
    except (InputError, OSError):
        content = examine(path)
        return [_damage(content.datasets, content.end)], [], content.datasets
    try:
        with storage.reading(path, *storage.SCHEMAS) as file:
            states = dataset_states(file)
    except (InputError, OSError) as error:
        content = examine(path)
        return [_cause(error, path)], [], content.datasets
    if not is_sealed and set(states.values()) == {NO_DIGEST}:
        return [], [_EARLIER], states
    differing = _differing(states)
    return [differing] if differing else [], [], states


def _damage(datasets: dict[str, str], end: str) -> str:
    """What is wrong with a file whose seal does not match."""
    text = _differing(datasets)
    if not text:
        text = (
            "its datasets match their digests, but its attributes or its structure changed"
            if datasets and not end
            else "which datasets cannot be said"
        )
    return f"damaged or changed since it was written: {text}{f'; {end}' if end else ''}"


def _differing(datasets: dict[str, str]) -> str:
    """The datasets that are not as they were written."""
    by_state: dict[str, list[str]] = {}
    for name, state in datasets.items():
        if state != INTACT:
            by_state.setdefault(state, []).append(printable(name))
    return ", ".join(
        f"{', '.join(names[:_SHOWN])}{f' and {len(names) - _SHOWN} more' if len(names) > _SHOWN else ''} {state}"
        for state, names in by_state.items()
    )


def _cause(error: Exception, path: Path) -> str:
    """An error without the file that it names, and without the next step."""
    text = str(error).rpartition("; ")[0] or str(error)
    return printable(text.removeprefix(f"{path}: ").removeprefix(f"{path} "))
