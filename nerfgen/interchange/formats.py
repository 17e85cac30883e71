"""The camera formats of other programs: names, conventions and detection."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.interchange import eg3d, srn, transforms


@dataclass(frozen=True)
class Format:
    """A format with cameras.

    Attributes:
        description: name for people.
        object_class: default class of its objects; "" for any class.
        up: axis of its world that points up; "" if it is estimated from the cameras.
        centered: whether objects are at the origin of its world.
    """

    description: str
    object_class: str
    up: str
    centered: bool

    def require_class(self) -> str:
        """The default class.

        Raises:
            InputError: there is none.
        """
        if not self.object_class:
            raise InputError(f"{self.description} may show any class; set `object_class`")
        return self.object_class


FORMATS: dict[str, Format] = {
    "srn": Format("SRN folders (rgb/, pose/, intrinsics.txt)", "car", "", True),
    "eg3d": Format("EG3D's dataset.json, in a folder or a zip", "face", "+y", True),
    "transforms": Format("transforms.json of instant-ngp and nerfstudio", "", "", False),
}

# Default front by the up axis. ShapeNet's objects face -z with y up, which programs with z up convert to +y; in other
# worlds objects face -y with z up and +z with y up.
_SHAPENET_FRONT = {"+y": "-z", "+z": "+y"}
_DEFAULT_FRONT = {"+y": "+z", "+z": "-y", "-y": "-z"}


def default_front(name: str, up: str) -> str:
    """The axis that a format's objects face in a world with this up axis."""
    fronts = _SHAPENET_FRONT if name == "srn" else _DEFAULT_FRONT
    return fronts.get(up, "+z" if up[1] != "z" else "+y")


def detect_format(source: Path) -> str:
    """The format of a file or folder; "" if it is none of these."""
    detectors = {"eg3d": eg3d.matches, "transforms": transforms.matches, "srn": srn.matches}
    return next((name for name, matches in detectors.items() if matches(source)), "")
