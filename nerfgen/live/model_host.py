"""Models in memory, and objects of them as renderings name them."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from jaxtyping import Float, PyTree

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.model import Model, Neighbours, load_model, model_file, neighbours


@dataclass(frozen=True)
class LiveObject:
    """An object to render.

    Attributes:
        model_name: of its model.
        model: its model, tuned to it where it is.
        latent: its latent code.
        key: equal for equal objects.
    """

    model_name: str
    model: Model
    latent: Float[np.ndarray, "code"]
    key: str


@dataclass(frozen=True)
class TunedModel:
    """A model with a change of its networks.

    Attributes:
        model: with the change.
        delta: the change, as :class:`nerfgen.model.Objects` holds it.
        key: names the change.
    """

    model: Model
    delta: dict[str, PyTree]
    key: str


class LiveModel:
    """A model in memory.

    Attributes:
        name: by which requests name it.
        path: its file.
        record: size and digest of the file, as outputs record them.
        model: its content.
    """

    def __init__(self, name: str, path: Path) -> None:
        self.name, self.path = name, path
        self.model = load_model(path)
        self.record = storage.file_record(path)

    @cached_property
    def neighbours(self) -> Neighbours:
        """The training rows, as neighbours of latent codes."""
        return neighbours(self.model.principal, self.model.latents)

    @cached_property
    def typical(self) -> Float[np.ndarray, "rows"]:
        """Distances of the rows from the mean, in standard deviations along the axes that vary; sorted."""
        principal = self.model.principal.only_varying()
        return np.sort(np.linalg.norm(principal.coefficients(self.model.latents), axis=1))

    def object(self, latent: Float[np.ndarray, "code"], tuned: TunedModel | None = None) -> LiveObject:
        """The object of a latent code."""
        latent = np.ascontiguousarray(latent, np.float32)
        digest = hashlib.sha256(latent.tobytes())
        digest.update(f"{self.record['sha256']} {tuned.key if tuned else ''}".encode())
        return LiveObject(self.name, tuned.model if tuned else self.model, latent, digest.hexdigest())

    def tuned(self, delta: dict[str, PyTree], key: str) -> TunedModel:
        """The model with ``delta`` added to its networks."""
        return TunedModel(self.model.tuned(delta), delta, key)


class ModelHost:
    """Models by name; the least recently used are dropped from memory.

    Args:
        paths: of model files, or of folders that hold ``model.h5``.
        limit: most models in memory.

    Raises:
        InputError: a file is missing or no model, or two have the same name.
    """

    def __init__(self, paths: Sequence[Path], *, limit: int = 4) -> None:
        self._paths: dict[str, Path] = {}
        for path in map(model_file, paths):
            name = model_name(path)
            if name in self._paths:
                raise InputError(
                    f"{self._paths[name]} and {path} would both be called {name!r}; rename one of the files"
                )
            self._paths[name] = path
        self._limit = limit
        self._models: OrderedDict[str, LiveModel] = OrderedDict()
        self._lock = threading.Lock()
        for name in self._paths:
            self.get(name)

    @property
    def names(self) -> list[str]:
        """The names of all models, in the order that they were given."""
        return list(self._paths)

    def is_loaded(self, name: str) -> bool:
        """Whether a model is in memory."""
        return name in self._models

    def get(self, name: str = "") -> LiveModel:
        """A model by its name; the first without one.

        Raises:
            InputError: there is none of that name, or its file can no longer be read.
        """
        name = name or self.names[0]
        if name not in self._paths:
            raise InputError(f"there is no `model` {name!r}; those that are served: {', '.join(self.names)}")
        with self._lock:
            if name not in self._models:
                self._models[name] = LiveModel(name, self._paths[name])
                while len(self._models) > self._limit:
                    self._models.popitem(last=False)
            self._models.move_to_end(name)
            return self._models[name]


def model_name(path: Path) -> str:
    """The name of a model: that of its file, or of its folder where the file is ``model.h5``."""
    path = path.resolve()
    return path.parent.name or path.stem if path.name == "model.h5" else path.stem
