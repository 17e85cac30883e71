"""How masks are made: the settings of the mask stage, also as files record them."""

from __future__ import annotations

import re
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal, get_args

from nerfgen.errors import InputError
from nerfgen.settings import MAX_WEIGHT, Settings, check_types, setting
from nerfgen.storage import Record

MethodName = Literal["auto", "selfie", "alpha", "color", "grabcut", "tflite", "files"]
METHOD_NAMES: tuple[str, ...] = get_args(MethodName)
_COLORS = {"white": (255, 255, 255), "black": (0, 0, 0)}


@dataclass(frozen=True)
class MaskSettings(Settings, title="Masks"):
    """The method and what it takes. Each method takes some of the settings; None is its default.

    Raises:
        InputError: a value is impossible.
    """

    method: MethodName = setting(
        "auto",
        help="[bold]auto[/bold]: alpha if an image has transparency, else the class's own method, and grabcut instead "
        "of color if the background isn't plain. [bold]selfie[/bold]: persons. [bold]alpha[/bold]: the image's alpha "
        "channel. [bold]color[/bold]: what differs from a plain background. [bold]grabcut[/bold]: any object, by its "
        "colours, starting from the camera and the landmarks. [bold]tflite[/bold]: your own model. "
        "[bold]files[/bold]: your own masks.",
    )
    background: str | None = setting(
        None,
        metavar="COLOR",
        help="For color: [bold]auto[/bold] (the colour of the image's border, the default), [bold]white[/bold], "
        "[bold]black[/bold] or [bold]#rrggbb[/bold].",
    )
    model: Path | None = setting(
        None,
        metavar="FILE.tflite",
        help="For tflite: a segmentation model in TensorFlow Lite's format, such as MediaPipe's.",
    )
    category: str | None = setting(
        None,
        metavar="NAME|NUMBER",
        help="For tflite: the foreground category; all but the first by default. For files: its label, if they are "
        "label images.",
    )
    labels: Path | None = setting(
        None,
        metavar="FILE.txt",
        help="For tflite: names of the categories, one per line, for a model that doesn't carry them.",
    )
    pixel_range: tuple[float, float] | None = setting(
        None,
        minimum=-MAX_WEIGHT,
        maximum=MAX_WEIGHT,
        metavar="LOW HIGH",
        help="For tflite: the network's values of black and white; as the model states by default, else 0 1.",
    )
    masks: Path | None = setting(
        None,
        metavar="FOLDER",
        help="For files: the folder in which the mask of a/b.jpg is a/b.png, a/b.jpg.png or a/b_mask.png, in any image "
        "format.",
    )
    size: int = setting(256, minimum=1, maximum=4096, unit="pixels", help="Size of a mask.")

    def __post_init__(self) -> None:
        super().__post_init__()
        background_color(self.background or "auto")

    @property
    def given(self) -> Record:
        """What the method takes, as far as it is given."""
        names = [field.name for field in fields(self) if field.name not in ("method", "size")]
        return {name: getattr(self, name) for name in names if getattr(self, name) is not None}


def recorded_settings(parameters: Record) -> MaskSettings | None:
    """The settings with which a ``masks/1`` file was made, from the parameters it records.

    None if they named files (a model, or masks), of which only digests are recorded.

    Raises:
        InputError: the parameters are those of no method.
    """
    if any(name in parameters for name in ("model", "labels", "masks")):
        return None
    recorded = {
        "method": next(
            (name for name in METHOD_NAMES if str(parameters["method"]).startswith(f"{name}-")), ""
        ),
        "size": parameters.get("size"),
        **{name: parameters.get(name) for name in ("background", "category", "pixel_range")},
    }
    check_types(MaskSettings, recorded)
    pixel_range = recorded["pixel_range"]
    return MaskSettings(**recorded | {"pixel_range": None if pixel_range is None else tuple(pixel_range)})


def background_color(name: str) -> tuple[int, int, int] | None:
    """The colour that ``white``, ``black`` or ``#rrggbb`` names; None for ``auto``.

    Raises:
        InputError: it is none of these.
    """
    if name == "auto":
        return None
    if name in _COLORS:
        return _COLORS[name]
    if not re.fullmatch(r"#[0-9a-fA-F]{6}", name):
        raise InputError(f"`background` is auto, white, black or #rrggbb, not {name!r}")
    return int(name[1:3], 16), int(name[3:5], 16), int(name[5:7], 16)
