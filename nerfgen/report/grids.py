"""Grids of pictures for a page; those of several reports are joined item by item."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from nerfgen.report.markup import data_uri
from nerfgen.report.table import Pictures

_SIDE = 120
_MOST_DOWN = 8


def picture_grids(groups: Sequence[Mapping[str, Pictures]], letters: Sequence[str]) -> list[dict[str, Any]]:
    """The grids of every title, as the template takes them.

    Those of several reports are one grid of the items that all have: a column that looks the same in all is
    there once, others are there once a report, with its letter. Without common items each has its own grid.
    """
    grids = []
    for title in dict.fromkeys(title for group in groups for title in group):
        held = [(own, group[title]) for own, group in zip(letters, groups, strict=True) if title in group]
        items = [item for item in held[0][1].items if all(item in other.items for _, other in held)]
        if len(groups) == 1:
            grids.append(_grid(title, held, items))
        elif items:
            only = "" if len(held) == len(groups) else f", {', '.join(own for own, _ in held)}"
            grids.append(_grid(f"{title}{only}", held, items))
        else:
            grids += [_grid(f"{title}, {own}", [(own, one)], list(one.items)) for own, one in held]
    return [grid for grid in grids if grid["rows"]]


def _grid(title: str, held: Sequence[tuple[str, Pictures]], items: list[str]) -> dict[str, Any]:
    """One grid of some items of one or more reports."""
    columns = []
    for head in dict.fromkeys(head for _, pictures in held for head in pictures.columns):
        found = [
            (own, [pictures.rgb[pictures.items.index(item), pictures.columns.index(head)] for item in items])
            for own, pictures in held
            if head in pictures.columns
        ]
        if len(held) == 1 or (len(found) == len(held) and all(_same(found[0][1], own) for _, own in found)):
            columns.append((head, found[0][1]))
        else:
            columns += [(f"{head}, {own}", column) for own, column in found]
    size = held[0][1].rgb.shape[2]
    return {
        "title": title,
        "heads": [head for head, _ in columns],
        "rows": [
            {
                "item": item,
                "pictures": [
                    {"uri": data_uri(column[row]), "size": column[row].shape[0]} for _, column in columns
                ],
            }
            for row, item in enumerate(items)
        ],
        # Small pictures are shown at a whole multiple of their pixels.
        "side": size * max(1, round(_SIDE / size)) if size <= _SIDE * 1.5 else _SIDE,
        "flow": "down" if len(items) < len(columns) <= _MOST_DOWN else "across",
    }


def _same(first: Sequence[np.ndarray], second: Sequence[np.ndarray]) -> bool:
    return all(np.array_equal(a, b) for a, b in zip(first, second, strict=True))
