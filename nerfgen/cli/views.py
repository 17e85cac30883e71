"""What ``render`` and ``sample`` share: angles, and the pictures beside the file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    import numpy as np

    from nerfgen.cli.runtime import Reporter
    from nerfgen.field import Model

_CAMERA = "Camera"
_PICTURES = "Pictures"

Yaw = Annotated[
    str,
    typer.Option(
        metavar="DEGREES",
        help="Turns about +y, such as -40,0,40: positive turns a face to the viewer's right.",
        rich_help_panel=_CAMERA,
    ),
]
Pitch = Annotated[
    str,
    typer.Option(
        metavar="DEGREES",
        help="Turns about the viewer's +x: positive shows the object from above. Every yaw is shown at every pitch.",
        rich_help_panel=_CAMERA,
    ),
]
Orbit = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="FRAMES",
        help="A closed path of so many views in place of --yaw and --pitch.",
        rich_help_panel=_CAMERA,
    ),
]
Distance = Annotated[
    float,
    typer.Option(
        min=0.0,
        help="From the origin, world units; 0: the training cameras' median.",
        rich_help_panel=_CAMERA,
    ),
]
Size = Annotated[
    int, typer.Option(min=0, help="Pixels of a picture's edge; 0: as trained.", rich_help_panel=_PICTURES)
]
Samples = Annotated[
    int,
    typer.Option(min=0, help="Samples a ray; 0: twice as many as in training.", rich_help_panel=_PICTURES),
]
Png = Annotated[
    Path | None,
    typer.Option(
        "--png",
        metavar="FOLDER",
        help="Also write every view as a PNG.",
        show_default=False,
        rich_help_panel=_PICTURES,
    ),
]
Sheet = Annotated[
    Path | None,
    typer.Option(
        "--sheet",
        metavar="FILE.png",
        help="Also write a contact sheet.",
        show_default=False,
        rich_help_panel=_PICTURES,
    ),
]
Video = Annotated[
    Path | None,
    typer.Option(
        "--video",
        metavar="FILE.mp4|.gif",
        help="Also write the views as a moving picture, all objects side by side.",
        show_default=False,
        rich_help_panel=_PICTURES,
    ),
]


def angles_of(model: Model, yaw: str, pitch: str, orbit: int) -> np.ndarray:
    """Yaw and pitch of every view (views, 2), degrees."""
    import numpy as np

    from nerfgen.objectclass import object_class

    if orbit:
        phase = 2 * np.pi * np.arange(orbit) / orbit
        turn = object_class(model.object_class).turn
        if turn >= 180:
            return np.stack([np.degrees(phase), np.full(orbit, _single(pitch))], axis=-1)
        return np.stack([turn * np.sin(phase), 0.25 * turn * np.cos(phase)], axis=-1)
    return np.array([(y, p) for p in _numbers("--pitch", pitch) for y in _numbers("--yaw", yaw)])


def _single(text: str) -> float:
    return _numbers("--pitch", text)[0]


def _numbers(option: str, text: str) -> list[float]:
    from nerfgen.errors import InputError

    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise InputError(f"{option} {text}: give numbers with commas between, such as -40,0,40") from error


def parse_rows(text: str, count: int) -> list[int]:
    """Table rows from words such as ``0,5-9`` or ``all``.

    Raises:
        InputError: no rows, or rows that the table does not have.
    """
    from nerfgen.errors import InputError

    if text == "all":
        return list(range(count))
    rows: list[int] = []
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        if not first.isdigit() or (dash and not (last.isdigit() and int(first) <= int(last))):
            raise InputError(f"--rows {text}: give rows such as 0,5-9, or all")
        rows += range(int(first), int(last or first) + 1)
    if not rows or max(rows) >= count:
        raise InputError(f"--rows {text}: the table has rows 0 to {count - 1}")
    return rows


def write_pictures(
    views_file: Path,
    reporter: Reporter,
    *,
    png: Path | None,
    sheet: Path | None,
    video: Path | None,
    photographs: Sequence[Any] = (),
    over: Literal["views", "objects"] = "views",
) -> None:
    """The pictures that were asked for, from a finished views file.

    Args:
        over: what a video's time runs over; the other is side by side.
    """
    import numpy as np

    from nerfgen import artifact
    from nerfgen.generate.sheet import views_sheet
    from nerfgen.picture import contact_sheet, save_picture, save_video

    with artifact.reading(views_file, "views/1") as file:
        if png:
            for row in range(file["rgb"].shape[0]):
                for view, picture in enumerate(file["rgb"][row]):
                    save_picture(png / f"{row:04d}_{view:03d}.png", picture)
            reporter.say(f"wrote {np.prod(file['rgb'].shape[:2])} pictures to {png}")
        if sheet:
            save_picture(sheet, views_sheet(file, photographs))
            reporter.say(f"wrote {sheet}")
        if video:
            turned = np.flatnonzero(np.isfinite(file["angles"][:, 0]))
            if over == "views":
                frames = [contact_sheet(list(file["rgb"][:, view])) for view in turned]
            else:
                frames = [contact_sheet(list(pictures[turned])) for pictures in file["rgb"]]
            save_video(video, frames)
            reporter.say(f"wrote {video}")
