"""Parameters of the networks that are changed for one object alone."""

from __future__ import annotations

from typing import Any

# Layers whose kernels multiply the code: all that depends on the code is linear in it.
_OF_THE_CODE = ("planes", "modulation_", "latent_")


def tunable(parameters: dict[str, Any]) -> dict[str, Any]:
    """The tree without the kernels that multiply the code, which for one code only add to a bias."""
    kept: dict[str, Any] = {}
    for name, value in parameters.items():
        if not isinstance(value, dict):
            kept[name] = value
        elif not name.startswith(_OF_THE_CODE):
            kept[name] = tunable(value)
        elif others := {other: array for other, array in value.items() if other != "kernel"}:
            kept[name] = others
    return kept


def added(parameters: dict[str, Any], delta: dict[str, Any]) -> dict[str, Any]:
    """A tree of arrays with another one, of the same names or some of them, added to it."""

    def each(value: Any, change: Any) -> Any:
        return added(value, change) if isinstance(value, dict) else value + change.astype(value.dtype)

    return parameters | {name: each(parameters[name], change) for name, change in delta.items()}
