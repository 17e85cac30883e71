"""Images that others send: decoded in a process of limited memory, within limits of bytes and pixels."""

from __future__ import annotations

import contextlib
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt8

from nerfgen.errors import InputError
from nerfgen.image import MAX_DECODED, InputImage, UnreadableImageError
from nerfgen.workers import WorkerError, Workers

MAX_BYTES = 32 << 20
MAX_PIXELS = 50_000_000
# Beyond what the process has when it starts: the pixels of the image, in the several copies that decoders make.
_MEMORY = 2 << 30
# Longer sides are reduced: no network and no window needs more.
_MAX_SIDE = 2048
# Of processor time, for one image.
_SECONDS = 60


@dataclass(frozen=True)
class _Refused:
    """Why an image could not be decoded."""

    status: str
    reason: str


class Uploads:
    """Decodes images; a context manager that ends its process.

    Args:
        max_bytes, max_pixels: of an image file.
    """

    def __init__(self, *, max_bytes: int = MAX_BYTES, max_pixels: int = MAX_PIXELS) -> None:
        self.max_bytes, self._max_pixels = max_bytes, min(max_pixels, MAX_DECODED)
        self._lock = threading.Lock()
        self._stack = contextlib.ExitStack()
        self._process: Workers | None = None

    def __enter__(self) -> Uploads:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def decode(self, content: bytes) -> UInt8[np.ndarray, "height width 3"]:
        """The upright image in sRGB, with a longer side of at most 2048 pixels.

        Raises:
            UnreadableImageError: the bytes are no image, or one that is too large.
        """
        if len(content) > self.max_bytes:
            raise UnreadableImageError(
                f"a file of {len(content):,} bytes, more than {self.max_bytes:,}; send a smaller one",
                "too_large",
            )
        with self._lock:
            if self._process is None:
                self._process = self._stack.enter_context(
                    Workers(1, _limit_resources, preload=["nerfgen.live.uploads"])
                )
            process = self._process
            try:
                found = process.result(process.submit(_decoded, [(content, self._max_pixels)]))[0]
            except WorkerError as error:
                self._process = None
                self._stack.close()
                raise UnreadableImageError(
                    "it can't be decoded within the limits of memory and time"
                ) from error
        if isinstance(found, _Refused):
            raise UnreadableImageError(found.reason, found.status)
        return found


def _limit_resources() -> None:
    """Bound the memory and the files of this process, where the system can."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, used + _MEMORY))
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def _limit_time() -> None:
    """Bound the processor time of the next image."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        used = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(used.ru_utime + used.ru_stime) + _SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))


def _decoded(task: tuple[bytes, int]) -> np.ndarray | _Refused:
    content, max_pixels = task
    _limit_time()
    image = InputImage(content)
    try:
        width, height = image.size
        if width * height > max_pixels:
            return _Refused(
                "too_large", f"{width} x {height} pixels, more than {max_pixels:,}; send a smaller image"
            )
        return np.ascontiguousarray(image.pixels(_MAX_SIDE)[0])
    except UnreadableImageError as error:
        return _Refused(error.status, str(error))
    except InputError as error:
        return _Refused("unreadable", str(error))
    except MemoryError:
        return _Refused("too_large", "it takes too much memory; send a smaller image")
