"""HTML pages of reports, comparisons and studies; each is one self-contained file."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen.errors import InputError
from nerfgen.metric import Estimate
from nerfgen.report.catalogue import (
    DASH,
    TABLES,
    format_value,
    metric_info,
    metric_title,
    report_letter,
    sort_names,
    verdict,
)
from nerfgen.report.comparison import Comparison, by_item, compare
from nerfgen.report.page_parts import cell, image_grids, metric_row, provenance_section, render_template
from nerfgen.report.pair_metrics import MetricMatrix, metric_matrices, parse_pair_metric
from nerfgen.report.report_file import ItemValues, Report, Table
from nerfgen.report.study_file import Study
from nerfgen.storage import Record, atomic_path

# Metrics of each table's summary at the top of the page.
_HEADLINES = {
    "train": ("psnr_db", "ssim", "lpips"),
    "fit": ("psnr_db", "ssim", "lpips"),
    "novel": ("psnr_db", "ssim", "lpips"),
    "pairs": (
        "turned_own_psnr_db",
        "turned_own_ssim",
        "turned_own_lpips",
        "turned_beats_unturned_own_fraction",
    ),
    "depth": ("pearson", "spearman", "normals_error_deg"),
    "samples": ("detected_fraction", "pose_error_deg", "coverage", "fid"),
    "cameras": ("reprojection_px", "rotation_error_deg", "translation_error"),
}
# Number of best and of worst items that are listed.
_EXTREMES = 3


def save_page(path: Path, html: str) -> None:
    """Write a page atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def report_page(reports: Sequence[Report]) -> str:
    """A page of one report, or of several: metrics in columns, differences, and images of common items.

    Equal reports give equal pages.

    Raises:
        InputError: there is no report.
    """
    comparison = compare(reports)
    single = len(reports) == 1
    letters = [report_letter(place) for place in range(len(reports))]
    classes = [str(report.provenance.get("class", "")) for report in reports]
    tables = [
        _table(name, reports, letters, comparison)
        for name in sort_names(TABLES, (name for report in reports for name in report.tables))
    ]
    heading = reports[0].name if single else f"Comparison of {len(reports)} models"
    return render_template(
        "report.html",
        title=f"Evaluation: {' | '.join(comparison.names)}",
        heading=heading,
        single=single,
        classes=classes[0],
        reports=[
            {"letter": letter, "name": name, "class": described}
            for letter, name, described in zip(letters, comparison.names, classes, strict=True)
        ],
        notes=[{"of": "", "text": line} for line in comparison.notes.get("", [])],
        summary=[_headlines(table) for table in tables],
        tables=tables,
        made=[
            provenance_section(letter, name, report.provenance)
            for letter, name, report in zip(letters, comparison.names, reports, strict=True)
        ],
        card_width="17rem" if single else "22rem",
    )


def _table(name: str, reports: Sequence[Report], letters: Sequence[str], comparison: Comparison) -> Record:
    """Template values of one table."""
    tables = [report.tables.get(name, Table({})) for report in reports]
    single = len(reports) == 1
    rows = []
    for metric, compared in comparison.tables.get(name, {}).items():
        estimates = [reports[0].estimates[name][metric]] if single else compared.estimates
        cells = [cell(metric, estimate) for estimate in estimates]
        differences = [
            cell(metric, each, signed=True) | {"verdict": verdict(metric, each) if each else ""}
            for each in compared.differences[1:]
        ]
        counts = f"{compared.common:,}" if compared.common else ", ".join(each["n"] or DASH for each in cells)
        rows.append(
            metric_row(metric) | {"metric": metric, "cells": cells, "differences": differences, "n": counts}
        )
    listed = {row["metric"]: row for row in rows}
    matrices, others = metric_matrices(listed) if single else ([], list(listed))
    return {
        "name": name,
        "title": TABLES.get(name, name),
        "rows": [listed[metric] for metric in others],
        "matrices": [_matrix(matrix, listed) for matrix in matrices],
        "summary": [listed[metric] for metric in _HEADLINES.get(name, ()) if metric in listed],
        "notes": _merge_lines([table.notes for table in tables], letters)
        + [{"of": "", "text": line} for line in comparison.notes.get(name, [])],
        "missing": _merge_lines([table.missing for table in tables], letters),
        "grids": image_grids([table.grids for table in tables], letters),
        "points": _scatter_plots(name, tables, letters),
        "against": [] if single else _value_plots(name, tables, letters),
        "distributions": _histograms(name, tables, letters),
        "extremes": _extremes(tables[0]) if single else [],
    }


def _matrix(matrix: MetricMatrix, listed: Record) -> Record:
    """Template values of a matrix of metrics; None where one was not measured."""
    return metric_row(matrix.measure) | {
        "columns": matrix.columns,
        "lines": [(title, [listed.get(metric) for metric in metrics]) for title, metrics in matrix.rows],
    }


def _headlines(table: Record) -> Record:
    """The summary of a table."""
    chosen = [row for row in table["summary"] if any(each["value"] != DASH for each in row["cells"])]
    return {"name": table["name"], "title": table["title"], "rows": chosen}


def _merge_lines(groups: Sequence[list[str]], letters: Sequence[str]) -> list[dict[str, str]]:
    """Distinct lines, each with the letters of its reports unless all have it."""
    letters_of = {
        line: [letter for letter, lines in zip(letters, groups, strict=True) if line in lines]
        for lines in groups
        for line in lines
    }
    return [
        {"of": "" if len(own) == len(letters) else ", ".join(own), "text": line}
        for line, own in letters_of.items()
    ]


def _plotted_metrics(tables: Sequence[Table]) -> list[str]:
    """Metrics whose values are worth a histogram: at least five, neither all equal nor all 0 or 1; of the many metrics
    of pairs, those of the summary."""
    found = []
    for metric in dict.fromkeys(metric for table in tables for metric in table.values):
        if parse_pair_metric(metric) and metric not in _HEADLINES["pairs"]:
            continue
        values = np.concatenate(
            [table.values[metric].values for table in tables if metric in table.values], dtype=np.float64
        )
        values = values[np.isfinite(values)]
        if np.isin(values, (0, 1)).all() or len(values) < 5 or np.ptp(values) < 1e-9:
            continue
        found.append(metric)
    return found


def _histograms(name: str, tables: Sequence[Table], letters: Sequence[str]) -> list[dict[str, str]]:
    """One histogram per metric."""
    from nerfgen.report import plot  # matplotlib is slow to import

    return [
        {
            "title": metric_info(metric).title,
            "svg": plot.histogram(
                [np.asarray(table.values[metric].values) for table in tables if metric in table.values],
                [letter for letter, table in zip(letters, tables, strict=True) if metric in table.values],
                metric_title(metric),
                f"{name}-{metric}-values",
            ),
        }
        for metric in _plotted_metrics(tables)
    ]


def _value_plots(name: str, tables: Sequence[Table], letters: Sequence[str]) -> list[dict[str, str]]:
    """For each metric, a scatter plot of every further report's values over those of the first, for common items."""
    from nerfgen.report import plot  # matplotlib is slow to import

    plots = []
    for metric in _plotted_metrics(tables):
        if metric not in tables[0].values:
            continue
        pairs, labels = [], []
        for letter, table in zip(letters[1:], tables[1:], strict=True):
            if metric in table.values:
                x, y = _paired_values(tables[0].values[metric], table.values[metric])
                if len(x):
                    pairs.append((x, y))
                    labels.append(letter)
        if pairs:
            svg = plot.scatter(
                pairs,
                labels,
                f"{metric_title(metric)}, A",
                f"{metric_title(metric)}, {', '.join(labels)}",
                f"{name}-{metric}-against",
                small=True,
                fitted=False,
            )
            plots.append({"title": metric_info(metric).title, "svg": svg})
    return plots


def _paired_values(
    first: ItemValues, second: ItemValues
) -> tuple[Float[np.ndarray, "common"], Float[np.ndarray, "common"]]:
    """Values of the common items."""
    own, other = by_item(first), by_item(second)
    x, y = np.array([(own[item], other[item]) for item in own if item in other]).reshape(-1, 2).T
    return x, y


def _scatter_plots(name: str, tables: Sequence[Table], letters: Sequence[str]) -> list[dict[str, str]]:
    """The scatter plots of every report."""
    from nerfgen.report import plot  # matplotlib is slow to import

    return [
        {
            "title": title if len(tables) == 1 else f"{title}, {letter}",
            "svg": plot.scatter(
                [(points.x, points.y)],
                [letter],
                points.x_label,
                points.y_label,
                f"{name}-{letter}-points-{number}",
            ),
        }
        for title in dict.fromkeys(title for table in tables for title in table.points)
        for letter, table in zip(letters, tables, strict=True)
        for number, (other, points) in enumerate(table.points.items())
        if other == title
    ]


def _extremes(table: Table) -> list[Record]:
    """The best and the worst items by each metric with a direction."""
    rows = []
    for metric in _plotted_metrics([table]):
        better = metric_info(metric).better
        measured = table.values[metric]
        values = np.asarray(measured.values, np.float64)
        order = [place for place in np.argsort(values, kind="stable") if np.isfinite(values[place])]
        if not better or len(order) < 2 * _EXTREMES:
            continue
        if better == "higher":
            order.reverse()
        listed = [(measured.items[place], format_value(metric, values[place])) for place in order]
        rows.append(
            {
                "title": metric_title(metric),
                "best": listed[:_EXTREMES],
                "worst": listed[: -_EXTREMES - 1 : -1],
            }
        )
    return rows


def study_page(study: Study) -> str:
    """A page of curves and tables over the swept setting. Equal studies give equal pages.

    Raises:
        InputError: the study has no point.
    """
    if not study.points:
        raise InputError(f"the study of {study.name} has no point")
    metrics = study.metrics()
    shared = [
        metric
        for metric in dict.fromkeys(metric for found in metrics.values() for metric in found)
        if sum(metric in found for found in metrics.values()) > 1
    ]
    overview = [
        _study_plot(study, metric, [table for table in metrics if metric in metrics[table]])
        for metric in shared
    ]
    tables = [
        {
            "name": table,
            "title": TABLES.get(table, table),
            "rows": [
                metric_row(metric)
                | {
                    "cells": [
                        cell(metric, point.estimates.get(table, {}).get(metric)) for point in study.points
                    ]
                }
                for metric in found
            ],
            "curves": [each for metric in found if (each := _study_plot(study, metric, [table]))],
        }
        for table, found in metrics.items()
    ]
    return render_template(
        "study.html",
        name=study.name,
        points=study.points,
        overview=[each for each in overview if each],
        tables=tables,
        made=[provenance_section("", "", study.provenance)],
        **{"class": str(study.provenance.get("class", ""))},
    )


def _study_plot(study: Study, metric: str, tables: list[str]) -> Record | None:
    """A metric over the setting, one curve per table; None if no point measured it."""
    from nerfgen.report import plot  # matplotlib is slow to import

    positions, ticks = _axis_positions(study)
    curves = []
    for table in tables:
        points = [
            (position, estimate)
            for position, point in zip(positions, study.points, strict=True)
            if _is_measured(estimate := point.estimates.get(table, {}).get(metric)) and estimate
        ]
        points.sort(key=lambda pair: pair[0])
        if points:
            x, estimates = zip(*points, strict=True)
            curves.append(plot.Curve(table, x, estimates))
    if not curves:
        return None
    name = f"{metric}-{'-'.join(tables)}"
    logarithmic = (
        not ticks and min(positions) > 0 and (study.name == "images" or max(positions) >= 20 * min(positions))
    )
    svg = plot.curves(curves, study.name, metric_title(metric), name, ticks, logarithmic)
    return {"title": metric_info(metric).title, "svg": svg}


def _is_measured(estimate: Estimate | None) -> bool:
    return estimate is not None and math.isfinite(estimate.mean)


def _axis_positions(study: Study) -> tuple[list[float], list[str]]:
    """Positions of the points on the axis, and tick labels if the setting is not a number."""
    try:
        positions = [float(point.setting) for point in study.points]
    except ValueError:
        positions = [math.nan]
    if all(math.isfinite(position) for position in positions):
        return positions, []
    return [float(place) for place in range(len(study.points))], [point.setting for point in study.points]
