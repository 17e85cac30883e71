"""Images and videos as files."""

from __future__ import annotations

import contextlib
import errno
import io
import itertools
import os
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8, UInt16
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from nerfgen.errors import InputError
from nerfgen.storage import atomic_path
from nerfgen.untrusted import open_input

# Grey levels per world unit in depth images, and the largest depth that 16 bits hold.
DEPTH_LEVELS = 5000
MAX_DEPTH = (2**16 - 1) / DEPTH_LEVELS
DEPTH_TEXT = {
    "unit": f"1/{DEPTH_LEVELS} world",
    "description": f"depth along the optical axis; 0: no surface; {2**16 - 1}: {MAX_DEPTH:g} world units or more",
}


def depth_levels(depth: Float[np.ndarray, "*shape"]) -> UInt16[np.ndarray, "*shape"]:
    """Depth in world units as levels of 1/5000 unit; 0 stays 0, and larger depths become the largest level."""
    levels = np.round(depth * DEPTH_LEVELS).clip(1, 2**16 - 1)
    return np.where(depth > 0, levels, 0).astype(np.uint16)


def check_image_name(path: Path) -> None:
    """Raise :class:`InputError` if the suffix names no image format."""
    if path.suffix.lower() not in Image.registered_extensions():
        raise InputError(f"{path}: unknown image format {path.suffix or '(no suffix)'}; end the name in .png")


def save_image(
    path: Path,
    image: UInt8[np.ndarray, "height width *channels"] | UInt16[np.ndarray, "height width"],
    *,
    text: Mapping[str, str] | None = None,
    figure: bool = False,
    tidy: bool = True,
) -> None:
    """Write an image whole or not at all; the format follows the suffix.

    Args:
        image: grey, RGB or RGBA, or grey in 16 bits.
        text: texts for the metadata of a PNG.
        figure: mark the file as one that is for people, or a mask: it is no input where it lies among images.
        tidy: see :func:`nerfgen.storage.atomic_path`.

    Raises:
        InputError: the suffix names no image format.
    """
    check_image_name(path)
    kind = Image.registered_extensions()[path.suffix.lower()]
    options = _png_text({**({"Comment": _FIGURE} if figure else {}), **(text or {})})
    if figure and kind != "PNG":
        options = _mark(kind)
    with atomic_path(path, tidy=tidy) as temporary:
        temporary.write_bytes(
            _encoded(image, kind, **options) + (_FIGURE.encode() if figure and not options else b"")
        )


# Formats with a comment hold it there, which :func:`is_figure` finds at either end of the file.
_FIGURE = "nerfgen:figure"
MARK_BYTES = 1024


def _mark(kind: str) -> dict[str, Any]:
    """The mark of a figure as options of Pillow; none for a format without comments, whose file it follows."""
    if kind in ("JPEG", "GIF"):
        return {"comment": _FIGURE}
    if kind == "TIFF":
        return {"description": _FIGURE}
    return {}


def is_figure(path: Path) -> bool:
    """Whether nerfgen wrote a file as a figure or mask; reads its first and last 1024 bytes."""
    try:
        with open_input(path) as stream:
            ends = stream.read(MARK_BYTES)
            stream.seek(-min(MARK_BYTES, stream.seek(0, os.SEEK_END)), os.SEEK_END)
            ends += stream.read(MARK_BYTES)
    except (OSError, InputError):
        return False
    return has_figure_mark(ends)


def has_figure_mark(ends: bytes) -> bool:
    """Whether the first and last ``MARK_BYTES`` of a file are of one that nerfgen wrote as a figure or mask."""
    return _FIGURE.encode() in ends


def png_bytes(
    image: UInt8[np.ndarray, "height width *channels"] | UInt16[np.ndarray, "height width"],
    text: Mapping[str, str] | None = None,
    *,
    compression: int = -1,
) -> bytes:
    """The content of the PNG that :func:`save_image` writes.

    Args:
        compression: from 0 (none) to 9 (slow); -1 for zlib's default. 1 takes a quarter of the default's time, and the
            file is a fifth larger.
    """
    return _encoded(image, "PNG", compress_level=compression, **_png_text(text or {}))


def jpeg_bytes(image: UInt8[np.ndarray, "height width 3"], quality: int = 92) -> bytes:
    """The content of a JPEG."""
    return _encoded(image, "JPEG", quality=quality)


def _encoded(image: np.ndarray, kind: str, **options: Any) -> bytes:
    """The content of an image file. Pillow writes into memory: it does not say why it could not write to a file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, kind, **options)
    return stream.getvalue()


def _png_text(text: Mapping[str, str]) -> dict[str, Any]:
    """Texts for a PNG as an argument of Pillow."""
    if not text:
        return {}
    metadata = PngInfo()
    for name, value in text.items():
        metadata.add_text(name, value)
    return {"pnginfo": metadata}


_MAX_H264_SIZE = 16384
# A GIF counts time in hundredths of a second, and players do not show frames of one hundredth.
_MAX_GIF_RATE = 50


def check_video_name(path: Path, frames_per_second: float) -> None:
    """Raise :class:`InputError` if the suffix names no video format, or one that can't be so fast."""
    if path.suffix.lower() not in (".mp4", ".gif"):
        raise InputError(f"{path}: a video's name ends in .mp4 or .gif")
    if path.suffix.lower() == ".gif" and frames_per_second > _MAX_GIF_RATE:
        raise InputError(
            f"{path}: a GIF shows at most {_MAX_GIF_RATE} frames a second; lower `fps` from {frames_per_second:g}, or "
            "give a name that ends in .mp4"
        )


def save_video(
    path: Path, frames: Iterable[UInt8[np.ndarray, "height width 3"]], frames_per_second: float = 24
) -> None:
    """Write frames as MP4 (H.264, yuv420p: plays in browsers) or as an endless GIF, by the suffix.

    Frames are taken one by one; a GIF keeps 8 bits per pixel in memory.

    Raises:
        InputError: another suffix, no frames, or frames that are too large or too fast for the format.
    """
    check_video_name(path, frames_per_second)
    frames = iter(frames)
    first = next(frames, None)
    if first is None:
        raise InputError(f"{path}: a video needs at least one frame")
    frames = itertools.chain([first], frames)
    with atomic_path(path) as temporary:
        if path.suffix.lower() == ".mp4":
            if max(first.shape) > _MAX_H264_SIZE:
                raise InputError(
                    f"{path}: frames of {first.shape[1]} x {first.shape[0]} pixels exceed H.264's limit of "
                    f"{_MAX_H264_SIZE}; show fewer objects or smaller views"
                )
            _save_mp4(temporary, map(_padded_to_even, frames), frames_per_second)
        else:
            images = map(Image.fromarray, frames)
            milliseconds = 10 * round(100 / frames_per_second)
            stream = io.BytesIO()
            next(images).save(
                stream,
                "GIF",
                save_all=True,
                append_images=images,
                duration=milliseconds,
                loop=0,
                **_mark("GIF"),
            )
            temporary.write_bytes(stream.getbuffer())


def _save_mp4(path: Path, frames: Iterator[np.ndarray], frames_per_second: float) -> None:
    """Pipe frames to FFmpeg.

    Raises:
        OSError: FFmpeg failed.
    """
    from imageio_ffmpeg import get_ffmpeg_exe

    first = next(frames)
    height, width = first.shape[:2]
    command = [get_ffmpeg_exe(), "-y", "-v", "error"]
    command += ["-f", "rawvideo", "-vcodec", "rawvideo", "-s", f"{width}x{height}", "-pix_fmt", "rgb24"]
    command += ["-r", f"{frames_per_second:g}", "-i", "-"]
    command += ["-an", "-vcodec", "libx264", "-pix_fmt", "yuv420p", "-crf", "10"]
    # The index comes first, so that a browser plays the file while it is loading.
    command += ["-movflags", "+faststart", str(path)]
    # In a process group of its own FFmpeg does not see Ctrl-C, which this process handles.
    own_group: dict[str, Any] = {} if os.name == "nt" else {"process_group": 0}
    with tempfile.TemporaryFile() as errors:
        with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=errors, **own_group) as encoder:
            assert encoder.stdin is not None
            with contextlib.suppress(BrokenPipeError):  # FFmpeg says why
                for frame in itertools.chain([first], frames):
                    encoder.stdin.write(np.ascontiguousarray(frame).tobytes())
        if encoder.returncode:
            errors.seek(0)
            said = errors.read().decode("utf-8", "replace").replace(str(path), "the file")
            reason = " ".join(said.split())
            # It gives the system's cause by its text, after its own words and before what followed from it.
            for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO):
                if os.strerror(number) in reason:
                    raise OSError(number, os.strerror(number), str(path))
            raise OSError(None, f"FFmpeg could not write the video ({reason[-300:]})", str(path))


def _padded_to_even(frame: np.ndarray) -> np.ndarray:
    """yuv420p needs even sizes: the last row or column is repeated."""
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
