"""MediaPipe Tasks: networks from model files, on the CPU, imported at a fraction of the usual cost and quietly.

``import mediapipe`` loads every task, and from 0.10.32 on also matplotlib and OpenCV, which takes 1.5 seconds and fails
where a graphics library is missing. This module imports only what the tasks that it makes need; the rest of the package
still loads when something else uses it.

From 0.10.35 on MediaPipe sends statistics of its use to its publisher and has no option against it. Tasks made here
trust no certificates, so that such a connection is closed before anything is sent.

Importing this module raises :class:`nerfgen.errors.MissingDependencyError` where MediaPipe or its Tasks can't be
loaded, so it is imported inside functions, never at the top of a command.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
import queue
import sys
import types
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import UInt8

from nerfgen.pretrained.installation import (
    TASKS,
    import_error,
    mediapipe_interface,
    mediapipe_version,
    silenced,
)

# Packages whose __init__ imports everything below them; the outermost first.
_PACKAGES = ("mediapipe", "mediapipe.tasks.python", "mediapipe.tasks.python.vision")


def _make_lazy(name: str) -> None:
    """Put a package into ``sys.modules`` whose ``__init__`` runs when one of its names is first used."""
    if name in sys.modules:
        return
    spec = importlib.util.find_spec(name)
    if spec is None or spec.loader is None:
        raise ImportError(f"no module {name}")
    package = importlib.util.module_from_spec(spec)

    def load(attribute: str) -> Any:
        if attribute == "__version__":
            return mediapipe_version()
        if attribute.startswith("__"):
            raise AttributeError(attribute)
        # The inner packages first: the outermost one gives the name of another to mediapipe.tasks.
        for each in reversed(_PACKAGES):
            if each.startswith(name):
                _run_init(sys.modules[each])
        return getattr(package, attribute)

    vars(package)["__getattr__"] = load
    sys.modules[name] = package
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, package)


def _run_init(package: types.ModuleType) -> None:
    """Run the ``__init__`` of a lazy package, once."""
    if vars(package).pop("__getattr__", None) and package.__spec__ and package.__spec__.loader:
        package.__spec__.loader.exec_module(package)


def _import(name: str) -> types.ModuleType:
    """A module of MediaPipe's Tasks, without the packages around it."""
    try:
        if mediapipe_interface() != TASKS:
            raise ImportError(f"release {mediapipe_version()} has other Tasks than nerfgen uses")
        for package in _PACKAGES:
            _make_lazy(package)
        return importlib.import_module(f"mediapipe.tasks.python.{name}")
    except ImportError as error:
        raise import_error(error) from error


# The functions that close collected tasks, each with the model of its task. Python's garbage collector may run in a
# thread that holds a lock which closing needs, so it only fills this queue; SimpleQueue allows that.
_collected: queue.SimpleQueue[tuple[Callable[[], None], bytes]] = queue.SimpleQueue()

_options = _import("core.base_options")
_images = _import("vision.core.image")


class _BaseOptions(_options.BaseOptions):  # type: ignore[name-defined]
    """MediaPipe's options of any task, without the certificates for its statistics."""

    def to_ctypes(self) -> Any:
        structure = super().to_ctypes()
        if hasattr(structure, "ca_bundle_path"):
            structure.ca_bundle_path = os.devnull.encode()
        return structure


class Task:
    """A vision task of MediaPipe for single images, on the CPU.

    A task that is garbage-collected is closed when the next one is made.

    Args:
        module, name: of the task's class, such as ``face_detector`` and ``FaceDetector``.
        model: content of its model file.
        options: of the class ``<name>Options``.

    Raises:
        MissingDependencyError: a part of MediaPipe or a system library is missing.
    """

    def __init__(self, module: str, name: str, model: bytes, **options: Any) -> None:
        task_module = _import(f"vision.{module}")
        base = _BaseOptions(model_asset_buffer=model, delegate=_options.BaseOptions.Delegate.CPU)
        task_options = getattr(task_module, f"{name}Options")(base_options=base, **options)
        try:
            with silenced():
                _close_collected()
                task = getattr(task_module, name).create_from_options(task_options)
        except OSError as error:
            raise import_error(error) from error
        # MediaPipe would close a task inside the garbage collector, and at the end of Python, when its threads are gone
        # and closing fails. It does not copy the model, which `finalize` keeps in memory.
        close = task.close
        task.close = _nothing
        weakref.finalize(self, _collected.put, (close, model)).atexit = False
        self._run = task.segment if hasattr(task, "segment") else task.detect

    def run(self, image: UInt8[np.ndarray, "height width 3"]) -> Any:
        """The task's result for one RGB image."""
        packed = _images.Image(_images.ImageFormat.SRGB, np.ascontiguousarray(image))
        # Calculators warn when they run for the first time, and of memory that happens to be badly aligned at any time.
        with silenced():
            return self._run(packed)


def check_library() -> None:
    """Load MediaPipe's shared library.

    Raises:
        MissingDependencyError: a system library that it needs is missing.
    """
    try:
        with silenced():
            # An image that cannot be made would also complain when it is collected.
            _import("core.mediapipe_c_bindings").load_raw_library()
    except OSError as error:
        raise import_error(error) from error


def _nothing() -> None:
    """Do nothing."""


def _close_collected() -> None:
    """Close the tasks that were collected since the last call."""
    with contextlib.suppress(queue.Empty):
        while True:
            close, _ = _collected.get_nowait()
            # Errors of images that the task was run on were raised by `run`.
            with contextlib.suppress(RuntimeError, ValueError):
                close()
