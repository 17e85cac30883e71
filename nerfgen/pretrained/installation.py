"""Which MediaPipe is installed and how nerfgen uses it; what it lacks on this machine. Imports no MediaPipe.

MediaPipe 0.10.21 is the last release whose wheel carries the networks, which its graphs run. From 0.10.30 on the Tasks
API runs networks from model files (:mod:`nerfgen.pretrained.store`).
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.metadata
import os
import re
import sys
import threading
from collections.abc import Iterator

from nerfgen.errors import MissingDependencyError

GRAPHS, TASKS = "graphs", "tasks"
# The first release without graphs that Python can run.
_FIRST_OF_TASKS = (0, 10, 30)
# MediaPipe 0.10.21 has wheels for this Python.
_PYTHON_HAS_GRAPHS = sys.version_info < (3, 13)

# The Debian (and Ubuntu) package that brings each shared library.
DEBIAN_PACKAGES = {
    "libGL.so.1": "libgl1",
    "libglib-2.0.so.0": "libglib2.0-0",
    "libgthread-2.0.so.0": "libglib2.0-0",
    "libEGL.so.1": "libegl1",
    "libGLESv2.so.2": "libgles2",
    "libportaudio.so.2": "libportaudio2",
    "libSM.so.6": "libsm6",
    "libXext.so.6": "libxext6",
    "libXrender.so.1": "libxrender1",
}
_MISSING_LIBRARY = re.compile(r"(lib[\w.+-]+?\.so[\w.]*): cannot open shared object file")


def requirement() -> str:
    """The MediaPipe of nerfgen's dependencies for this Python, as pip takes it."""
    return "mediapipe==0.10.21" if _PYTHON_HAS_GRAPHS else "'mediapipe>=0.10.30,<0.10.32'"


def mediapipe_version() -> str | None:
    """The installed release of MediaPipe, read from its metadata; None where there is none."""
    try:
        return importlib.metadata.version("mediapipe")
    except importlib.metadata.PackageNotFoundError:
        return None


def mediapipe_interface(*, required: bool = True) -> str:
    """How the installed MediaPipe runs networks: ``GRAPHS`` or ``TASKS``.

    Args:
        required: without it, a missing MediaPipe is taken for the one that pip would install.

    Raises:
        MissingDependencyError: MediaPipe is not installed.
    """
    version = mediapipe_version()
    if version is None and not required:
        return GRAPHS if _PYTHON_HAS_GRAPHS else TASKS
    if version is None:
        raise MissingDependencyError(
            f"faces and person masks need MediaPipe, which is not installed: pip install {requirement()}"
        )
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
    return TASKS if numbers >= _FIRST_OF_TASKS else GRAPHS


def import_error(error: Exception) -> MissingDependencyError:
    """What to tell a user where MediaPipe or its shared library cannot be loaded."""
    if library := missing_library(error):
        return MissingDependencyError(f"MediaPipe can't be loaded: {library} is missing ({remedy(library)})")
    reason = " ".join(str(error).split())
    return MissingDependencyError(
        f"MediaPipe can't be loaded ({reason}); install it again: pip install {requirement()}"
    )


def missing_library(error: BaseException) -> str | None:
    """Name of the shared library whose absence made an import fail, or None for another failure."""
    found = _MISSING_LIBRARY.search(str(error))
    return found.group(1) if found else None


def remedy(library: str) -> str:
    """What to type to get a shared library."""
    package = DEBIAN_PACKAGES.get(library)
    return f"apt-get install {package}" if package else f"install the system package that holds {library}"


def installation_warnings() -> list[str]:
    """One line for a person if the installation is incomplete in a way that does not matter for faces and masks.

    MediaPipe brings OpenCV, which can't be loaded on a machine without graphics libraries.
    """
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        if library := missing_library(error):
            return [
                f"warning: OpenCV, which MediaPipe brings, misses {library} ({remedy(library)}); "
                "faces and masks work without it"
            ]
    return []


class _Silence:
    """How many threads want it, and where standard error leads when none does."""

    lock = threading.Lock()
    wanted = 0
    kept = -1


@contextlib.contextmanager
def silenced() -> Iterator[None]:
    """Hold back what C++ libraries write to the process's standard error, as long as any thread is inside."""
    try:
        with _Silence.lock:
            _Silence.wanted += 1
            if _Silence.wanted == 1:
                sys.stderr.flush()
                _Silence.kept = os.dup(2)
                nowhere = os.open(os.devnull, os.O_WRONLY)
                os.dup2(nowhere, 2)
                os.close(nowhere)
        yield
    finally:
        with _Silence.lock:
            _Silence.wanted -= 1
            if _Silence.wanted == 0:
                os.dup2(_Silence.kept, 2)
                os.close(_Silence.kept)
