"""The segmentation methods, and the segmenter that settings and a class choose."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.mask.color import Color
from nerfgen.mask.given_masks import Alpha, MaskFiles, mask_digest
from nerfgen.mask.segmenter import Segmentation, SegmentationRequest, Segmenter
from nerfgen.mask.settings import MaskSettings
from nerfgen.objectclass import ObjectClass
from nerfgen.pretrained import (
    SELFIE_SEGMENTER,
    TASKS,
    PublishedNetwork,
    installation_warnings,
    mediapipe_interface,
)
from nerfgen.storage import Record, file_digest


class Automatic:
    """For each image the first of several methods that suits it.

    Args:
        builders: of segmenters, by method, in the order in which they are tried; each is called when it is first
            needed.
    """

    def __init__(self, builders: Mapping[str, Callable[[], Segmenter]]) -> None:
        self._builders = dict(builders)
        self._segmenters: dict[str, Segmenter] = {}

    def __call__(self, request: SegmentationRequest) -> Segmentation:
        """The foreground of a request, by a method that suits it.

        Raises:
            nerfgen.image.UnreadableImageError: the image can't be decoded.
        """
        alpha = request.image.alpha
        transparent = alpha is not None and alpha.min() < alpha.max()
        found = Segmentation("no_alpha")
        for name, build in self._builders.items():
            if name == "alpha" and not transparent:
                continue
            if name not in self._segmenters:
                self._segmenters[name] = build()
            found = self._segmenters[name](request)
            if name != "color" or found.status != "no_plain_background":
                return replace(found, method=name)
        return found


@dataclass(frozen=True)
class Method:
    """One way to segment.

    Attributes:
        description: for people.
        identity: changes when the masks change, so that older outputs are no longer current; empty for a method with a
            network, whose own identity counts.
        build: builds the segmenter, in a worker, from the settings and the path of the network's model file.
        modules: what a worker imports beforehand.
        network: names the published network that the method uses.
        settings: the settings that it takes.
        required: the settings that it can't do without.
        uses_landmarks: whether its masks depend on landmarks.
    """

    description: str
    identity: str
    build: Callable[[MaskSettings, Path | None], Segmenter]
    modules: tuple[str, ...] = ()
    network: Callable[[], PublishedNetwork] | None = None
    settings: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    uses_landmarks: bool = False


def _selfie_network() -> PublishedNetwork:
    """The network of person masks that the installed MediaPipe runs."""
    module = "nerfgen.mask.selfie"
    if mediapipe_interface(required=False) == TASKS:
        identity = f"selfie-segmenter-{SELFIE_SEGMENTER.sha256[:8]}"
        return PublishedNetwork(module, "SelfieTask", identity, SELFIE_SEGMENTER.name)
    return PublishedNetwork(module, "SelfieGraph", "selfie-1")


def _build_selfie(settings: MaskSettings, model: Path | None) -> Segmenter:
    from nerfgen.mask.selfie import Selfie

    return Selfie(_selfie_network().build(model))


def _build_grabcut(settings: MaskSettings, model: Path | None) -> Segmenter:
    from nerfgen.mask.grabcut import GrabCut

    return GrabCut()


def _build_tflite(settings: MaskSettings, model: Path | None) -> Segmenter:
    from nerfgen.mask.tflite import TFLite

    return TFLite(settings.model or Path(), settings.category, settings.labels, settings.pixel_range)


METHODS: dict[str, Method] = {
    "selfie": Method("persons, by MediaPipe selfie segmentation", "", _build_selfie, network=_selfie_network),
    "alpha": Method("the image's own alpha channel", "alpha-1", lambda settings, model: Alpha()),
    "color": Method(
        "what differs from a plain background",
        "color-1",
        lambda settings, model: Color(settings.background or "auto"),
        settings=("background",),
    ),
    "grabcut": Method(
        "any object, by its colours, starting from the camera and the landmarks",
        "grabcut-1",
        _build_grabcut,
        modules=("nerfgen.mask.grabcut",),
        uses_landmarks=True,
    ),
    "tflite": Method(
        "a category of a TensorFlow Lite segmentation model",
        "tflite-1",
        _build_tflite,
        modules=("nerfgen.mask.tflite",),
        settings=("model", "category", "labels", "pixel_range"),
        required=("model",),
    ),
    "files": Method(
        "existing masks, one image file for each image",
        "files-1",
        lambda settings, model: MaskFiles(settings.masks or Path(), settings.category),
        settings=("masks", "category"),
        required=("masks",),
    ),
}
AUTO = "auto"
# What `auto` tries where a class's own method finds that it doesn't suit an image.
_FALLBACK = {"color": "grabcut"}


@dataclass(frozen=True)
class SegmenterSpec:
    """A segmenter before it is built: a value that is sent to worker processes, which import what they need.

    Attributes:
        settings: the method and what it takes.
        object_class: of the images.
        models: the model file of the method's network or a folder that holds it; searched for if None.

    Raises:
        InputError: a method that may be used does not take, or lacks, a setting.
    """

    settings: MaskSettings
    object_class: ObjectClass
    models: Path | None = None

    def __post_init__(self) -> None:
        given = self.settings.given
        taken = {name for method in self._methods for name in METHODS[method].settings}
        for name in given:
            if name not in taken:
                users = [method for method, entry in METHODS.items() if name in entry.settings]
                raise InputError(
                    f"`{name}` is for method {' or '.join(users)}, not for {self.settings.method}"
                )
        for method in self._methods:
            for name in METHODS[method].required:
                if name not in given:
                    raise InputError(f"method {self.settings.method} needs `{name}`")

    @property
    def _methods(self) -> tuple[str, ...]:
        """The methods that may be used, in the order in which they are tried."""
        if self.settings.method != AUTO:
            return (self.settings.method,)
        own = self.object_class.segmenter
        return tuple(dict.fromkeys(name for name in ("alpha", own, _FALLBACK.get(own, own)) if name))

    @property
    def _network(self) -> PublishedNetwork | None:
        """The published network that may be used."""
        networks = [METHODS[name].network for name in self._methods]
        return next((network() for network in networks if network), None)

    @property
    def modules(self) -> tuple[str, ...]:
        """What every worker imports beforehand; a fallback's modules are imported where it is first used."""
        fallback = _FALLBACK.get(self.object_class.segmenter) if self.settings.method == AUTO else None
        own = [module for name in self._methods if name != fallback for module in METHODS[name].modules]
        return (*own, *(self._network.modules if self._network else ()))

    @property
    def uses_landmarks(self) -> bool:
        """Whether the masks depend on landmarks."""
        return any(METHODS[name].uses_landmarks for name in self._methods)

    def prepared(self, notify: Callable[[str], None] = lambda line: None) -> SegmenterSpec:
        """The same with the path of the network's model file, which is downloaded if need be; packages are imported.

        Args:
            notify: called with one line for each part of the installation that is incomplete, and before a download.

        Raises:
            InputError: the model file is missing from ``models`` or damaged.
            MissingDependencyError: a package or library is absent, or the file can't be downloaded.
        """
        for name in self.modules:
            importlib.import_module(name)
        if self._network is None:
            return self
        for line in installation_warnings():
            notify(line)
        return replace(self, models=self._network.prepare(self.models, notify))

    def build(self) -> Segmenter:
        """The segmenter, for one process, of a prepared spec.

        Raises:
            InputError: a file among the settings is unusable.
            MissingDependencyError: a package or library is absent.
        """
        builders = {name: partial(METHODS[name].build, self.settings, self.models) for name in self._methods}
        if self.settings.method == AUTO:
            return Automatic(builders)
        return builders[self.settings.method]()

    def parameters(self, paths: Sequence[str]) -> Record:
        """All that the masks of the images ``paths`` depend on beside the images, as JSON.

        Raises:
            InputError: a file among the settings does not exist.
        """
        identities = [_identity(METHODS[name]) for name in self._methods]
        auto = f"auto-2: {', '.join(identities)}"
        values: Record = {"method": auto if self.settings.method == AUTO else identities[0]}
        for name, value in self.settings.given.items():
            if name == "masks":
                value = mask_digest(value, paths)
            elif isinstance(value, Path):
                value = _digest(value)
            values[name] = value
        return {**values, "size": self.settings.size}


def _identity(method: Method) -> str:
    return method.network().identity if method.network else method.identity


def _digest(path: Path) -> str:
    try:
        return file_digest(path)[1]
    except OSError as error:
        raise InputError(f"{path} can't be read ({error.strerror}); give an existing file") from error
