"""Moving pictures."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from nerfgen.artifact import atomic_path
from nerfgen.errors import InputError

# H.264 knows no larger pictures, and a GIF's time is counted in hundredths of a second, of which one is not shown.
_LARGEST = 16384
_FASTEST_GIF = 50


def check_video_name(path: Path, frames_per_second: float) -> None:
    """Raise :class:`InputError` if the suffix names no video, or one that can't be so fast."""
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise InputError(f"{path}: a video's name ends in .mp4 or .gif")
    if path.suffix.lower() == ".gif" and frames_per_second > _FASTEST_GIF:
        raise InputError(
            f"{path}: a GIF shows at most {_FASTEST_GIF} frames a second, not {frames_per_second:g}; "
            "give --fps, or a name that ends in .mp4"
        )


def save_video(
    path: Path, frames: Iterable[UInt8[np.ndarray, "height width 3"]], frames_per_second: float = 24
) -> None:
    """Write frames as MP4 (H.264, yuv420p: plays in browsers) or as an endless GIF, by the suffix.

    Frames are taken one by one; of a GIF, 8 bits a pixel stay in memory.

    Raises:
        InputError: another suffix, or frames that are too large or too many a second for it.
    """
    check_video_name(path, frames_per_second)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".mp4":
            _save_mp4(temporary, path, frames, frames_per_second)
        else:
            pictures = map(Image.fromarray, frames)
            milliseconds = 10 * round(100 / frames_per_second)
            next(pictures).save(
                temporary, save_all=True, append_images=pictures, duration=milliseconds, loop=0
            )


def _save_mp4(temporary: Path, path: Path, frames: Iterable[np.ndarray], frames_per_second: float) -> None:
    import imageio.v2 as imageio

    writer: Any = imageio.get_writer(
        temporary,
        format="FFMPEG",
        fps=frames_per_second,
        codec="libx264",
        quality=8,
        pixelformat="yuv420p",
        macro_block_size=2,
        ffmpeg_log_level="error",
        # The index comes first, so that a browser plays the file while it is loading.
        output_params=["-movflags", "+faststart"],
    )
    with writer, warnings.catch_warnings():
        # ffmpeg is started by a fork that executes it at once: what JAX warns of can't happen.
        warnings.filterwarnings("ignore", message=r"os\.fork\(\) was called", category=RuntimeWarning)
        for frame in frames:
            if max(frame.shape) > _LARGEST:
                raise InputError(
                    f"{path}: its frames would be {frame.shape[1]} x {frame.shape[0]} pixels, but H.264 ends at "
                    f"{_LARGEST}; show fewer objects or smaller pictures"
                )
            writer.append_data(_even(frame))


def _even(frame: np.ndarray) -> np.ndarray:
    """yuv420p wants even edges: the last row or column is repeated where there is none to pair it with."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
