"""Settings of rendering: size and quality of views, and where their cameras are."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, NamedTuple, Protocol, get_args

from nerfgen.settings import MAX_LENGTH, MAX_SIZE, SettingError, Settings, parse_count, parse_vector, setting
from nerfgen.storage import Record

if TYPE_CHECKING:
    from nerfgen import storage
    from nerfgen.interchange import CameraPath
    from nerfgen.objectclass import ObjectClass
    from nerfgen.render.backdrop import Backdrop

Kind = Literal["rgb", "rgba", "depth", "normals", "opacity"]
KINDS: tuple[Kind, ...] = get_args(Kind)

_YAW, _PITCH = (-40.0, -20.0, 0.0, 20.0, 40.0), (0.0,)
_MOST_ANTIALIAS = 4
_MOST_VIEWS = 1_000_000
_MAX_ANGLE = 36_000.0
# Of a vector that has a direction.
_MIN_LENGTH = 1e-9
# A ray's samples are evaluated together: more than this would not fit into the memory of small devices.
MAX_SAMPLES = 4096


class Sized(Protocol):
    """A model, here or on a server."""

    @property
    def size(self) -> int:
        """Size of the framed images that it was trained on, pixels."""


@dataclass(frozen=True)
class RenderSettings(Settings, title="Rendering"):
    """Size and quality of views."""

    size: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_SIZE,
        unit="pixels",
        help="Size of a view.",
        default_text="as trained",
        zero_is_default=True,
    )
    samples: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_SAMPLES,
        help="Samples per ray that meets the object.",
        default_text="16; 32 for the published network",
        zero_is_default=True,
    )
    antialias: int | None = setting(
        None,
        minimum=1,
        maximum=8,
        help="Rays per pixel along each axis, which are averaged.",
        default_text="1 to 4, as many as the model has detail for",
        zero_is_default=True,
    )
    background: str | None = setting(
        None,
        metavar="COLOR|IMAGE|ROW",
        help="What is behind the objects: a colour such as white or #4080c0, an image file, or the background of a row "
        "of the table; by default each object's own.",
    )

    def size_of(self, model: Sized) -> int:
        """Size of the views of a model."""
        return self.size or model.size

    def antialias_of(self, model: Sized) -> int:
        """Rays per pixel along each axis, for a model.

        The default samples twice as finely as the model's training images, which is all the detail that it has.
        """
        return self.antialias or min(max(-(-2 * model.size // self.size_of(model)), 1), _MOST_ANTIALIAS)

    def backdrop(self, rows: int | None = None) -> Backdrop | None:
        """What is behind objects; None for each object's own background.

        Args:
            rows: of the model's table; None where they are checked elsewhere.

        Raises:
            InputError: ``background`` names neither a colour nor a row nor an image.
        """
        from nerfgen.render.backdrop import find_backdrop

        return None if self.background is None else find_backdrop(self.background, rows)

    def parameters(self, model: Sized) -> Record:
        """What a file records of them."""
        values: Record = {
            "size": self.size_of(model),
            "samples": self.samples,
            "antialias": self.antialias_of(model),
        }
        if self.background is not None:
            file = self._background_file()
            values["background"] = file.name if file else self.background
        return values

    @property
    def inputs(self) -> list[storage.InputRecord]:
        """Records of the files that views are made of."""
        from nerfgen import storage

        file = self._background_file()
        return [storage.file_record(file)] if file else []

    def _background_file(self) -> Path | None:
        """The image behind the objects, if it is one."""
        backdrop = self.backdrop()
        return Path(str(self.background)) if backdrop and backdrop.is_image else None


class ChosenCameras(NamedTuple):
    """Cameras that were chosen.

    Attributes:
        path: the cameras, in time.
        parameters: what determines them, with the model and the inputs, as a file records it.
        inputs: records of the files that they come from.
    """

    path: CameraPath
    parameters: Record
    inputs: list[storage.InputRecord]


def parse_angles(name: str, text: str) -> tuple[float, ...]:
    """Degrees from words such as ``-40,0,40`` and ``-40:40:9`` (start, stop and count, both ends included).

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    angles: list[float] = []
    for part in text.split(","):
        start, *rest = part.split(":")
        try:
            first = float(start)
            if rest:
                stop, count = rest
                last, steps = float(stop), parse_count(count.strip()) - 1
                if not 1 <= steps < _MOST_VIEWS:
                    raise ValueError(f"a range of {count}")
                angles += [first + (last - first) * step / steps for step in range(steps + 1)]
            else:
                angles.append(first)
        except ValueError as error:
            raise SettingError(
                f"`{name}` {text}: give degrees such as -40,0,40, or -40:40:9 for nine from -40 to 40"
            ) from error
        if len(angles) > _MOST_VIEWS:
            raise SettingError(f"`{name}` has more than {_MOST_VIEWS:,} angles; give fewer")
    if not all(map(math.isfinite, angles)):
        raise SettingError(f"`{name}` {text}: angles have to be finite")
    return tuple(angles)


@dataclass(frozen=True)
class ViewCameras(Settings, title="Cameras"):
    """Where the cameras are: around the object, at one place, or on a path from a file."""

    yaw: tuple[float, ...] | None = setting(
        None,
        minimum=-_MAX_ANGLE,
        maximum=_MAX_ANGLE,
        parse=parse_angles,
        metavar="DEGREES",
        default_text="-40,-20,0,20,40",
        help="Turns about +y, such as -40,0,40, or -40:40:9 for nine from -40 to 40. Positive yaw turns a face to the "
        "viewer's right.",
    )
    pitch: tuple[float, ...] | None = setting(
        None,
        minimum=-_MAX_ANGLE,
        maximum=_MAX_ANGLE,
        parse=parse_angles,
        metavar="DEGREES",
        default_text="0",
        help="Turns about the viewer's +x, written like `yaw`. Positive pitch shows the object from above. Each yaw is "
        "combined with each pitch.",
    )
    orbit: int | None = setting(
        None,
        minimum=1,
        maximum=_MOST_VIEWS,
        zero_is_default=True,
        metavar="FRAMES",
        help="Number of views on a closed path at one `pitch`: a full turn, or a swing to both sides for faces.",
    )
    distance: float | None = setting(
        None,
        minimum=1e-3,
        maximum=MAX_LENGTH,
        zero_is_default=True,
        help="Distance from the origin, in world units; by default the median of the training cameras.",
    )
    fov: float | None = setting(
        None,
        minimum=0.01,
        maximum=170,
        zero_is_default=True,
        unit="degrees",
        help="Field of view across the whole image; by default the unit sphere fills the image.",
    )
    position: tuple[float, float, float] | None = setting(
        None,
        minimum=-MAX_LENGTH,
        maximum=MAX_LENGTH,
        parse=parse_vector,
        metavar="X,Y,Z",
        help="One camera at this point of the world.",
    )
    look: tuple[float, float, float] | None = setting(
        None,
        minimum=-MAX_LENGTH,
        maximum=MAX_LENGTH,
        parse=parse_vector,
        metavar="X,Y,Z",
        help="Viewing direction of `position`, in the world; towards the origin by default.",
    )
    path: Path | None = setting(
        None,
        metavar="FILE.json",
        help="Camera path in nerfstudio's JSON, in world coordinates. Views are square, of `size`: a wider frame keeps "
        "its vertical field of view.",
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        self._exclude("path", "position", "orbit", "yaw", "pitch", "distance", "fov", "look")
        self._exclude("position", "orbit", "yaw", "pitch", "distance")
        self._exclude("orbit", "yaw")
        if self.look is not None and self.position is None:
            raise SettingError("`look` needs `position`, the point where the camera is")
        if self.orbit and len(self.pitch or _PITCH) > 1:
            raise SettingError("`orbit` stays at one pitch; give one number as `pitch`")
        if self.position is not None:
            self._direction()

    def of(self, described: ObjectClass, distance: float) -> ChosenCameras:
        """The cameras for a model of a class.

        Args:
            distance: of the model's training cameras, world units.

        Raises:
            InputError: ``path`` is not a camera path.
        """
        from nerfgen import storage
        from nerfgen.geometry import angle_grid, camera_at, orbit_angles, turned_cameras
        from nerfgen.interchange import CameraPath, read_camera_path

        if self.path is not None:
            read = read_camera_path(self.path)
            return ChosenCameras(read, {"path": self.path.name}, [storage.file_record(self.path)])
        fov = self.fov or 0.0
        if self.position is not None:
            position, direction = list(self.position), self._direction()
            parameters = {"position": position, "look": direction, "fov": self.fov}
            return ChosenCameras(CameraPath(camera_at(position, direction, fov)), parameters, [])
        yaw, pitch = self.yaw or _YAW, self.pitch or _PITCH
        if len(yaw) * len(pitch) > _MOST_VIEWS:
            raise SettingError(
                f"`yaw` and `pitch` combine to {len(yaw) * len(pitch):,} views, more than {_MOST_VIEWS:,}; "
                "give fewer angles"
            )
        distance = self.distance or distance
        parameters = {"pitch": list(pitch), "distance": distance, "fov": self.fov}
        if self.orbit:
            angles = orbit_angles(self.orbit, described.turn, *pitch)
            parameters["orbit"] = self.orbit
        else:
            angles = angle_grid(yaw, pitch)
            parameters["yaw"] = list(yaw)
        cameras = turned_cameras(angles[:, 0], angles[:, 1], distance, fov)
        return ChosenCameras(CameraPath(cameras, closed=bool(self.orbit)), parameters, [])

    def _exclude(self, name: str, *others: str) -> None:
        for other in others:
            if getattr(self, name) is not None and getattr(self, other) is not None:
                raise SettingError(f"`{name}` and `{other}` exclude each other; give one of them")

    def _direction(self) -> list[float]:
        """Where the camera at ``position`` looks."""
        if self.look is None and math.hypot(*self.position or ()) < _MIN_LENGTH:
            raise SettingError("`position` is the origin; give the viewing direction with `look`")
        direction = list(self.look) if self.look else [-value for value in self.position or ()]
        if math.hypot(*direction) < _MIN_LENGTH:
            raise SettingError(f"`look` is not a direction; give one longer than {_MIN_LENGTH:g}")
        return direction
