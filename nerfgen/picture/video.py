"""Moving pictures."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8

from nerfgen.artifact import atomic_path
from nerfgen.errors import InputError


def save_video(
    path: Path, frames: Sequence[UInt8[np.ndarray, "height width 3"]], frames_per_second: int = 24
) -> None:
    """Write frames as MP4 (H.264, yuv420p: plays in browsers) or as an endless GIF, by the suffix.

    Raises:
        InputError: another suffix.
    """
    import imageio.v2 as imageio

    suffix = path.suffix.lower()
    with atomic_path(path) as temporary:
        if suffix == ".mp4":
            writer: Any = imageio.get_writer(
                temporary,
                format="FFMPEG",
                fps=frames_per_second,
                codec="libx264",
                quality=8,
                pixelformat="yuv420p",
                macro_block_size=2,
                ffmpeg_log_level="error",
            )
            with writer, warnings.catch_warnings():
                # ffmpeg is started by a fork that executes it at once: what JAX warns of can't happen.
                warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
                for frame in frames:
                    writer.append_data(_even(frame))
        elif suffix == ".gif":
            imageio.mimwrite(temporary, list(frames), format="GIF", duration=1000 / frames_per_second, loop=0)
        else:
            raise InputError(f"{path}: a video's name ends in .mp4 or .gif")


def _even(frame: np.ndarray) -> np.ndarray:
    """yuv420p wants even edges: the last row or column is repeated where there is none to pair it with."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
