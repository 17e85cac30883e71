"""A report: the tables of a model, as a value and as a file."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Bool

from nerfgen import artifact
from nerfgen.metric import Estimate
from nerfgen.report.catalogue import TABLES, in_order
from nerfgen.report.table import Measured, Pictures, Points, Table

SCHEMA = "report/1"


@dataclass(frozen=True)
class Report:
    """What was found out about a model.

    Attributes:
        name: the model's, such as ``photos/model.h5``.
        tables: by name, in the order of :data:`nerfgen.report.catalogue.TABLES`.
        figures: of every table, the summary of its items.
        about: parameters and inputs of the evaluation, as the file records them.
    """

    name: str
    tables: dict[str, Table]
    figures: dict[str, dict[str, Estimate]]
    about: dict[str, Any] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        """The figures for JSON, an object per table; NaN is None. ``missing`` lists what the tables lack."""
        shown = {
            table: {metric: plain_estimate(figure) for metric, figure in figures.items()}
            for table, figures in self.figures.items()
        }
        missing = [f"{name}: {line}" for name, table in self.tables.items() for line in table.missing]
        return {**shown, "missing": missing}


def is_report(path: Path) -> bool:
    """Whether a file says that it is a report."""
    try:
        with h5py.File(path, "r") as file:
            return file.attrs.get("nerfgen_schema") == SCHEMA
    except OSError:
        return False


def plain_estimate(figure: Estimate) -> dict[str, Any]:
    """A figure for JSON, which has no NaN."""
    return {name: None if value != value else value for name, value in asdict(figure).items()}


def save_report(path: Path, report: Report, about: artifact.About) -> None:
    """Write ``report/1``."""
    entries = [(t, m, figure) for t, figures in report.figures.items() for m, figure in figures.items()]
    with artifact.create(path, SCHEMA, **about) as file:
        file.attrs["name"] = report.name
        put_entries(file, entries)
        values = [
            (table, metric, item, value)
            for table, held in report.tables.items()
            for metric, measured in held.values.items()
            for item, value in zip(measured.items, measured.values, strict=True)
        ]
        for place, name in enumerate(("value_table", "value_metric", "value_item", "value")):
            artifact.put(file, name, [value[place] for value in values])
        notes = [
            (table, line, kind)
            for table, held in report.tables.items()
            for kind, lines in (("of", held.notes), ("missing", held.missing))
            for line in lines
        ]
        for place, name in enumerate(("note_table", "note", "note_kind")):
            artifact.put(file, name, [note[place] for note in notes])
        for table, held in report.tables.items():
            for title, pictures in held.pictures.items():
                stored = file.create_dataset(
                    f"pictures/{table}/{title}", data=pictures.rgb, compression="gzip"
                )
                stored.attrs["items"], stored.attrs["columns"] = pictures.items, pictures.columns
            for title, points in held.points.items():
                stored = file.create_dataset(
                    f"points/{table}/{title}", data=np.stack([points.x, points.y], axis=-1)
                )
                stored.attrs["x"], stored.attrs["y"] = points.x_label, points.y_label


def load_report(path: Path) -> Report:
    """Read a report.

    Raises:
        InputError: it is missing or none.
    """
    with artifact.reading(path, SCHEMA, made_by="nerfgen evaluate MODEL") as file:
        figures = read_entries(file)
        value_table, metric, item = (
            artifact.strings(file[name]) for name in ("value_table", "value_metric", "value_item")
        )
        values = file["value"][:]
        of = np.array([f"{t}/{m}" for t, m in zip(value_table, metric, strict=True)], dtype=object)
        notes = list(
            zip(*(artifact.strings(file[name]) for name in ("note_table", "note_kind", "note")), strict=True)
        )
        tables = {}
        for table in in_order(TABLES, [*figures, *(own for own, _, _ in notes)]):
            measured = {}
            for name in figures.setdefault(table, {}):
                places = np.flatnonzero(of == f"{table}/{name}")
                if len(places):
                    measured[name] = Measured([item[place] for place in places], values[places])
            tables[table] = Table(
                values=measured,
                pooled={name: each for name, each in figures[table].items() if name not in measured},
                notes=[line for own, kind, line in notes if (own, kind) == (table, "of")],
                missing=[line for own, kind, line in notes if (own, kind) == (table, "missing")],
                pictures={
                    title: _pictures(held) for title, held in file.get(f"pictures/{table}", {}).items()
                },
                points={title: _points(held) for title, held in file.get(f"points/{table}", {}).items()},
            )
        about = {name: str(file.attrs[name]) for name in ("class", "parameters", "inputs")}
        return Report(str(file.attrs["name"]), tables, figures, about)


def put_entries(file: h5py.File, entries: list[tuple[str, str, Estimate]]) -> None:
    """Write figures of tables as columns."""
    artifact.put(file, "table", [table for table, _, _ in entries])
    artifact.put(file, "metric", [metric for _, metric, _ in entries])
    for name in ("mean", "low", "high", "n"):
        artifact.put(file, name, [getattr(figure, name) for _, _, figure in entries])


def read_entries(
    file: h5py.File, chosen: Bool[np.ndarray, "entries"] | slice = slice(None)
) -> dict[str, dict[str, Estimate]]:
    """Some of the figures that :func:`put_entries` wrote, by table and metric."""
    figures: dict[str, dict[str, Estimate]] = {}
    columns = (file[name][:][chosen].tolist() for name in ("mean", "low", "high", "n"))
    names = (file[name].asstr()[:][chosen].tolist() for name in ("table", "metric"))
    for table, metric, *numbers in zip(*names, *columns, strict=True):
        figures.setdefault(table, {})[metric] = Estimate(*numbers)
    return figures


def _pictures(stored: h5py.Dataset) -> Pictures:
    return Pictures(list(stored.attrs["items"]), list(stored.attrs["columns"]), stored[:])


def _points(stored: h5py.Dataset) -> Points:
    x, y = stored[:].T
    return Points(x, y, str(stored.attrs["x"]), str(stored.attrs["y"]))
