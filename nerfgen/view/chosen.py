"""The object that a visitor looks at, where it came from, and the command that shows the same."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from jaxtyping import Float

from nerfgen import storage
from nerfgen.errors import InputError
from nerfgen.geometry import Cameras
from nerfgen.live import LiveModel, LiveObject
from nerfgen.model import (
    ModelShape,
    Objects,
    Principal,
    SampleSettings,
    file_reference,
    mean_object,
    move_to,
    new_objects,
    parse_numbers,
    read_objects,
    table_objects,
)
from nerfgen.provenance import Call
from nerfgen.render import ViewCameras
from nerfgen.storage import Record
from nerfgen.view.screen import Look, ViewerCamera

# Decimals of coordinates along axes: those of the sliders.
DECIMALS = 2
# Of positions, directions and angles in a command.
_DIGITS = 6
CODE_FILE = "code.h5"


@dataclass(frozen=True)
class Chosen:
    """An object.

    Attributes:
        start: one object.
        options: of `nerfgen render`, which name ``start``; None where only a file holds it.
        coordinates: along principal axes that it was moved to, by number of the axis, in standard deviations.
    """

    start: Objects
    options: Record | None
    coordinates: tuple[tuple[int, float], ...] = ()

    def moved(self, axis: int, value: float) -> Chosen:
        """The same with another coordinate along an axis."""
        coordinates = dict(self.coordinates) | {axis: round(value, DECIMALS)}
        return replace(self, coordinates=tuple(sorted(coordinates.items())))

    def objects(self, principal: Principal) -> Objects:
        """The object where it was moved to."""
        return move_to(self.start, principal, self.coordinates) if self.coordinates else self.start

    def latent(self, principal: Principal) -> Float[np.ndarray, "code"]:
        """Its latent code."""
        return self.objects(principal).latents[0]

    def live(self, live: LiveModel) -> LiveObject:
        """The object to render."""
        delta = self.start.tuned.get(0)
        tuned = live.tuned(delta, str(id(delta))) if delta else None
        return live.object(self.latent(live.model.principal), tuned)

    @property
    def camera(self) -> Cameras | None:
        """That of its image; None without one."""
        return self.start.cameras

    @property
    def selection(self) -> Record:
        """The options of a command that select it; a file of its code where no others do."""
        if self.options is None:
            return {"codes": [f"{CODE_FILE}:0"]}
        coordinates = ",".join(f"{axis}={value:g}" for axis, value in self.coordinates)
        # Coordinates alone select the mean.
        return {**self.options, "axes": coordinates or (None if self.options else "1=0")}


def mean(live: LiveModel) -> Chosen:
    """The mean of the table."""
    return Chosen(mean_object(live.model.principal), {})


def stored(live: LiveModel, reference: str) -> list[Chosen]:
    """Objects of a file, by reference such as ``fitted.h5:0,2``; unusable ones are left out.

    Raises:
        InputError: the file is not of this model, or has no usable objects.
    """
    path, which = file_reference(reference)
    found = read_objects(ModelShape.of(live.model), live.record["sha256"], path, "all")
    numbers = parse_numbers(which, len(found), reference, "objects")
    usable = storage.usable(found.status)
    chosen = [
        Chosen(found.some([number]), {"codes": [f"{path}:{number}"]}) for number in numbers if usable[number]
    ]
    if not chosen:
        raise InputError(f"`codes` {reference} has no usable objects; give a file that has some")
    return chosen


def row(live: LiveModel, number: int) -> Chosen:
    """A row of the table."""
    return Chosen(table_objects(live.model, [number]), {"rows": str(number)})


def new(live: LiveModel, seed: int, truncation: float) -> Chosen:
    """A new object."""
    drawn = new_objects(live.model, SampleSettings(1, truncation, seed=seed))
    return Chosen(drawn, {"new": seed, "truncation": truncation})


def square_camera(camera: ViewerCamera) -> ViewCameras:
    """The square in the middle of a visitor's window, in the digits of a command."""
    position, forward = (_rounded(camera.cam_to_world[:3, column]) for column in (3, 2))
    return ViewCameras(position=position, look=forward, fov=float(f"{camera.square_fov:.{_DIGITS}g}"))


def _rounded(vector: Float[np.ndarray, "3"]) -> tuple[float, float, float]:
    x, y, z = (float(f"{value:.{_DIGITS}g}") for value in vector)
    return x, y, z


def render_call(model: Path, chosen: Chosen, camera: ViewerCamera, look: Look, size: int) -> Call:
    """The command that writes the same frame."""
    square = square_camera(camera)
    kind = look.kind if look.background or look.kind != "rgb" else "rgba"
    options = {
        **chosen.selection,
        "position": square.position,
        "look": square.look,
        "fov": square.fov,
        "size": size,
        "png": "views",
        "kinds": None if kind == "rgb" else kind,
    }
    return Call("render", [str(model)], options)
