"""How per-image results are told."""

from __future__ import annotations


def other_statuses(statuses: dict[str, int]) -> str:
    """The counts of all statuses but ``ok``, as the end of a line; empty if there are none."""
    others = [f"{count} {status}" for status, count in statuses.items() if status != "ok"]
    return f" ({', '.join(others)})" if others else ""
