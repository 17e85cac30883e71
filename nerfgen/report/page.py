"""The page of a report or of several side by side: one HTML file with all that it shows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nerfgen.artifact import atomic_path
from nerfgen.report import plot
from nerfgen.report.catalogue import TABLES, in_order
from nerfgen.report.compare import Comparison, by_item, compare
from nerfgen.report.file import Report
from nerfgen.report.grids import picture_grids
from nerfgen.report.markup import cell, making, metric_row, rendered
from nerfgen.report.table import Measured, Table
from nerfgen.report.wording import NONE, figure_of, letter, titled, value_text, verdict

# What the summary on top shows of each table, as far as it is there.
_HEADLINES = {
    "train": ("psnr_db", "ssim", "lpips"),
    "fit": ("psnr_db", "ssim", "lpips"),
    "novel": ("psnr_db", "ssim", "lpips"),
    "depth": ("pearson", "spearman", "normals_error_deg"),
    "samples": ("detected_fraction", "pose_error_deg", "coverage", "fid"),
    "cameras": ("reprojection_px", "rotation_error_deg", "translation_error"),
}
_EXTREMES = 3


def report_page(reports: Sequence[Report]) -> str:
    """A page of one report, or of several: figures in columns, differences, and pictures of the same items.

    It needs nothing beside itself: no network, no script. The same reports give the same page.
    """
    comparison = compare(reports)
    single = len(reports) == 1
    letters = [letter(place) for place in range(len(reports))]
    classes = [str(report.about.get("class", "")) for report in reports]
    tables = [
        _table(name, reports, letters, comparison)
        for name in in_order(TABLES, (name for report in reports for name in report.tables))
    ]
    heading = reports[0].name if single else f"{len(reports)} models compared"
    return rendered(
        "report.html",
        title=f"Evaluation: {' | '.join(comparison.names)}",
        heading=heading,
        single=single,
        classes=classes[0],
        reports=[
            {"letter": own, "name": name, "class": held}
            for own, name, held in zip(letters, comparison.names, classes, strict=True)
        ],
        notes=[{"of": "", "text": line} for line in comparison.notes.get("", [])],
        summary=[_headlines(table) for table in tables],
        tables=tables,
        made=[
            making(own, name, report.about)
            for own, name, report in zip(letters, comparison.names, reports, strict=True)
        ],
        card_width="17rem" if single else "22rem",
    )


def save_page(path: Path, html: str) -> None:
    """Write a page; what stood there is replaced at once or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _table(
    name: str, reports: Sequence[Report], letters: Sequence[str], comparison: Comparison
) -> dict[str, Any]:
    """One table of the reports, as the template takes it."""
    held = [report.tables.get(name, Table({})) for report in reports]
    single = len(reports) == 1
    rows = []
    for metric, compared in comparison.tables.get(name, {}).items():
        figures = [reports[0].figures[name][metric]] if single else compared.figures
        cells = [cell(metric, figure) for figure in figures]
        differences = [
            cell(metric, each, signed=True) | {"verdict": verdict(metric, each) if each else ""}
            for each in compared.differences[1:]
        ]
        counts = f"{compared.common:,}" if compared.common else ", ".join(each["n"] or "–" for each in cells)
        rows.append(
            metric_row(metric) | {"metric": metric, "cells": cells, "differences": differences, "n": counts}
        )
    return {
        "name": name,
        "title": TABLES.get(name, name),
        "rows": rows,
        "notes": _lines([table.notes for table in held], letters)
        + [{"of": "", "text": line} for line in comparison.notes.get(name, [])],
        "missing": _lines([table.missing for table in held], letters),
        "grids": picture_grids([table.pictures for table in held], letters),
        "points": _points(name, held, letters),
        "against": [] if single else _against(name, held, letters),
        "distributions": _distributions(name, held, letters),
        "extremes": _extremes(held[0]) if single else [],
    }


def _headlines(table: dict[str, Any]) -> dict[str, Any]:
    """What the summary shows of a table."""
    rows = {row["metric"]: row for row in table["rows"]}
    chosen = [rows[metric] for metric in _HEADLINES.get(table["name"], ()) if metric in rows]
    chosen = [row for row in chosen if any(each["value"] != NONE for each in row["cells"])]
    return {"name": table["name"], "title": table["title"], "rows": chosen}


def _lines(groups: Sequence[list[str]], letters: Sequence[str]) -> list[dict[str, str]]:
    """Lines, each once, with the letters of the reports that say it unless all do."""
    of = {
        line: [own for own, lines in zip(letters, groups, strict=True) if line in lines]
        for lines in groups
        for line in lines
    }
    return [
        {"of": "" if len(saying) == len(letters) else ", ".join(saying), "text": line}
        for line, saying in of.items()
    ]


def _metrics(tables: Sequence[Table]) -> list[str]:
    """Metrics that have a distribution worth seeing: values that are not all the same, nor yes or no."""
    found = []
    for metric in dict.fromkeys(metric for table in tables for metric in table.values):
        values = np.concatenate(
            [table.values[metric].values for table in tables if metric in table.values], dtype=np.float64
        )
        values = values[np.isfinite(values)]
        if np.isin(values, (0, 1)).all() or len(values) < 5 or np.ptp(values) < 1e-9:
            continue
        found.append(metric)
    return found


def _distributions(name: str, tables: Sequence[Table], letters: Sequence[str]) -> list[dict[str, str]]:
    """A histogram a metric."""
    return [
        {
            "title": figure_of(metric).title,
            "svg": plot.distribution(
                [np.asarray(table.values[metric].values) for table in tables if metric in table.values],
                [own for own, table in zip(letters, tables, strict=True) if metric in table.values],
                titled(metric),
                f"{name}-{metric}-values",
            ),
        }
        for metric in _metrics(tables)
    ]


def _against(name: str, tables: Sequence[Table], letters: Sequence[str]) -> list[dict[str, str]]:
    """For each metric the values of every further report over those of the first, where items are common."""
    plots = []
    for metric in _metrics(tables):
        if metric not in tables[0].values:
            continue
        pairs, labels = [], []
        for own, table in zip(letters[1:], tables[1:], strict=True):
            if metric in table.values:
                x, y = _paired(tables[0].values[metric], table.values[metric])
                if len(x):
                    pairs.append((x, y))
                    labels.append(own)
        if pairs:
            others = f"{titled(metric)}, {', '.join(labels)}"
            svg = plot.scatter(
                pairs,
                labels,
                f"{titled(metric)}, A",
                others,
                f"{name}-{metric}-against",
                small=True,
                fitted=False,
            )
            plots.append({"title": figure_of(metric).title, "svg": svg})
    return plots


def _paired(first: Measured, second: Measured) -> tuple[np.ndarray, np.ndarray]:
    """Values of the items of both."""
    own, other = by_item(first), by_item(second)
    x, y = np.array([(own[item], other[item]) for item in own if item in other]).reshape(-1, 2).T
    return x, y


def _points(name: str, tables: Sequence[Table], letters: Sequence[str]) -> list[dict[str, str]]:
    """The scatter plots of every report."""
    return [
        {
            "title": title if len(tables) == 1 else f"{title}, {own}",
            "svg": plot.scatter(
                [(points.x, points.y)], [own], points.x_label, points.y_label, f"{name}-{own}-points-{number}"
            ),
        }
        for title in dict.fromkeys(title for table in tables for title in table.points)
        for own, table in zip(letters, tables, strict=True)
        for number, (other, points) in enumerate(table.points.items())
        if other == title
    ]


def _extremes(table: Table) -> list[dict[str, Any]]:
    """The items that are best and worst by each metric that has a better side."""
    rows = []
    for metric in _metrics([table]):
        better = figure_of(metric).better
        measured = table.values[metric]
        values = np.asarray(measured.values, np.float64)
        order = [place for place in np.argsort(values, kind="stable") if np.isfinite(values[place])]
        if not better or len(order) < 2 * _EXTREMES:
            continue
        if better == "higher":
            order.reverse()
        told = [(measured.items[place], value_text(metric, values[place])) for place in order]
        rows.append({"title": titled(metric), "best": told[:_EXTREMES], "worst": told[: -_EXTREMES - 1 : -1]})
    return rows
