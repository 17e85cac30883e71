"""Several reports side by side: common items, and paired differences from the first report."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nerfgen.errors import InputError
from nerfgen.metric import Estimate, Mean
from nerfgen.report.catalogue import METRICS, TABLES, metric_title, report_letter, sort_names
from nerfgen.report.report_file import ItemValues, Report, estimate_as_dict


@dataclass(frozen=True)
class ComparedMetric:
    """A metric of several reports.

    Attributes:
        estimates: of each report, over the common items if there are any; None if a report lacks the metric.
        differences: of each report from the first, as the mean over the common items; None without any.
        common: number of items measured by all reports with this metric; None if it is not a mean over items.
    """

    estimates: list[Estimate | None]
    differences: list[Estimate | None]
    common: int | None


@dataclass(frozen=True)
class Comparison:
    """Several reports side by side.

    Attributes:
        names: distinct names of the reports.
        tables: by table and metric.
        notes: what limits the comparison, one line each, by table; "" holds those of all tables.
    """

    names: list[str]
    tables: dict[str, dict[str, ComparedMetric]]
    notes: dict[str, list[str]]

    def as_dict(self) -> dict[str, object]:
        """For JSON: estimates and differences in the order of ``reports``, with None for NaN."""
        tables = {
            table: {
                metric: {
                    "figures": [each and estimate_as_dict(each) for each in compared.estimates],
                    "differences": [each and estimate_as_dict(each) for each in compared.differences],
                    "common": compared.common,
                }
                for metric, compared in metrics.items()
            }
            for table, metrics in self.tables.items()
        }
        notes = [
            f"{table}: {line}" if table else line for table, lines in self.notes.items() for line in lines
        ]
        return {"reports": self.names, **tables, "notes": notes}


def compare(reports: Sequence[Report], seed: int = 0) -> Comparison:
    """Every metric over the items that all reports measured, with paired differences from the first report.

    A difference is the mean over the common items of the value minus the first report's value. Its bootstrap interval
    is over these items: an item that is hard for all models does not widen it.

    Raises:
        InputError: there is no report.
    """
    if not reports:
        raise InputError("`reports` is empty; give one report or more")
    notes = {"": _setting_differences(reports)}
    tables: dict[str, dict[str, ComparedMetric]] = {}
    for table in sort_names(TABLES, (name for report in reports for name in report.estimates)):
        metrics = sort_names(
            METRICS, (name for report in reports for name in report.estimates.get(table, {}))
        )
        tables[table] = {metric: _compare_metric(reports, table, metric, seed) for metric in metrics}
        disjoint = [metric_title(metric) for metric, each in tables[table].items() if each.common == 0]
        if disjoint:
            notes[table] = [f"no common items; each report's own items are used: {'; '.join(disjoint)}"]
    return Comparison(distinct_names([report.name for report in reports]), tables, notes)


def _compare_metric(reports: Sequence[Report], table: str, metric: str, seed: int) -> ComparedMetric:
    """One metric of the reports; some may lack it."""
    estimates = [report.estimates.get(table, {}).get(metric) for report in reports]
    measured = [
        report.tables[table].values.get(metric) if table in report.tables else None for report in reports
    ]
    differences: list[Estimate | None] = [None] * len(reports)
    by_report = [None if each is None else by_item(each) for each in measured]
    present = [each for each in by_report if each is not None]
    if not present:
        return ComparedMetric(estimates, differences, None)
    items = [item for item in present[0] if all(item in others for others in present[1:])]
    if not items:
        return ComparedMetric(estimates, differences, 0)
    values = [None if each is None else np.array([each[item] for item in items]) for each in by_report]
    first = values[0]
    over_common = [
        estimate if each is None else Mean(each).estimate(seed)
        for estimate, each in zip(estimates, values, strict=True)
    ]
    for place, each in enumerate(values[1:], start=1):
        if first is not None and each is not None:
            differences[place] = Mean(each - first).estimate(seed)
    return ComparedMetric(over_common, differences, len(items))


def by_item(measured: ItemValues) -> dict[tuple[str, int], float]:
    """The measured values by item and occurrence: repeated items are numbered."""
    seen: Counter[str] = Counter()
    found = {}
    for item, value in zip(measured.items, measured.values, strict=True):
        if np.isfinite(value):
            found[item, seen[item]] = float(value)
        seen[item] += 1
    return found


def distinct_names(names: Sequence[str]) -> list[str]:
    """The names; repeated ones are numbered in brackets."""
    count, taken, distinct = Counter(names), set(names), []
    for name in names:
        if count[name] > 1:
            number = 1
            while f"{name} ({number})" in taken:
                number += 1
            name = f"{name} ({number})"
            taken.add(name)
        distinct.append(name)
    return distinct


def provenance_value(provenance: dict[str, object], name: str, default: Any) -> Any:
    """An entry of a file's provenance, decoded if it is stored as JSON."""
    stored = provenance.get(name, default)
    return json.loads(stored) if isinstance(stored, str) else stored


def _setting_differences(reports: Sequence[Report]) -> list[str]:
    """Classes, parameters and inputs that differ between the reports, one line each."""
    lines = []

    def by_letter(values: Sequence[Any]) -> str:
        return ", ".join(f"{report_letter(place)}: {value}" for place, value in enumerate(values))

    classes = [report.provenance.get("class", "") for report in reports]
    if len(set(classes)) > 1:
        lines.append(f"object classes differ ({by_letter(classes)})")
    parameters = [provenance_value(report.provenance, "parameters", {}) for report in reports]
    for name in dict.fromkeys(name for each in parameters for name in each):
        values = [json.dumps(each.get(name)) for each in parameters]
        if len(set(values)) > 1:
            lines.append(f"setting {name} differs ({by_letter(values)})")
    # The first input is the model. Files in different folders may have one name.
    inputs = [
        sorted(
            (record["file"], record["sha256"])
            for record in provenance_value(report.provenance, "inputs", [])[1:]
        )
        for report in reports
    ]
    for file in dict.fromkeys(file for each in inputs for file, _ in each):
        if len({tuple(digest for name, digest in each if name == file) for each in inputs}) > 1:
            described = "the folder of held-out images" if file == "." else file
            lines.append(f"{described} differs: items of the same name may differ")
    return lines
