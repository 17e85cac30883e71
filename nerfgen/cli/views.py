"""Options that ``render``, ``sample`` and ``export`` share; :mod:`nerfgen.cli.choices` says what they mean."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

_FITTING = "Fitting"
_CAMERA = "Camera"
_PICTURES = "Pictures"

Rows = Annotated[
    str,
    typer.Option(metavar="ROWS", help="Rows of the table, such as 3, 0,5-9, or all.", show_default=False),
]
Codes = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FILE[:NUMBERS]",
        help="Objects of a file that this model made, such as fitted.h5 or samples.h5:0,2-4; may be repeated.",
        show_default=False,
    ),
]
Photographs = Annotated[
    list[Path] | None,
    typer.Option(
        metavar="PHOTO",
        help="A new photograph, or a folder of them; may be repeated.",
        show_default=False,
        rich_help_panel=_FITTING,
    ),
]
LandmarkerFile = Annotated[
    Path | None,
    typer.Option(
        "--landmarker",
        metavar="FILE",
        help="Estimator of their landmarks, made by `nerfgen train-landmarker`, for classes that bring none.",
        show_default=False,
        rich_help_panel=_FITTING,
    ),
]
FitSteps = Annotated[
    int, typer.Option(min=1, help="Steps in which a photograph's code is found.", rich_help_panel=_FITTING)
]
Yaw = Annotated[
    str,
    typer.Option(
        metavar="DEGREES",
        help="Turns about +y, such as -40,0,40, or -40:40:9 for nine from -40 to 40: positive turns a face to the "
        "viewer's right.",
        show_default="-40,-20,0,20,40",
        rich_help_panel=_CAMERA,
    ),
]
Pitch = Annotated[
    str,
    typer.Option(
        metavar="DEGREES",
        help="Turns about the viewer's +x, written in the same way: positive shows the object from above. Every yaw "
        "is shown at every pitch.",
        show_default="0",
        rich_help_panel=_CAMERA,
    ),
]
Orbit = Annotated[
    int,
    typer.Option(
        min=0,
        metavar="FRAMES",
        help="So many views on a closed path about one --pitch: all the way round, or for faces a swing to both sides.",
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
FieldOfView = Annotated[
    float,
    typer.Option(
        "--fov",
        min=0.0,
        max=170.0,
        metavar="DEGREES",
        help="From edge to edge of the picture; 0: so that the unit sphere fills it.",
        rich_help_panel=_CAMERA,
    ),
]
Position = Annotated[
    str,
    typer.Option(
        metavar="X,Y,Z",
        help="One camera at this place of the world.",
        show_default=False,
        rich_help_panel=_CAMERA,
    ),
]
Look = Annotated[
    str,
    typer.Option(
        metavar="X,Y,Z",
        help="Viewing direction of --position, in the world; towards the origin by default.",
        show_default=False,
        rich_help_panel=_CAMERA,
    ),
]
PathFile = Annotated[
    Path | None,
    typer.Option(
        "--path",
        metavar="FILE.json",
        help="Cameras of a camera path in nerfstudio's JSON, world coordinates as they are. Pictures are square, of "
        "--size: what a wider picture shows from its upper to its lower edge.",
        show_default=False,
        rich_help_panel=_CAMERA,
    ),
]
SavePath = Annotated[
    Path | None,
    typer.Option(
        "--save-path",
        metavar="FILE.json",
        help="Also write the cameras as such a camera path.",
        show_default=False,
        rich_help_panel=_CAMERA,
    ),
]
Size = Annotated[
    int, typer.Option(min=0, help="Pixels of a picture's edge; 0: as trained.", rich_help_panel=_PICTURES)
]
Samples = Annotated[
    int,
    typer.Option(
        min=0,
        help="Of a ray that meets the object; 0: 16, or 32 for the published network.",
        rich_help_panel=_PICTURES,
    ),
]
Antialias = Annotated[
    int,
    typer.Option(
        min=0,
        max=8,
        help="Rays a pixel along either side, which are averaged; 0: as many as the model has detail for, 1 to 4.",
        rich_help_panel=_PICTURES,
    ),
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
        help="Also write a contact sheet: a row for each object, its photograph first.",
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
Kinds = Annotated[
    str,
    typer.Option(
        metavar="KINDS",
        help="What --png, --sheet and --video show, such as rgb,depth: rgb, rgba (without background), depth, normals, "
        "opacity.",
        show_default="rgb",
        rich_help_panel=_PICTURES,
    ),
]
Fps = Annotated[
    float,
    typer.Option(
        "--fps",
        min=0.0,
        max=120.0,
        help="Frames a second of --video and --save-path; 0: those of --path, or 24.",
        rich_help_panel=_PICTURES,
    ),
]
