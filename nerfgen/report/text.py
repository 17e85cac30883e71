"""Reports, comparisons and studies as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping

from nerfgen.metric import Estimate
from nerfgen.report.catalogue import (
    DASH,
    TABLES,
    format_interval,
    format_value,
    metric_info,
    metric_title,
    report_letter,
    verdict,
)
from nerfgen.report.comparison import Comparison
from nerfgen.report.pair_metrics import MetricMatrix, metric_matrices
from nerfgen.report.report_file import Report
from nerfgen.report.study_file import Study

WIDTH = 100
_TITLE_WIDTH = 34


def report_text(report: Report) -> str:
    """One line per metric: title, value, 95% confidence interval, number of items and direction. Metrics of pairs are
    matrices of means."""
    lines = textwrap.wrap(report.name, WIDTH)
    for name, table in report.tables.items():
        lines += ["", TABLES.get(name, name)]
        estimates = report.estimates.get(name, {})
        if estimates:
            lines.append(f"  {'':<{_TITLE_WIDTH}}{'':>9}   {'95% interval':<20}{'n':>6}")
        matrices, rows = metric_matrices(estimates)
        for metric in rows:
            estimate, better = estimates[metric], metric_info(metric).better
            lines += _row(
                metric_title(metric),
                f"{format_value(metric, estimate.mean):>9}   {format_interval(metric, estimate):<20}{estimate.n:>6}"
                + (f"   {better} is better" if better else ""),
            )
        for matrix in matrices:
            lines += ["", *_matrix(matrix, estimates)]
        lines += _bullets(table.notes)
        lines += _bullets(table.missing, "missing: ")
    return "\n".join(lines)


def comparison_text(comparison: Comparison) -> str:
    """One block per metric with a line per report: value, 95% confidence interval and difference from the first."""
    lines = []
    for place, name in enumerate(comparison.names):
        lines += textwrap.wrap(
            name, WIDTH, initial_indent=f"{report_letter(place)}  ", subsequent_indent="   "
        )
    lines += _bullets(comparison.notes.get("", []))
    for name, metrics in comparison.tables.items():
        lines += ["", TABLES.get(name, name)]
        if metrics:
            lines.append(f"  {'':<{_TITLE_WIDTH}}{'':>12}   {'95% interval':<20}  difference from A")
        for metric, compared in metrics.items():
            title = metric_title(metric)
            for place, estimate in enumerate(compared.estimates):
                if estimate is None:
                    text = f"{DASH:>8}"
                else:
                    text = (
                        f"{format_value(metric, estimate.mean):>8}   {format_interval(metric, estimate):<20}"
                    )
                difference = compared.differences[place]
                if difference is not None:
                    text += f"  {format_value(metric, difference.mean, signed=True)}, {verdict(metric, difference)}"
                elif estimate is not None and not (place and compared.common):
                    text += f"  n {estimate.n}"
                lines += _row(title, f"{report_letter(place):>3} {text}".rstrip())
                title = ""
        lines += _bullets(comparison.notes.get(name, []))
    return "\n".join(lines)


def study_text(study: Study, columns: int = 4) -> str:
    """One column per point, with the confidence interval below each value.

    Args:
        columns: most points side by side.
    """
    blocks = []
    for start in range(0, len(study.points), columns):
        points = study.points[start : start + columns]

        def row(title: str, cells: Iterable[str]) -> list[str]:
            return _row(title, "".join(f"{cell:>16}" for cell in cells))

        lines = row(study.name, (point.setting for point in points))
        lines += row("training images", (str(point.images) for point in points))
        lines += row("training steps", (str(point.steps) for point in points))
        for table, metrics in study.metrics().items():
            lines += ["", TABLES.get(table, table)]
            for metric in metrics:
                estimates = [point.estimates.get(table, {}).get(metric) for point in points]
                lines += row(metric_title(metric), (_mean_text(metric, each) for each in estimates))
                lines += row("", (_interval_text(metric, each) for each in estimates))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _matrix(matrix: MetricMatrix, estimates: Mapping[str, Estimate]) -> list[str]:
    """Means of the metrics of a matrix; a heading says what distinguishes its column from the one before."""

    def row(title: str, cells: Iterable[str]) -> list[str]:
        return _row(title, "".join(f"{cell:>16}" for cell in cells))

    lines = row(metric_title(matrix.measure), (column.rsplit(", ")[-1] for column in matrix.columns))
    for title, metrics in matrix.rows:
        lines += row(f"  {title}", (_mean_text(metric, estimates.get(metric)) for metric in metrics))
    return lines


def _mean_text(metric: str, estimate: Estimate | None) -> str:
    return DASH if estimate is None else format_value(metric, estimate.mean)


def _interval_text(metric: str, estimate: Estimate | None) -> str:
    return "" if estimate is None else format_interval(metric, estimate)


def _row(title: str, text: str) -> list[str]:
    """A row; a long title is wrapped above the text."""
    *above, last = textwrap.wrap(title, _TITLE_WIDTH - 2, break_long_words=True) or [""]
    return [*(f"  {line}" for line in above), f"  {last:<{_TITLE_WIDTH}}{text}".rstrip()]


def _bullets(lines: Iterable[str], prefix: str = "") -> list[str]:
    """Wrapped lines, indented below their bullets."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(f"{prefix}{line}", WIDTH, initial_indent="  - ", subsequent_indent="    ")
    ]
