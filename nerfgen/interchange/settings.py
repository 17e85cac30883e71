"""Settings of the import and the export of cameras."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nerfgen.settings import MAX_COUNT, MAX_SEED, SettingError, Settings, parse_count, parse_vector, setting

CameraFormat = Literal["srn", "eg3d", "transforms"]
CAMERA_FORMATS: tuple[CameraFormat, ...] = get_args(CameraFormat)
Instances = Literal["auto", "image", "folder"]
ImageTransfer = Literal["copy", "link", "windows", "none"]

# Largest coordinate: what is beyond cannot be told from an error, and its square may overflow.
FARTHEST = 1e12
_WORLD = "World of the cameras"


def parse_views(name: str, text: str) -> int | None:
    """The number of images of an object from ``one`` or a number; None from ``all``.

    Args:
        name: of the setting, for errors.

    Raises:
        SettingError: other words.
    """
    if text == "all":
        return None
    if text == "one":
        return 1
    try:
        return parse_count(text)
    except ValueError as error:
        raise SettingError(f"`{name}` {text}: give all, one or a number") from error


@dataclass(frozen=True)
class ImportSettings(Settings):
    """What is imported of images with cameras."""

    views: int | None = setting(
        None,
        minimum=1,
        maximum=MAX_COUNT,
        parse=parse_views,
        metavar="all|one|N",
        default_text="all",
        help="Images of each object to use, drawn at random.",
    )
    instances: Instances = setting(
        "auto",
        help="Which images show the same object. [bold]auto[/bold]: those of an SRN folder or of a transforms.json; "
        "each image of a dataset.json its own. [bold]image[/bold]: each image its own. [bold]folder[/bold]: the images "
        "of a folder.",
    )
    ignore_distortion: bool = setting(False, help="Treat lenses with distortion as pinholes.")
    mask_size: int = setting(256, minimum=1, maximum=4096, unit="pixels", help="Size of a mask.")
    seed: int = setting(0, minimum=0, maximum=MAX_SEED, help="Seed of all random numbers.")


@dataclass(frozen=True)
class WorldAlignment(Settings, title=_WORLD):
    """How the world of imported cameras becomes ours: y up, z to the front, objects about in the unit sphere."""

    up: str | None = setting(
        None,
        metavar="AXIS",
        help="Axis that points up, such as +z; by default +y for eg3d, else the one nearest to up in the images.",
    )
    front: str | None = setting(
        None,
        metavar="AXIS",
        help="Axis that objects face; by default, with y up or z up, -z or +y for srn, and +z or -y for others.",
    )
    scale: float | None = setting(
        None,
        above=0,
        maximum=FARTHEST,
        zero_is_default=True,
        help="Factor of lengths; by default the sphere that the class fits in fills the median image, of each scene "
        "where their units differ.",
    )
    center: tuple[float, float, float] | None = setting(
        None,
        minimum=-FARTHEST,
        maximum=FARTHEST,
        parse=parse_vector,
        metavar="X,Y,Z",
        help="Point that becomes the origin; by default the point that the cameras of a transforms.json look at, and "
        "the origin for other formats.",
    )


@dataclass(frozen=True)
class ExportSettings(Settings):
    """How cameras are exported."""

    format_name: CameraFormat = setting(
        "transforms",
        option="--format",
        help="[bold]transforms[/bold]: transforms.json of instant-ngp and nerfstudio, one per object, or one for all "
        "if each has one image. [bold]srn[/bold]: rgb/, pose/ and intrinsics.txt for each object. [bold]eg3d[/bold]: "
        "dataset.json.",
    )
    pictures: ImageTransfer = setting(
        "copy",
        help="[bold]copy[/bold] the images into the layout, [bold]link[/bold] them (hard links, or copies where links "
        "are impossible), write their square [bold]windows[/bold], or [bold]none[/bold]: cameras only.",
    )
    size: int = setting(512, minimum=8, maximum=16384, unit="pixels", help="Size of a window.")
    up: str = setting("+y", metavar="AXIS", help="Axis of the written world that points up.")
    front: str | None = setting(
        None,
        metavar="AXIS",
        help="Axis that objects face; by default, with y up, -z for srn and +z for others.",
    )
    scale: float = setting(1.0, above=0, maximum=FARTHEST, help="Factor of lengths.")
