"""What is evaluated: a model, and what several tables need of it, made once."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TypeVar

from nerfgen.errors import InputError, MissingDependencyError
from nerfgen.evaluate.sources import Settings, Sources
from nerfgen.evaluate.unseen import Unseen, fit_unseen
from nerfgen.field import Model
from nerfgen.metric.pretrained import Inception, Perceptual
from nerfgen.parallel import Progress, silent

Network = TypeVar("Network")


class Subject:
    """A model under evaluation.

    Attributes:
        model, sources, settings: see there.
        workers: processes; 0 for one a core.
    """

    def __init__(self, model: Model, sources: Sources, settings: Settings, workers: int = 0) -> None:
        self.model, self.sources, self.settings, self.workers = model, sources, settings, workers
        self._unseen: Unseen | None = None

    def unseen(self, progress: Progress = silent) -> Unseen:
        """The chosen photographs of ``sources.others``, with codes; see :func:`fit_unseen`.

        Raises:
            InputError: there are none that can be used.
        """
        if self._unseen is None:
            self._unseen = fit_unseen(self.model, self.sources, self.settings, self.workers, progress)
        return self._unseen

    def told(self, error: InputError) -> str:
        """What an error says, with files and folders by their names alone: a report is the same wherever they lie."""
        text = str(error)
        for folder in (self.sources.others, self.sources.data):
            if folder:
                text = text.replace(f"{folder}/", "").replace(str(folder), folder.name)
        return text

    @cached_property
    def perceptual(self) -> Perceptual | str:
        """The network of LPIPS, or why it can't be had and how to add it."""
        return _had(Perceptual.load, self.sources.weights)

    @cached_property
    def inception(self) -> Inception | str:
        """The Inception network of FID, KID and IS, or why it can't be had and how to add it."""
        return _had(Inception.load, self.sources.weights)


def _had(load: Callable[[Path | None], Network], weights: Path | None) -> Network | str:
    try:
        return load(weights)
    except MissingDependencyError as error:
        # A report is the same whoever made it.
        return str(error).replace(str(Path.home()), "~")
