"""Depth as 16 bit grey pictures, which any image library reads."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float, UInt16

from nerfgen.errors import InputError

# World units that one step of grey stands for, in every depth picture of every command; 0 is no surface.
DEPTH_STEP = 1 / 5000
_MOST = np.iinfo(np.uint16).max


def encode_depth(depth: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Depth in world units as steps of grey, to the nearest; 0 stays 0, where there is no surface.

    Raises:
        InputError: a depth is negative, no number, or beyond what 16 bits hold.
    """
    steps = np.round(np.asarray(depth, np.float64) / DEPTH_STEP)
    if not ((steps >= 0) & (steps <= _MOST)).all():
        raise InputError(
            f"a depth of {np.max(depth):g} world units does not fit a 16 bit picture, which holds 0 to "
            f"{_MOST * DEPTH_STEP:.1f}; move the camera nearer"
        )
    return steps.astype(np.uint16)


def decode_depth(picture: UInt16[np.ndarray, "*shape"]) -> Float[np.ndarray, "*shape"]:
    """Depth in world units of what :func:`encode_depth` gave; exact to half a step."""
    return picture * DEPTH_STEP
