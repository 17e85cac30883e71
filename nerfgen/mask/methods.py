"""The segmenters that there are, and the table that names them."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nerfgen.mask.segmenter import Segmentation, Segmenter, Window
from nerfgen.mediapipe_check import installation_warnings
from nerfgen.photo import Photograph, resample_window


class Alpha:
    """The photograph's own alpha channel."""

    def __call__(self, photo: Photograph, window: Window, size: int) -> Segmentation:
        if photo.alpha is None:
            return Segmentation("no_alpha")
        raster, valid = resample_window(photo.alpha[..., None], window, size)
        return Segmentation("ok", np.where(valid, raster[..., 0], 0))


class Automatic:
    """The alpha channel where it says anything, else persons."""

    def __init__(self) -> None:
        self._alpha = Alpha()
        self._selfie: Segmenter | None = None

    def __call__(self, photo: Photograph, window: Window, size: int) -> Segmentation:
        if photo.has_alpha and photo.alpha is not None and photo.alpha.min() < photo.alpha.max():
            return self._alpha(photo, window, size)
        if self._selfie is None:
            self._selfie = _selfie()
        return self._selfie(photo, window, size)


def _selfie() -> Segmenter:
    return importlib.import_module("nerfgen.mask.selfie").Selfie()


@dataclass(frozen=True)
class Method:
    """One way to segment: what it is for, how its segmenter is made, and what is imported for it beforehand.

    ``identity`` changes when the masks change, so that older outputs are not taken for current ones.
    """

    description: str
    identity: str
    make: Callable[[], Segmenter]
    modules: tuple[str, ...] = ()

    def load(self) -> list[str]:
        """Import what the segmenter needs; returns what is odd about the installation, a line each.

        Raises:
            MissingDependencyError: a package or library is absent.
        """
        for name in self.modules:
            importlib.import_module(name)
        return installation_warnings() if self.modules else []


METHODS: dict[str, Method] = {
    "auto": Method(
        "alpha where an image has transparency, else selfie",
        "auto-1",
        Automatic,
        ("nerfgen.mask.selfie",),
    ),
    "selfie": Method(
        "persons, by MediaPipe selfie segmentation", "selfie-1", _selfie, ("nerfgen.mask.selfie",)
    ),
    "alpha": Method("the image's own alpha channel", "alpha-1", Alpha),
}
