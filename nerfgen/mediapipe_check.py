"""What MediaPipe needs from the system, and how to say what is missing."""

from __future__ import annotations

import importlib
import re

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


def missing_library(error: BaseException) -> str | None:
    """Name of the shared library whose absence made an import fail, or None for another failure."""
    found = _MISSING_LIBRARY.search(str(error))
    return found.group(1) if found else None


def remedy(library: str) -> str:
    """What to type to get a shared library."""
    package = DEBIAN_PACKAGES.get(library)
    return f"apt-get install {package}" if package else f"install the system package that holds {library}"


def installation_warnings() -> list[str]:
    """One line for a person if the installation is incomplete in a way that doesn't matter here.

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
