"""What the import hook of ``conftest.py`` checks: the arrays in annotations, at every call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

from beartype import BeartypeConf, beartype
from jax.tree_util import all_leaves
from jaxtyping import AbstractArray

# Where a float is expected, an int is welcome, as for mypy.
_check = beartype(conf=BeartypeConf(is_pep484_tower=True))


def check_arrays(function: Callable[..., Any]) -> Callable[..., Any]:
    """The function with the shapes and dtypes of its arguments and its result checked.

    Other annotations are mypy's work: at run time they would cost time at every call, and many name classes
    that are imported for type checking only.
    """
    hints = {name: hint for name, hint in function.__annotations__.items() if _has_array(hint)}
    if not hints:
        return function
    function.__annotations__ = hints
    check = _check(function)
    if function.__name__ != "__init__":
        return check
    # JAX builds its trees of anything: of specifications, of placeholders, of arrays with further axes.
    return lambda built, *values, **named: all_leaves([built]) and check(built, *values, **named)


def _has_array(hint: object) -> bool:
    if isinstance(hint, list):  # the arguments of a Callable
        return any(map(_has_array, hint))
    return (isinstance(hint, type) and issubclass(hint, AbstractArray)) or any(
        map(_has_array, get_args(hint))
    )
