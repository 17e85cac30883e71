"""What every generative model offers in Python, wherever its networks are: new codes, walks and cameras.

:class:`nerfgen.GenerativeModel` renders here, :class:`nerfgen.client.Client` asks a server. Importing this module
imports nothing heavy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from jaxtyping import Float, UInt8

from nerfgen import model as models
from nerfgen.errors import InputError
from nerfgen.geometry import Cameras
from nerfgen.model import SampleSettings
from nerfgen.render import ViewCameras

if TYPE_CHECKING:
    from nerfgen.model import Direction, Objects, Principal
    from nerfgen.objectclass import ObjectClass

    Codes = Objects | Float[np.ndarray, "codes latent"] | Float[np.ndarray, "latent"]
    Image = Path | str | UInt8[np.ndarray, "height width 3"]


class LatentModel(ABC):
    """A model as its latent space and its class: all that needs no network."""

    @property
    @abstractmethod
    def object_class(self) -> ObjectClass:
        """The class of its objects."""

    @property
    @abstractmethod
    def distance(self) -> float:
        """Median distance of the training cameras from the world origin, world units."""

    @property
    @abstractmethod
    def principal(self) -> Principal:
        """The table as a Gaussian: mean, principal axes, standard deviations."""

    def sample(self, sampling: SampleSettings = SampleSettings()) -> Float[np.ndarray, "samples latent"]:
        """Latent codes of new objects, drawn from the table's Gaussian; sample i depends only on the seed and i."""
        principal = self.principal.first(sampling.components or 0)
        return models.drawn_objects(principal, sampling.count, sampling.truncation, sampling.seed).latents

    def between(self, codes: Codes, frames: int) -> Objects:
        """Objects on a path through given ones, see :func:`nerfgen.model.walk_between`."""
        return models.walk_between(as_objects(codes), self.principal, frames)

    def along(self, axis: int, values: Sequence[float], start: Codes | None = None) -> Objects:
        """Objects along a principal axis, counted from 1, see :func:`nerfgen.model.walk_axis`."""
        first = None if start is None else as_objects(start)
        return models.walk_axis(self.principal, axis, np.asarray(values, float), first)

    def toward(self, direction: Direction, values: Sequence[float], start: Codes | None = None) -> Objects:
        """Objects along a direction with a name, see :func:`nerfgen.model.walk_direction`."""
        first = None if start is None else as_objects(start)
        return models.walk_direction(self.principal, direction, np.asarray(values, float), first)

    def cameras(self, cameras: ViewCameras = ViewCameras()) -> Cameras:
        """Cameras as the command line chooses them, see :class:`nerfgen.render.ViewCameras`."""
        return cameras.of(self.object_class, self.distance).path.cameras

    def turned(
        self,
        yaw: Sequence[float],
        pitch: Sequence[float] = (0.0,),
        *,
        distance: float | None = None,
        fov: float | None = None,
    ) -> Cameras:
        """Cameras around the object: every yaw at every pitch, degrees.

        Args:
            distance: from the origin, world units; by default the median of the training cameras.
            fov: field of view across the whole image, degrees; by default the unit sphere fills the image.
        """
        return self.cameras(ViewCameras(yaw=tuple(yaw), pitch=tuple(pitch), distance=distance, fov=fov))

    def orbit(
        self,
        frames: int,
        pitch: float = 0.0,
        *,
        distance: float | None = None,
        fov: float | None = None,
    ) -> Cameras:
        """Cameras on a closed path: a full turn, or a swing to both sides for faces."""
        return self.cameras(ViewCameras(orbit=frames, pitch=(pitch,), distance=distance, fov=fov))


def as_objects(codes: Codes) -> Objects:
    """Latent codes as objects.

    Raises:
        InputError: there are none.
    """
    if isinstance(codes, models.Objects):
        objects = codes
    else:
        latents = np.atleast_2d(np.asarray(codes, np.float32))
        count = len(latents) if latents.size else 0
        names = [f"code {number}" for number in range(count)]
        objects = models.Objects(names, ["ok"] * count, np.full(count, -1), latents)
    if not len(objects):
        raise InputError("there are no latent codes; give at least one")
    return objects


def cameras_of_each(objects: Objects, cameras: Cameras | None) -> list[Cameras]:
    """The cameras to render each object from: the given ones, or its own.

    Raises:
        InputError: there are none.
    """
    if cameras is not None:
        if not len(cameras.cam_to_world):
            raise InputError("no cameras to render from; give at least one")
        return [cameras] * len(objects)
    if objects.cameras is None:
        raise InputError(
            "these latent codes have no cameras of their own; give `cameras`, such as model.turned([-30, 0, 30])"
        )
    own = objects.cameras
    return [Cameras(*(part[number][None] for part in own)) for number in range(len(objects))]


def one_object(codes: Codes) -> Objects:
    """The object of a mesh.

    Raises:
        InputError: there is not exactly one.
    """
    objects = as_objects(codes)
    if len(objects) != 1:
        raise InputError(f"a mesh is made of one object at a time, not of {len(objects)}")
    return objects
