"""Joining the shards of a run into the file that one run would have written, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nerfgen.errors import InputError
from nerfgen.settings import SettingError
from nerfgen.storage.digest import InputRecord, folder_record
from nerfgen.storage.division import Shard, parse_shard
from nerfgen.storage.image_rows import usable
from nerfgen.storage.reader import class_of, get_tree, open_hdf5, reading, strings
from nerfgen.storage.row_writer import RowWriter
from nerfgen.storage.schema import Schema
from nerfgen.storage.schemas import SCHEMAS
from nerfgen.storage.stage import Stage, compared
from nerfgen.untrusted import parse_json

# Rows are read until they reach one of these limits.
_MOST_ROWS, _MOST_BYTES = 64, 1 << 22
_LISTED = 10


@dataclass(frozen=True)
class ShardFile:
    """A shard of a run as a file.

    Attributes:
        shard: which part it is.
        listed: digest of the names of all images of the run.
        stage: what it is made of, without the shard; ``output`` is the file.
        made_by: version of nerfgen.
    """

    shard: Shard
    listed: str
    stage: Stage
    made_by: str

    @property
    def path(self) -> Path:
        """The file."""
        return self.stage.output


def read_shard(path: Path) -> ShardFile:
    """What a shard is of.

    Raises:
        InputError: the file is missing, damaged or no shard.
    """
    if not path.exists():
        raise InputError(f"{path} does not exist; give the files of `--shard I/N`")
    with open_hdf5(path) as found:
        schema = str(found.attrs.get("nerfgen_schema", ""))
    if schema not in SCHEMAS:
        raise InputError(f"{path} is not a nerfgen file; give the files of `--shard I/N`")
    with reading(path, schema) as file:
        described, attributes = class_of(file), {name: str(value) for name, value in file.attrs.items()}
    parameters = parse_json(attributes["parameters"], f"{path}: attribute parameters")
    inputs = parse_json(attributes["inputs"], f"{path}: attribute inputs")
    try:
        part = parameters.pop("shard")
        shard, listed = parse_shard("shard", f"{part['number']}/{part['of']}"), str(part["listed"])
    except (AttributeError, KeyError, TypeError, SettingError) as error:
        raise InputError(f"{path} is no shard of a run; give the files of `--shard I/N`") from error
    version = int(attributes.get("stage_version", 1))
    stage = Stage(path, schema, described, parameters, inputs, version)
    return ShardFile(shard, listed, stage, attributes["nerfgen_version"])


def read_shards(paths: Sequence[Path]) -> list[ShardFile]:
    """All shards of one run, in order.

    Raises:
        InputError: they are of different runs, or some are missing or doubled.
    """
    if not paths:
        raise InputError("no shards; give the files of `--shard I/N`")
    shards = [read_shard(path) for path in paths]
    first = shards[0]
    present: dict[int, ShardFile] = {}
    for each in shards:
        if difference := _difference(first, each):
            raise InputError(
                f"{each.path} and {first.path} are shards of different runs, which differ in {difference}; make all "
                "shards with the same command"
            )
        if each.shard.number in present:
            raise InputError(
                f"{present[each.shard.number].path} and {each.path} are both shard {each.shard}; give one of them"
            )
        present[each.shard.number] = each
    of = first.shard.of
    if missing := of - len(present):
        absent = (number for number in range(1, of + 1) if number not in present)
        named = ", ".join(f"{number}/{of}" for number in islice(absent, _LISTED))
        more = f" and {missing - _LISTED} more" if missing > _LISTED else ""
        raise InputError(
            f"shards {named}{more} are missing; make them with `--shard`, or give their files too"
            if missing > 1
            else f"shard {named} is missing; make it with `--shard`, or give its file too"
        )
    return [present[number] for number in sorted(present)]


def _difference(first: ShardFile, other: ShardFile) -> str:
    """What two shards differ in that those of one run share; empty if nothing."""
    if first.made_by != other.made_by:
        return f"the version of nerfgen: {first.made_by} and {other.made_by}"
    if first.shard.of != other.shard.of:
        return f"the number of shards: {first.shard.of} and {other.shard.of}"
    if first.listed != other.listed:
        return "the images that were listed, because images were added, removed or renamed in between"
    if [record["file"] for record in first.stage.inputs] != [record["file"] for record in other.stage.inputs]:
        return "their inputs"
    here, there = (compared(_without_folders(each.stage)) for each in (first, other))
    return next((key for key in [*here, *there] if here.get(key) != there.get(key)), "")


def _without_folders(stage: Stage) -> Mapping[str, str]:
    """The attributes of a stage, without the records of images, of which every shard has its own."""
    records = [record for record in stage.inputs if "count" not in record]
    own = Stage(stage.output, stage.schema, stage.object_class, stage.parameters, records, stage.version)
    return own.attributes()


def joined_stage(shards: Sequence[ShardFile], output: Path) -> Stage:
    """What one run would have recorded, of shards in order."""
    first = shards[0].stage
    inputs: list[InputRecord] = []
    for place, record in enumerate(first.inputs):
        if "count" in record:
            total = sum(each.stage.inputs[place]["size"] for each in shards)
            record = {**folder_record(_names(shards), _digests(shards)), "size": total}
        inputs.append(record)
    return Stage(output, first.schema, first.object_class, first.parameters, inputs, first.version)


def _names(shards: Sequence[ShardFile]) -> Iterator[str]:
    for each in shards:
        with reading(each.path, each.stage.schema) as file:
            yield from strings(file[SCHEMAS[each.stage.schema].datasets[0].name])


def _digests(shards: Sequence[ShardFile]) -> Iterator[tuple[int, str]]:
    for each in shards:
        with reading(each.path, each.stage.schema) as file:
            if len(file["status"]):
                yield from ((0, sha256) for sha256 in strings(file["image_sha256"]))


def write_joined(shards: Sequence[ShardFile], stage: Stage, progress: Callable[[int, int], object]) -> None:
    """Write the file of :func:`joined_stage`. Arrays are copied a few rows at a time.

    Args:
        progress: receives the number of rows so far, and of all.

    Raises:
        InputError: shards that have to be equal in what all rows share are not.
    """
    schema = SCHEMAS[stage.schema]
    filled = [each for each in shards if _count(each)]
    total, done = sum(map(_count, filled)), 0
    with reading(filled[0].path, schema.name) as file:
        shapes = {spec.name: file[spec.name].shape[1:] for spec in schema.arrays if spec.name in file}
    common = _shared(filled[0])
    with stage.create() as output:
        writer = RowWriter(output, total, **shapes)
        for each in filled:
            if different := [
                name for name, value in _shared(each).items() if not _equal(value, common[name])
            ]:
                raise InputError(
                    f"{filled[0].path} and {each.path} differ in dataset {different[0]}, which all images share; make "
                    "all shards on machines of one kind"
                )
            for row, trees in _rows(each, schema):
                writer.add(row, trees)
                done += 1
                progress(done, total)
        writer.finish(**common)


def _count(shard: ShardFile) -> int:
    with reading(shard.path, shard.stage.schema) as file:
        return len(file["status"])


def _shared(shard: ShardFile) -> dict[str, Any]:
    """The datasets that belong to all rows."""
    schema = SCHEMAS[shard.stage.schema]
    by_row = {*(spec.name for spec in (*schema.arrays, *schema.columns)), *schema.optional_groups}
    with reading(shard.path, schema.name) as file:
        return {name: _values(file[name], slice(None)) for name in file if name not in by_row}


def _equal(first: Any, other: Any) -> bool:
    first, other = np.asarray(first), np.asarray(other)
    return np.array_equal(first, other, equal_nan=first.dtype.kind == "f" == other.dtype.kind)


def _rows(shard: ShardFile, schema: Schema) -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    """The rows of a shard and what groups hold of them, as :class:`RowWriter` takes them."""
    arrays = {spec.name for spec in schema.arrays}
    with reading(shard.path, schema.name) as file:
        names = [spec.name for spec in (*schema.arrays, *schema.columns) if spec.name in file]
        count = len(file["status"])
        item = sum(file[name].dtype.itemsize * int(np.prod(file[name].shape[1:])) for name in names)
        step = max(1, min(_MOST_ROWS, _MOST_BYTES // item))
        groups = [name for name in schema.optional_groups if name in file]
        for start in range(0, count, step):
            values = {name: _values(file[name], slice(start, start + step)) for name in names}
            is_usable = usable(values["status"])
            for place in range(len(is_usable)):
                row = {name: values[name][place] for name in names}
                # Arrays of unusable images were not written, unless they say so by NaN.
                empty = {
                    name for name in arrays & row.keys() if not is_usable[place] and not np.any(row[name])
                }
                trees = {
                    name: _tree(file[name][str(start + place)])
                    for name in groups
                    if str(start + place) in file[name]
                }
                yield {name: None if name in empty else value for name, value in row.items()}, trees


def _tree(item: h5py.Group | h5py.Dataset) -> Any:
    return get_tree(item) if isinstance(item, h5py.Group) else item[()]


def _values(dataset: h5py.Dataset, rows: slice) -> Any:
    is_text = h5py.check_string_dtype(dataset.dtype) is not None
    return dataset.asstr()[rows].tolist() if is_text else dataset[rows]
