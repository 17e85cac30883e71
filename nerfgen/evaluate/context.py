"""A model under evaluation, with everything that several tables share, computed once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.held_out_images import FittedImages, fit_held_out
from nerfgen.evaluate.inputs import folder_name
from nerfgen.evaluate.settings import EvaluationInputs, EvaluationSettings
from nerfgen.image import local_folder
from nerfgen.metric import ImageFeatures, Inception, Perceptual
from nerfgen.model import Model
from nerfgen.parallel import Progress, silent
from nerfgen.pretrained import FaceEmbedding

Network = TypeVar("Network")


class EvaluationContext:
    """A model under evaluation.

    Attributes:
        model: the loaded model.
        inputs: files of the evaluation.
        settings: settings of the evaluation.
        workers: processes; one per core by default.
    """

    def __init__(
        self, model: Model, inputs: EvaluationInputs, settings: EvaluationSettings, workers: int | None = None
    ) -> None:
        self.model, self.inputs, self.settings, self.workers = model, inputs, settings, workers
        self._held_out: FittedImages | None = None

    def held_out_images(self, progress: Progress = silent) -> FittedImages:
        """The chosen held-out images with fitted latent codes; see :func:`fit_held_out`.

        Raises:
            InputError: no held-out image is usable.
        """
        if self._held_out is None:
            self._held_out = fit_held_out(self.model, self.inputs, self.settings, self.workers, progress)
        return self._held_out

    def portable_message(self, error: InputError) -> str:
        """The message of an error with folders by their names only: equal reports wherever the folders lie."""
        text = str(error)
        given = [folder for folder in (self.inputs.held_out, self.inputs.data) if folder]
        for folder in (*given, *map(local_folder, given)):
            # `.` is part of every file name.
            if str(folder) != ".":
                text = text.replace(f"{folder}/", "").replace(str(folder), folder_name(folder))
        return text

    @cached_property
    def perceptual(self) -> Perceptual | str:
        """The network of LPIPS, or why it is unavailable and how to add it."""
        return _network_or_reason(Perceptual.load, self.inputs.weights)

    @cached_property
    def inception(self) -> Inception | str:
        """The Inception network of FID, KID and IS, or why it is unavailable and how to add it."""
        return _network_or_reason(Inception.load, self.inputs.weights)

    @cached_property
    def face_embedding(self) -> FaceEmbedding | str:
        """The network of identity similarities, or why it is unavailable and how to add it."""
        return _network_or_reason(FaceEmbedding.load, self.inputs.weights)

    @cached_property
    def image_features(self) -> ImageFeatures | str:
        """The network of the feature distances, or why it is unavailable and how to add it."""
        return _network_or_reason(ImageFeatures.load, self.inputs.weights)


def _network_or_reason(load: Callable[[Path | None], Network], weights: Path | None) -> Network | str:
    try:
        return load(weights)
    except MissingDependencyError as error:
        # Reports are equal for all users.
        return str(error).replace(str(Path.home()), "~")
