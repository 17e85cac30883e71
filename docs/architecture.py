"""The rooms of the package and their imports, read from the sources, and the drawing of them in docs/architecture.md.

    python docs/architecture.py        print every room with the rooms that it imports

A room is a package or a module directly below ``nerfgen``. ``docs/generate.py`` writes the drawing.
"""

from __future__ import annotations

import ast
import importlib.util
import re
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "nerfgen"
if not PACKAGE.is_dir():  # the tests of a wheel
    PACKAGE = Path(*importlib.util.find_spec("nerfgen").submodule_search_locations)
PAGE = ROOT / "docs" / "architecture.md"

# Sizes of the drawing, pixels.
_BOX, _HEIGHT = 100, 30
_GAP = 40  # between floors
_BETWEEN = 16  # between neighbours of a floor
_MARGIN = 16

# A room, or a point where the arrow to a room passes a floor.
_Node = str | tuple[str, int]


class Import(NamedTuple):
    """One import of a module of the package by another.

    Attributes:
        source: dotted name of the importing module.
        target: dotted name of the imported module.
        name: what is imported from it; empty for ``import target``.
        line: line number in the importing file.
        deferred: whether it is inside a function or an ``if TYPE_CHECKING:`` block.
    """

    source: str
    target: str
    name: str
    line: int
    deferred: bool


def modules() -> dict[str, Path]:
    """The file of every module, by dotted name; a package is named like its folder."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def imports() -> list[Import]:
    """Every import of one module of the package by another."""
    known = modules()
    found = []
    for source, path in known.items():
        for node, deferred in _statements(ast.parse(path.read_text(encoding="utf-8"))):
            for target, name in _imported(node):
                if target.partition(".")[0] != PACKAGE.name:
                    continue
                inner = f"{target}.{name}"  # a module imported from its package
                target, name = (inner, "") if inner in known else (target, name)
                found.append(Import(source, target, name, node.lineno, deferred))
    return found


def room_of(module: str) -> str:
    """The room of a module; empty for ``nerfgen`` and ``nerfgen.__main__``, which stand above all rooms."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] != "__main__" else ""


def rooms() -> list[str]:
    """The rooms that exist, by name."""
    return sorted({room_of(module) for module in modules()} - {""})


def room_graph() -> dict[str, set[str]]:
    """The rooms that each room imports."""
    graph: dict[str, set[str]] = {room: set() for room in rooms()}
    for each in imports():
        source, target = room_of(each.source), room_of(each.target)
        if source and target and source != target:
            graph[source].add(target)
    return graph


def listed_rooms() -> list[str]:
    """The rooms of the table in docs/architecture.md, from the lowest to the highest."""
    text = PAGE.read_text(encoding="utf-8").partition("## The rooms")[2].partition("\n## ")[0]
    cells = re.findall(r"^\| (`[a-z_`, ]+`) \|", text, flags=re.MULTILINE)
    return [name for cell in cells for name in re.findall(r"`([a-z_]+)`", cell)][::-1]


def cycles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of nodes that reach one another, each sorted by name (Tarjan's algorithm)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for following in sorted(graph.get(node, ())):
            if following not in index:
                visit(following)
                low[node] = min(low[node], low[following])
            elif following in stack:
                low[node] = min(low[node], index[following])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1 or node in graph.get(node, ()):
                found.append(sorted(group))

    for node in sorted(graph):
        if node not in index:
            visit(node)
    return found


def drawing() -> str:
    """An SVG of the rooms: each stands above all that it imports, on a base of modules that any room may use.

    An arrow that only repeats a way over other arrows is left out.
    """
    graph = room_graph()
    base = _base(graph)
    graph = {room: targets - base for room, targets in graph.items() if room not in base}
    arrows, place = _layout(graph)
    left = min(x - _width(node) / 2 for node, (x, _) in place.items()) - _MARGIN
    right = max(x + _width(node) / 2 for node, (x, _) in place.items()) + _MARGIN
    top = max(floor for _, floor in place.values())
    width, height = round(right - left), (top + 2) * (_HEIGHT + _GAP) - _GAP + 2 * _MARGIN

    def corner(node: _Node) -> tuple[float, float]:
        """The middle of a node's upper side."""
        x, floor = place[node]
        return round(x - left), _MARGIN + (top - floor) * (_HEIGHT + _GAP)

    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        ' font-family="sans-serif" font-size="14" text-anchor="middle">',
        "<title>The rooms of nerfgen and what each imports</title>",
        '<defs><marker id="tip" viewBox="0 0 6 6" refX="6" refY="3" markerWidth="6" markerHeight="6"'
        ' orient="auto"><path d="M0,0L6,3L0,6z" fill="#777"/></marker></defs>',
        f'<rect width="{width}" height="{height}" fill="#fff"/>',
        '<g fill="none" stroke="#777" stroke-width="1.2">',
    ]
    for chain in arrows:
        x, y = corner(chain[0])
        path = f"M{x:g},{y + _HEIGHT:g}"
        y += _HEIGHT
        for node in chain[1:]:
            to_x, to_y = corner(node)
            path += f"C{x:g},{(y + to_y) / 2:g} {to_x:g},{(y + to_y) / 2:g} {to_x:g},{to_y:g}"
            x, y = to_x, to_y
            if node != chain[-1]:  # straight past the floor
                y += _HEIGHT
                path += f"L{x:g},{y:g}"
        lines.append(f'<path marker-end="url(#tip)" d="{path}"/>')
    lines += ["</g>", '<g fill="#eef3fb" stroke="#4a6fa5">']
    boxes = sorted((node, corner(node)) for node in place if isinstance(node, str))
    lines += [
        f'<rect x="{x - _BOX / 2:g}" y="{y:g}" width="{_BOX}" height="{_HEIGHT}" rx="4"/>'
        for _, (x, y) in boxes
    ]
    floor = height - _MARGIN - _HEIGHT
    lines.append(f'<rect x="{_MARGIN}" y="{floor}" width="{width - 2 * _MARGIN}" height="{_HEIGHT}" rx="4"/>')
    lines += ["</g>", '<g fill="#1d2b3a">']
    lines += [f'<text x="{x:g}" y="{y + _HEIGHT / 2 + 5:g}">{room}</text>' for room, (x, y) in boxes]
    lines.append(f'<text x="{width / 2:g}" y="{floor + _HEIGHT / 2 + 5:g}">{" · ".join(sorted(base))}</text>')
    return "\n".join([*lines, "</g>", "</svg>"]) + "\n"


def _statements(node: ast.AST, deferred: bool = False) -> Iterator[tuple[ast.Import | ast.ImportFrom, bool]]:
    """Every import statement, and whether it does not run when the module is imported."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import | ast.ImportFrom):
            yield child, deferred
        in_function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        for_types = isinstance(child, ast.If) and getattr(child.test, "id", "") == "TYPE_CHECKING"
        yield from _statements(child, deferred or in_function or for_types)


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """(module, name) of every part of an import statement."""
    if isinstance(node, ast.Import):
        yield from ((alias.name, "") for alias in node.names)
    elif node.module:
        yield from ((node.module, alias.name) for alias in node.names)


def _floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """The floor of every room: 0 without imports, else one above the highest room that it imports."""
    floor: dict[str, int] = {}

    def visit(room: str) -> int:
        if room not in floor:
            floor[room] = 1 + max((visit(target) for target in graph[room]), default=-1)
        return floor[room]

    for room in graph:
        visit(room)
    return floor


def _reduced(graph: dict[str, set[str]]) -> dict[str, set[str]]:
    """The transitive reduction: no edge whose ends other edges connect."""

    def reached(nodes: Iterable[str]) -> set[str]:
        found: set[str] = set()
        waiting = list(nodes)
        while waiting:
            node = waiting.pop()
            if node not in found:
                found.add(node)
                waiting += graph[node]
        return found

    return {
        room: {target for target in targets if target not in reached(targets - {target})}
        for room, targets in graph.items()
    }


def _base(graph: dict[str, set[str]]) -> set[str]:
    """The single modules that import nothing but one another."""
    base = {room for room in graph if (PACKAGE / f"{room}.py").is_file()}
    while outside := {room for room in base if graph[room] - base}:
        base -= outside
    return base


def _layout(graph: dict[str, set[str]]) -> tuple[list[list[_Node]], dict[_Node, tuple[float, int]]]:
    """Every arrow as a chain of nodes, one a floor, and the place of every node: x of its middle, and floor."""
    floor = _floors(graph)
    rows: list[list[_Node]] = [[] for _ in range(max(floor.values()) + 1)]
    for room in sorted(graph):
        rows[floor[room]].append(room)
    arrows: list[list[_Node]] = []
    for room, targets in sorted(_reduced(graph).items()):
        for target in sorted(targets):
            # Arrows to one room share their way past the floors between.
            between: list[_Node] = [(target, level) for level in range(floor[room] - 1, floor[target], -1)]
            arrows.append([room, *between, target])
            for node, level in zip(between, range(floor[room] - 1, floor[target], -1), strict=True):
                if node not in rows[level]:
                    rows[level].append(node)
    neighbours: dict[_Node, set[_Node]] = {node: set() for row in rows for node in row}
    for chain in arrows:
        for upper, lower in pairwise(chain):
            neighbours[upper].add(lower)
            neighbours[lower].add(upper)
    x: dict[_Node, float] = {}
    for row in rows:
        x.update(zip(row, _apart(row, [0.0] * len(row)), strict=True))
    for _ in range(30):
        for row in [*rows, *reversed(rows)]:
            wanted = {
                node: fmean(x[n] for n in neighbours[node]) if neighbours[node] else 0.0 for node in row
            }
            row.sort(key=lambda node: (wanted[node], str(node)))
            x.update(zip(row, _apart(row, [wanted[node] for node in row]), strict=True))
    return arrows, {node: (x[node], level) for level, row in enumerate(rows) for node in row}


def _apart(row: list[_Node], wanted: list[float]) -> list[float]:
    """Places of a row's nodes, in this order and without overlap, near those wanted."""
    from_left = list(wanted)
    from_right = list(wanted)
    for i in range(1, len(row)):
        distance = (_width(row[i - 1]) + _width(row[i])) / 2 + _BETWEEN
        from_left[i] = max(wanted[i], from_left[i - 1] + distance)
    for i in reversed(range(len(row) - 1)):
        distance = (_width(row[i]) + _width(row[i + 1])) / 2 + _BETWEEN
        from_right[i] = min(wanted[i], from_right[i + 1] - distance)
    return [(a + b) / 2 for a, b in zip(from_left, from_right, strict=True)]


def _width(node: _Node) -> float:
    return _BOX if isinstance(node, str) else 0


if __name__ == "__main__":
    for name, targets in room_graph().items():
        print(f"{name}: {', '.join(sorted(targets)) or '-'}")
