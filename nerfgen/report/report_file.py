"""A report: the tables of one model, as values and as a ``report/1`` file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool, Float, UInt8

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.metric import Estimate, Mean
from nerfgen.report.catalogue import TABLES, sort_names
from nerfgen.untrusted import content_of, parse_json, printable

REPORT_SCHEMA = "report/1"


@dataclass(frozen=True)
class ImageGrid:
    """A grid of images.

    Attributes:
        items: name of each row.
        columns: heading of each column, such as ``image`` or ``reconstruction``.
        rgb: the images.
    """

    items: list[str]
    columns: list[str]
    rgb: UInt8[np.ndarray, "items columns size size 3"]


@dataclass(frozen=True)
class ScatterPoints:
    """Points of a scatter plot, with axis labels."""

    x: Float[np.ndarray, "points"]
    y: Float[np.ndarray, "points"]
    x_label: str
    y_label: str


@dataclass(frozen=True)
class ItemValues:
    """One value per item; NaN if it could not be measured."""

    items: Sequence[str]
    values: Float[np.ndarray, "items"]


@dataclass(frozen=True)
class Table:
    """One table of a report.

    Attributes:
        values: by metric (:data:`nerfgen.report.catalogue.METRICS`), the values whose mean is reported.
        pooled: by metric, estimates that are not means over items.
        notes: what was compared, one line each, such as how many images were unusable and why.
        missing: what could not be computed and how to add it, one line each.
        grids: image grids by title.
        points: scatter plots by title.
    """

    values: dict[str, ItemValues]
    pooled: dict[str, Estimate] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    grids: dict[str, ImageGrid] = field(default_factory=dict)
    points: dict[str, ScatterPoints] = field(default_factory=dict)

    def summary(self, seed: int = 0) -> dict[str, Estimate]:
        """The estimate of every metric."""
        means = {name: Mean(measured.values).estimate(seed) for name, measured in self.values.items()}
        return means | self.pooled


def merge_tables(parts: Sequence[Table]) -> Table:
    """One table of several with distinct metrics and titles. Equal lines of what is missing appear once."""
    return Table(
        values={name: measured for part in parts for name, measured in part.values.items()},
        pooled={name: estimate for part in parts for name, estimate in part.pooled.items()},
        notes=[line for part in parts for line in part.notes],
        missing=list(dict.fromkeys(line for part in parts for line in part.missing)),
        grids={title: grid for part in parts for title, grid in part.grids.items()},
        points={title: points for part in parts for title, points in part.points.items()},
    )


@dataclass(frozen=True)
class Report:
    """The evaluation of a model.

    Attributes:
        name: name of the model, such as ``photos/model.h5``.
        tables: by name, in the order of :data:`nerfgen.report.catalogue.TABLES`.
        estimates: by table and metric, the summary of the table's items.
        provenance: class, parameters and inputs of the evaluation, as recorded in the file.
    """

    name: str
    tables: dict[str, Table]
    estimates: dict[str, dict[str, Estimate]]
    provenance: storage.Record = field(default_factory=dict)

    def as_dict(self) -> storage.Record:
        """The estimates for JSON, one object per table, with None for NaN. ``missing`` lists what tables lack."""
        estimates = {
            table: {metric: estimate_as_dict(estimate) for metric, estimate in metrics.items()}
            for table, metrics in self.estimates.items()
        }
        missing = [f"{name}: {line}" for name, table in self.tables.items() for line in table.missing]
        return {**estimates, "missing": missing}


def is_report(path: Path) -> bool:
    """Whether a file is a report."""
    return storage.schema_of(path) == REPORT_SCHEMA


def estimate_as_dict(estimate: Estimate) -> storage.Record:
    """An estimate for JSON, with None for NaN."""
    return {name: None if value != value else value for name, value in asdict(estimate).items()}


def save_report(stage: storage.Stage, report: Report) -> None:
    """Write ``report/1``."""
    entries = [
        (table, metric, estimate)
        for table, metrics in report.estimates.items()
        for metric, estimate in metrics.items()
    ]
    with stage.create() as file:
        file.attrs["name"] = report.name
        put_entries(file, entries)
        values = [
            (name, metric, item, value)
            for name, table in report.tables.items()
            for metric, measured in table.values.items()
            for item, value in zip(measured.items, measured.values, strict=True)
        ]
        for column, dataset in enumerate(("value_table", "value_metric", "value_item", "value")):
            storage.put(file, dataset, [value[column] for value in values])
        notes = [
            (name, line, kind)
            for name, table in report.tables.items()
            for kind, lines in (("of", table.notes), ("missing", table.missing))
            for line in lines
        ]
        for column, dataset in enumerate(("note_table", "note", "note_kind")):
            storage.put(file, dataset, [note[column] for note in notes])
        for name, table in report.tables.items():
            for title, grid in table.grids.items():
                stored = file.create_dataset(f"pictures/{name}/{title}", data=grid.rgb, compression="gzip")
                stored.attrs["items"], stored.attrs["columns"] = grid.items, grid.columns
            for title, points in table.points.items():
                stored = file.create_dataset(
                    f"points/{name}/{title}", data=np.stack([points.x, points.y], axis=-1)
                )
                stored.attrs["x"], stored.attrs["y"] = points.x_label, points.y_label


def load_report(path: Path) -> Report:
    """Read a report.

    Raises:
        InputError: the file is missing or not a report.
    """
    made_by = "nerfgen evaluate MODEL"
    with (
        storage.reading(path, REPORT_SCHEMA, made_by=made_by) as file,
        content_of(path, f"re-create it with `{made_by}`"),
    ):
        estimates = read_entries(file)
        value_table, value_metric, value_item = (
            read_names(file, name) for name in ("value_table", "value_metric", "value_item")
        )
        values = file["value"][:]
        rows_of: dict[tuple[str, str], list[int]] = {}
        for row, key in enumerate(zip(value_table, value_metric, strict=True)):
            rows_of.setdefault(key, []).append(row)
        notes = list(
            zip(*(read_names(file, name) for name in ("note_table", "note_kind", "note")), strict=True)
        )
        tables = {}
        for table in sort_names(TABLES, [*estimates, *(own for own, _, _ in notes)]):
            measured = {
                metric: ItemValues([value_item[row] for row in rows], values[rows])
                for metric in estimates.setdefault(table, {})
                if (rows := rows_of.get((table, metric)))
            }
            tables[table] = Table(
                values=measured,
                pooled={name: each for name, each in estimates[table].items() if name not in measured},
                notes=[line for own, kind, line in notes if (own, kind) == (table, "of")],
                missing=[line for own, kind, line in notes if (own, kind) == (table, "missing")],
                grids={title: _read_grid(stored) for title, stored in _datasets(file, "pictures", table)},
                points={title: _read_points(stored) for title, stored in _datasets(file, "points", table)},
            )
        return Report(read_text(file, "name"), tables, estimates, read_provenance(file))


def read_names(file: h5py.File, name: str) -> list[str]:
    """A dataset of texts, for people."""
    return [printable(text) for text in storage.strings(file[name])]


def read_text(file: h5py.File, name: str) -> str:
    """An attribute of text, for people; empty where there is none."""
    return printable(str(file.attrs.get(name, "")))


def read_provenance(file: h5py.File) -> storage.Record:
    """Class, parameters and inputs of a file, the last two as JSON.

    Raises:
        InputError: they are no JSON of the form that files record.
    """
    texts = {name: str(file.attrs.get(name, "")) for name in ("parameters", "inputs")}
    parameters, inputs = (parse_json(text, f"attribute {name}") for name, text in texts.items())
    if not isinstance(parameters, dict):
        raise InputError("attribute parameters is no JSON object")
    if not isinstance(inputs, list) or not all(map(_is_input, inputs)):
        raise InputError("attribute inputs is no list of files")
    return {"class": read_text(file, "class"), **texts}


def _is_input(record: Any) -> bool:
    if not isinstance(record, dict):
        return False
    named = isinstance(record.get("count"), int) if "count" in record else isinstance(record.get("file"), str)
    return named and isinstance(record.get("size"), int) and isinstance(record.get("sha256"), str)


def _datasets(file: h5py.File, group: str, table: str) -> list[tuple[str, h5py.Dataset]]:
    """The datasets of a table by title; those that are none are left out."""
    found = file.get(f"{group}/{table}") if table.strip("/.") else None
    if not isinstance(found, h5py.Group):
        return []
    return [(printable(title), item) for title, item in found.items() if isinstance(item, h5py.Dataset)]


def put_entries(file: h5py.File, entries: list[tuple[str, str, Estimate]]) -> None:
    """Write (table, metric, estimate) as columns."""
    storage.put(file, "table", [table for table, _, _ in entries])
    storage.put(file, "metric", [metric for _, metric, _ in entries])
    for name in ("mean", "low", "high", "n"):
        storage.put(file, name, [getattr(estimate, name) for _, _, estimate in entries])


def read_entries(
    file: h5py.File, chosen: Bool[np.ndarray, "entries"] | slice = slice(None)
) -> dict[str, dict[str, Estimate]]:
    """Estimates written by :func:`put_entries`, or some of them, by table and metric."""
    estimates: dict[str, dict[str, Estimate]] = {}
    columns = (file[name][:][chosen].tolist() for name in ("mean", "low", "high", "n"))
    names = (np.array(read_names(file, name), object)[chosen].tolist() for name in ("table", "metric"))
    for table, metric, *numbers in zip(*names, *columns, strict=True):
        estimates.setdefault(table, {})[metric] = Estimate(*numbers)
    return estimates


def _read_grid(stored: h5py.Dataset) -> ImageGrid:
    items, columns = (
        [printable(str(text)) for text in _texts(stored, name)] for name in ("items", "columns")
    )
    shape = stored.shape
    fits = (
        len(shape) == 5 and shape[:2] == (len(items), len(columns)) and shape[2] == shape[3] and shape[4] == 3
    )
    if not fits or not shape[2] or stored.dtype != np.uint8:
        raise InputError(f"dataset {stored.name} is no grid of images")
    return ImageGrid(items, columns, stored[:])


def _texts(stored: h5py.Dataset, name: str) -> list[Any]:
    return list(np.asarray(stored.attrs.get(name, [])).reshape(-1))


def _read_points(stored: h5py.Dataset) -> ScatterPoints:
    if len(stored.shape) != 2 or stored.shape[1] != 2 or stored.dtype.kind != "f":
        raise InputError(f"dataset {stored.name} is no list of points")
    x, y = stored[:].T
    return ScatterPoints(x, y, *(printable(str(stored.attrs.get(axis, ""))) for axis in "xy"))
