"""Packages whose names are imported when they are first used, so that light users do not pay for heavy libraries."""

from __future__ import annotations

import ast
import importlib
import sys
from collections.abc import Callable
from typing import Any


def lazy_imports(package: str) -> Callable[[str], Any]:
    """The ``__getattr__`` of a package that imports its public names on first use.

    The package lists them once, where type checkers read them too::

        if TYPE_CHECKING:
            from nerfgen.mesh.isosurface import Surface, extract_surface

        __getattr__ = lazy_imports(__name__)
        __all__ = ["Surface", "extract_surface"]

    Args:
        package: its ``__name__``.
    """
    sources: dict[str, tuple[str, str]] = {}

    def get(name: str) -> Any:
        if name.startswith("__"):  # asked for by the import system, and never one of ours
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        if not sources:
            sources.update(_type_checking_imports(package))
        if name not in sources:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module, original = sources[name]
        value = getattr(importlib.import_module(module), original)
        setattr(sys.modules[package], name, value)
        return value

    return get


def _type_checking_imports(package: str) -> dict[str, tuple[str, str]]:
    """(module, name there) of every name that the package imports within ``if TYPE_CHECKING:``."""
    loader = sys.modules[package].__spec__.loader  # type: ignore[union-attr]
    source = loader.get_source(package)  # type: ignore[union-attr]
    found: dict[str, tuple[str, str]] = {}
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.If) and getattr(statement.test, "id", "") == "TYPE_CHECKING":
            for line in statement.body:
                if isinstance(line, ast.ImportFrom) and line.module:
                    found |= {each.asname or each.name: (line.module, each.name) for each in line.names}
    return found
