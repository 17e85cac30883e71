"""Joining files by image path, never by position."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int

from nerfgen.artifact.schema import USABLE


def positions(wanted: Sequence[str], present: Sequence[str]) -> Int[np.ndarray, "wanted"]:
    """Index in ``present`` of every path in ``wanted``; -1 where it is absent."""
    index = {path: position for position, path in enumerate(present)}
    return np.array([index.get(path, -1) for path in wanted], dtype=np.int64)


def usable(status: Sequence[str]) -> Bool[np.ndarray, "images"]:
    """Which images the next stage may use."""
    return np.array([value in USABLE for value in status], dtype=bool)
