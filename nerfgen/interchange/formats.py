"""The formats with cameras: what each is called, which axes its world has, and how it is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from nerfgen.errors import InputError
from nerfgen.interchange import eg3d, srn, transforms


@dataclass(frozen=True)
class Format:
    """A format that says where cameras are.

    Attributes:
        description: for people.
        object_class: class that its images are taken to show; "" where it may be any.
        up: axis of its world that points up; "" where that differs and is told by the cameras.
        aims: whether objects lie at the origin of its world.
    """

    description: str
    object_class: str
    up: str
    aims: bool

    def require_class(self) -> str:
        """The name of its class.

        Raises:
            InputError: it has none.
        """
        if not self.object_class:
            raise InputError(f"{self.description} may show any class; say with --class which it is")
        return self.object_class


FORMATS = {
    "srn": Format("SRN folders (rgb/, pose/, intrinsics.txt)", "car", "", True),
    "eg3d": Format("EG3D's dataset.json, in a folder or a zip", "face", "+y", True),
    "transforms": Format("transforms.json of instant-ngp and nerfstudio", "", "", False),
}

# The front of an object where it is not known otherwise, by what points up. ShapeNet's objects face -z with y up, which
# programs with z up read as +y; other worlds with z up are modelled with the front to -y, those with y up to +z.
_SHAPENET_FRONT = {"+y": "-z", "+z": "+y"}
_USUAL_FRONT = {"+y": "+z", "+z": "-y", "-y": "-z"}


def usual_front(name: str, up: str) -> str:
    """The axis that a format's objects face in a world with that axis up."""
    known = _SHAPENET_FRONT if name == "srn" else _USUAL_FRONT
    return known.get(up, "+z" if up[1] != "z" else "+y")


def told(source: Path) -> str:
    """Name of the format of a file or folder; "" where it is none of these."""
    finders = {"eg3d": eg3d.finds, "transforms": transforms.finds, "srn": srn.finds}
    return next((name for name, finds in finders.items() if finds(source)), "")
