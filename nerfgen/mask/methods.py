"""The methods that there are, and the table that names them."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from nerfgen.artifact import file_digest
from nerfgen.errors import InputError
from nerfgen.mask.color import Color, background_color
from nerfgen.mask.files import Files, mask_digest
from nerfgen.mask.segmenter import Scene, Segmentation, Segmenter
from nerfgen.mediapipe_check import installation_warnings
from nerfgen.objectclass import ObjectClass
from nerfgen.photo import resample_window


@dataclass(frozen=True)
class Settings:
    """What a method may be told; each takes some of these, and None is its default.

    Attributes:
        background: ``color``: ``auto``, ``white``, ``black`` or ``#rrggbb``.
        model: ``tflite``: the model file.
        category: ``tflite``, ``files``: name or number of what is foreground.
        labels: ``tflite``: text file with a name a line, for a model that doesn't carry them.
        pixel_range: ``tflite``: what black and white are for the network, where the model doesn't say it.
        masks: ``files``: the folder of masks.
    """

    background: str | None = None
    model: Path | None = None
    category: str | None = None
    labels: Path | None = None
    pixel_range: tuple[float, float] | None = None
    masks: Path | None = None


class Alpha:
    """The photograph's own alpha channel."""

    def __call__(self, scene: Scene) -> Segmentation:
        """The opaque part of a scene.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        alpha = scene.photo.alpha
        if alpha is None:
            return Segmentation("no_alpha")
        raster, valid = resample_window(alpha[..., None], scene.window, scene.size)
        return Segmentation("ok", np.where(valid, raster[..., 0], 0))


class Automatic:
    """For every photograph the first of several methods that has something to say.

    Args:
        makers: methods by name, in the order in which they are tried; each is made when it is first needed.
    """

    def __init__(self, makers: Mapping[str, Callable[[], Segmenter]]) -> None:
        self._makers = dict(makers)
        self._made: dict[str, Segmenter] = {}

    def __call__(self, scene: Scene) -> Segmentation:
        """The foreground of a scene, by a method that suits it.

        Raises:
            nerfgen.photo.UnreadableImageError: the photograph can't be decoded.
        """
        alpha = scene.photo.alpha
        transparent = alpha is not None and alpha.min() < alpha.max()
        found = Segmentation("no_alpha")
        for name, make in self._makers.items():
            if name == "alpha" and not transparent:
                continue
            if name not in self._made:
                self._made[name] = make()
            found = self._made[name](scene)
            if name != "color" or found.status != "no_plain_background":
                return Segmentation(found.status, found.mask, name)
        return found


@dataclass(frozen=True)
class Method:
    """One way to segment: what it is for, how its segmenter is made, and what is imported for it beforehand.

    Attributes:
        identity: changes when the masks change, so that older outputs are not taken for current ones.
        make: makes the segmenter, in a worker.
        modules: what it needs beyond the base installation.
        settings: the settings that it takes.
        required: those of them that it can't do without.
        landmarks: whether it looks at landmarks.
    """

    description: str
    identity: str
    make: Callable[[Settings], Segmenter]
    modules: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    landmarks: bool = False


def _from(module: str, name: str) -> Callable[..., Segmenter]:
    return getattr(importlib.import_module(module), name)


METHODS: dict[str, Method] = {
    "selfie": Method(
        "persons, by MediaPipe selfie segmentation",
        "selfie-1",
        lambda settings: _from("nerfgen.mask.selfie", "Selfie")(),
        ("nerfgen.mask.selfie",),
    ),
    "alpha": Method("the image's own alpha channel", "alpha-1", lambda settings: Alpha()),
    "color": Method(
        "what differs from a plain background",
        "color-1",
        lambda settings: Color(settings.background or "auto"),
        settings=("background",),
    ),
    "grabcut": Method(
        "any object, by its colours, from where the camera says that it is",
        "grabcut-1",
        lambda settings: _from("nerfgen.mask.grabcut", "GrabCut")(),
        ("nerfgen.mask.grabcut",),
        landmarks=True,
    ),
    "tflite": Method(
        "a category of a TFLite segmentation model",
        "tflite-1",
        lambda settings: _from("nerfgen.mask.tflite", "TFLite")(
            settings.model, settings.category, settings.labels, settings.pixel_range
        ),
        ("nerfgen.mask.tflite",),
        settings=("model", "category", "labels", "pixel_range"),
        required=("model",),
    ),
    "files": Method(
        "masks that you have, one image file a photograph",
        "files-1",
        lambda settings: Files(settings.masks or Path(), settings.category),
        settings=("masks", "category"),
        required=("masks",),
    ),
}
AUTO = "auto"
METHOD_NAMES = (AUTO, *METHODS)
# What `auto` tries where a class's own method may say that it doesn't suit a photograph.
_INSTEAD = {"color": "grabcut"}


@dataclass(frozen=True)
class Choice:
    """A method with its settings, for the images of a class. A value: it goes to the workers as it is.

    Raises:
        InputError: there is no such method, or it does not take, or lacks, a setting.
    """

    method: str
    settings: Settings
    object_class: ObjectClass

    def __post_init__(self) -> None:
        if self.method not in METHOD_NAMES:
            raise InputError(
                f"there is no segmentation method {self.method}; choose from {', '.join(METHOD_NAMES)}"
            )
        taken = {name for method in self._methods for name in METHODS[method].settings}
        for field in fields(Settings):
            option = f"--{field.name.replace('_', '-')}"
            given = getattr(self.settings, field.name) is not None
            if given and field.name not in taken:
                users = [name for name, method in METHODS.items() if field.name in method.settings]
                raise InputError(f"{option} is for --method {' or '.join(users)}, not for {self.method}")
            if not given and any(field.name in METHODS[method].required for method in self._methods):
                raise InputError(f"--method {self.method} needs {option}")
        background_color(self.settings.background or "auto")

    @property
    def _methods(self) -> tuple[str, ...]:
        """The methods that may be used, in the order in which they are tried."""
        if self.method != AUTO:
            return (self.method,)
        own = self.object_class.segmenter
        return tuple(dict.fromkeys(name for name in ("alpha", own, _INSTEAD.get(own, own)) if name))

    @property
    def modules(self) -> tuple[str, ...]:
        """What has to be imported in every worker; what only some photographs may need is imported for these."""
        instead = _INSTEAD.get(self.object_class.segmenter) if self.method == AUTO else None
        return tuple(module for name in self._methods if name != instead for module in METHODS[name].modules)

    @property
    def landmarks(self) -> bool:
        """Whether landmarks are looked at."""
        return any(METHODS[name].landmarks for name in self._methods)

    def load(self) -> list[str]:
        """Import what the segmenter needs; returns what is odd about the installation, a line each.

        Raises:
            MissingDependencyError: a package or library is absent.
        """
        for name in self.modules:
            importlib.import_module(name)
        return installation_warnings() if "nerfgen.mask.selfie" in self.modules else []

    def make(self) -> Segmenter:
        """The segmenter, for one process.

        Raises:
            InputError: a file among the settings is unusable.
            MissingDependencyError: a package or library is absent.
        """
        makers = {name: _Maker(name, self.settings) for name in self._methods}
        return Automatic(makers) if self.method == AUTO else makers[self.method]()

    def parameters(self, paths: Sequence[str]) -> dict[str, Any]:
        """All that the masks of the photographs ``paths`` depend on beyond the photographs, as JSON.

        Raises:
            InputError: a file among the settings does not exist.
        """
        identities = [METHODS[name].identity for name in self._methods]
        auto = f"auto-2: {', '.join(identities)}"
        values: dict[str, Any] = {"method": auto if self.method == AUTO else identities[0]}
        for field in fields(Settings):
            value = getattr(self.settings, field.name)
            if value is None:
                continue
            if field.name == "masks":
                value = mask_digest(value, paths)
            elif isinstance(value, Path):
                value = _digest(value)
            values[field.name] = value
        return values


@dataclass(frozen=True)
class _Maker:
    """How to make a method's segmenter."""

    method: str
    settings: Settings

    def __call__(self) -> Segmenter:
        return METHODS[self.method].make(self.settings)


def _digest(path: Path) -> str:
    try:
        return file_digest(path)[1]
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}); give an existing file") from error
