"""Reports, comparisons and studies as text for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from nerfgen.metric import Estimate
from nerfgen.report.catalogue import TABLES
from nerfgen.report.compare import Comparison
from nerfgen.report.file import Report
from nerfgen.report.study import Study
from nerfgen.report.wording import NONE, figure_of, interval_text, letter, titled, value_text, verdict

WIDTH = 100
_TITLE = 34


def report_text(report: Report) -> str:
    """A line a figure: what it is, its value, its 95% interval, how many items it is of and which way is better."""
    lines = textwrap.wrap(report.name, WIDTH)
    for name, table in report.tables.items():
        lines += ["", TABLES.get(name, name)]
        figures = report.figures.get(name, {})
        if figures:
            lines.append(f"  {'':<{_TITLE}}{'':>9}   {'95% interval':<20}{'n':>6}")
        for metric, figure in figures.items():
            better = figure_of(metric).better
            lines += _row(
                titled(metric),
                f"{value_text(metric, figure.mean):>9}   {interval_text(metric, figure):<20}{figure.n:>6}"
                + (f"   {better} is better" if better else ""),
            )
        lines += _notes(table.notes, "")
        lines += _notes(table.missing, "missing: ")
    return "\n".join(lines)


def comparison_text(comparison: Comparison) -> str:
    """A block a figure: a line a report, with the difference to the first and what it says."""
    lines = []
    for place, name in enumerate(comparison.names):
        lines += textwrap.wrap(name, WIDTH, initial_indent=f"{letter(place)}  ", subsequent_indent="   ")
    lines += _notes(comparison.notes.get("", []), "")
    for name, metrics in comparison.tables.items():
        lines += ["", TABLES.get(name, name)]
        if metrics:
            lines.append(f"  {'':<{_TITLE}}{'':>12}   {'95% interval':<20}  difference to A")
        for metric, compared in metrics.items():
            title = titled(metric)
            for place, figure in enumerate(compared.figures):
                if figure is None:
                    told = f"{NONE:>8}"
                else:
                    told = f"{value_text(metric, figure.mean):>8}   {interval_text(metric, figure):<20}"
                difference = compared.differences[place]
                if difference is not None:
                    told += (
                        f"  {value_text(metric, difference.mean, signed=True)}, {verdict(metric, difference)}"
                    )
                elif figure is not None and not (place and compared.common):
                    told += f"  n {figure.n}"
                lines += _row(title, f"{letter(place):>3} {told}".rstrip())
                title = ""
        lines += _notes(comparison.notes.get(name, []), "")
    return "\n".join(lines)


def study_text(study: Study, across: int = 4) -> str:
    """A column a point, with the interval of a figure under it.

    Args:
        across: points side by side, at most.
    """
    blocks = []
    for start in range(0, len(study.points), across):
        points = study.points[start : start + across]

        def row(title: str, cells: Iterable[str]) -> list[str]:
            return _row(title, "".join(f"{cell:>16}" for cell in cells))

        lines = row(study.name, (point.setting for point in points))
        lines += row("training photographs", (str(point.images) for point in points))
        lines += row("training steps", (str(point.steps) for point in points))
        for table, metrics in study.metrics().items():
            lines += ["", TABLES.get(table, table)]
            for metric in metrics:
                figures = [point.figures.get(table, {}).get(metric) for point in points]
                lines += row(titled(metric), (_told(metric, figure) for figure in figures))
                lines += row("", (_bounds(metric, figure) for figure in figures))
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def _told(metric: str, figure: Estimate | None) -> str:
    return NONE if figure is None else value_text(metric, figure.mean)


def _bounds(metric: str, figure: Estimate | None) -> str:
    return "" if figure is None else interval_text(metric, figure)


def _row(title: str, told: str) -> list[str]:
    """A row; a long title takes lines of its own before the last one."""
    *above, last = textwrap.wrap(title, _TITLE - 2, break_long_words=True) or [""]
    return [*(f"  {line}" for line in above), f"  {last:<{_TITLE}}{told}".rstrip()]


def _notes(lines: Iterable[str], before: str) -> list[str]:
    """Lines that wrap under their dash."""
    return [
        part
        for line in lines
        for part in textwrap.wrap(f"{before}{line}", WIDTH, initial_indent="  - ", subsequent_indent="    ")
    ]
