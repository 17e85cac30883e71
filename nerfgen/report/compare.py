"""Several reports side by side: what they have in common, and how far each is from the first."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nerfgen.metric import Estimate, Mean
from nerfgen.report.catalogue import METRICS, TABLES, in_order
from nerfgen.report.file import Report, plain_estimate
from nerfgen.report.markup import recorded
from nerfgen.report.table import Measured
from nerfgen.report.wording import letter, titled


@dataclass(frozen=True)
class Compared:
    """A metric of several reports.

    Attributes:
        figures: of each report; None where it has none. Over the common items if there are any.
        differences: of each report to the first, as the mean over the common items; None where there is none.
        common: items that all reports with this metric could measure; None for what is no mean over items.
    """

    figures: list[Estimate | None]
    differences: list[Estimate | None]
    common: int | None


@dataclass(frozen=True)
class Comparison:
    """Several reports side by side.

    Attributes:
        names: of the reports, no two the same.
        tables: by table and metric.
        notes: what to know before one compares, in a line each; those of a table by its name, of all by "".
    """

    names: list[str]
    tables: dict[str, dict[str, Compared]]
    notes: dict[str, list[str]]

    def plain(self) -> dict[str, Any]:
        """For JSON: figures and differences in the order of ``reports``; NaN is None."""
        told = {
            table: {
                metric: {
                    "figures": [each and plain_estimate(each) for each in compared.figures],
                    "differences": [each and plain_estimate(each) for each in compared.differences],
                    "common": compared.common,
                }
                for metric, compared in metrics.items()
            }
            for table, metrics in self.tables.items()
        }
        notes = [
            f"{table}: {line}" if table else line for table, lines in self.notes.items() for line in lines
        ]
        return {"reports": self.names, **told, "notes": notes}


def compare(reports: Sequence[Report], seed: int = 0) -> Comparison:
    """Every metric of the reports over the items that all of them measured, with paired differences to the first.

    The difference of a metric is the mean over the common items of value minus the first report's value; its
    interval is by bootstrap over these items, so that what makes an item hard for all does not widen it.
    """
    notes = {"": _differing(reports)}
    tables: dict[str, dict[str, Compared]] = {}
    for table in in_order(TABLES, (name for report in reports for name in report.figures)):
        metrics = in_order(METRICS, (name for report in reports for name in report.figures.get(table, {})))
        tables[table] = {metric: _compared(reports, table, metric, seed) for metric in metrics}
        apart = [titled(metric) for metric, compared in tables[table].items() if compared.common == 0]
        if apart:
            notes[table] = [f"no common items; each figure is of its report's own: {'; '.join(apart)}"]
    return Comparison(distinct_names([report.name for report in reports]), tables, notes)


def _compared(reports: Sequence[Report], table: str, metric: str, seed: int) -> Compared:
    """One metric of the reports, some of which may not have it."""
    figures = [report.figures.get(table, {}).get(metric) for report in reports]
    measured = [
        report.tables[table].values.get(metric) if table in report.tables else None for report in reports
    ]
    differences: list[Estimate | None] = [None] * len(reports)
    held = [None if each is None else by_item(each) for each in measured]
    there = [each for each in held if each is not None]
    if not there:
        return Compared(figures, differences, None)
    items = [item for item in there[0] if all(item in others for others in there[1:])]
    if not items:
        return Compared(figures, differences, 0)
    values = [None if each is None else np.array([each[item] for item in items]) for each in held]
    first = values[0]
    shared = [
        figure if each is None else Mean(each).estimate(seed)
        for figure, each in zip(figures, values, strict=True)
    ]
    for place, each in enumerate(values[1:], start=1):
        if first is not None and each is not None:
            differences[place] = Mean(each - first).estimate(seed)
    return Compared(shared, differences, len(items))


def by_item(measured: Measured) -> dict[tuple[str, int], float]:
    """The values that could be measured; an item that is there more than once is told apart by its turn."""
    seen: Counter[str] = Counter()
    found = {}
    for item, value in zip(measured.items, measured.values, strict=True):
        if np.isfinite(value):
            found[item, seen[item]] = float(value)
        seen[item] += 1
    return found


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names; those that are there more than once are numbered, in brackets."""
    count, taken, told = Counter(names), set(names), []
    for name in names:
        if count[name] > 1:
            number = 1
            while f"{name} ({number})" in taken:
                number += 1
            name = f"{name} ({number})"
            taken.add(name)
        told.append(name)
    return told


def _differing(reports: Sequence[Report]) -> list[str]:
    """What the reports were made with that is not the same for all, in a line each."""
    lines = []

    def told(values: Sequence[Any]) -> str:
        return ", ".join(f"{letter(place)}: {value}" for place, value in enumerate(values))

    classes = [report.about.get("class", "") for report in reports]
    if len(set(classes)) > 1:
        lines.append(f"object classes differ ({told(classes)})")
    parameters = [recorded(report.about, "parameters", {}) for report in reports]
    for name in dict.fromkeys(name for each in parameters for name in each):
        values = [json.dumps(each.get(name)) for each in parameters]
        if len(set(values)) > 1:
            lines.append(f"setting {name} differs ({told(values)})")
    # The first input is the model; one name can be in two folders.
    inputs = [
        sorted((record["file"], record["sha256"]) for record in recorded(report.about, "inputs", [])[1:])
        for report in reports
    ]
    for file in dict.fromkeys(file for each in inputs for file, _ in each):
        if len({tuple(digest for name, digest in each if name == file) for each in inputs}) > 1:
            what = "the folder of other photographs" if file == "." else file
            lines.append(f"{what} is not the same for all: items of one name may differ")
    return lines
