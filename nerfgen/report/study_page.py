"""The page of a study: every figure over the setting that is swept."""

from __future__ import annotations

import math
from typing import Any

from nerfgen.metric import Estimate
from nerfgen.report import plot
from nerfgen.report.catalogue import TABLES
from nerfgen.report.markup import cell, making, metric_row, rendered
from nerfgen.report.study import Study
from nerfgen.report.wording import figure_of, titled


def study_page(study: Study) -> str:
    """A page of curves and tables, which needs nothing beside itself; the same study gives the same page."""
    metrics = study.metrics()
    shared = [
        metric
        for metric in dict.fromkeys(metric for found in metrics.values() for metric in found)
        if sum(metric in found for found in metrics.values()) > 1
    ]
    overview = [
        _plot(study, metric, [table for table in metrics if metric in metrics[table]]) for metric in shared
    ]
    tables = [
        {
            "name": table,
            "title": TABLES.get(table, table),
            "rows": [
                metric_row(metric)
                | {
                    "cells": [
                        cell(metric, point.figures.get(table, {}).get(metric)) for point in study.points
                    ]
                }
                for metric in found
            ],
            "curves": [each for metric in found if (each := _plot(study, metric, [table]))],
        }
        for table, found in metrics.items()
    ]
    return rendered(
        "study.html",
        name=study.name,
        points=study.points,
        overview=[each for each in overview if each],
        tables=tables,
        made=[making("", "", study.about)],
        **{"class": str(study.about.get("class", ""))},
    )


def _plot(study: Study, metric: str, tables: list[str]) -> dict[str, Any] | None:
    """A metric over the setting, a curve a table; None where no point could measure it."""
    places, ticks = _places(study)
    held = []
    for table in tables:
        points = [
            (place, figure)
            for place, point in zip(places, study.points, strict=True)
            if _measured(figure := point.figures.get(table, {}).get(metric)) and figure
        ]
        points.sort(key=lambda pair: pair[0])
        if points:
            x, figures = zip(*points, strict=True)
            held.append(plot.Curve(table, x, figures))
    if not held:
        return None
    name = f"{metric}-{'-'.join(tables)}"
    logarithmic = (
        not ticks and min(places) > 0 and (study.name == "images" or max(places) >= 20 * min(places))
    )
    svg = plot.curves(held, study.name, titled(metric), name, ticks, logarithmic)
    return {"title": figure_of(metric).title, "svg": svg}


def _measured(figure: Estimate | None) -> bool:
    return figure is not None and math.isfinite(figure.mean)


def _places(study: Study) -> tuple[list[float], list[str]]:
    """Where the points are on the axis of the setting, and what is written there if it is no number."""
    try:
        places = [float(point.setting) for point in study.points]
    except ValueError:
        places = [math.nan]
    if all(math.isfinite(place) for place in places):
        return places, []
    return [float(place) for place in range(len(study.points))], [point.setting for point in study.points]
